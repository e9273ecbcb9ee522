"""The way back: what was bound is bare again, its directories are searched, and programs run the same."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store, patchelf
from support.trace import run

VERSIONS = "V1 { global: a; local: *; };"


def unharden(store: Store, *paths: Path, status: int = 0, options: tuple[str, ...] = ()) -> str:
    return store.call("unharden", *map(str, paths), *options, status=status).err


@pytest.fixture
def chain(store: Store) -> tuple[Package, Package]:
    """liba → app in two store paths, liba with versioned symbols, both hardened."""
    a, it = store.package("liba"), store.package("it")
    script = store.path.parent / "versions"
    script.write_text(VERSIONS)
    liba = a.library("liba.so.1", function("a", 1), flags=[f"-Wl,--version-script={script}"])
    it.program("app", prints("a"), needs=[liba])
    store.harden(a)
    store.harden(it, inputs=[a])
    return a, it


def test_json_is_the_plan_of_the_way_back(store: Store, chain: tuple[Package, Package]) -> None:
    a, it = chain
    plan = store.call("unharden", str(it.path), "--json", "--dry-run").plan
    assert [(each["old"], each["new"]) for each in plan["app"]["needed"]] == [
        (f"{a.lib}/liba.so.1", "liba.so.1"),
        (f"{store.libc}/libc.so.6", "libc.so.6"),
    ]


def test_names_are_bare_again_and_the_program_runs(store: Store, chain: tuple[Package, Package]) -> None:
    a, it = chain
    program = it.bin / "app"
    before = run(program)
    unharden(store, a.path, it.path)
    assert names(program).needed == ("liba.so.1", "libc.so.6")
    assert names(program).version_files == names(program).needed
    assert names(a.lib / "liba.so.1").soname == "liba.so.1"
    assert (names(program).runpath or "").split(":") == [str(a.lib), str(store.libc)]
    assert run(program).said == before.said
    assert sorted(run(program).mapped) == sorted(before.mapped)


def test_a_second_time_changes_nothing_and_hardening_again_binds(store: Store, chain: tuple[Package, Package]) -> None:
    a, it = chain
    program = it.bin / "app"
    unharden(store, a.path, it.path)
    bare = program.read_bytes()
    assert "0 files unbound" in unharden(store, it.path)
    assert program.read_bytes() == bare
    store.harden(a)
    store.harden(it, inputs=[a])
    assert names(program).needed[0] == f"{a.lib}/liba.so.1"
    assert run(program).misses == ()


def test_rpath_stays_rpath(store: Store, chain: tuple[Package, Package]) -> None:
    a, it = chain
    program = it.program("old", prints("a"), needs=[a.lib / "liba.so.1"], tag="RPATH", rpath=[it.lib])
    store.harden(it, inputs=[a])
    unharden(store, it.path)
    assert names(program).runpath is None
    assert str(a.lib) in (names(program).rpath or "").split(":")
    assert run(program).out == "1\n"


def test_hashes_that_nuke_refs_overwrote_come_off(store: Store, chain: tuple[Package, Package]) -> None:
    """As a scripted initrd does: copy by name, overwrite every hash, and let a search path of its own find the copies."""
    a, it = chain
    flat = store.package("extra-utils")
    flat.lib.mkdir()
    for path in (it.bin / "app", a.lib / "liba.so.1", store.libc / "libc.so.6"):
        data = path.read_bytes()
        for package in (a.path, it.path, store.glibc):
            data = data.replace(package.name[:32].encode(), b"e" * 32)
        (flat.lib / path.name).write_bytes(data)
        (flat.lib / path.name).chmod(0o755)
    program = flat.lib / "app"
    patchelf("--set-interpreter", store.loader, program)
    patchelf("--set-rpath", flat.lib, program)
    assert run(program).status == 127, "without it the loader looks for paths that are gone"
    unharden(store, flat.path)
    assert names(program).needed == ("liba.so.1", "libc.so.6")
    assert "eeee" not in (names(program).runpath or "")
    assert names(flat.lib / "liba.so.1").soname == "liba.so.1"
    assert run(program).out == "1\n"
    assert str(flat.lib / "liba.so.1") in run(program).mapped


def test_a_program_that_opens_libraries_by_name_still_does(store: Store, chain: tuple[Package, Package]) -> None:
    a, it = chain
    program = it.program("opener", opens("liba.so.1", "a", calls=["a"]), needs=[a.lib / "liba.so.1"])
    store.harden(it, inputs=[a])
    before = run(program)
    unharden(store, a.path, it.path)
    assert run(program).said == before.said


def test_one_file_is_enough(store: Store, chain: tuple[Package, Package]) -> None:
    _, it = chain
    unharden(store, it.bin / "app")
    assert names(it.bin / "app").needed[0] == "liba.so.1"


def test_dry_run_writes_nothing(store: Store, chain: tuple[Package, Package]) -> None:
    _, it = chain
    before = (it.bin / "app").read_bytes()
    unharden(store, it.path, options=("--dry-run",))
    assert (it.bin / "app").read_bytes() == before


def test_what_is_not_there_is_said(store: Store) -> None:
    assert "is not there; say a store path" in unharden(store, store.path / "gone", status=2)


def test_hardened_libraries_are_carried_along(store: Store) -> None:
    """Of app → libb → liba each hardened: the copies have bare names, the originals keep theirs, libc stays where it is."""
    a, b, it = store.package("liba"), store.package("libb"), store.package("it")
    liba = a.library("liba.so.1", function("a", 1))
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", prints("b"), needs=[libb])
    for package in (a, b, it):
        store.harden(package, inputs=[a, b])
    before = {path: path.read_bytes() for path in (liba, libb)}
    carried = it.lib / "carried"
    unharden(store, it.path, options=("--carry", str(carried)))
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in carried.iterdir()} == {"liba.so.1", "libb.so.1"}
    assert names(carried / "libb.so.1").needed[0] == "liba.so.1"
    assert (names(program).runpath or "").split(":") == [str(carried), str(store.libc)]
    ran = run(program)
    assert ran.said == (0, "11\n", "")
    assert {str(carried / "liba.so.1"), str(carried / "libb.so.1")} <= set(ran.mapped)


def test_two_files_of_one_name_are_not_carried_together(store: Store) -> None:
    one, two, it = store.package("one"), store.package("two"), store.package("it")
    for package, program in ((one, "first"), (two, "second")):
        library = package.library("libz.so.1", function("z", 1))
        it.program(program, prints("z"), needs=[library])
    for package in (one, two, it):
        store.harden(package)
    said = unharden(store, it.path, options=("--carry", str(it.lib / "carried")), status=2)
    assert f"{one.lib}/libz.so.1 and {two.lib}/libz.so.1 would both be" in said


def test_what_stays_absolute_is_a_finding(store: Store) -> None:
    """Two files of one name in one object: neither can be bare, and the status says so."""
    one, two, it = store.package("one"), store.package("two"), store.package("it")
    libraries = [one.library("libz.so.1", function("y", 1)), two.library("libz.so.1", function("z", 2))]
    store.harden(one, two)
    program = it.program("app", prints("y", "z"), flags=list(map(str, libraries)))
    store.harden(it)
    before = run(program)
    said = unharden(store, it.path, status=1)
    for library in libraries:
        assert f"{program}: {library} stays absolute: no order of the search path" in said
    assert run(program).behaviour == before.behaviour


@pytest.mark.parametrize("hardened", [True, False])
def test_a_name_that_equals_the_objects_own_soname_stays_as_it_is(store: Store, hardened: bool) -> None:
    """A wrapper needs the library whose SONAME it bears: bare, the loader answers with the wrapper itself (`_dl_lookup_map`)."""
    real, wrap = store.package("real"), store.package("wrap")
    libz = real.library("libz.so.1", function("z", 1))
    wrapper = wrap.library("libz.so.1", function("w", 10, ["z"] if hardened else []), needs=[libz])
    if hardened:
        patchelf("--replace-needed", "libz.so.1", libz, wrapper)
    program = wrap.program("app", prints("w"), needs=[wrapper], flags=["-Xlinker", "--allow-shlib-undefined"])
    before = run(program)
    assert before.out == ("11\n" if hardened else "10\n")
    store.harden(real)
    store.harden(wrap, inputs=[real])
    assert run(program).behaviour == before.behaviour
    said = unharden(store, real.path, wrap.path, status=int(hardened))
    assert run(program).behaviour == before.behaviour
    assert ("stays absolute: bare, it would be the object's own SONAME" in said) == hardened


def test_the_loaders_own_name_keeps_no_other_absolute(store: Store) -> None:
    """Thread-local variables make a library need the loader, which no search leads to."""
    a, it = store.package("liba"), store.package("it")
    source = "#include <stdlib.h>\n" + function("a", 1) + ' int b(void) { return atoi("2"); }'
    liba = a.library("liba.so.1", source, flags=[str(store.loader)])
    assert set(names(liba).needed) == {"libc.so.6", store.loader.name}
    program = it.program("app", prints("a"), needs=[liba])
    before = run(program)
    store.harden(a)
    store.harden(it)
    unharden(store, a.path, it.path)
    assert {"libc.so.6", store.loader.name} == set(names(liba).needed)
    assert run(program).behaviour == before.behaviour


def test_a_directory_with_a_colon_is_no_entry_of_a_search_path(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1), directory="li:b")
    program = it.program("app", prints("a"), needs=[liba], rpath=[store.libc])
    patchelf("--replace-needed", "liba.so.1", liba, program)
    before = run(program)
    assert "stays absolute: a search path cannot hold a directory with a colon" in unharden(store, it.path, status=1)
    assert run(program).behaviour == before.behaviour


def test_a_library_without_a_search_path_keeps_that_of_its_program(store: Store) -> None:
    """It gets the directory of what was bound as DT_RPATH: a RUNPATH would end the program's, which leads to libb."""
    a, b, c, it = (store.package(name) for name in ("liba", "libb", "libc", "it"))
    liba, libb = a.library("liba.so.1", function("a", 1)), b.library("libb.so.1", function("b", 10))
    libc = c.library("libc-user.so.1", function("c", 100, ["a", "b"]), needs=[liba, libb], rpath=[])
    path = [libc.parent, liba.parent, libb.parent, store.libc]
    program = it.program("app", prints("c"), needs=[libc], rpath=path, tag="RPATH")
    before = run(program)
    assert before.out == "111\n"
    for package in (a, b, c, it):
        store.harden(package, inputs=[a, b, c], options=["--exclude", "libb.so.1"])
    assert run(program).said == before.said
    unharden(store, a.path, b.path, c.path, it.path)
    assert run(program).said == before.said
    assert (names(libc).runpath, names(libc).needed[0]) == (None, "liba.so.1")


def test_a_name_that_another_object_would_take_elsewhere_stays_absolute(store: Store) -> None:
    """libb's libz is another file than the program's: bare, the one that is loaded first would answer both."""
    one, two, it = store.package("one"), store.package("two"), store.package("it")
    mine, other = one.library("libz.so.1", function("z", 1)), two.library("libz.so.1", function("y", 2))
    store.harden(one, two)
    libb = it.library("libb.so.1", function("b", 10, ["y"]), flags=[str(other)])
    program = it.program("app", prints("z", "b"), needs=[libb], flags=[str(mine)])
    store.harden(it)
    before = run(program)
    assert before.out == "1\n12\n"
    said = unharden(store, one.path, two.path, it.path, status=1)
    assert run(program).said == before.said
    assert "stays absolute: bare, it would lead elsewhere: in " in said


def test_carried_copies_stand_for_their_originals(store: Store) -> None:
    """A copy is no other file than the one that it is made of, so that no name stays absolute for its sake."""
    a, it = store.package("liba"), store.package("it")
    liba = a.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", prints("a", "b"), needs=[liba, libb])
    store.harden(a)
    store.harden(it, inputs=[a])
    before = run(program)
    carried = it.lib / "carried"
    unharden(store, it.path, options=("--carry", str(carried)))
    assert not any("/" in name for file in (program, libb, carried / liba.name) for name in names(file).needed)
    after = run(program)
    assert after.said == before.said
    assert after.files("liba") == [str(carried / liba.name)]
