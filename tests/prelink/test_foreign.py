"""Programs of AArch64: prelinked, proved and run under qemu-user with that machine's glibc."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign.cross import AARCH64, World
from prelink.helpers import COUNTED
from support.schema import check
from support.source import function, prints
from support.store import Store

SAYS = "#include <stdio.h>\n"
Build = Callable[[World], Path]


def lib(world: World, name: str, source: str, **how: object) -> Path:
    return world.library(world.store.package(name), f"lib{name}.so.1", source, **how)  # type: ignore[arg-type]


def program(world: World, source: str, **how: object) -> Path:
    return world.program(world.store.package("app"), "app", source, **how)  # type: ignore[arg-type]


def a_chain(world: World) -> Path:
    b = lib(world, "b", function("b", 2))
    a = lib(world, "a", function("a", 1, ["b"]) + "int b(void); int (*p)(void) = b;", needs=[b])
    return program(world, prints("a", "b"), needs=[a, b])


def versions(world: World) -> Path:
    v = lib(world, "v", function("v", 1), versions="V1 { global: v; local: *; };")
    return program(world, prints("v"), needs=[v])


def thread_local(world: World) -> Path:
    """By descriptors, which is how this machine's compilers reach them."""
    t = lib(world, "t", "__thread int t = 5; int a(void) { return t++; }")
    main = SAYS + 'extern __thread int t; int a(void); int main(void) { a(); printf("%d %d\\n", t, a()); return 0; }'
    return program(world, main, needs=[t])


def resolved_by_a_function(world: World) -> Path:
    source = """
        static int two(void) { return 2; }
        static void *choose(unsigned long hwcap) { return hwcap ? two : 0; }
        int f(void) __attribute__((ifunc("choose")));
        int (*pointer)(void) = f;"""
    f = lib(world, "f", source)
    main = (
        SAYS
        + 'int f(void); extern int (*pointer)(void); int main(void) { printf("%d %d\\n", f(), pointer()); return 0; }'
    )
    return program(world, main, needs=[f])


def of_the_c_library(world: World) -> Path:
    source = "#include <string.h>\nvoid *(*copy)(void *, const void *, unsigned long) = memcpy;"
    a = lib(world, "a", source + 'int a(void) { char b[9]; copy(b, "12345678", 9); return strlen(b); }')
    return program(world, prints("a"), needs=[a])


def copied(world: World) -> Path:
    a = lib(world, "a", "int datum = 4; int a(void) { return datum++; }")
    main = SAYS + 'extern int datum; int a(void); int main(void) { a(); printf("%d %d\\n", datum, a()); return 0; }'
    return program(world, main, needs=[a], kind="-no-pie")


def lookups(path: Path) -> int:
    """How many symbols ld.so looked up, in its own words."""
    done = subprocess.run(
        [AARCH64.emulator, "-E", "LD_DEBUG=statistics", path], capture_output=True, text=True, check=False, env={}
    )
    counted = COUNTED.search(done.stderr)
    assert counted, done.stderr
    return int(counted[1])


@pytest.mark.parametrize(
    "build",
    [a_chain, versions, thread_local, resolved_by_a_function, of_the_c_library, copied],
    ids=lambda b: b.__name__,
)
def test_a_program_of_aarch64(store: Store, build: Build) -> None:
    """It says what it said, the emulated loader has proved each word of memory, and looks less up."""
    world = World.create(store, AARCH64)
    source = build(world)
    out = store.path / "prelinked" / "app"
    told = check("prelink", store.call("prelink", source, "-o", out, "--json").out)
    assert told["proof"]["words"] > 0
    before, now = world.run(source), world.run(out)
    assert (now.status, now.out, now.err) == (before.status, before.out, before.err) == (0, before.out, "")
    assert lookups(out) < lookups(source)


def test_without_an_emulator_the_log_says_so(store: Store, tmp_path: Path) -> None:
    world = World.create(store, AARCH64)
    source = a_chain(world)
    out = store.path / "prelinked" / "app"
    done = store.call("prelink", source, "-o", out, environ={"PATH": str(tmp_path)})
    assert "not proved by the loader itself (for another machine" in done.err
    assert "there is no qemu for it" in done.err
    assert world.run(out).out == world.run(source).out
