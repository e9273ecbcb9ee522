"""What symbols mean stays what it was, by whatever rule, and ld.so looks fewer of them up."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prelink.helpers import assert_same, prelink, refused, run
from support.source import function, prints
from support.store import Package, Store

Build = Callable[[Store], Path]
SAYS = "#include <stdio.h>\n"


def lib(package: Package, name: str, source: str, **how: object) -> Path:
    return package.library(f"lib{name}.so.1", source, **how)  # type: ignore[arg-type]


def a_chain(store: Store) -> Path:
    c = lib(store.package("c"), "c", function("c", 3))
    b = lib(store.package("b"), "b", function("b", 2, ["c"]), needs=[c])
    return store.package("app").program("app", prints("b", "c"), needs=[b, c])


def the_first_of_several(store: Store) -> Path:
    """Both define it, and the first that is loaded wins, for the second library as well."""
    one = lib(store.package("one"), "one", function("both", 1) + function("one", 10, ["both"]))
    two = lib(store.package("two"), "two", function("both", 2) + function("two", 20, ["both"]))
    return store.package("app").program("app", prints("both", "one", "two"), needs=[one, two])


def the_programs_own(store: Store) -> Path:
    """A program interposes what its library defines and calls."""
    a = lib(store.package("a"), "a", function("both", 1) + function("a", 10, ["both"]))
    flags = ["-Wl,--export-dynamic"]
    return store.package("app").program("app", function("both", 5) + prints("a", "both"), needs=[a], flags=flags)


def versions(store: Store) -> Path:
    """Two versions of one name, of which one is the default."""
    package = store.package("v")
    package.lib.mkdir()
    script = package.path / "v.map"
    script.write_text("V1 { global: f; g; local: *; }; V2 { global: f; } V1;")
    source = """
        __asm__(".symver f1,f@V1"); __asm__(".symver f2,f@@V2");
        int f1(void) { return 1; } int f2(void) { return 2; } int g(void) { return 3; }"""
    v = lib(package, "v", source, flags=[f"-Wl,--version-script={script}"])
    old = '__asm__(".symver f,f@V1");' + function("old", 10, ["f"])
    a = lib(store.package("a"), "a", old, needs=[v])
    return store.package("app").program("app", prints("f", "g", "old"), needs=[a, v])


def weak_and_undefined(store: Store) -> Path:
    source = """
        int nothing(void) __attribute__((weak)); extern int datum __attribute__((weak));
        int a(void) { return nothing ? nothing() : &datum ? 2 : 1; }"""
    a = lib(store.package("a"), "a", source)
    return store.package("app").program("app", prints("a"), needs=[a])


def weak_and_called_through_the_plt(store: Store) -> Path:
    """A function that nothing defines, whose slot is one for calls: it stays to be found as it is called."""
    source = """
        __attribute__((weak)) int nothing(void);
        int a(int call) { return call ? nothing() : 7; }"""
    a = lib(store.package("a"), "a", source, flags=["-Wl,-z,lazy"])
    main = SAYS + 'int a(int); int main(int n, char **v) { printf("%d\\n", a(n > 1)); return 0; }'
    return store.package("app").program("app", main, needs=[a])


def weak_and_defined_twice(store: Store) -> Path:
    one = lib(store.package("one"), "one", "__attribute__((weak)) int w(void) { return 1; }")
    two = lib(store.package("two"), "two", "int w(void) { return 2; }" + function("two", 0, ["w"]))
    return store.package("app").program("app", prints("w", "two"), needs=[one, two])


def protected(store: Store) -> Path:
    mine = '__attribute__((visibility("protected"))) int p(void) { return 1; }' + function("a", 10, ["p"])
    a = lib(store.package("a"), "a", mine)
    flags = ["-Wl,--export-dynamic"]
    return store.package("app").program("app", function("p", 2) + prints("p", "a"), needs=[a], flags=flags)


def hidden(store: Store) -> Path:
    mine = '__attribute__((visibility("hidden"))) int h(void) { return 1; } int (*table[])(void) = { h, h };'
    a = lib(store.package("a"), "a", mine + "int a(void) { return table[1](); }")
    return store.package("app").program("app", prints("a"), needs=[a])


def symbolic(store: Store, flag: str) -> Path:
    one = lib(store.package("one"), "one", function("both", 1))
    source = function("both", 2) + "int (*pointer)(void) = both; int two(void) { return both() + pointer(); }"
    two = lib(store.package("two"), "two", source, flags=[flag])
    return store.package("app").program("app", prints("both", "two"), needs=[one, two])


def copied(store: Store) -> Path:
    """A program at a fixed address has a variable of a library copied, and the library goes on using the copy."""
    a = lib(store.package("a"), "a", "int datum = 4; int a(void) { return datum++; }")
    main = SAYS + 'extern int datum; int a(void); int main(void) { a(); printf("%d %d\\n", datum, a()); return 0; }'
    return store.package("app").program("app", main, needs=[a], flags=["-no-pie", "-fno-pie"])


def canonical(store: Store) -> Path:
    """The address of a function is one, in a program at a fixed address and in its libraries."""
    a = lib(store.package("a"), "a", "int f(void) { return 1; } void *a(void) { return f; }")
    main = SAYS + 'int f(void); void *a(void); int main(void) { printf("%d\\n", a() == (void *)f); return 0; }'
    return store.package("app").program("app", main, needs=[a], flags=["-no-pie", "-fno-pie"])


def resolved_by_a_function(store: Store) -> Path:
    """An IFUNC of a library, by call and by address."""
    source = """
        static int which = 1;
        static int one(void) { return 1; } static int two(void) { return 2; }
        static void *choose(void) { return which ? two : one; }
        int f(void) __attribute__((ifunc("choose")));
        int (*pointer)(void) = f;"""
    a = lib(store.package("a"), "a", source)
    main = (
        SAYS
        + 'int f(void); extern int (*pointer)(void); int main(void) { printf("%d %d\\n", f(), pointer()); return 0; }'
    )
    return store.package("app").program("app", main, needs=[a])


def of_the_c_library(store: Store) -> Path:
    """IFUNCs of glibc, by call and by address."""
    source = "#include <string.h>\nvoid *(*copy)(void *, const void *, unsigned long) = memcpy;"
    a = lib(store.package("a"), "a", source + 'int a(void) { char b[9]; copy(b, "12345678", 9); return strlen(b); }')
    return store.package("app").program("app", prints("a"), needs=[a])


def thread_local(store: Store) -> Path:
    a = lib(store.package("a"), "a", "__thread int t = 5; int a(void) { return t++; }")
    main = (
        "#include <pthread.h>\n#include <stdio.h>\n"
        "extern __thread int t; int a(void); static void *f(void *x) { a(); a(); return (void *)(long)t; }"
        "int main(void) { pthread_t p; void *r; a(); pthread_create(&p, 0, f, 0); pthread_join(p, &r);"
        'printf("%d %ld\\n", t, (long)r); return 0; }'
    )
    return store.package("app").program("app", main, needs=[a])


def packed_relative(store: Store) -> Path:
    """Relative relocations in DT_RELR, beside symbolic ones."""
    source = "static int x = 3; int *p[64] = { [0 ... 63] = &x }; int f(void) { return 1; } int (*g)(void) = f;"
    flags = ["-Wl,--pack-dyn-relocs=relr"]
    a = lib(store.package("a"), "a", source + "int a(void) { return *p[7] + g(); }", linker="lld", flags=flags)
    return store.package("app").program("app", prints("a"), needs=[a])


def in_the_text(store: Store) -> Path:
    """A library with relocations in its text is left to ld.so, and the others are not."""
    source = '__asm__(".text\\n.globl where\\nwhere: .quad f\\n"); extern long where; int f(void) { return 3; }'
    a = lib(
        store.package("a"), "a", source + "int a(void) { return ((int (*)(void))where)(); }", flags=["-Wl,-z,notext"]
    )
    b = lib(store.package("b"), "b", function("b", 2, ["a"]), needs=[a])
    return store.package("app").program("app", prints("a", "b"), needs=[a, b])


def absolute(store: Store) -> Path:
    a = lib(store.package("a"), "a", '__asm__(".globl number\\nnumber = 42\\n");')
    main = SAYS + 'extern char number; char *p = &number; int main(void) { printf("%ld\\n", (long)p); return 0; }'
    return store.package("app").program("app", main, needs=[a])


def old_hash_table(store: Store) -> Path:
    a = lib(store.package("a"), "a", function("a", 1), flags=["-Wl,--hash-style=sysv"])
    return store.package("app").program("app", prints("a"), needs=[a])


def without_build_id(store: Store) -> Path:
    a = lib(store.package("a"), "a", function("a", 1), flags=["-Wl,--build-id=none"])
    return store.package("app").program("app", prints("a"), needs=[a], flags=["-Wl,--build-id=none"])


def linked_by(linker: str, *flags: str) -> Build:
    def build(store: Store) -> Path:
        a = lib(store.package("a"), "a", function("a", 1) + "int (*p)(void) = a;", linker=linker, flags=flags)
        b = lib(store.package("b"), "b", function("b", 2, ["a"]), needs=[a], linker=linker, flags=flags)
        return store.package("app").program("app", prints("a", "b"), needs=[b, a], linker=linker, flags=flags)

    build.__name__ = "_".join(["linked_by", linker, *(flag.rpartition(",")[2] for flag in flags)])
    return build


CASES: list[Build] = [
    a_chain,
    the_first_of_several,
    the_programs_own,
    versions,
    weak_and_undefined,
    weak_and_called_through_the_plt,
    weak_and_defined_twice,
    protected,
    hidden,
    copied,
    canonical,
    resolved_by_a_function,
    of_the_c_library,
    thread_local,
    packed_relative,
    in_the_text,
    absolute,
    old_hash_table,
    without_build_id,
    *(linked_by(linker, flag) for linker in ("bfd", "gold", "lld", "mold") for flag in ("-Wl,-z,now", "-Wl,-z,lazy")),
]


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_symbols_mean_what_they_meant(store: Store, build: Build) -> None:
    """Bound by the module, a program prints what it printed; its loader has proved each word of memory, and looks less up."""
    source = build(store)
    assert run(source).status == 0
    assert_same(prelink(store, source), source)


@pytest.mark.parametrize("flag", ["-Wl,-Bsymbolic", "-Wl,-Bsymbolic-functions"])
def test_a_library_that_binds_to_itself(store: Store, flag: str) -> None:
    """DF_SYMBOLIC."""
    source = symbolic(store, flag)
    assert_same(prelink(store, source), source)


@pytest.mark.parametrize(("size", "fits"), [(64, True), (512, False)])
def test_static_thread_local_variables_of_libraries(store: Store, size: int, fits: bool) -> None:
    """With an audit module, ld.so takes their room from that of what is opened later: no more than it adds for the module."""
    source = f"__thread char t[{size}] = {{1}}; int a(void) {{ return t[0]++; }}"
    a = lib(store.package("a"), "a", source, flags=["-ftls-model=initial-exec"])
    app = store.package("app").program("app", prints("a"), needs=[a])
    if fits:
        assert_same(prelink(store, app), app)
    else:
        assert "bytes of thread-local variables" in refused(store, app)


def test_what_nothing_defines_is_missed_as_ever(store: Store) -> None:
    """A program that starts only because a function is not called is not prelinked: that would have it looked up."""
    a = lib(
        store.package("a"), "a", "int nothing(void); int a(int c) { return c ? nothing() : 1; }", flags=["-Wl,-z,lazy"]
    )
    main = SAYS + 'int a(int); int main(int n, char **v) { printf("%d\\n", a(n > 1)); return 0; }'
    source = store.package("app").program("app", main, needs=[a], flags=["-Wl,--allow-shlib-undefined"])
    assert run(source).status == 0
    assert "undefined symbol: nothing" in refused(store, source)
