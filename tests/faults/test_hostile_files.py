"""Read: a small file that makes much work of itself is refused or read, in 2 seconds and 256 MiB."""

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from faults import crafted
from faults.fuzz import MEMORY
from faults.limits import READ, harden, limited, read_within
from faults.users import NOBODY
from faults.users import harden as harden_without_privileges
from support.source import function, prints
from support.store import REPOSITORY, Store


def test_version_needs_that_share_one_chain(tmp_path: Path) -> None:
    """2,000 needs with the same 2,000 versions: 64 KiB that say four million."""
    count = 2000
    blob = crafted.version_needs(count)
    tags = [(crafted.STRTAB, crafted.BASE), (crafted.STRSZ, 16)]
    tags += [(crafted.VERNEED, crafted.BASE + 16), (crafted.VERNEEDNUM, count)]
    read_within(tmp_path / "it", crafted.elf(tags, blob))


def test_names_that_share_one_long_string(tmp_path: Path) -> None:
    """Each NEEDED is the end of the one before: 1 MiB that says a gigabyte."""
    size = 1 << 20
    tags = [(crafted.STRTAB, crafted.BASE), (crafted.STRSZ, size)]
    tags += [(crafted.NEEDED, at) for at in range(1000)]
    read_within(tmp_path / "it", crafted.elf(tags, b"a" * (size - 1) + b"\0"))


def test_symbols_that_share_one_long_string(tmp_path: Path) -> None:
    size, count = 1 << 17, 10_000
    symbols = b"".join(struct.pack("<IBBHQQ", at, 0, 0, 0, 0, 0) for at in range(count))
    tags = [(crafted.STRTAB, crafted.BASE), (crafted.STRSZ, size), (crafted.SYMTAB, crafted.BASE + size)]
    tags += [(crafted.HASH, crafted.BASE + size + len(symbols))]
    read_within(tmp_path / "it", crafted.elf(tags, b"a" * (size - 1) + b"\0" + symbols))


@pytest.mark.parametrize("sparse", [False, True])
def test_an_interpreter_of_many_zeros(tmp_path: Path, sparse: bool) -> None:
    """A PT_INTERP of 64 MiB, or of 4 GiB in a file with a hole."""
    data = crafted.elf([(crafted.STRTAB, crafted.BASE), (crafted.STRSZ, 1)], b"\0" * 16, b"/lib/ld.so\0")
    size = 4 << 30 if sparse else 64 << 20
    path = tmp_path / "it"
    changed = bytearray(data)
    struct.pack_into("<Q", changed, 64 + 2 * 56 + 32, size)
    path.write_bytes(changed)
    os.truncate(path, len(data) + size)
    limited([sys.executable, "-c", READ, str(path)])


def test_many_machines(tmp_path: Path) -> None:
    """What is kept for each machine is kept for few: e_machine and EI_OSABI have 16 million values."""
    data = bytearray(crafted.elf([(crafted.STRTAB, crafted.BASE), (crafted.STRSZ, 1)], b"\0" * 16))
    for number in range(4000):
        struct.pack_into("<H", data, 18, 0x1000 + number)
        (tmp_path / str(number)).write_bytes(data)
    paths = [str(path) for path in tmp_path.iterdir()]
    subprocess.run(
        [sys.executable, "-c", READ, *paths],
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        check=True,
    )


@pytest.mark.parametrize("interpreter", ["/dev/zero", "fifo", "/proc/self/mem", "/dev/tty", "/", "x" * 5000])
def test_an_interpreter_that_is_no_file(store: Store, interpreter: str) -> None:
    """Whatever PT_INTERP names is looked at; it may be a device that never ends or a FIFO that nobody writes to."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    if interpreter == "fifo":
        interpreter = str(it.path / "fifo")
        os.mkfifo(interpreter)
    it.program("app", prints("a"), needs=[liba], flags=["-Xlinker", f"--dynamic-linker={interpreter}"])
    assert "1 library, 1 program" in harden(it)


def test_a_large_file_beside_a_reference_between_outputs(store: Store) -> None:
    """To see which output names which, every file is searched; no file need fit into memory."""
    it, lib = store.package("it"), store.package("lib")
    liba = lib.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba], rpath=[store.libc])
    os.truncate(_touched(it.path / "large"), 1 << 30)
    harden(it, lib)


def test_an_unreadable_file_beside_a_reference_between_outputs(open_store: Store) -> None:
    it, lib = open_store.package("it"), open_store.package("lib")
    liba = lib.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba], rpath=[open_store.libc])
    _touched(it.path / "secret").chmod(0)
    words = ["--output", f"out={it.path}", "--output", f"lib={lib.path}"]
    status, said = harden_without_privileges(open_store, "fixup", *words)
    assert status == 0, said


def test_a_hard_link_that_cannot_be_written_is_said_as_it_is(open_store: Store) -> None:
    """The first name may lie in a directory that can be written, the second in one that is somebody else's."""
    it = open_store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    app = it.program("app", prints("a"), needs=[liba])
    (it.path / "libexec").mkdir()
    (it.path / "libexec" / "app").hardlink_to(app)
    os.chown(it.path / "libexec", NOBODY, NOBODY)
    (it.path / "libexec").chmod(0o755)
    before = app.read_bytes()
    status, said = harden_without_privileges(open_store, "fixup", "--output", f"out={it.path}")
    assert status == 3
    assert "Permission denied" in said
    assert app.read_bytes() == before or f"{app}: not written, the file is as it was" not in said


def _touched(path: Path) -> Path:
    path.touch()
    return path


def test_control_characters_do_not_reach_a_terminal(store: Store) -> None:
    """A name may hold an escape sequence, or a line that looks like this program's own."""
    it = store.package("it")
    it.program("app", prints(), needs=[], rpath=["/nix/store/\x1b[31mred", "a\nnix-harden: done"])
    for words in (["fixup", "--verbose", "--output", f"out={it.path}"], ["audit", str(it.path)]):
        done = subprocess.run(
            [sys.executable, "-m", "nix_harden", *words],
            cwd=REPOSITORY,
            env=store.environ,
            capture_output=True,
            check=False,
        )
        assert b"\x1b" not in done.stdout + done.stderr, words
        assert b"\nnix-harden: done" not in done.stdout + done.stderr
