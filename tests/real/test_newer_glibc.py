"""Programs of Debian 13 are prelinked beside the system's own: another glibc, by whose loader each is proved and started."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prelink.helpers import assert_out_of_the_way, lookups, run
from real import debstore
from support.schema import check
from support.store import Words

pytestmark = pytest.mark.xdist_group("debian 13")

SUITE = "trixie"
PACKAGES = ("ninja-build", "sqlite3", "nano")
PROGRAMS = ("ninja", "sqlite3", "nano")


@pytest.fixture(scope="module")
def store() -> Iterator[debstore.Store]:
    """A store of the other suite's packages, from where this system has its own; apt keeps all of it in a directory apart."""
    environ = debstore.other_suite(SUITE)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        top = Path(temporary)
        top.chmod(0o755)
        argv: list[Words] = [
            sys.executable,
            debstore.__file__,
            "--cache",
            debstore.default_cache() / SUITE / "archives",
            top,
            *PACKAGES,
        ]
        subprocess.run(argv, env=environ, check=True, stdout=subprocess.DEVNULL)
        yield debstore.load(top)


def test_it_is_a_newer_glibc(store: debstore.Store) -> None:
    version = run(store.loader, "--version").out.splitlines()[0].rpartition(" ")[2].rstrip(".")
    assert tuple(map(int, version.split("."))) >= (2, 41)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_it_is_proved_and_says_the_same(name: str, store: debstore.Store, tmp_path: Path) -> None:
    """Lazily bound and not, with next to nothing looked up; out of the way of LD_PRELOAD."""
    package = dict(zip(PROGRAMS, PACKAGES, strict=True))[name]
    source = store.path(package) / "bin" / name
    program = tmp_path / name
    words: list[Words] = [sys.executable, "-m", "nix_harden", "prelink", source, "-o", program, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told = check("prelink", done.stdout)
    assert told["proof"]["words"] > 0
    for environ in ({}, {"LD_BIND_NOW": "1"}):
        before, after = (run(each, "--version", environ=environ) for each in (source, program))
        assert (after.status, after.out, after.err) == (before.status, before.out, before.err)
        assert after.status == 0
        assert lookups(program, "--version", environ=environ) * 4 < lookups(source, "--version", environ=environ)
    libm = next(path for path in store.elf_files() if path.name == "libm.so.6")
    assert_out_of_the_way(program, source, {"LD_PRELOAD": str(libm)})
