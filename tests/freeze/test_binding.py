"""Our resolver binds every symbol as ld.so does: the same closure is asked of both, LD_DEBUG=bindings being the oracle."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from foreign.cross import MACHINES, Machine, World
from freeze.bindings import Said, answer, resolved, said
from freeze.helpers import bindings
from support.source import function, prints
from support.store import Store

TWO = 'asm(".symver old, f@V1"); asm(".symver new, f@@V2"); int old(void) { return 1; } int new(void) { return 2; }'

# The loader of riscv64 looks it up in the program to set a register (`elf_machine_runtime_setup`).
GP = "__global_pointer$"
NOW, NOW_AND_SYMBOLIC = struct.pack("<QQ", 30, 8), struct.pack("<QQ", 30, 8 | 2)  # DT_FLAGS


def both(program: Path) -> Said:
    """What the loader binds; our resolver agrees."""
    bound = said(program)
    assert resolved(program) == bound
    return bound


def script(store: Store, name: str, text: str) -> list[str]:
    path = store.path / f"{name}.map"
    path.write_text(text)
    return [f"-Wl,--version-script={path}"]


def library(store: Store, name: str, source: str, *, needs: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
    return store.package(name).library(f"lib{name}.so.1", source, needs=needs, flags=flags)


def program(store: Store, source: str, needs: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    return store.package("app").program("app", source, needs=needs, flags=flags)


@pytest.fixture
def two(store: Store) -> Path:
    """f in an old and a new version, of which the new is the default."""
    return library(store, "two", TWO, flags=script(store, "two", "V1 { global: f; local: *; }; V2 { global: f; } V1;"))


def test_a_version_is_bound_to_itself(store: Store, two: Path) -> None:
    """Hidden or default, and however many the library has."""
    old = library(store, "old", 'asm(".symver f, f@V1"); int f(void); int o(void) { return f(); }', needs=[two])
    new = library(store, "new", "int f(void); int n(void) { return f(); }", needs=[two])
    bound = both(program(store, prints("o", "n"), [old, new, two]))
    assert answer(bound, old, "f' [V1]") == answer(bound, new, "f' [V2]") == ["libtwo.so.1"]


def test_a_version_passes_libraries_with_other_versions(store: Store, two: Path) -> None:
    """But not those without any, which answer each."""
    asks = library(store, "asks", "int f(void); int n(void) { return f(); }", needs=[two])
    other = library(store, "other", function("f", 7), flags=script(store, "other", "W { global: f; local: *; };"))
    assert answer(both(program(store, prints("n"), [other, asks, two])), asks, "f' [V2]") == ["libtwo.so.1"]
    plain = library(store, "plain", function("f", 8))
    assert answer(both(program(store, prints("n"), [other, plain, asks, two])), asks, "f' [V2]") == ["libplain.so.1"]


def test_a_version_takes_the_base_of_a_library_with_versions(store: Store, two: Path) -> None:
    """A symbol of the base version has no name to compare, and is taken where it is no hidden one."""
    asks = library(store, "asks", "int f(void); int n(void) { return f(); }", needs=[two])
    base = library(store, "base", function("f", 7) + function("g", 1), flags=script(store, "base", "W { global: g; };"))
    assert answer(both(program(store, prints("n"), [base, asks, two])), asks, "f' [V2]") == ["libbase.so.1"]


def test_no_version_takes_the_first_two_numbers_and_one_default(store: Store) -> None:
    """Numbers 0 to 2 are those of old programs; of higher ones only a default is taken, and none that is hidden."""
    stub = library(store, "stub", function("f", 0) + function("h", 0))
    asks = library(store, "asks", "int f(void), h(void); int n(void) { return f() + h(); }", needs=[stub])
    source = (
        'asm(".symver f3, f@@V3"); asm(".symver h3, h@V3"); int f3(void) { return 1; } int h3(void) { return 2; }'
        "int v1(void) { return 1; } int v2(void) { return 2; }"
    )
    nodes = "V1 { global: v1; local: *; }; V2 { global: v2; } V1; V3 { global: f; h; } V2;"
    third = library(store, "third", source, flags=script(store, "third", nodes))
    first = library(
        store,
        "first",
        'asm(".symver h1, h@V1"); int h1(void) { return 1; }',
        flags=script(store, "first", "V1 { global: h; local: *; };"),
    )
    bound = both(program(store, prints("n"), [third, first, asks, stub]))
    assert answer(bound, asks, "f'") == ["libthird.so.1"]
    assert answer(bound, asks, "h'") == ["libfirst.so.1"]


def test_the_first_definition_is_taken_weak_or_not(store: Store) -> None:
    weak = library(store, "weak", "int __attribute__((weak)) f(void) { return 1; }")
    strong = library(store, "strong", function("f", 2))
    asks = library(store, "asks", function("n", 0, ["f"]), needs=[strong])
    assert answer(both(program(store, prints("n"), [asks, weak, strong])), asks, "f'") == ["libweak.so.1"]


def test_a_weak_reference_may_find_nothing(store: Store) -> None:
    asks = library(store, "asks", "int __attribute__((weak)) f(void); int n(void) { return f ? f() : 0; }")
    assert answer(both(program(store, prints("n"), [asks])), asks, "f'") == []


def test_the_program_comes_before_its_libraries(store: Store) -> None:
    lib = library(store, "lib", function("f", 1) + function("n", 0, ["f"]))
    path = program(store, function("f", 5) + prints("n"), [lib], ["-rdynamic"])
    assert answer(both(path), lib, "f'") == ["app"]


def test_a_copy_relocation_passes_the_program(store: Store) -> None:
    """The program's data is copied from the library, and the library uses the program's."""
    lib = library(store, "lib", "int shared = 3; int n(void) { return shared; }")
    path = program(
        store, "extern int shared; " + prints("n").replace("return 0", "return shared"), [lib], ["-no-pie", "-fno-pic"]
    )
    bound = both(path)
    assert answer(bound, path, "shared'") == ["liblib.so.1"]
    assert answer(bound, lib, "shared'") == ["app"]


def test_an_address_that_the_program_took_is_for_pointers_alone(store: Store) -> None:
    """A call passes the undefined symbol of a program without position-independent code; a pointer has to be equal to it."""
    lib = library(store, "lib", function("f", 1))
    calls = library(store, "calls", function("n", 0, ["f"]), needs=[lib])
    points = library(store, "points", "int f(void); int (*p(void))(void) { return f; }", needs=[lib])
    takes = "int f(void); int (*volatile q)(void); void __attribute__((constructor)) take(void) { q = f; }"
    path = program(store, takes + prints("n"), [calls, points, lib], ["-no-pie", "-fno-pic"])
    bound = both(path)
    assert answer(bound, calls, "f'") == ["liblib.so.1"]
    assert answer(bound, points, "f'") == ["app"]


def test_a_protected_symbol_is_the_library_s_own(store: Store) -> None:
    source = """
        int __attribute__((visibility("protected"))) f(void) { return 1; }
        asm(".data; .globl table; table: .quad f; .text"); extern void *table;
        int n(void) { return ((int (*)(void))table)(); }"""
    lib = library(store, "lib", source)
    before = library(store, "before", function("f", 5))
    bound = both(program(store, prints("n"), [before, lib]))
    assert {words for by, _, words in bound if by == str(lib) and "`f'" in words} <= {"protected symbol `f'"}
    assert answer(bound, lib, "f'") == ["liblib.so.1"]


def test_a_symbolic_library_asks_itself_first(store: Store) -> None:
    lib = library(store, "lib", function("f", 1) + function("n", 0, ["f"]), flags=["-Wl,-z,now"])
    data = lib.read_bytes()
    assert data.count(NOW) == 1
    lib.write_bytes(data.replace(NOW, NOW_AND_SYMBOLIC))  # a linker that sets it leaves hardly anything to look up
    before = library(store, "before", function("f", 5))
    assert answer(both(program(store, prints("n"), [before, lib])), lib, "f'") == ["liblib.so.1"]


def test_a_definition_without_a_value(store: Store) -> None:
    """Thread-local and absolute symbols count at zero."""
    source = "__thread int local; extern char nothing[]; long n(void) { return local + (long) nothing; }"
    lib = library(store, "lib", source, flags=["-Wl,--defsym=nothing=0"])
    asks = library(store, "asks", "extern __thread int local; int u(void) { return local; }", needs=[lib])
    bound = both(program(store, prints("u", "n"), [asks, lib]))
    assert answer(bound, asks, "local'") == answer(bound, lib, "nothing'") == ["liblib.so.1"]


def test_a_hidden_symbol_and_a_local_one_answer_nobody(store: Store) -> None:
    hides = library(
        store, "hides", 'int __attribute__((visibility("hidden"))) f(void) { return 1; }' + function("x", 1)
    )
    lib = library(store, "lib", function("f", 2))
    asks = library(store, "asks", function("n", 0, ["f"]), needs=[lib])
    assert answer(both(program(store, prints("n", "x"), [hides, asks, lib])), asks, "f'") == ["liblib.so.1"]


def test_a_unique_symbol(store: Store) -> None:
    """C++ has one of it in each library, and the first is that of the process."""
    source = 'template <class T> struct S { static int one; }; template <class T> int S<T>::one = 1; extern "C" int NAME(void) { return ++S<int>::one; }'
    libs = [
        store.package(name).library(
            f"lib{name}.so.1", source.replace("NAME", name), compiler="g++", flags=["-nostdlib"]
        )
        for name in ("a", "b")
    ]
    bound = both(program(store, prints("a", "b"), libs))
    assert answer(bound, libs[1], "_ZN1SIiE3oneE'") == ["liba.so.1"]


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_either_hash_table(store: Store, style: str, two: Path) -> None:
    flags = [f"-Wl,--hash-style={style}"]
    lib = library(store, "lib", function("f", 2) + function("g", 1), flags=flags)
    asks = library(store, "asks", function("n", 0, ["f", "g"]), needs=[lib], flags=flags)
    bound = both(program(store, prints("n"), [asks, lib, two], flags))
    assert answer(bound, asks, "f'") == ["liblib.so.1"]


@pytest.mark.parametrize("linker", ["gold", "lld", "mold"])
def test_other_linkers(store: Store, linker: str) -> None:
    flags = [f"-fuse-ld={linker}"]
    b = library(store, "b", function("b", 2), flags=flags)
    a = library(store, "a", function("a", 1, ["b"]), needs=[b], flags=flags)
    assert answer(both(program(store, prints("a", "b"), [a, b], flags)), a, "b'") == ["libb.so.1"]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_other_machines(store: Store, machine: Machine) -> None:
    """Either class and byte order, and the relocations of each: under qemu, their own loaders say the same."""
    world = World.create(store, machine)
    package = store.package(f"it-{machine.name}")
    source = "__thread int local = 4; int data = 1; int a(void) { return local + data; }"
    a = world.library(package, "liba.so.1", source, versions="A_1 { global: a; data; local; local: *; };")
    b = world.library(
        package, "libb.so.1", "extern __thread int local; int a(void); int b(void) { return a() + local; }", needs=[a]
    )
    main = "int a(void), b(void); extern int data; int (*volatile p)(void) = a; int main(void) { return p() + b() + data; }"
    for kind, flags in (("-pie", []), ("-no-pie", ["-fno-pic"])):
        app = world.program(package, f"app{kind}", main, needs=[b, a], kind=kind, flags=flags)
        bound = {line for line in said(app, machine.emulator) if GP not in line[2]}
        assert resolved(app) == bound
        assert answer(bound, b, "a' [A_1]") == ["liba.so.1"]


def test_the_loader_binds_its_own_lookups_too(store: Store) -> None:
    """It does so when the program starts, after it was asked."""
    path = program(store, prints(), [])
    running = bindings(path, path)
    assert any(f"binding file {store.loader} [0] to {store.libc}/libc.so.6" in line for line in running)
