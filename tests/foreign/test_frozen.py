"""Programs of six other machines frozen here, and run under qemu-user with those machines' glibc."""

import os
import shutil
from pathlib import Path

import pytest
from foreign.cross import MACHINES, Machine, World
from foreign.test_chains import Chain, named
from support.store import Store


def files(opened: tuple[str, ...]) -> list[str]:
    return [os.path.basename(path) for path in opened]


@pytest.mark.parametrize("machine", MACHINES, ids=named)
def test_lifted(store: Store, machine: Machine) -> None:
    chain = Chain.build(World.create(store, machine))
    before = chain.world.run(chain.app, "word")
    out = store.path / "out"
    told = store.call("freeze", chain.app, "-o", out)
    assert "not compared by the loader itself (for another machine" in told.err
    after = chain.world.run(out, "word")
    assert (after.status, after.out, after.err, after.misses) == (5, "7 70 word\n", "", ())
    assert after.opened[1:] == before.opened[1:]
    assert before.misses


@pytest.mark.parametrize("machine", MACHINES, ids=named)
@pytest.mark.parametrize("relative", [False, True], ids=["by path", "relative"])
def test_with_its_libraries(store: Store, machine: Machine, relative: bool) -> None:
    """Versions, thread-local storage and constructors of the copies work; relative ones do where they are moved to."""
    chain = Chain.build(World.create(store, machine))
    before = chain.world.run(chain.app, "word")
    top = store.path / "bundle"
    top.mkdir()
    store.call("freeze", chain.app, "-o", top / "app", "--closure", top / "lib", *(["--relative"] if relative else []))
    if relative:
        top = Path(shutil.move(top, store.path / "moved"))
    for path in (chain.liba, chain.libb):
        path.unlink()
    after = chain.world.run(top / "app", "word")
    assert (after.status, after.out, after.err, after.misses) == (5, "7 70 word\n", "", ())
    assert files(after.opened) == files(before.opened)
    assert {str(top / "lib" / name) for name in ("liba.so.1", "libb.so.1")} <= set(after.opened)
