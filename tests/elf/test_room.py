"""Room that a linker left in the string table: names are bound in place, the file keeps its size and its segments."""

import subprocess
from pathlib import Path

import pytest
from support import room
from support.dynamic import names
from support.source import function, prints
from support.store import LINKERS, Package, Store, patchelf
from support.trace import run

from nix_harden.loading.search import ROOM

IN_PLACE = "{files} files written, {files} in place and 0 by patchelf"


def build(store: Store, linker: str, tag: str = "RUNPATH", size: int = room.RESERVE) -> tuple[Package, Path, Path]:
    it, other = store.package("it"), store.package("a-dependency-of-quite-some-length")
    needs = [other.library(f"libdependency{n}.so.1", function(f"d{n}", n), linker=linker) for n in range(8)]
    path = [other.lib, it.lib, Path(room.entry(store.path, size)), store.libc]
    calls = [f"d{n}" for n in range(8)]
    liba = it.library("liba.so.1", function("a", 1, calls), needs=needs, linker=linker, rpath=path, tag=tag)
    return it, liba, it.program("app", prints("a"), needs=[liba], linker=linker, rpath=path, tag=tag)


def layout(path: Path) -> tuple[int, str]:
    """The size of a file and its segments, as binutils' readelf has them."""
    done = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True)
    return path.stat().st_size, done.stdout


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("shrunk", [True, False], ids=["shrunk", "as linked"])
def test_every_name_finds_room_and_nothing_moves(store: Store, linker: str, shrunk: bool) -> None:
    it, liba, app = build(store, linker)
    if shrunk:
        patchelf("--shrink-rpath", liba, app)
    before, was = run(app), [layout(path) for path in (liba, app)]
    done = store.harden(it, inputs=[store.package("a-dependency-of-quite-some-length")])
    assert IN_PLACE.format(files=2) in done.err
    after = run(app)
    assert (after.said, after.misses) == (before.said, ())
    assert [layout(path) for path in (liba, app)] == was
    assert not [path for path in (liba, app) if ROOM.encode() in path.read_bytes()]


def test_without_room_patchelf_makes_some(store: Store) -> None:
    it, liba, app = build(store, "bfd", size=0)
    before = layout(liba)
    done = store.harden(it, inputs=[store.package("a-dependency-of-quite-some-length")])
    assert "1 in place and 1 by patchelf" in done.err
    assert layout(liba) != before
    assert run(app).misses == ()


@pytest.mark.parametrize("tag", ["RUNPATH", "RPATH"])
def test_a_search_path_that_is_kept_loses_the_entry_alone(store: Store, tag: str) -> None:
    it, liba, app = build(store, "bfd", tag=tag)
    kept = f"{store.package('a-dependency-of-quite-some-length').lib}:{it.lib}:{store.libc}"
    store.harden(it, options=["--keep-runpath"])
    for path in (liba, app):
        assert (names(path).runpath if tag == "RUNPATH" else names(path).rpath) == kept
    assert run(app).status == 0


def test_a_second_run_plans_nothing(store: Store) -> None:
    it, liba, app = build(store, "bfd")
    inputs = [store.package("a-dependency-of-quite-some-length")]
    store.harden(it, inputs=inputs)
    first = [path.read_bytes() for path in (liba, app)]
    assert "files written" not in store.harden(it, inputs=inputs).err
    assert [path.read_bytes() for path in (liba, app)] == first
