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
