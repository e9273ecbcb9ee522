"""Write: in the outputs of a build that runs, edits that move nothing are made in the files themselves, and undone where they read wrong."""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store

from nix_harden.errors import WriteError
from nix_harden.fixup import write
from nix_harden.fixup.scratch import lock, scratch_directory
from nix_harden.model import Edit, PathAction, Write
from nix_harden.reading.elf import read_object

Kept = tuple[int, int, int, int]


@pytest.fixture
def it(store: Store) -> Package:
    """A library and a program whose search path leaves room."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba], rpath=[it.lib, f"{store.path}/{'r' * 300}", store.libc])
    return it


def building(it: Package) -> Mapping[str, str]:
    """What Nix tells a builder."""
    return {"NIX_BUILD_TOP": str(it.store.path.parent), "it": str(it.path)}


def kept(path: Path) -> Kept:
    status = path.stat()
    return status.st_ino, status.st_mode, status.st_mtime_ns, status.st_size


def edit(path: Path) -> Edit:
    """An edit that has room: the search path becomes a name."""
    obj = read_object(str(path))
    assert obj is not None
    return Edit((str(path),), obj, None, (("liba.so.1", f"{path.parents[1]}/lib/liba.so.1"),), PathAction.EMPTY)


def workshop(it: Package) -> write.Workshop:
    return write.Workshop(str(it.store.path.parent), "patchelf", str(it.store.path), (str(it.path),))


def test_the_file_itself_is_written_in_a_build_and_a_copy_elsewhere(store: Store, it: Package) -> None:
    """Either way the same bytes, mode and time."""
    program = it.bin / "app"
    program.chmod(0o444)
    before, old = kept(program), program.read_bytes()
    store.harden(it, environ=building(it))
    assert kept(program) == before
    straight = program.read_bytes()
    assert names(program).needed[0] == f"{it.lib}/liba.so.1"
    program.chmod(0o644)
    program.write_bytes(old)
    names_only = {name: value for name, value in building(it).items() if name == "it"}
    store.harden(it, environ=names_only)
    assert program.stat().st_ino != before[0]
    assert program.read_bytes() == straight


@pytest.mark.parametrize("why", ["no build directory", "another output", "no such directory"])
def test_what_is_no_output_of_a_build_that_runs_is_never_written_to(store: Store, it: Package, why: str) -> None:
    """A kill would leave it torn, and nobody would throw it away."""
    program = it.bin / "app"
    before = program.stat().st_ino
    environ = dict(building(it))
    if why == "no build directory":
        del environ["NIX_BUILD_TOP"]
    elif why == "another output":
        environ["it"] = f"{store.path}/another"
    else:
        environ["NIX_BUILD_TOP"] = f"{store.path}/not-there"
    store.harden(it, environ=environ)
    assert names(program).needed[0].startswith("/")
    assert program.stat().st_ino != before


def test_a_file_with_a_name_elsewhere_is_replaced(store: Store, it: Package) -> None:
    outside = store.path / "linked"
    outside.hardlink_to(it.bin / "app")
    before = outside.read_bytes()
    store.harden(it, environ=building(it))
    assert outside.read_bytes() == before
    assert names(it.bin / "app").needed[0].startswith("/")


def test_all_names_of_a_file_are_written_at_once(store: Store, it: Package) -> None:
    other = it.bin / "other"
    other.hardlink_to(it.bin / "app")
    before = kept(other)
    store.harden(it, environ=building(it))
    assert kept(other) == before
    assert other.samefile(it.bin / "app")
    assert names(other).needed[0].startswith("/")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o444, 0o555])
def test_bits_that_a_write_takes_away_are_set_again(store: Store, it: Package, mode: int) -> None:
    program = it.bin / "app"
    program.chmod(mode)
    before = kept(program)
    store.harden(it, environ=building(it))
    assert kept(program) == before
    assert names(program).needed[0].startswith("/")


def test_a_file_with_capabilities_is_replaced(store: Store, it: Package) -> None:
    """A write would take them away (capabilities(7)); a copy gets all attributes."""
    program = it.bin / "app"
    before = program.stat().st_ino
    net_raw = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    os.setxattr(program, "security.capability", net_raw)
    store.harden(it, environ=building(it))
    assert os.getxattr(program, "security.capability") == net_raw
    assert names(program).needed[0].startswith("/")
    assert program.stat().st_ino != before


def test_a_program_that_runs_is_replaced(store: Store, it: Package) -> None:
    """The kernel lets nobody write to it (ETXTBSY); a copy may take its place."""
    sleeps = it.program("sleeps", "unsigned sleep(unsigned); int a(void); int main(void) { return sleep(60) + a(); }",
                        needs=[it.lib / "liba.so.1"], rpath=[it.lib, f"{store.path}/{'r' * 300}", store.libc])  # fmt: skip
    before = sleeps.stat().st_ino
    with subprocess.Popen([sleeps]) as process:
        try:
            while os.readlink(f"/proc/{process.pid}/exe") != str(sleeps):
                time.sleep(0.01)
            store.harden(it, environ=building(it))
        finally:
            process.kill()
    assert sleeps.stat().st_ino != before
    assert names(sleeps).needed[0].startswith("/")


@pytest.mark.parametrize("error", [WriteError("it", "reads wrong"), OSError(5, "broke"), KeyboardInterrupt()], ids=str)
def test_what_was_there_is_put_back_whatever_the_reading_says(
    it: Package, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    program = it.bin / "app"
    before, old = kept(program), program.read_bytes()
    written = []

    def reading(*_: object, **__: object) -> str:
        written.append(program.read_bytes())
        raise error

    monkeypatch.setattr(write, "verify", reading)
    with pytest.raises((WriteError, KeyboardInterrupt)):
        write.write(edit(program), workshop(it))
    assert written != [old]
    assert (kept(program), program.read_bytes()) == (before, old)


def test_what_cannot_be_put_back_is_said(it: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    program = it.bin / "app"
    put, calls = write._put, []

    def once(writes: tuple[Write, ...], descriptor: int) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        put(writes, descriptor)

    def reading(*_: object, **__: object) -> str:
        raise WriteError(str(program), "reads wrong")

    monkeypatch.setattr(write, "_put", once)
    monkeypatch.setattr(write, "verify", reading)
    with pytest.raises(WriteError, match="half written, do not use this output: Input/output error"):
        write.write(edit(program), workshop(it))


def test_the_scratch_of_a_killed_run_is_cleared_away_and_that_of_one_at_work_is_not(
    store: Store, it: Package, tmp_path: Path
) -> None:
    """A kill leaves its copies in TMPDIR, which is nobody's where no build ends. What holds anything else is somebody else's."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    names = ("at-work", "killed", "theirs", "young")
    at_work, killed, theirs, young = (scratch / f"nix-harden-copies-{name}" for name in names)
    another = scratch / "nix-harden-store"
    for each in (at_work, killed, theirs, young, another):
        each.mkdir()
        (each / ".nix-harden-copy").write_text("")
    (theirs / "store").mkdir()
    for each in (at_work, killed, theirs, another):
        os.utime(each, (0, 0))
    with lock(str(at_work), wait=True):
        store.harden(it, environ={"TMPDIR": str(scratch)})
    assert sorted(scratch.iterdir()) == [at_work, theirs, young, another]
    assert list(theirs.iterdir())
    shutil.rmtree(scratch)


def test_two_runs_look_at_the_scratch_of_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that has just made its own waits for the other, which holds the lock of every such directory for a moment."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = tempfile.mkdtemp
    looked: list[str] = []

    def made_and_looked_at(*words: Any, **options: Any) -> str:
        path: str = made(*words, **options)
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

        def done() -> None:
            looked.append(path)
            os.close(descriptor)

        threading.Timer(0.2, done).start()
        return path

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_looked_at)
    with scratch_directory() as there:
        assert looked == [there]
    assert list(tmp_path.iterdir()) == []
