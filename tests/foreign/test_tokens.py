"""$LIB, $PLATFORM and capability directories of other machines: bound as the machine's own loader finds it, or left bare."""

from pathlib import Path

import pytest
from foreign.cross import AARCH64, ARMHF, PPC64EL, RISCV64, S390X, Machine, World
from foreign.test_search_paths import BARE, PROGRAM, harden, library, put
from support.store import Store


@pytest.mark.parametrize("machine", [ARMHF, PPC64EL, S390X], ids=lambda machine: machine.name)
def test_platform(store: Store, machine: Machine) -> None:
    """What the machine may answer for $PLATFORM is not known, so that the entry may be any directory."""
    world = World.create(store, machine)
    it = store.package("it")
    right, wrong = library(world, "right", 1), library(world, "wrong", 2)
    path = [f"{wrong.parent}/$PLATFORM", right.parent, world.libc.lib]
    app = world.program(it, "app", PROGRAM, needs=[right], path=path)
    assert harden(world, it, app, 1) in (str(right), BARE)


def test_no_platform(store: Store) -> None:
    """Linux says no AT_PLATFORM on riscv64, so that the loader drops each entry with $PLATFORM."""
    world = World.create(store, RISCV64)
    it = store.package("it")
    right, wrong = library(world, "right", 1), library(world, "wrong", 2)
    put(wrong, Path(f"{wrong.parent}/riscv64"))
    path = [f"{wrong.parent}/$PLATFORM", right.parent, world.libc.lib]
    app = world.program(it, "app", PROGRAM, needs=[right], path=path)
    assert harden(world, it, app, 1) in (str(right), BARE)


@pytest.mark.parametrize(
    ("machine", "below"),
    [
        (ARMHF, "vfp"),
        (ARMHF, "neon/vfp"),
        (PPC64EL, "dfp"),
        (PPC64EL, "altivec/dfp"),
        (S390X, "zarch"),
        (S390X, "vx/zarch"),
    ],
    ids=lambda value: value.name if isinstance(value, Machine) else value.replace("/", "-"),
)
def test_legacy_capabilities(store: Store, machine: Machine, below: str) -> None:
    """glibc before 2.37 looks into these directories first, one below the other, as the processor has the capability."""
    world = World.create(store, machine)
    it = store.package("it")
    plain, better = library(world, "plain", 2), library(world, "better", 1)
    put(better, plain.parent / below)
    app = world.program(it, "app", PROGRAM, needs=[plain])
    assert harden(world, it, app, 1) == BARE


@pytest.mark.parametrize("machine", [AARCH64, PPC64EL, RISCV64], ids=lambda machine: machine.name)
def test_lib_is_what_the_machines_loader_says(store: Store, machine: Machine) -> None:
    """Debian's loaders say lib/TRIPLET; libraries of other values of $LIB lie in the other directories."""
    world = World.create(store, machine)
    it = store.package("it")
    right, wrong = library(world, "right", 1), library(world, "wrong", 2)
    lib = f"lib/{machine.target}"
    put(wrong, *(it.path / each for each in {"lib", "lib32", "lib64"} - {lib}))
    put(right, it.path / lib)
    app = world.program(it, "app", PROGRAM, needs=[right], path=["$ORIGIN/../$LIB", wrong.parent, world.libc.lib])
    assert harden(world, it, app, 1) == f"{it.path}/{lib}/{BARE}"
