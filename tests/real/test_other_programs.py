"""Debian packages that were not chosen for this project: a spreadsheet, music players, an editor, what they bring along."""

import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from real import debstore
from real.observe import Closure, Outcome, Trial, closure, environment, run

pytestmark = pytest.mark.xdist_group("debian others")

PACKAGES = ("gnumeric", "cmus", "sox", "libsox-fmt-all", "vim", "git", "curl")
STOPS_THE_MACHINE = re.compile(r"halt|reboot|poweroff|shutdown|init|telinit|runlevel")
WORKERS = 4


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    """The store before and after: that there is one says that `fixup` failed on no package."""
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = Path(temporary)
        dest.chmod(0o755)
        debstore.build(dest, PACKAGES, debstore.default_cache())
        yield Trial(dest)


@pytest.fixture(scope="module")
def closures(trial: Trial) -> tuple[dict[Path, Closure], dict[Path, Closure]]:
    """What the loader maps for every ELF file, before and after."""
    loader = trial.store.loader
    paths = [path for path in trial.store.elf_files() if path != loader]
    with ThreadPoolExecutor(WORKERS) as pool:
        return trial.both(lambda: dict(zip(paths, pool.map(lambda path: closure(loader, path), paths), strict=True)))


def programs(trial: Trial) -> list[Path]:
    found = []
    for path in trial.store.elf_files():
        dynamic = debstore.read_dynamic(path)
        if dynamic and dynamic.interpreter and not STOPS_THE_MACHINE.fullmatch(path.name):
            found.append(path)
    return found


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_every_program_says_the_same(trial: Trial, option: str) -> None:
    """The same words and the same exit status; where two runs of the old program already differ, the same status."""
    env, home, paths = environment(trial.store, trial.dest / "home"), trial.dest / "home", programs(trial)
    assert len(paths) > 50

    def answers() -> dict[Path, Outcome]:
        with ThreadPoolExecutor(WORKERS) as pool:
            return dict(zip(paths, pool.map(lambda path: run([path, option], env, home), paths), strict=True))

    (first, second), after = trial.both(lambda: (answers(), answers()))[0], answers()
    steady = [path for path in paths if first[path] == second[path]]
    assert len(steady) > 0.9 * len(paths)
    assert {path: after[path] for path in steady} == {path: first[path] for path in steady}


def test_every_name_leads_to_the_same_file(closures: tuple[dict[Path, Closure], dict[Path, Closure]]) -> None:
    """The loader maps the same files for every program, library and plugin; a name that it found nowhere may now be found."""
    before, after = closures
    assert len(after) > 500
    for path, was in before.items():
        now = after[path]
        if was.missing == now.missing:
            assert now == was, path
        else:
            assert now.missing < was.missing, path
            assert [file for file in now.files if file in was.files] == list(was.files), path


def test_fixup_prints_no_error(trial: Trial) -> None:
    words = [line for log in trial.log.values() for line in log.splitlines()]
    assert all(line.startswith("nix-harden-needed: ") for line in words)
    assert not [line for line in words if line.startswith("nix-harden-needed: error")]
