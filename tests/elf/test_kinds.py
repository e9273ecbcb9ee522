"""Decide: what each kind of file is to its loader, and that each still runs."""

import subprocess
from pathlib import Path

import pytest
from support import bytes as raw
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


def hardened(store: Store, it: Package, file: Path) -> dict[str, object]:
    """Harden; the file must be the same, byte for byte. What the plan says of it."""
    before = file.read_bytes(), file.stat()
    plan = store.harden(it, options=["--json"]).plan
    assert (file.read_bytes(), file.stat()) == before
    entry: dict[str, object] = plan[file.name]
    return entry


@pytest.mark.parametrize("flags", [["-pie"], ["-no-pie"]], ids=["PIE", "non-PIE"])
def test_programs_are_bound_and_get_no_soname(store: Store, it: Package, flags: list[str]) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], flags=flags)
    before = run(program)
    plan = store.harden(it, options=["--json"]).plan
    after = run(program)
    assert plan["app"]["kind"] == "program"
    assert names(program).soname is None
    assert after.behaviour == before.behaviour
    assert after.misses == ()


@pytest.mark.parametrize("flags", [["-static-pie"], ["-static"]], ids=["static-pie", "static"])
def test_static_programs_are_not_touched(store: Store, it: Package, flags: list[str]) -> None:
    """A static-pie is ET_DYN without interpreter, as a library is; a SONAME makes it crash."""
    program = it.program("app", prints(), flags=flags, rpath=[])
    hardened(store, it, program)
    assert run(program).said == (0, "", "")


def test_a_plugin_is_bound_and_gets_no_soname(store: Store, it: Package) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    plugin = it.plugin("plug.so", function("plug", 1, ["a"]), needs=[liba])
    plan = store.harden(it, options=["--json"]).plan
    assert plan["plug.so"]["kind"] == "plugin"
    assert names(plugin).soname is None
    assert names(plugin).needed == (str(liba),)


def test_a_separate_debug_file_is_not_touched(store: Store, it: Package) -> None:
    liba = it.library("liba.so.1", function("a", 1), flags=["-g"])
    debug = it.path / "lib" / "debug" / "liba.so.1"
    debug.parent.mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", liba, debug], check=True)
    subprocess.run(["strip", "-g", liba], check=True)
    before = debug.read_bytes()
    answer = store.harden(it, options=["--json"])
    assert debug.read_bytes() == before
    assert "separate debug file" in answer.out
    assert names(liba).soname == str(liba)


@pytest.mark.parametrize("name", ["lib/debug/.build-id/ab/cdef.debug", "lib/liba.debug"])
def test_a_file_named_as_debug_files_are_is_not_touched(store: Store, it: Package, name: str) -> None:
    debug = it.library(name, function("a", 1), directory=".")
    assert hardened(store, it, debug)["skipped"] == "separate debug file"


def test_a_file_with_appended_data_is_not_touched_where_names_have_no_room(store: Store, it: Package) -> None:
    """Self-extracting programs find their payload by its distance from the start or the end."""
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], rpath=[])
    with program.open("ab") as file:
        file.write(b"PAYLOAD" + bytes(100))
    assert hardened(store, it, program)["skipped"] == "appended data: 7 bytes"


def test_zeros_at_the_end_are_no_appended_data(store: Store, it: Package) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    with liba.open("ab") as file:
        file.write(bytes(100))
    store.harden(it)
    assert names(liba).soname == str(liba)


def test_without_section_headers_and_room_a_file_is_read_and_left_alone(store: Store, it: Package) -> None:
    """It is legal and runs, but patchelf finds the dynamic section through them."""
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], rpath=[])
    raw.drop_section_headers(program)
    entry = hardened(store, it, program)
    assert (entry["kind"], entry["skipped"]) == ("program", "no section headers")


def test_a_library_without_section_headers_can_still_be_bound_to(store: Store, it: Package) -> None:
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba])
    raw.drop_section_headers(liba)
    before = run(program)
    store.harden(it)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_an_object_file_is_not_touched(store: Store, it: Package) -> None:
    it.lib.mkdir()
    file = it.lib / "a.o"
    subprocess.run(["gcc", "-c", "-x", "c", "-", "-o", file], input=function("a", 1), text=True, check=True)
    assert hardened(store, it, file)["skipped"] == "nothing dynamic"


def test_relative_relocations_and_thread_local_storage_survive(store: Store, it: Package) -> None:
    source = "__thread int t = 4; int *p[] = {&t, 0}; static int x = 3; int *q = &x; int a(void) { return t + *q; }"
    source = source.replace("int *p[] = {&t, 0}; ", "")
    liba = it.library("liba.so.1", source, flags=["-Xlinker", "-z", "-Xlinker", "pack-relative-relocs"])
    program = it.program("app", prints("a"), needs=[liba])
    before = run(program)
    assert before.out == "7\n"
    store.harden(it)
    assert run(program).behaviour == before.behaviour
    assert run(program).misses == ()


def test_constructors_run_in_the_same_order(store: Store, it: Package) -> None:
    says = 'int puts(const char *); __attribute__((constructor)) static void begin(void) { puts("%s"); } '
    libraries: list[Path] = []
    for name in "abc":
        calls = [need.name[3] for need in libraries[:1]]
        libraries.append(it.library(f"lib{name}.so.1", says % name + function(name, 1, calls), needs=libraries[:1]))
    program = it.program("app", prints("c", "b"), needs=[libraries[2], libraries[1]])
    before = run(program)
    assert before.out.splitlines()[:3] == ["a", "b", "c"]
    store.harden(it)
    assert run(program).behaviour == before.behaviour
    assert run(program).misses == ()
