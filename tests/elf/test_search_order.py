"""Resolve: a bare NEEDED is bound to the file that ld.so finds for that object today."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import bytes as raw
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store, patchelf
from support.trace import run


def finds(store: Store, rpath: Callable[[Package, list[Package]], list[object]], tag: str = "RUNPATH") -> Path:
    """A program that needs liba.so.1, of which there are three: they answer 0, 1 and 2."""
    places = [store.package(f"liba-{value}") for value in range(3)]
    libraries = [place.library("liba.so.1", function("a", value)) for value, place in enumerate(places)]
    app = store.package("app")
    path = [str(entry) for entry in (*rpath(app, places), store.libc)]
    return app.program("app", prints("a"), needs=libraries[:1], rpath=path, tag=tag)


def bound(store: Store, program: Path) -> str:
    """Harden the program's package; what it maps must stay, and nothing may be searched. The name it is bound to."""
    before = run(program)
    assert before.status == 0, before.err
    store.harden(store.package("app"))
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    return names(program).needed[0]


@pytest.mark.parametrize("tag", ["RUNPATH", "RPATH"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0)])
def test_the_first_directory_that_has_the_name_wins(store: Store, order: tuple[int, ...], tag: str) -> None:
    program = finds(store, lambda app, libs: [libs[place].lib for place in order], tag)
    assert bound(store, program) == f"{store.package(f'liba-{order[0]}').lib}/liba.so.1"


def test_a_directory_without_the_name_is_passed_over(store: Store) -> None:
    program = finds(store, lambda app, libs: [app.path, store.path / "not-there" / "lib", libs[1].lib, libs[0].lib])
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


def test_rpath_is_ignored_where_there_is_a_runpath(store: Store) -> None:
    program = finds(store, lambda app, libs: [libs[1].lib, libs[2].lib])
    whole = names(program).runpath or ""
    suffix = raw.dynamic(program)[raw.DT_RUNPATH][1] + len(f"{store.package('liba-1').lib}:")
    raw.retag(program, raw.DT_DEBUG, raw.DT_RPATH, suffix)
    assert names(program).rpath == f"{store.package('liba-2').lib}:{store.libc}"
    assert names(program).runpath == whole
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


@pytest.mark.parametrize("token", ["$ORIGIN", "${ORIGIN}"])
def test_origin_is_the_directory_of_the_object(store: Store, token: str) -> None:
    program = finds(store, lambda app, libs: [f"{token}/../lib", libs[1].lib])
    own = store.package("app").library("liba.so.1", function("a", 9))
    assert bound(store, program) == str(own)
    assert run(program).out == "9\n"


def test_a_word_that_only_begins_as_a_token_is_none(store: Store) -> None:
    program = finds(store, lambda app, libs: [f"{app.path}/$ORIGINAL", libs[1].lib])
    literal = store.package("app").library("liba.so.1", function("a", 9), directory="$ORIGINAL")
    assert bound(store, program) == str(literal)


def dst_lib(store: Store) -> str:
    return _diagnosis(store, "dl_dst_lib")


def dst_platform(store: Store) -> str:
    return _diagnosis(store, "dl_platform")


def _diagnosis(store: Store, key: str) -> str:
    """What the loader says of itself."""
    said = subprocess.run([store.loader, "--list-diagnostics"], capture_output=True, text=True, check=True).stdout
    return next(line.partition("=")[2].strip('"') for line in said.splitlines() if line.startswith(key + "="))


@pytest.mark.parametrize(
    ("token", "value"),
    [("$LIB", dst_lib), ("${LIB}", dst_lib), ("$PLATFORM", dst_platform), ("${PLATFORM}", dst_platform)],
)
def test_tokens_mean_what_the_loader_says(store: Store, token: str, value: Callable[[Store], str]) -> None:
    other = store.package("other")
    program = finds(store, lambda app, libs: [f"{other.path}/{token}"])
    library = other.library("liba.so.1", function("a", 9), directory=value(store))
    assert bound(store, program) == str(library)


def test_where_the_processor_decides_by_platform_the_name_stays_bare(store: Store) -> None:
    program = finds(store, lambda app, libs: [f"{app.path}/$PLATFORM", libs[1].lib])
    store.package("app").library("liba.so.1", function("a", 9), directory=dst_platform(store))
    before = run(program)
    answer = store.harden(store.package("app"))
    assert names(program).needed[0] == "liba.so.1"
    assert "liba.so.1 stays bare: two different files" in answer.err
    assert run(program).behaviour == before.behaviour


def test_a_library_of_another_class_is_passed_over(store: Store) -> None:
    program = finds(store, lambda app, libs: [app.lib, libs[1].lib])
    store.package("app").library("liba.so.1", function("a", 9), flags=["-m32"], rpath=[])
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


def test_a_library_for_another_machine_is_passed_over(store: Store) -> None:
    program = finds(store, lambda app, libs: [libs[0].lib, libs[1].lib])
    raw.poke(store.package("liba-0").lib / "liba.so.1", raw.E_MACHINE, bytes([raw.AARCH64, 0]))
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


@pytest.mark.parametrize(("offset", "value"), [(raw.EI_OSABI, 9), (raw.EI_DATA, 2)], ids=["OS ABI", "byte order"])
def test_a_library_that_the_loader_refuses_is_never_bound(store: Store, offset: int, value: int) -> None:
    """The loader does not start a program that meets one; bound past it, the program starts."""
    program = finds(store, lambda app, libs: [libs[0].lib, libs[1].lib])
    raw.poke(store.package("liba-0").lib / "liba.so.1", offset, bytes([value]))
    assert run(program).status == 127
    store.harden(store.package("app"))
    assert names(program).needed[0] == f"{store.package('liba-1').lib}/liba.so.1"
    assert run(program).said == (0, "1\n", "")


def test_a_gnu_os_abi_is_the_same_as_system_v(store: Store) -> None:
    program = finds(store, lambda app, libs: [libs[0].lib, libs[1].lib])
    raw.poke(store.package("liba-0").lib / "liba.so.1", raw.EI_OSABI, bytes([3]))
    assert bound(store, program) == f"{store.package('liba-0').lib}/liba.so.1"


def test_the_directory_of_the_interpreters_libc_is_searched_last(store: Store) -> None:
    """As in nixpkgs, where that directory is the loader's own default and stands in no RUNPATH."""
    app = store.package("app")
    liba = app.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba], rpath=[app.lib])
    before = run(program)
    store.harden(app)
    after = run(program)
    assert names(program).needed == (str(liba), str(store.libc / "libc.so.6"))
    assert after.said == before.said
    assert [os.stat(path).st_ino for path in after.mapped] == [os.stat(path).st_ino for path in before.mapped]
    assert after.misses == ()


def test_the_search_path_comes_before_the_directory_of_the_interpreters_libc(store: Store) -> None:
    """As a program may bring its own build of a library of the C library."""
    app = store.package("app")
    libm = app.library("libm.so.6", function("a", 1))
    app.program("app", prints("a"), needs=[libm], rpath=[app.lib, store.libc])
    assert bound(store, app.bin / "app") == str(libm)


def test_origin_of_a_library_is_the_directory_by_which_it_is_found(store: Store) -> None:
    """glibc follows no link for it: liba.so.1 is found in lib/, so the libb.so.1 of lib/ is its, not that of libexec/."""
    it, app = store.package("it"), store.package("app")
    beside = it.library("libb.so.1", function("b", 1), directory="libexec")
    it.library("libb.so.1", function("b", 2))
    it.library("liba.so.1", function("a", 10, ["b"]), needs=[beside], rpath=["$ORIGIN"], directory="libexec")
    (it.lib / "liba.so.1").symlink_to("../libexec/liba.so.1")
    program = app.program("app", prints("a"), needs=[it.lib / "liba.so.1"])
    before = run(program)
    assert before.out == "12\n"
    store.harden(it, app)
    assert run(program).behaviour == before.behaviour


def test_a_library_found_through_a_link_is_bound_by_that_path_where_its_own_search_says_origin(store: Store) -> None:
    """Bound beside its file instead, it would look for its own libraries there, where they are not."""
    it, app = store.package("it"), store.package("app")
    libb = it.library("libb.so.1", function("b", 2))
    it.library("liba.so.1", function("a", 10, ["b"]), needs=[libb], rpath=["$ORIGIN"], directory="libexec")
    (it.lib / "liba.so.1").symlink_to("../libexec/liba.so.1")
    program = app.program("app", prints("a"), needs=[it.lib / "liba.so.1"])
    before = run(program)
    assert before.out == "12\n"
    store.harden(app)
    assert run(program).behaviour == before.behaviour
    assert names(program).needed[0] == f"{it.lib}/liba.so.1"


def test_a_library_without_interpreter_has_that_of_the_outputs_programs(store: Store) -> None:
    app = store.package("app")
    liba = app.library("liba.so.1", 'int puts(const char *); int a(void) { return puts("called"); }', rpath=[])
    program = app.program("app", prints("a"), needs=[liba], rpath=[app.lib])
    before = run(program)
    store.harden(app)
    assert names(liba).needed == (str(store.libc / "libc.so.6"),)
    assert run(program).said == before.said
    assert run(program).misses == ()


def test_a_linked_directory_is_followed_to_the_file(store: Store) -> None:
    program = finds(store, lambda app, libs: [app.path / "link", libs[1].lib])
    (store.package("app").path / "link").symlink_to(store.package("liba-2").lib)
    assert bound(store, program) == f"{store.package('liba-2').lib}/liba.so.1"


def test_entries_with_dots_and_doubled_slashes_are_bound_in_their_plain_form(store: Store) -> None:
    program = finds(store, lambda app, libs: [f"{app.path}//../{libs[1].path.name}/./lib//"])
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


def test_the_parent_of_a_link_is_that_of_what_it_leads_to(store: Store) -> None:
    """The kernel follows the link first: `LINK/../lib` is not the `lib` beside the link."""
    program = finds(store, lambda app, libs: [app.path / "link" / ".." / "lib"])
    app, other = store.package("app"), store.package("liba-2")
    (app.path / "link").symlink_to(other.lib)
    app.lib.mkdir()
    shutil.copy(store.package("liba-1").lib / "liba.so.1", app.path / "lib" / "liba.so.1")
    assert bound(store, program) == f"{other.lib}/liba.so.1"


def test_a_link_to_a_program_is_not_its_origin(store: Store) -> None:
    """The kernel names the file, however it was started."""
    app = store.package("app")
    liba = app.library("liba.so.1", function("a", 1), directory="libexec/lib")
    app.library("liba.so.1", function("a", 2))
    app.program("app", prints("a"), needs=[liba], rpath=["$ORIGIN/../lib", store.libc], directory="libexec/bin")
    app.bin.mkdir()
    (app.bin / "app").symlink_to("../libexec/bin/app")
    assert bound(store, app.bin / "app") == str(liba)


@pytest.mark.parametrize("known", [True, False])
def test_the_lib_token_without_a_program_is_that_of_the_loader_of_the_inputs(store: Store, known: bool) -> None:
    """Where no loader is in sight it may be any directory, and the names behind it stay bare."""
    it = store.package("it")
    first = store.package("first").library("liba.so.1", function("a", 1), directory=dst_lib(store))
    other = store.package("other").library("liba.so.1", function("a", 2))
    rpath = [f"{store.package('first').path}/$LIB", other.parent, store.libc]
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[other], rpath=rpath)
    program = store.package("app").program("app", prints("b"), needs=[libb])
    before = run(program)
    store.harden(it, options=["--input", store.glibc] if known else [])
    assert names(libb).needed[0] == (str(first) if known else "liba.so.1")
    assert run(program).behaviour == before.behaviour


def test_the_environment_of_the_build_does_not_matter(store: Store) -> None:
    program = finds(store, lambda app, libs: [libs[0].lib])
    before = run(program)
    library_path = {"LD_LIBRARY_PATH": str(store.package("liba-1").lib)}
    store.harden(store.package("app"), environ=library_path)
    assert run(program).behaviour == before.behaviour


def test_a_library_found_by_the_rpath_of_its_user_is_the_same_after(store: Store) -> None:
    """DT_RPATH of a program serves its libraries as well, where these have no RUNPATH."""
    liba, other = store.package("liba"), store.package("other")
    a = liba.library("liba.so.1", function("a", 1))
    other.library("liba.so.1", function("a", 2))
    app = store.package("app")
    b = app.library("libb.so.1", function("b", 10, ["a"]), needs=[a], rpath=[])
    program = app.program("app", prints("b"), needs=[b], rpath=[app.lib, liba.lib, store.libc], tag="RPATH")
    before = run(program)
    store.harden(app, inputs=[liba])
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert names(b).needed == (str(a),)


@pytest.mark.parametrize("first", ["", "lib", "/not/in/the/store", "$ORIGIN/../../../elsewhere"])
def test_behind_a_directory_that_another_machine_may_fill_the_name_stays_bare(store: Store, first: str) -> None:
    program = finds(store, lambda app, libs: [first, libs[1].lib])
    before = run(program)
    answer = store.harden(store.package("app"))
    assert names(program).needed[0] == "liba.so.1"
    assert "liba.so.1 (may be overridden)" in answer.err
    assert names(program).runpath == f"{first}:{store.package('liba-1').lib}:{store.libc}"
    assert run(program).behaviour == before.behaviour


def test_before_a_directory_that_another_machine_may_fill_the_name_is_bound(store: Store) -> None:
    program = finds(store, lambda app, libs: [libs[1].lib, store.libc, "/not/in/the/store"])
    assert bound(store, program) == f"{store.package('liba-1').lib}/liba.so.1"


def test_the_c_library_of_an_interpreter_that_another_machine_has_stays_bare(store: Store, tmp_path: Path) -> None:
    """As of a program for nix-ld or an FHS environment: the loader there brings the C library that it is of."""
    app, other = store.package("app"), store.package("other-glibc")
    interpreter = tmp_path / "lib64" / "ld.so"
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba], rpath=[liba.parent])
    patchelf("--set-interpreter", interpreter, program)
    shutil.copytree(store.libc, other.lib)
    answer = store.harden(app, inputs=[other])
    assert names(program).needed == (str(liba), "libc.so.6")
    assert "libc.so.6 (may be overridden)" in answer.err
    interpreter.parent.mkdir()
    interpreter.symlink_to(store.loader)
    assert run(program).out == "1\n"


@pytest.mark.parametrize("excluded", [True, False])
def test_a_library_in_a_tree_of_links_is_told_its_own_directory(store: Store, excluded: bool) -> None:
    """What dladdr(3) answers is the path by which it was opened: the tree's as long as its name stays bare."""
    source = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        void a(void) { Dl_info info; dladdr((void *)a, &info); puts(info.dli_fname); }"""
    tree, app = store.package("tree"), store.package("app")
    liba = store.package("liba").library("liba.so.1", source)
    tree.lib.mkdir()
    link = tree.lib / "liba.so.1"
    link.symlink_to(liba)
    program = app.program("app", "void a(void); int main(void) { a(); return 0; }", needs=[link])
    assert run(program).out == f"{link}\n"
    store.harden(app, options=["--exclude", "liba.so.1"] if excluded else [])
    assert run(program).out == f"{link if excluded else liba}\n"
