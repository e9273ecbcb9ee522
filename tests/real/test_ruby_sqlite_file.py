"""Debian's `ruby3.1 sqlite3 file`, laid out as a store and hardened package by package."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import debstore
from real.debstore import Store
from real.observe import Trial, closure, environment, failing_opens, fixup, run
from real.programs import PACKAGES, TABLE, Run, runs
from support import room

pytestmark = pytest.mark.xdist_group("debian")


@pytest.fixture(scope="module", params=["as Debian linked it", "with room"])
def trial(request: pytest.FixtureRequest) -> Iterator[Trial]:
    """The store before and after; in a directory that nobody may enter too. With room, names are bound in place."""
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = Path(temporary)
        dest.chmod(0o755)
        debstore.build(dest, PACKAGES, debstore.default_cache())
        if request.param == "with room":
            store = debstore.load(dest)
            room.leave(store.elf_files(), store.directory)
        yield Trial(dest)


@pytest.fixture(scope="module")
def env(trial: Trial) -> dict[str, str]:
    return environment(trial.store, trial.dest / "home")


def bytes_of(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.elf_files()}


@pytest.mark.parametrize("each", TABLE, ids=str)
def test_a_program_does_the_same(trial: Trial, env: dict[str, str], each: Run) -> None:
    """Each run of the table ends well, or as before, with the same output."""
    before, after = trial.both(lambda: run(each.argv(trial.store), env, trial.dest / "home", each.stdin))
    assert after == before
    assert after.stdout


def test_every_other_program_does_the_same(trial: Trial, env: dict[str, str]) -> None:
    """Every program and script of every bin directory answers --version as before."""
    others = [each for each in runs(trial.store) if each not in TABLE]
    assert len(others) > 20

    def answers() -> dict[str, object]:
        return {str(each): run(each.argv(trial.store), env, trial.dest / "home") for each in others}

    before, after = trial.both(answers)
    assert after == before


def test_the_loader_opens_nothing_in_vain(trial: Trial) -> None:
    """No program and no library makes it search; before, nearly each did."""
    programs = {each.elf(trial.store) for each in runs(trial.store)}
    before, after = trial.both(lambda: {path: failing_opens(trial.store.loader, path) for path in programs})
    assert all(before.values())
    assert not any(after.values())


def test_the_loader_maps_the_same_files(trial: Trial) -> None:
    """For every program, library and plugin: the same files in the same order."""
    before, after = trial.both(
        lambda: {
            path: closure(trial.store.loader, path) for path in trial.store.elf_files() if path != trial.store.loader
        }
    )
    assert len(after) > 400
    assert after == before


def test_every_package_is_hardened_without_a_warning(trial: Trial) -> None:
    """But for the one that objects which open libraries get: plugins of other builds are nowhere to be seen."""
    lines = [line for log in trial.log.values() for line in log.splitlines() if "warning" in line]
    assert not [line for line in lines if "a plugin of another build" not in line]


def test_where_there_is_room_nothing_is_added(trial: Trial, request: pytest.FixtureRequest) -> None:
    """Of a few hundred files none grows; those that linkers left no room in do."""
    before, after = trial.both(lambda: {path: path.stat().st_size for path in trial.store.elf_files()})
    assert (after == before) is ("with room" in request.node.callspec.id)


def test_a_second_run_changes_nothing(trial: Trial) -> None:
    before = bytes_of(trial.store)
    for package in trial.store.packages:
        fixup(trial.store, package)
    assert bytes_of(trial.store) == before
