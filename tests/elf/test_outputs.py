"""Outputs together: what is another store path's is not touched, and none comes to refer to another in a circle."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run

OPENER = """#include <dlfcn.h>
int q(void) { void *h = dlopen("libb.so.1", RTLD_NOW); return h ? ((int (*)(void)) dlsym(h, "b"))() : -1; }"""


def content(package: Package) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in package.path.rglob("*") if path.is_file()}


def test_an_output_that_is_a_link_to_another_store_path_is_not_followed(store: Store) -> None:
    """The other package is not this derivation's to write, and Nix would call its store path modified."""
    other, it = store.package("other"), store.package("it")
    other.library("liba.so.1", function("a", 1))
    other.program("app", prints("a"), needs=[other.lib / "liba.so.1"])
    it.path.rmdir()
    it.path.symlink_to(other.path)
    before = content(other)
    answer = store.harden(it)
    assert content(other) == before
    assert "no ELF files" in answer.err


def test_an_output_that_is_one_file_is_hardened(store: Store) -> None:
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    it = store.package("it")
    program = it.program("app", prints("a"), needs=[liba])
    program.rename(store.path / "single")
    (it.path / "bin").rmdir()
    it.path.rmdir()
    (store.path / "single").rename(it.path)
    store.harden(it)
    assert names(it.path).needed[0] == str(liba)
    assert run(it.path).said == (0, "1\n", "")


@pytest.mark.parametrize("back", ["text", "link"])
def test_a_binding_that_would_close_a_cycle_of_outputs_is_left(store: Store, back: str) -> None:
    """Nix refuses outputs that refer to each other, so the name stays bare, and the log says which file and which name."""
    core, plug = store.package("core"), store.package("plug")
    liba = core.library("liba.so.1", function("a", 1), directory="lib/private")
    (core.path / "plugins").symlink_to(plug.path) if back == "link" else (core.path / "conf").write_text(str(plug.path))
    it = plug.plugin("it.so", function("it", 1, ["a"]), needs=[liba], rpath=[])
    answer = store.harden(core, plug)
    assert names(it).needed[0] == "liba.so.1"
    assert (
        f"{it}: liba.so.1 stays bare: would close a cycle of outputs (plug to core by {liba}, and back)" in answer.err
    )


def test_two_bindings_close_no_cycle_between_them(store: Store) -> None:
    """Each alone would be fine; the second is left, and a third of the same direction as the first is made."""
    one, two = store.package("one"), store.package("two")
    lib1 = one.library("libone.so.1", function("one", 1), directory="lib/private")
    lib2 = two.library("libtwo.so.1", function("two", 2), directory="lib/private")
    first = one.plugin("first.so", function("f", 1, ["two"]), needs=[lib2], rpath=[])
    second = two.plugin("second.so", function("s", 1, ["one"]), needs=[lib1], rpath=[])
    third = one.plugin("third.so", function("t", 1, ["two"]), needs=[lib2], rpath=[])
    store.harden(one, two)
    assert names(first).needed[0] == str(lib2)
    assert names(second).needed[0] == "libone.so.1"
    assert names(third).needed[0] == str(lib2)


def test_an_edge_that_the_search_path_has_already_is_no_new_one(store: Store) -> None:
    core, plug = store.package("core"), store.package("plug")
    liba = core.library("liba.so.1", function("a", 1))
    (core.path / "conf").write_text(str(plug.path))
    it = plug.plugin("it.so", function("it", 1, ["a"]), needs=[liba])
    store.harden(core, plug)
    assert names(it).needed[0] == str(liba)


@pytest.mark.parametrize("mode", ["soname", "needed"])
@pytest.mark.parametrize("together", [True, False], ids=["one derivation", "two"])
def test_a_library_opened_by_name_from_one_that_does_not_link_to_it_is_found(
    store: Store, mode: str, together: bool
) -> None:
    """The program links libb and libq; libq opens libb.so.1, which was loaded under that SONAME and is no more."""
    it = store.package("it")
    home = it if together else store.package("libb")
    libb = home.library("libb.so.1", function("b", 7))
    libq = it.library("libq.so.1", OPENER)
    program = it.program("app", prints("q", "b"), needs=[libq, libb])
    before = run(program)
    assert before.out == "7\n7\n"
    if not together:
        store.harden(home, options=["--mode", mode])
    store.harden(it, inputs=[] if together else [home], options=["--mode", mode])
    assert run(program).behaviour == before.behaviour
    assert (str(home.lib) in (names(libq).runpath or "").split(":")) == (mode == "soname")
