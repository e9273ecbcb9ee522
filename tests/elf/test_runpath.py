"""RUNPATH: it goes exactly where nothing is searched any more, and DT_RPATH is never turned into it nor dropped."""

import shutil

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Store, patchelf
from support.trace import run


def test_an_object_that_searches_nothing_loses_its_runpath(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 1, ["a"]), needs=[liba])
    program = it.program("app", prints("b"), needs=[libb])
    store.harden(it)
    assert [names(file).runpath for file in (liba, libb, program)] == ["", "", ""]
    assert run(program).said == (0, "2\n", "")


def test_an_object_with_a_bare_name_keeps_the_directories_that_may_hold_it(store: Store) -> None:
    """Of the store it keeps those that hold the name; in another, the name may be there tomorrow."""
    it, driver, other = store.package("it"), store.package("driver"), store.package("other")
    libcuda, liba = driver.library("libcuda.so.1", function("a", 1)), other.library("liba.so.1", function("b", 2))
    outside = store.path.parent / "outside"
    path = [store.libc, other.lib, outside, driver.lib, "$ORIGIN"]
    program = it.program("app", prints("a", "b"), needs=[libcuda, liba], rpath=path)
    before = run(program)
    store.harden(it)
    assert names(program).needed == ("libcuda.so.1", str(liba), str(store.libc / "libc.so.6"))
    assert (names(program).runpath or "").split(":") == [str(outside), str(driver.lib), "$ORIGIN"]
    after = run(program)
    assert after.behaviour == before.behaviour
    assert len(after.misses) < len(before.misses)


def test_a_directory_with_builds_for_processors_of_a_bare_name_stays(store: Store) -> None:
    """Though it holds the name in a subdirectory alone."""
    it, driver = store.package("it"), store.package("driver")
    library = driver.library("libcuda.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[library], rpath=[driver.lib, store.libc])
    (driver.lib / "glibc-hwcaps" / "x86-64-v2").mkdir(parents=True)
    library.rename(driver.lib / "glibc-hwcaps" / "x86-64-v2" / "libcuda.so.1")
    before = run(program)
    store.harden(it)
    assert names(program).runpath == str(driver.lib)
    assert run(program).behaviour == before.behaviour


def test_where_no_directory_holds_the_bare_name_none_stays(store: Store) -> None:
    it, driver = store.package("it"), store.package("driver")
    library = driver.library("libcuda.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[library], rpath=[driver.lib, store.libc])
    library.unlink()
    before = run(program)
    store.harden(it)
    assert names(program).runpath == ""
    assert run(program).status == before.status == 127


def test_the_loaders_own_name_is_not_searched_and_keeps_no_runpath(store: Store) -> None:
    it = store.package("it")
    program = it.program("app", prints(), flags=[str(store.loader)])
    store.harden(it)
    assert names(program).runpath == ""
    assert run(program).said == (0, "", "")


@pytest.mark.parametrize("tag", ["--filter", "--auxiliary"])
def test_a_filter_keeps_its_runpath(store: Store, tag: str) -> None:
    """The names of filters and auxiliary filters are searched as well, and patchelf does not rewrite them."""
    real, it = store.package("real"), store.package("it")
    real.library("libreal.so.1", function("a", 42))
    filtered = it.library(
        "libfilter.so.1", function("a", 1), rpath=[real.lib], flags=["-Xlinker", f"{tag}=libreal.so.1"]
    )
    program = it.program("app", prints("a"), needs=[filtered])
    before = run(program)
    assert before.out == "42\n"
    store.harden(it)
    after = run(program)
    assert names(filtered).runpath == str(real.lib)
    assert after.behaviour == before.behaviour


def test_keep_runpath_keeps_every_one(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba])
    before = names(program).runpath
    store.harden(it, options=["--keep-runpath"])
    assert names(program).runpath == before
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == (), "with nothing bare, a RUNPATH costs no system call"


@pytest.mark.parametrize("options", [[], ["--keep-runpath"]])
def test_rpath_stays_rpath(store: Store, options: list[str]) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], tag="RPATH")
    path = names(program).rpath
    assert path
    store.harden(it, options=options)
    assert (names(program).rpath, names(program).runpath) == (path, None)
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


def test_rpath_still_serves_the_libraries_of_its_program(store: Store) -> None:
    """A library that is not of these outputs, has no search path, and is found by its user's DT_RPATH alone."""
    liba, it, other = store.package("liba"), store.package("it"), store.package("other")
    a = liba.library("liba.so.1", function("a", 1))
    b = other.library("libb.so.1", function("b", 10, ["a"]), needs=[a], rpath=[])
    program = it.program("app", prints("b"), needs=[b], rpath=[other.lib, liba.lib, store.libc], tag="RPATH")
    before = run(program)
    store.harden(it)
    assert run(program).behaviour == before.behaviour


def test_a_file_without_names_loses_its_runpath_too(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1), rpath=[store.libc], flags=["-nostdlib"])
    assert names(liba).needed == ()
    store.harden(it)
    assert names(liba).runpath == ""


@pytest.mark.parametrize("tag", ["--audit", "--depaudit"])
def test_a_program_with_an_audit_library_keeps_its_runpath(store: Store, tag: str) -> None:
    """The names of DT_AUDIT and DT_DEPAUDIT are searched for too, as a filter's are (rtld-audit(7))."""
    it, audit = store.package("it"), store.package("audit")
    says = """#include <unistd.h>
        unsigned la_version(unsigned version) { write(1, "audited\\n", 8); return version; }"""
    audit.library("libaudit.so.1", says)
    flags = ["-Xlinker", tag, "-Xlinker", "libaudit.so.1"]
    program = it.program("app", prints(), rpath=[audit.lib, store.libc], flags=flags)
    before = run(program)
    store.harden(it)
    assert run(program).said == before.said
    assert "audited" in before.out or tag == "--depaudit"


def test_a_plain_library_that_is_run_through_another_loader_call_is_the_same(store: Store) -> None:
    """`ld.so ./program` and `ld.so --list` see the bound names as the kernel's start does."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it)
    ran = run(store.loader, str(program))
    assert ran.said == (0, "1\n", "")
    assert not [miss for miss in ran.misses if "liba" in miss]
    assert str(liba) in run(store.loader, "--list", str(program)).out


def test_a_search_path_of_nothing_but_the_current_directory_stays_one(store: Store) -> None:
    """Its one empty entry, written alone, would be no search path; a second run changes nothing."""
    it, gone = store.package("it"), store.path / "gone"
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 1, ["a"]), needs=[liba], rpath=["", gone])
    program = it.program("app", prints("b"), needs=[libb])
    before = run(program, cwd=it.lib)
    assert before.out == "2\n"
    store.harden(it)
    once = libb.read_bytes()
    assert (names(libb).runpath, names(libb).needed[0]) == (":", "liba.so.1")
    assert run(program, cwd=it.lib).said == before.said
    store.harden(it)
    assert libb.read_bytes() == once


def test_a_bare_name_that_the_loader_expands_keeps_its_directory(store: Store) -> None:
    dep, it = store.package("dep"), store.package("it")
    library = dep.library("libf.so", function("a", 7), soname="libf-name.so")
    program = it.program("app", prints("a"), needs=[library])
    patchelf("--replace-needed", "libf-name.so", "libf-$PLATFORM.so", program)
    for platform in ("x86_64", "haswell", "xeon_phi"):
        shutil.copy(library, dep.lib / f"libf-{platform}.so")
    before = run(program)
    assert before.out == "7\n"
    store.harden(it, inputs=[dep])
    assert run(program).said == before.said


def test_a_library_without_a_search_path_still_opens_by_that_of_its_program(store: Store) -> None:
    """What it gets back is DT_RPATH: a RUNPATH would end the program's DT_RPATH for it."""
    a, b, it = store.package("liba"), store.package("libb"), store.package("it")
    liba = a.library("liba.so.1", function("a", 1))
    store.harden(a)
    source = '#include <dlfcn.h>\nint a(void); int b(void) { return a() + (dlopen("plug.so", RTLD_NOW) != 0); }'
    libb = b.library("libb.so.1", source, flags=[str(liba)], rpath=[])
    it.plugin("plug.so", function("plug", 1))
    program = it.program("app", prints("b"), needs=[libb], rpath=[b.lib, it.lib, store.libc], tag="RPATH")
    before = run(program)
    assert before.out == "2\n"
    store.harden(b, inputs=[a])
    assert names(libb).runpath is None
    assert str(liba.parent) in (names(libb).rpath or "")
    assert run(program).behaviour == before.behaviour


def test_a_directory_that_origin_names_already_is_not_given_back(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program(
        "app", opens("libnowhere.so.3", calls=["a"]), needs=[liba], rpath=["$ORIGIN/../lib", store.libc]
    )
    before = run(program)
    store.harden(it)
    assert names(program).runpath == f"$ORIGIN/../lib:{store.libc}"
    after = run(program)
    assert after.said == before.said
    assert len(after.misses) <= len(before.misses)


@pytest.mark.parametrize(
    "between", ["nothing", "a directory with a file of the same name", "another machine's directory"]
)
def test_directories_that_hold_a_bare_name_come_first_where_nothing_else_changes(store: Store, between: str) -> None:
    """A program that opens libraries keeps all of its search path; what the loader starts with it has not to try all of that."""
    it, driver = store.package("it"), store.package("driver")
    others = [store.package(f"other-{number}") for number in range(3)]
    libraries = [place.library(f"liba{n}.so.1", function(f"a{n}", n)) for n, place in enumerate(others)]
    libcuda = driver.library("libcuda.so.1", function("cuda", 9))
    path = [*(place.lib for place in others), driver.lib, store.libc]
    match between:
        case "a directory with a file of the same name":
            driver.library("libsame.so", function("same", 1))
            others[0].library("libsame.so", function("same", 2))
        case "another machine's directory":
            path.insert(3, store.path.parent / "machine")
    source = opens("libsame.so", calls=["a0", "a1", "a2", "cuda"])
    program = it.program("app", source, needs=[*libraries, libcuda], rpath=path)
    before = run(program)
    store.harden(it)
    after = run(program)
    assert after.behaviour == before.behaviour
    moved = [driver.lib, *path[:3], store.libc] if between == "nothing" else path
    assert names(program).runpath == ":".join(map(str, moved))
    assert len(after.misses) < len(before.misses)
    once = program.read_bytes()
    store.harden(it)
    assert program.read_bytes() == once
