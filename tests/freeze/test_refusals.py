"""What freeze refuses: one sentence that names the file, what was tried and what to do, and nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from freeze.helpers import freeze, refused, run
from support.source import function, prints
from support.store import Store, patchelf


@pytest.fixture
def program(store: Store) -> Path:
    lib = store.package("a").library("liba.so.1", function("a", 1))
    return store.package("app").program("app", prints("a"), needs=[lib])


@pytest.mark.parametrize(("flag", "word"), [("-static", "static"), ("-static-pie", "static-pie")])
def test_static_programs(store: Store, flag: str, word: str) -> None:
    package = store.package("static")
    path = package.program("app", prints(), flags=[flag], rpath=[])
    assert f"{path}: not frozen, nothing was written: it is {word} and loads no libraries" in refused(store, path)


def test_a_shared_library(store: Store, program: Path) -> None:
    assert "it is a shared library" in refused(store, store.package("a").lib / "liba.so.1")
    assert "it is a shared library" in refused(store, store.libc / "libc.so.6")


def test_a_script_with_a_hint_at_its_interpreter(store: Store) -> None:
    script = store.path / "script"
    script.write_text("#! /usr/bin/python3 -I\nprint(1)\n")
    assert "freeze its interpreter /usr/bin/python3" in refused(store, script)


def test_what_is_no_program(store: Store) -> None:
    text = store.path / "text"
    text.write_text("no program")
    assert "no loader takes it: invalid ELF header" in refused(store, text)
    assert "it is no file" in refused(store, store.path)


@pytest.mark.parametrize("bit", [0o4000, 0o2000])
def test_set_id_programs(store: Store, program: Path, bit: int) -> None:
    program.chmod(0o755 | bit)
    assert "set-user-ID or set-group-ID" in refused(store, program)


def test_programs_with_capabilities(store: Store, program: Path) -> None:
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert "given capabilities" in refused(store, program)


def test_a_missing_library_with_the_directories_that_were_tried(store: Store, program: Path) -> None:
    lib = store.package("a").lib
    (lib / "liba.so.1").unlink()
    line = refused(store, program)
    assert f"liba.so.1, which {program} needs, is not found; tried: {lib}, {store.libc}" in line


def test_a_name_that_the_soname_of_another_file_answers(store: Store) -> None:
    """It was found by a search; with everything loaded, the loader would take the other for it."""
    one = store.package("one").library("libx.so.1", function("x", 1), soname="libone.so.1")
    two = store.package("two").library("libx.so.1", function("x", 2))
    b = store.package("b").library("libb.so.1", function("b", 1, ["x"]), needs=[one])
    a = store.package("a").library("liba.so.1", function("a", 1, ["x"]), needs=[two])
    patchelf("--replace-needed", "libone.so.1", "libx.so.1", b)
    patchelf("--replace-needed", "libx.so.1", two, a)
    line = refused(store, store.package("app").program("app", prints("b", "a"), needs=[b, a]))
    assert f"{two} and {one} both bear libx.so.1, and {b}, which needs the second, would get the first" in line


def test_a_place_that_is_a_library_of_the_program(store: Store, program: Path) -> None:
    """Neither the program nor its copy could start; the same by a link and for the loader."""
    lib = store.package("a").lib / "liba.so.1"
    link = store.path / "link"
    link.symlink_to(lib.parent)
    for out in (lib, link / "liba.so.1", store.libc / "libc.so.6", store.loader):
        assert f"{out} is a library that {program} loads" in freeze(store, program, out, status=2).err
    assert run(program).out == "1\n"


@pytest.mark.parametrize("flag", ["-f", "-F"])
def test_filters(store: Store, flag: str) -> None:
    store.package("x").library("libx.so.1", function("x", 1))
    directory = store.package("x").lib
    flags = [f"-Wl,{flag},libx.so.1"]
    a = store.package("a").library("liba.so.1", function("a", 1), flags=flags, rpath=[directory, store.libc])
    assert "has filter or audit tags (libx.so.1)" in refused(
        store, store.package("app").program("app", prints("a"), needs=[a])
    )


def test_a_program_that_does_not_start(store: Store, program: Path) -> None:
    (store.package("a").lib / "liba.so.1").write_text("no library")
    assert "its loader would stop" in refused(store, program)


def test_an_interpreter_that_is_not_there(store: Store, program: Path) -> None:
    patchelf("--set-interpreter", "/nowhere/ld.so", program)
    assert "its interpreter /nowhere/ld.so is not there" in refused(store, program)


def test_a_library_of_the_current_directory(store: Store) -> None:
    """Which directory that is, the next start decides."""
    lib = store.package("a").library("liba.so.1", function("a", 1))
    program = store.package("app").program("app", prints("a"), needs=[lib], rpath=[store.libc])
    patchelf("--replace-needed", "liba.so.1", str(lib).lstrip("/"), program)
    assert "was found in the current directory" in refused(store, program)


def test_places_that_are_no_place_for_a_file(store: Store, program: Path) -> None:
    """Usage errors: a directory, a place below a file, a device."""
    for out, word in (
        (store.path, "is a directory"),
        (program / "out", "is no directory"),
        (Path("/dev/null"), "no file"),
    ):
        assert word in freeze(store, program, out, status=2).err


def test_a_program_that_is_not_there(store: Store) -> None:
    done = freeze(store, store.path / "nowhere", store.path / "out", status=3)
    assert done.err == f"nix-harden: error: {store.path}/nowhere: cannot be read: No such file or directory\n"


def test_a_full_disk_leaves_the_old_file(store: Store, program: Path) -> None:
    """What fails while it writes leaves what was at OUT, and no copy beside it."""
    directory = store.path / "out"
    directory.mkdir()
    (directory / "app").write_text("old")
    words = f'ulimit -f 8; exec "$0" -m nix_harden freeze {program} -o {directory}/app'
    done = subprocess.run(
        ["bash", "-c", words, sys.executable], env=store.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in directory.iterdir()] == ["app"]
    assert (directory / "app").read_text() == "old"
