"""RUNPATH and dlopen: a library opened by bare name is found where its caller's RUNPATH says, so callers keep theirs."""

import json

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store, patchelf
from support.trace import run

from nix_harden.reading.elf import read_mentions


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


def test_a_library_that_is_not_loaded_is_still_found_by_its_bare_name(store: Store, it: Package) -> None:
    plug = store.package("plug")
    plug.library("libplug.so.1", function("plug", 3))
    program = it.program("app", opens("libplug.so.1", "plug"), rpath=[plug.lib, store.libc])
    before = run(program)
    store.harden(it)
    assert run(program).behaviour == before.behaviour
    assert run(program).out == "3\n"


@pytest.mark.parametrize("flags", ["RTLD_NOW", "RTLD_NOW | RTLD_NOLOAD"])
@pytest.mark.parametrize("hardened", [["liba", "it"], ["it"], ["liba"]], ids=["both", "program", "library"])
def test_a_loaded_library_is_found_by_its_bare_name(store: Store, it: Package, hardened: list[str], flags: str) -> None:
    """Its SONAME is absolute and no longer matches, so the search has to lead to the same file: mapped once."""
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = it.program("app", opens("liba.so.1", "a", flags, calls=["a"]), needs=[liba])
    before = run(program)
    assert before.out == "1\n"
    store.harden(*(store.package(name) for name in hardened))
    assert run(program).behaviour == before.behaviour


def test_directories_that_shrink_rpath_dropped_come_back(store: Store, it: Package) -> None:
    """Once liba is hardened the linker copies its path into NEEDED, and `patchelf --shrink-rpath` drops its directory."""
    a = store.package("liba")
    liba = a.library("liba.so.1", function("a", 1))
    a.library("libplug.so.1", function("plug", 3))
    store.harden(a)
    program = it.program("app", opens("libplug.so.1", "plug", calls=["a"]), needs=[liba])
    patchelf("--shrink-rpath", program)
    assert str(a.lib) not in (names(program).runpath or "")
    assert "not opened" in run(program).out
    store.harden(it, inputs=[a])
    assert str(a.lib) in (names(program).runpath or "").split(":")
    assert run(program).said == (0, "3\n", "")


def test_a_directory_that_comes_back_comes_first_where_it_holds_what_is_opened(store: Store, it: Package) -> None:
    """The name is not tried below any other directory before; what the others hold is found where it was."""
    a, other = store.package("liba"), store.package("other")
    liba = a.library("liba.so.1", function("a", 1))
    a.library("libplug.so.1", function("plug", 3))
    needs = [liba, other.library("libother.so.1", function("other", 2))]
    store.harden(a)
    program = it.program("app", opens("libplug.so.1", "plug", calls=["a", "other"]), needs=needs)
    patchelf("--shrink-rpath", program)
    before = names(program).runpath
    assert before == f"{other.lib}:{store.libc}"
    store.harden(it, inputs=[a, other])
    assert names(program).runpath == f"{a.lib}:{before}"
    ran = run(program)
    assert ran.said == (0, "3\n", "")
    tried = [path for path in ran.misses if path.endswith("/libplug.so.1")]
    assert [path for path in tried if not path.startswith(f"{a.lib}/")] == []


def test_a_library_that_calls_dlopen_keeps_its_runpath_as_well(store: Store, it: Package) -> None:
    plug = store.package("plug")
    plug.library("libplug.so.1", function("plug", 3))
    source = '#include <dlfcn.h>\nint a(void) { void *h = dlopen("libplug.so.1", RTLD_NOW); return h ? ((int (*)(void)) dlsym(h, "plug"))() : -1; }'
    liba = it.library("liba.so.1", source, rpath=[plug.lib, store.libc])
    program = it.program("app", prints("a"), needs=[liba])
    before = run(program)
    assert before.out == "3\n"
    store.harden(it)
    assert names(program).runpath == ""
    assert run(program).behaviour == before.behaviour


@pytest.mark.parametrize("place", ["outputs", "inputs", "search path"])
def test_what_a_dlopen_note_names_is_found(store: Store, it: Package, place: str) -> None:
    """The note is read even where no code calls dlopen: a helper library may do it for the object."""
    home = it if place == "outputs" else store.package("noted")
    noted = home.library("libnoted.so.1", function("noted", 5), directory="lib/private" if home is it else "lib")
    text = '[{"soname":["libnoted.so.1","libother.so.1"],"feature":"it","priority":"suggested"}]'
    note = f"""__asm__(".pushsection .note.dlopen, \\"a\\", @note\\n .balign 4\\n .long 4, 9f-8f, 0x407c0c0a\\n .asciz \\"FDO\\"\\n"
        "8: .asciz {json.dumps(json.dumps(text))[1:-1]}\\n 9: .balign 4\\n .popsection\\n");"""
    rpath = [noted.parent, store.libc] if place == "search path" else [store.libc]
    program = it.program("app", note + "int main(void) { return 0; }", rpath=rpath)
    store.harden(it, inputs=[home])
    assert str(noted.parent) in (names(program).runpath or "").split(":")
    assert run(program).status == 0


def test_dlmopen_counts_as_dlopen(store: Store, it: Package) -> None:
    plug = store.package("plug")
    plug.library("libplug.so.1", function("plug", 3))
    source = opens("libplug.so.1", "plug").replace("dlopen(", "dlmopen(LM_ID_NEWLM, ")
    program = it.program("app", source, rpath=[plug.lib, store.libc])
    before = run(program)
    assert before.out == "3\n"
    store.harden(it)
    assert run(program).said == before.said
    assert sorted(run(program).mapped) == sorted(before.mapped)


@pytest.mark.parametrize("headers", [True, False], ids=["", "without section headers"])
@pytest.mark.parametrize(
    "flags", [[], ["-Wl,-z,noseparate-code"], ["-fuse-ld=gold"], ["-fuse-ld=lld"]], ids=lambda it: "".join(it[-1:])
)
def test_names_to_open_are_seen_wherever_a_linker_or_patchelf_puts_them(
    store: Store, it: Package, flags: list[str], headers: bool
) -> None:
    """Beside the code, too: patchelf parts its segment from the headers."""
    program = it.program("app", opens("libplug.so.1", "plug"), flags=[*flags, "-no-pie", "-fno-pie"])
    assert "libplug.so.1" in read_mentions(str(program))
    patchelf("--set-rpath", f"{store.libc}:{'/long' * 100}", program)
    if not headers:
        data = bytearray(program.read_bytes())
        data[40:48] = bytes(8)  # e_shoff
        data[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
        program.write_bytes(data)
    assert "libplug.so.1" in read_mentions(str(program))


def test_a_symbol_that_is_only_named_like_dlopen_is_no_call(store: Store, it: Package) -> None:
    it.library("liba.so.1", "int my_dlopen(void) { return 1; } int dlopen_not(void) { return 2; }", rpath=[store.libc])
    store.harden(it)
    assert names(it.lib / "liba.so.1").runpath == ""


def test_a_plugin_opened_by_path_is_bound_and_gets_no_soname(store: Store, it: Package) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    plug = it.plugin("plug.so", function("plug", 3, ["a"]), needs=[liba], directory="lib/plugins")
    program = it.program("app", opens(str(plug), "plug"))
    before = run(program)
    assert before.out == "4\n"
    store.harden(it)
    after = run(program)
    assert names(plug).soname is None
    assert names(plug).needed == (str(liba),)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_a_loaded_plugin_needs_the_same_library_as_its_program(store: Store, it: Package) -> None:
    """One of the two is hardened, and liba counts its calls: two copies of it would count apart."""
    other = store.package("other")
    liba = store.package("liba").library("liba.so.1", "static int n; int a(void) { return ++n; }")
    plug = other.plugin("plug.so", function("plug", 0, ["a"]), needs=[liba])
    program = it.program("app", opens(str(plug), "plug", calls=["a", "a"]), needs=[liba])
    before = run(program)
    assert before.out == "3\n"
    store.harden(it)
    assert run(program).behaviour == before.behaviour
    store.harden(other)
    assert run(program).behaviour == before.behaviour
    store.harden(store.package("liba"))
    assert run(program).behaviour == before.behaviour


def test_an_rpath_gets_the_directory_back_as_rpath(store: Store, it: Package) -> None:
    a = store.package("liba")
    liba = a.library("liba.so.1", function("a", 1))
    a.library("libplug.so.1", function("plug", 3))
    program = it.program(
        "app", opens("libplug.so.1", "plug", calls=["a"]), needs=[liba], rpath=[store.libc], tag="RPATH"
    )
    store.harden(it, inputs=[a])
    assert (names(program).rpath, names(program).runpath) == (f"{store.libc}:{a.lib}", None)
    assert run(program).said == (0, "3\n", "")


def test_no_directory_comes_back_that_would_answer_a_bare_name_otherwise(store: Store, it: Package) -> None:
    """libcuda.so.1 is left to the system; the directory of liba happens to hold a stub of it."""
    a, driver = store.package("liba"), store.package("driver")
    liba = a.library("liba.so.1", function("a", 1))
    a.library("libcuda.so.1", function("cuda", 0))
    cuda = driver.library("libcuda.so.1", function("cuda", 9))
    source = opens("liba.so.1", "cuda", "RTLD_NOW", calls=["a", "cuda"])
    program = it.program("app", source, needs=[liba, cuda], rpath=[store.libc])
    driver_path = {"LD_LIBRARY_PATH": str(driver.lib)}
    store.harden(it, inputs=[a])
    assert "libcuda.so.1" in names(program).needed
    assert run(program, environ=driver_path).files("libcuda") == [str(cuda)]
    assert run(program).status == 127


def test_no_directory_comes_back_that_would_answer_a_name_of_the_interpreters_directory(
    store: Store, it: Package
) -> None:
    """libm.so.6 is left bare on demand and found last of all; liba's directory holds another one."""
    a = store.package("liba")
    liba = a.library("liba.so.1", function("a", 1))
    impostor = a.library("libm.so.6", function("m", 9))
    source = opens("liba.so.1", "a", calls=["a"])
    program = it.program("app", source, needs=[liba, store.libc / "libm.so.6"], rpath=[])
    patchelf("--replace-needed", "liba.so.1", liba, program)
    before = run(program)
    assert before.status in (0, 9)
    store.harden(it, inputs=[a], options=["--exclude", "libm.so.6"])
    after = run(program)
    assert "libm.so.6" in names(program).needed
    assert str(impostor) not in after.mapped
    assert [path.rpartition("/")[2] for path in after.mapped] == [path.rpartition("/")[2] for path in before.mapped]


def test_a_name_that_is_bound_is_no_name_to_open(store: Store, it: Package) -> None:
    """The old strings of NEEDED and SONAME stay in the string table; what is there names no library that code opens."""
    dep = store.package("dep")
    libdep = dep.library("libdep.so.1", function("dep", 1))
    source = "#include <dlfcn.h>\nint dep(void); void *user(const char *n) { dep(); return dlopen(n, RTLD_LAZY); }"
    libuser = it.library("libuser.so.1", source, needs=[libdep])
    assert read_mentions(str(libuser)) == ()
    store.harden(dep)
    store.harden(it, inputs=[dep])
    assert read_mentions(str(libuser)) == ()
    assert str(it.lib) not in (names(libuser).runpath or "")


def test_dlopen_that_is_had_by_dlsym_counts(store: Store, it: Package) -> None:
    """As overlays and foreign function interfaces do; the library is found by the program's own search path."""
    dep = store.package("dep")
    libe, _ = dep.library("libe.so.1", function("e", 1)), dep.library("libf.so.1", function("f", 7))
    source = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        int e(void);
        int main(void) {
          void *(*open)(const char *, int) = dlsym(RTLD_DEFAULT, "dlopen");
          void *f = open("libf.so.1", RTLD_NOW);
          printf("%d %s\\n", e(), f ? "opened" : dlerror());
          return 0;
        }"""
    program = it.program("app", source, needs=[libe])
    before = run(program)
    assert before.out == "1 opened\n"
    store.harden(it, inputs=[dep])
    assert run(program).behaviour == before.behaviour
