"""What cannot be prelinked is said in a sentence, and nothing is written."""

import os
from pathlib import Path

import pytest
from musl.muslstore import Musl
from prelink.helpers import prelink, refused, run
from support.source import function, prints
from support.store import Store, Words, patchelf

from nix_harden.errors import NotPrelinked, WriteError
from nix_harden.native import compiled
from nix_harden.prelinking.prelink import prelink as call


def simple(store: Store) -> Path:
    a = store.package("a").library("liba.so.1", function("a", 1))
    return store.package("app").program("app", prints("a"), needs=[a])


def test_musl(store: Store) -> None:
    musl = Musl.create(store)
    app = musl.program(store.package("app"), "app", "int main(void) { return 0; }")
    assert "its loader is not glibc's" in refused(store, app)


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static(store: Store, flag: str) -> None:
    app = store.package("app").program("app", "int main(void) { return 0; }", flags=[flag], rpath=[])
    assert f"it is {flag[1:]} and loads no libraries" in refused(store, app)


def test_a_script(store: Store) -> None:
    app = store.package("app").bin / "app"
    app.parent.mkdir()
    app.write_text("#!/bin/sh\n")
    assert "it is a script" in refused(store, app)


def test_a_library(store: Store) -> None:
    a = store.package("a").library("liba.so.1", function("a", 1))
    assert "it is a shared library, not a program" in refused(store, a)


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_more_privileges(store: Store, mode: int) -> None:
    app = simple(store)
    app.chmod(mode)
    assert "it is set-user-ID or set-group-ID" in refused(store, app)


def test_twice(store: Store) -> None:
    program = prelink(store, simple(store))
    said = store.call("prelink", program, "-o", f"{program}2", status=1).err
    assert f"it is prelinked, and its module {program}.prelink.so fits this file alone" in said
    assert not Path(f"{program}2").exists()


@pytest.mark.parametrize("tag", ["-f", "-F"])
def test_filters(store: Store, tag: str) -> None:
    b = store.package("b").library("libb.so.1", function("b", 1))
    a = store.package("a").library("liba.so.1", function("a", 1), flags=[f"-Wl,{tag},{b}"])
    app = store.package("app").program("app", prints("a"), needs=[a])
    assert "has filter or audit tags" in refused(store, app)


def test_an_older_glibc(store: Store) -> None:
    """One whose C library defines no version of 2.35, and no newer one."""
    app = simple(store)
    for path in store.libc.iterdir():
        if path.is_file() and b"GLIBC_2.35\0" in (data := path.read_bytes()):
            mode = path.stat().st_mode
            path.unlink()
            path.write_bytes(data.replace(b"GLIBC_2.35\0", b"GLIBC_2.21\0"))
            path.chmod(mode)
    assert "its glibc is older than GLIBC_2.35" in refused(store, app)


def test_a_library_of_the_current_directory(store: Store) -> None:
    """Which directory that is, the next start decides."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    app = store.package("app").program("app", prints("a"), needs=[a], rpath=[store.libc])
    patchelf("--replace-needed", "liba.so.1", str(a).lstrip("/"), app)
    assert "was found in the current directory, which is another at each start" in refused(store, app)


def test_a_machine_for_which_there_is_no_module(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "COMPILED", str(tmp_path))
    with pytest.raises(NotPrelinked, match="this nix-harden has no module for EM_X86_64"):
        call(str(simple(store)), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    """OUT a directory, a module in what is no directory, a colon, which ends a name in DT_AUDIT."""
    app = simple(store)
    (tmp_path / "file").write_text("")
    cases: list[tuple[list[Words], str]] = [
        (["-o", tmp_path], "is a directory"),
        (["-o", tmp_path / "out", "--table", tmp_path / "file" / "m.so"], "is no directory"),
        (["-o", tmp_path / "out", "--table", tmp_path / "a:b.so"], "has a colon in it"),
        ([], "is not there"),
    ]
    for options, words in cases:
        assert words in store.call("prelink", app, *options, status=2).err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "store"]


def test_a_module_elsewhere(store: Store, tmp_path: Path) -> None:
    """In a directory that is made for it."""
    app = simple(store)
    store.call("prelink", app, "-o", tmp_path / "out", "--table", tmp_path / "new" / "m.so")
    assert (tmp_path / "new" / "m.so").is_file()
    assert run(tmp_path / "out") == run(app)
    assert not (tmp_path / "out.prelink.so").exists()


def test_a_full_disk_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The module is whole or not there, and so is the program."""

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="No space left on device"):
        call(str(simple(store)), str(tmp_path / "out" / "app"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("old", [None, b"of before"])
def test_a_program_that_cannot_be_written(
    store: Store, old: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A module that nothing names does not stay behind; one that was there already is not taken away."""
    place = tmp_path / "app.prelink.so"
    if old is not None:
        place.write_bytes(old)
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if os.path.basename(target) == "app":
            raise PermissionError(1, os.strerror(1))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match="Operation not permitted"):
        call(str(simple(store)), str(tmp_path / "app"))
    assert place.exists() == (old is not None)
    assert not (tmp_path / "app").exists()
