"""The sources of nix/distro: what apt is asked, and what a package says about itself."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import Nix

DISTRO = Path(__file__).parents[2] / "nix/distro"


@pytest.fixture(scope="module")
def fetch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch", DISTRO / "fetch.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sources_come_from_the_repositories_that_packages_come_from(fetch: ModuleType, tmp_path: Path) -> None:
    """Both formats of apt's lists ask for sources, with their options; what is switched off stays off."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://mirror.invalid/old stable main\n"
        "deb [signed-by=/key] http://mirror.invalid/debian stable main\n"
        "deb-src [signed-by=/key] http://mirror.invalid/debian stable main\n"
    )
    (tmp_path / "sources.list.d/more.sources").write_text(
        "Types: deb deb-src\nURIs: http://mirror.invalid/more\nSuites: stable\nEnabled: no\n"
    )
    (tmp_path / "sources.list.d/more.sources.disabled").write_text("Types: deb\n")
    assert dict(fetch.source_lists(tmp_path)) == {
        "sources.list": "# deb http://mirror.invalid/old stable main\n"
        "deb-src [signed-by=/key] http://mirror.invalid/debian stable main\n",
        "more.sources": "Types: deb-src\nURIs: http://mirror.invalid/more\nSuites: stable\nEnabled: no\n",
    }


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [
        ("1:1.2.13.dfsg-1", "1.2.13"),
        ("2:6.2.1+dfsg1-1.1", "6.2.1"),
        ("2.9.14+dfsg-1.3~deb12u1", "2.9.14"),
        ("7.88.1-10+deb12u5", "7.88.1"),
        ("2.1.12-stable-8", "2.1.12-stable"),
    ],
)
def test_a_package_has_upstreams_version(fetch: ModuleType, debian: str, upstream: str) -> None:
    assert fetch.upstream_version(debian) == upstream


def test_a_source_that_is_not_in_the_store_says_how_to_get_it(nix: Nix, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(
        json.dumps({"source": "none", "version": "1", "file": "none_1.orig.tar.gz", "sha256": 64 * "0"})
    )
    expression = f'import {DISTRO}/debian-source.nix {{ system = "x86_64-linux"; }} {tmp_path}/source.json'
    words = nix("nix-build", "--no-out-link", "-E", expression, fails=True)
    assert "none_1.orig.tar.gz is not in the store: run nix/distro/fetch.py" in words


def test_programs_are_said_in_words_that_the_readme_explains(nix: Nix) -> None:
    """Every run has a program of the package's as argv[0], and no attribute that nothing reads."""
    expression = (
        f"builtins.mapAttrs (_: package: package.programs or [ ])"
        f" (import {DISTRO} {{ pkgs = import {DISTRO}/../hostpkgs {{ }}; }})"
    )
    programs = json.loads(nix("nix-instantiate", "--eval", "--strict", "--json", "-E", expression))
    assert programs
    for name, runs in programs.items():
        for run in runs:
            assert run["argv"][0].startswith("bin/"), name
            assert set(run) <= {"argv", "env", "setup", "stdin"}, name
