"""What other machines' loaders make of $LIB, $PLATFORM and capability directories is what is bound, or stays bare."""

from pathlib import Path

import pytest
from foreign.cross import AARCH64, ARMHF, I386, MACHINES, PPC64EL, RISCV64, S390X, Machine, World
from support.dynamic import names
from support.store import Package, Store

PROGRAM = "int a(void); int main(void) { return a(); }"
BARE = "liba.so.1"


def library(world: World, package: str, value: int) -> Path:
    return world.library(world.store.package(package), BARE, f"int a(void) {{ return {value}; }}")


def put(source: Path, *directories: Path) -> None:
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / BARE).write_bytes(source.read_bytes())


def harden(world: World, it: Package, app: Path, status: int) -> str:
    """Harden the package, see that the program still finds the library with that status, and answer what it names it."""
    before = world.run(app)
    assert before.status == status
    world.store.harden(it, inputs=[world.libc])
    assert world.run(app).behaviour == before.behaviour
    return names(app).needed[0]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_lib_is_what_the_machines_loader_says(store: Store, machine: Machine) -> None:
    """Debian's loaders say lib/TRIPLET, or lib32 for the i386 beside amd64; libraries of other values lie in the others."""
    world = World.create(store, machine)
    it = store.package("it")
    right, wrong = library(world, "right", 1), library(world, "wrong", 2)
    lib = "lib32" if machine == I386 else f"lib/{machine.target}"
    put(wrong, *(it.path / each for each in {"lib", "lib32", "lib64"} - {lib}))
    put(right, it.path / lib)
    app = world.program(it, "app", PROGRAM, needs=[right], path=["$ORIGIN/../$LIB", wrong.parent, world.libc.lib])
    assert harden(world, it, app, 1) == f"{it.path}/{lib}/{BARE}"


@pytest.mark.parametrize("machine", [I386, AARCH64], ids=lambda machine: machine.name)
def test_platform_is_what_the_machine_says(store: Store, machine: Machine) -> None:
    """Without a directory of that name, the next answers; the directory above, which holds another library, never does."""
    world = World.create(store, machine)
    it = store.package("it")
    right, wrong = library(world, "right", 1), library(world, "wrong", 2)
    path = [f"{wrong.parent}/$PLATFORM", right.parent, world.libc.lib]
    app = world.program(it, "app", PROGRAM, needs=[right], path=path)
    assert harden(world, it, app, 1) == str(right)


@pytest.mark.parametrize("machine", [ARMHF, PPC64EL, S390X], ids=lambda machine: machine.name)
def test_platform_may_be_anything_elsewhere(store: Store, machine: Machine) -> None:
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
        (I386, "i686/sse2"),
        (AARCH64, "atomics"),
        (ARMHF, "vfp"),
        (ARMHF, "neon/vfp"),
        (PPC64EL, "dfp"),
        (PPC64EL, "altivec/dfp"),
        (S390X, "zarch"),
        (S390X, "vx/zarch"),
        *((each, "tls") for each in MACHINES),
    ],
    ids=lambda value: value.name if isinstance(value, Machine) else value.replace("/", "-"),
)
def test_a_library_in_a_capability_directory_keeps_the_choice(store: Store, machine: Machine, below: str) -> None:
    """glibc before 2.37 looks into these directories first, one below the other, as the processor has the capability."""
    world = World.create(store, machine)
    it = store.package("it")
    plain, better = library(world, "plain", 2), library(world, "better", 1)
    put(better, plain.parent / below)
    app = world.program(it, "app", PROGRAM, needs=[plain])
    assert harden(world, it, app, 1) == BARE


@pytest.mark.parametrize(
    ("machine", "below"),
    [(AARCH64, ""), (ARMHF, ""), (RISCV64, ""), (PPC64EL, "power9"), (S390X, "z13")],
    ids=lambda value: value.name if isinstance(value, Machine) else value,
)
def test_glibc_hwcaps(store: Store, machine: Machine, below: str) -> None:
    """The machines that have such directories find the better library there; the others the plain one, which stays bare too."""
    world = World.create(store, machine)
    it = store.package("it")
    plain, better = library(world, "plain", 2), library(world, "better", 1)
    put(better, plain.parent / "glibc-hwcaps" / (below or "any"))
    app = world.program(it, "app", PROGRAM, needs=[plain])
    assert harden(world, it, app, 1 if below else 2) == BARE
