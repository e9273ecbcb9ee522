"""Binding: every NEEDED of an output becomes the absolute path of the file that the loader maps today."""

from pathlib import Path

import pytest
from support import bytes as raw
from support.dynamic import names
from support.source import PTHREAD_EXIT, function, prints
from support.store import Store, patchelf
from support.trace import run


def test_a_bound_chain_searches_nothing_and_maps_the_same_files(store: Store) -> None:
    a, b, app = store.package("liba"), store.package("libb"), store.package("app")
    liba = a.library("liba.so.1", function("a", 1))
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = app.program("app", prints("a", "b"), needs=[libb, liba])
    before = run(program)
    assert before.said == (0, "1\n11\n", "")
    assert before.misses
    store.harden(a, b, app)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_needed_keeps_its_order_and_each_name_its_base_name(store: Store) -> None:
    libs = store.package("libs")
    needs = [
        libs.library(f"lib{x}.so.1.0", function(x, 1), soname=f"lib{x}.so.1", links=[f"lib{x}.so.1"]) for x in "cab"
    ]
    program = store.package("app").program("app", prints("c", "a", "b"), needs=needs)
    before = names(program).needed
    store.harden(libs, store.package("app"))
    after = names(program).needed
    assert before == ("libc.so.1", "liba.so.1", "libb.so.1", "libc.so.6")
    assert after == (*(f"{libs.lib}/lib{x}.so.1" for x in "cab"), f"{store.libc}/libc.so.6")


def test_a_program_bound_alone_works_with_libraries_that_are_not(store: Store) -> None:
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    app = store.package("app")
    program = app.program("app", prints("a", "b"), needs=[libb, liba])
    before = run(program)
    store.harden(app)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert all(name.startswith("/") for name in names(program).needed)
    assert names(libb).needed == ("liba.so.1",)


@pytest.mark.parametrize("hardened", ["liba", "libb"])
def test_a_library_bound_alone_works_with_users_that_are_not(store: Store, hardened: str) -> None:
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = store.package("app").program("app", prints("a", "b"), needs=[libb, liba])
    before = run(program)
    store.harden(store.package(hardened))
    assert run(program).behaviour == before.behaviour
    assert names(program).needed == ("libb.so.1", "liba.so.1", "libc.so.6")


def test_all_outputs_of_a_derivation_are_bound_together(store: Store) -> None:
    """A program of one output uses the library of another, which no input names."""
    out, lib, dev, bin_ = (store.package(name) for name in ("it", "it-lib", "it-dev", "it-bin"))
    liba = lib.library("liba.so.1.0", function("a", 1), soname="liba.so.1", links=["liba.so.1"])
    dev.lib.mkdir()
    (dev.lib / "liba.so").symlink_to(liba)
    libb = lib.library("libb.so.1", function("b", 10, ["a"]), needs=[lib.lib / "liba.so.1"])
    one = bin_.program("one", prints("a", "b"), needs=[libb, liba])
    two = out.program("two", prints("a"), needs=[liba], directory="libexec")
    before = run(one), run(two)
    store.harden(out, lib, dev, bin_)
    after = run(one), run(two)
    assert [now.behaviour for now in after] == [then.behaviour for then in before]
    assert [now.misses for now in after] == [(), ()]
    assert str(lib.lib / "liba.so.1") in names(two).needed, "bound in the library's own output, by its own name"


def test_a_name_bound_already_is_left(store: Store) -> None:
    a, app = store.package("liba"), store.package("app")
    liba = a.library("liba.so.1", function("a", 1))
    store.harden(a)
    program = app.program("app", prints("a"), needs=[liba])
    assert names(program).needed[0] == str(liba)
    plan = store.harden(app, options=["--json"]).plan
    assert plan["app"]["needed"][0]["why"] == "bound already"
    assert run(program).misses == ()


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_name_that_is_the_objects_own_soname_stays_bare(store: Store, mode: str) -> None:
    """The loader answers it with the object itself; bound, it would load the former version that the search path still has."""
    old, new = store.package("old"), store.package("new")
    former = old.library("liba.so.1", function("a", 9))
    liba = new.library("liba.so.1", function("a", 1), needs=[former], flags=["-Wl,--no-as-needed"])
    program = new.program("app", prints("a"), needs=[liba])
    before = run(program)
    assert before.files("liba.so.1") == [str(liba)]
    store.harden(new, inputs=[old], options=["--mode", mode])
    assert (names(liba).needed[0], names(liba).soname) == ("liba.so.1", "liba.so.1")
    after = run(program)
    assert (after.said, after.files("liba.so.1")) == (before.said, [str(liba)])


def test_ld_preload_still_works_and_ld_library_path_overrides_a_bound_library_no_longer(store: Store) -> None:
    a, app, other = store.package("liba"), store.package("app"), store.package("other")
    liba = a.library("liba.so.1", function("a", 1))
    another = other.library("liba.so.1", function("a", 2))
    preloaded = other.library("libpreload.so", function("a", 3))
    program = app.program("app", prints("a"), needs=[liba])
    assert run(program, environ={"LD_LIBRARY_PATH": str(another.parent)}).out == "2\n"
    store.harden(a, app)
    assert run(program, environ={"LD_LIBRARY_PATH": str(another.parent)}).out == "1\n"
    assert run(program, environ={"LD_PRELOAD": str(preloaded)}).out == "3\n"


def test_a_thread_that_ends_maps_one_libgcc_s(store: Store) -> None:
    """glibc opens libgcc_s.so.1 by that name, so its SONAME stays while NEEDED on it is bound."""
    gcc, a, app = store.compiler_runtimes(), store.package("liba"), store.package("app")
    runtime = gcc.lib / "libgcc_s.so.1"
    liba = a.library("liba.so.1", function("a", 7), needs=[runtime])
    program = app.program("app", PTHREAD_EXIT, needs=[liba, runtime])
    before = run(program)
    store.harden(gcc, a, app)
    after = run(program)
    assert after.said == before.said == (0, "7\n", "")
    assert after.files("libgcc_s") == before.files("libgcc_s") == [str(runtime)]
    assert names(program).needed[1] == str(runtime)
    assert names(runtime).soname == "libgcc_s.so.1"
    assert after.misses == ()


def own_glibc(store: Store) -> list[Path]:
    """Make the store's glibc, whose files are links to those of other stores, one that may be written."""
    files = [store.libc / name for name in ("libc.so.6", "libm.so.6", store.loader.name)]
    for file in files:
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
    store.loader.chmod(0o755)
    return files


def test_the_c_library_keeps_the_search_path_by_which_it_opens_libgcc_s(store: Store) -> None:
    """It defines dlopen and calls it by other names: libgcc_s.so.1, NSS and the like are found from its own RUNPATH."""
    gcc, app = store.compiler_runtimes(), store.package("app")
    libc, *_ = own_glibc(store)
    patchelf("--set-rpath", gcc.lib, libc)
    liba = app.library("liba.so.1", function("a", 7))
    program = app.program("app", PTHREAD_EXIT, needs=[liba])
    before = run(program)
    assert before.files("libgcc_s") == [str(gcc.lib / "libgcc_s.so.1")]
    store.fixup("--output", f"out={app.path}", "--output", f"glibc={store.glibc}")
    assert str(gcc.lib) in (names(libc).runpath or "").split(":")
    after = run(program)
    assert after.said == before.said == (0, "7\n", "")
    assert after.mapped == before.mapped


def test_threads_run_with_a_bound_libc_whose_soname_is_its_own(store: Store) -> None:
    """libc.so.6 as an output: an absolute SONAME would leave it without its early initialisation."""
    app = store.package("app")
    liba = app.library("liba.so.1", function("a", 5))
    program = app.program("app", PTHREAD_EXIT.replace("pthread_exit(", "return ("), needs=[liba])
    before = run(program)
    glibc = own_glibc(store)
    store.fixup("--output", f"out={app.path}", "--output", f"glibc={store.glibc}")
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert [names(file).soname for file in glibc] == ["libc.so.6", "libm.so.6", store.loader.name]
    assert names(glibc[1]).needed == (str(store.libc / "libc.so.6"), *names(glibc[1]).needed[1:])


def test_the_loaders_name_stays(store: Store) -> None:
    """It is mapped before anything is looked up, so it costs no search, and another path could map it twice."""
    app = store.package("app")
    program = app.program("app", prints(), flags=[str(store.loader)])
    assert store.loader.name in names(program).needed
    before = run(program)
    store.harden(app)
    after = run(program)
    assert store.loader.name in names(program).needed
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_cxx_programs_throw_through_bound_libraries(store: Store) -> None:
    gcc, a, app = store.compiler_runtimes(), store.package("liba"), store.package("app")
    rpath = [gcc.lib, a.lib, store.libc]
    throws = '#include <stdexcept>\nint a() { throw std::runtime_error("thrown"); }'
    catches = "#include <exception>\n#include <cstdio>\nint a(); int main() { try { a(); } catch (std::exception &e) { puts(e.what()); } }"
    liba = a.library("liba.so.1", throws, rpath=rpath, compiler="g++")
    program = app.program("app", catches, needs=[liba], rpath=rpath, compiler="g++")
    before = run(program)
    store.harden(gcc, a, app)
    after = run(program)
    assert after.said == before.said == (0, "thrown\n", "")
    assert after.mapped == before.mapped
    assert after.misses == ()
    assert names(gcc.lib / "libstdc++.so.6").soname == "libstdc++.so.6"


def test_libraries_that_need_each_other(store: Store) -> None:
    a, b, app = store.package("liba"), store.package("libb"), store.package("app")
    first = a.library("liba.so.1", function("a", 1) + function("one", 1))
    libb = b.library("libb.so.1", function("b", 10, ["one"]), needs=[first])
    liba = a.library("liba.so.1", function("a", 1, ["b"]) + function("one", 1), needs=[libb])
    program = app.program("app", prints("a", "b"), needs=[liba, libb])
    before = run(program)
    assert before.out == "12\n11\n"
    store.harden(a, b, app)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_a_name_that_stands_twice_is_bound_twice(store: Store) -> None:
    a, app = store.package("liba"), store.package("app")
    liba = a.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba])
    raw.retag(program, raw.DT_DEBUG, raw.DT_NEEDED, raw.dynamic(program, first=True)[raw.DT_NEEDED][1])
    assert names(program).needed == ("liba.so.1", "libc.so.6", "liba.so.1")
    before = run(program)
    store.harden(app)
    after = run(program)
    assert names(program).needed == (str(liba), f"{store.libc}/libc.so.6", str(liba))
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_base_names_that_programs_see_of_their_libraries_stay(store: Store) -> None:
    """Debuggers, profilers and sanitizers know libraries by what dladdr(3) and the link map say."""
    a, app = store.package("liba"), store.package("app")
    source = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        #include <string.h>
        int a(void);
        int main(void) { Dl_info info; dladdr((void *) a, &info); puts(strrchr(info.dli_fname, '/')); }"""
    liba = a.library("liba.so.1.2", function("a", 1), soname="liba.so.1", links=["liba.so.1"])
    program = app.program("app", source, needs=[liba], flags=["-fno-plt", "-Xlinker", "-z", "-Xlinker", "now"])
    before = run(program)
    assert before.out == "/liba.so.1\n"
    store.harden(a, app)
    assert run(program).behaviour == before.behaviour


def test_a_store_that_is_reached_through_a_link(store: Store) -> None:
    """An ordinary directory as store may lie behind one, as /tmp does on some systems."""
    alias = store.path.parent / "alias"
    alias.symlink_to(store.path)
    linked = Store(alias, alias / store.glibc.name)
    a, app = linked.package("liba"), linked.package("app")
    liba = a.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba])
    before = run(program)
    linked.harden(a, app)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert names(program).needed[0] == str(liba)


def test_a_store_and_outputs_are_the_same_with_a_slash_at_their_ends(store: Store) -> None:
    app = store.package("app")
    liba = app.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba])
    store.fixup("--output", f"out={app.path}//", environ={"NIX_STORE": f"{store.path}/"})
    assert names(program).needed[0] == str(liba)
    assert names(liba).soname == str(liba)
