"""freeze --closure: a copy answers every name by which its original was asked for, so that no original is loaded beside it."""

from pathlib import Path

import pytest
from freeze.helpers import freeze, refused, run
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Store

BOTH = pytest.mark.parametrize("relative", [False, True], ids=["by path", "relative"])


def bundle(store: Store, program: Path, *options: str | Path, relative: bool = False) -> Path:
    """The frozen program, which says the same."""
    top = store.path / "bundle"
    out = top / "bin" / program.name
    freeze(store, program, out, "--closure", top / "lib", *(["--relative"] if relative else []), *options)
    assert run(out).said == run(program).said
    assert run(out).status == 0
    return out


def library(store: Store) -> Path:
    return store.package("a").library("liba.so.1", function("a", 1))


def harden(store: Store, *packages: str) -> None:
    for number, name in enumerate(packages):
        store.harden(store.package(name), inputs=[store.package(other) for other in packages[:number]])


def copy_alone(store: Store, out: Path, name: str = "liba") -> None:
    """Of a library the copy is mapped, and no original."""
    assert {Path(path).resolve().parent for path in run(out).files(name)} == {store.path / "bundle" / "lib"}


@BOTH
@pytest.mark.parametrize("hardened", [False, True], ids=["as built", "hardened"])
def test_a_loaded_library_is_opened_by_its_bare_name(store: Store, relative: bool, hardened: bool) -> None:
    a = library(store)
    program = store.package("app").program("app", opens("liba.so.1", "a", calls=["a"]), needs=[a])
    if hardened:
        harden(store, "a", "app")
    copy_alone(store, bundle(store, program, relative=relative))


@BOTH
def test_a_name_that_is_not_the_soname(store: Store, relative: bool) -> None:
    """The program asked for the library by it, which answered from then on."""
    a = store.package("a").library("liba.so.1", function("a", 1), soname="libother.so.9")
    stub = store.package("stub").library("liba.so.1", function("a", 1))
    source = opens("liba.so.1", "a", calls=["a"])
    program = store.package("app").program("app", source, needs=[stub], rpath=[a.parent, store.libc])
    copy_alone(store, bundle(store, program, relative=relative))


@BOTH
def test_another_link_to_the_file(store: Store, relative: bool) -> None:
    """Nobody has asked for the library by it yet; its opener holds it as a string."""
    a = store.package("a").library("liba.so.1", function("a", 1), links=["liba.so"])
    program = store.package("app").program("app", opens("liba.so", "a", calls=["a"]), needs=[a])
    copy_alone(store, bundle(store, program, relative=relative))


@BOTH
def test_a_hardened_plugin_that_is_opened_by_its_path(store: Store, relative: bool) -> None:
    """It names the original by its path: the copy bears that as its SONAME, and goes on answering its bare name."""
    a = library(store)
    plugin = store.package("p").plugin("p.so", function("p", 1, ["a"]), needs=[a])
    source = opens(str(plugin), "p", calls=["a"]).replace(
        "return 0;", 'return dlopen("liba.so.1", RTLD_NOW | RTLD_NOLOAD) == 0;'
    )
    program = store.package("app").program("app", source, needs=[a])
    for name, inputs in (("a", ()), ("p", ("a",)), ("app", ("a",))):
        store.harden(store.package(name), inputs=[store.package(each) for each in inputs], options=["--mode", "needed"])
    out = bundle(store, program, relative=relative)
    copy_alone(store, out)
    assert names(out.parents[1] / "lib" / "liba.so.1").soname == str(a)


def test_a_plugin_as_built_beside_a_hardened_program(store: Store) -> None:
    """It names the library barely, and has a search path that leads to the original."""
    a = library(store)
    plugin = store.package("p").plugin("p.so", function("p", 1, ["a"]), needs=[a])
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["a"]), needs=[a])
    harden(store, "a", "app")
    copy_alone(store, bundle(store, program))


@BOTH
def test_a_hardened_plugin_beside_a_program_as_built(store: Store, relative: bool) -> None:
    """Nothing in the program's closure names the original by its path but the plugin, which is no copy."""
    a = library(store)
    plugin = store.package("p").plugin("p.so", function("p", 1, ["a"]), needs=[a])
    store.harden(store.package("p"), inputs=[store.package("a")])
    assert str(a) in names(plugin).needed
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["a"]), needs=[a])
    copy_alone(store, bundle(store, program, relative=relative))


@BOTH
def test_hardened_versions_of_a_library_without_soname(store: Store, relative: bool) -> None:
    """No bare name was ever asked for: the path is the name that versions are compared with."""
    script = store.path / "versions"
    script.write_text("V1 { global: x; local: *; };")
    x = store.package("x").plugin("libx.so", function("x", 0), flags=[f"-Wl,--version-script={script}"])
    source = "int x(void); int main(void) { return x(); }"
    program = store.package("app").program("app", source, needs=[x])
    harden(store, "x", "app")
    copy_alone(store, bundle(store, program, relative=relative), "libx")


def test_what_is_opened_by_its_place_beside_a_library(store: Store) -> None:
    """glibc's dlopen expands $ORIGIN: the plugin is copied to the same place beside the copy."""
    store.package("a").plugin("p.so", function("p", 7), directory="lib/plugins")
    source = """
        void *dlopen(const char *, int), *dlsym(void *, const char *);
        int a(void) { return ((int (*)(void))dlsym(dlopen("$ORIGIN/plugins/p.so", 2), "p"))(); }"""
    a = store.package("a").library("liba.so.1", source)
    program = store.package("app").program("app", "int a(void); int main(void) { return a() - 7; }", needs=[a])
    out = bundle(store, program, "--observe")
    assert run(out).files("p.so") == [str(store.path / "bundle" / "lib" / "plugins" / "p.so")]


def test_a_place_that_is_not_among_the_copies(store: Store) -> None:
    store.package("a").plugin("p.so", function("p", 7), directory="plugins")
    source = 'void *dlopen(const char *, int); int a(void) { return dlopen("$ORIGIN/../plugins/p.so", 2) == 0; }'
    a = store.package("a").library("liba.so.1", source)
    program = store.package("app").program("app", "int a(void); int main(void) { return a(); }", needs=[a])
    line = refused(store, program, "--closure", store.path / "copies", "--observe")
    assert f"{a} opens $ORIGIN/../plugins/p.so, which from its copy is {store.path}/plugins/p.so" in line


@BOTH
def test_a_versioned_library_that_is_named_by_path_and_by_name(store: Store, relative: bool) -> None:
    """It has no SONAME, so that what was linked to it has its path for a name and in the version needs, and a name beside that."""
    package = store.package("v")
    package.lib.mkdir()
    script = package.path / "v.map"
    script.write_text("V { global: *; };")
    v = package.plugin("libv.so", function("v", 1), flags=[f"-Wl,--version-script={script}"])
    stub = store.package("stub").library("libv.so", function("stub", 1))
    flags = [str(v)]
    user = store.package("user").library(
        "libuser.so.1", function("user", 10, ["v"]), flags=[*flags, str(stub)], rpath=[v.parent, store.libc]
    )
    assert names(user).needed[:2] == (str(v), "libv.so")
    program = store.package("app").program("app", opens("libv.so", "v", calls=["user", "v"]), needs=[user], flags=flags)
    copy_alone(store, bundle(store, program, relative=relative), "libv")


@BOTH
@pytest.mark.parametrize("caller", ["the program", "a library", "a plugin"])
def test_a_loaded_library_is_opened_by_its_path(store: Store, relative: bool, caller: str) -> None:
    """Nobody names it so in NEEDED: the path is a string of what opens it, and the copy bears it as its SONAME.

    A plugin that is opened by its own path is no copy, and opens the same.
    """
    a = library(store)
    source, needs = opens(str(a), "a", calls=["a"]), [a]
    if caller == "a library":
        opening = source.replace("int main(void)", "int b(void)")
        needs = [store.package("b").library("libb.so.1", opening, needs=[a])]
        source = prints("b")
    if caller == "a plugin":
        opening = f'#include <dlfcn.h>\nint p(void) {{ return dlopen("{a}", RTLD_NOW) != 0; }}'
        source = opens(str(store.package("p").plugin("p.so", opening)), "p", calls=["a"])
    program = store.package("app").program("app", source, needs=needs)
    copy_alone(store, bundle(store, program, relative=relative))


def test_a_second_path_of_a_loaded_library_is_warned_of(store: Store) -> None:
    """A SONAME is one name: by the other path the original is loaded, and that is said."""
    a = library(store)
    link = store.package("link").lib / "liba.so.1"
    link.parent.mkdir()
    link.symlink_to(a)
    source = opens(str(a), "a", calls=["a"]).replace("return 0;", f'return dlopen("{link}", RTLD_NOW) == 0;')
    program = store.package("app").program("app", source, needs=[a])
    top = store.path / "bundle"
    said = freeze(store, program, top / "bin" / "app", "--closure", top / "lib").err
    warned = [
        path for path in (a, link) if f"warning: {path} may be opened by that path, and no copy answers it" in said
    ]
    assert len(warned) == 1
