"""Walk: whatever lies in an output is passed over, read or written as what it is, and nothing outside is touched."""

import os
import resource
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.limits import harden
from faults.outputs import files
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run

MANY = 100_000 if "NIX_HARDEN_TORTURE" in os.environ else 10_000
LEVELS = 40


@pytest.fixture
def it(store: Store) -> Package:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba])
    return it


def is_bound(it: Package) -> bool:
    return names(it.bin / "app").needed[0] == f"{it.lib}/liba.so.1" and run(it.bin / "app").misses == ()


def test_links_of_every_kind_are_left_as_they_are(store: Store, it: Package) -> None:
    other = store.package("other")
    libb = other.library("libb.so.1", function("b", 1))
    outside = store.path.parent / "outside"
    outside.write_bytes(libb.read_bytes())
    links: dict[str, str | Path] = {
        "to-a-file-outside": outside,
        "to-another-store-path": libb,
        "to-a-directory-outside": other.path,
        "to-a-link": "to-a-file-outside",
        "to-a-link-to-a-link": "to-a-link",
        "dangling": "nowhere",
        "circle": "circle",
        "to-the-root": "/",
        "to-above": "..",
        "to-a-device": "/dev/zero",
        "to-this-process": "/proc/self/fd/0",
        "long": "x" * 4000,
    }
    for name, target in links.items():
        (it.lib / f"lib{name}.so").symlink_to(target)
    before = {path: os.readlink(path) for path in it.lib.iterdir() if path.is_symlink()}
    old = files(other), outside.read_bytes(), outside.stat().st_mtime_ns
    harden(it)
    assert (files(other), outside.read_bytes(), outside.stat().st_mtime_ns) == old
    assert {path: os.readlink(path) for path in before} == before
    assert is_bound(it)


@pytest.mark.parametrize("kind", ["FIFO", "socket", "character device", "block device", "directory", "dangling link"])
def test_what_is_no_file_under_the_name_of_a_library(store: Store, it: Package, kind: str) -> None:
    """Opening it might wait for ever; the next directory of the search path answers, as it does for the loader."""
    first = store.package("first")
    first.lib.mkdir()
    app = it.program("app", prints("a"), needs=[it.lib / "liba.so.1"], rpath=[first.lib, it.lib, store.libc])
    path = first.lib / "liba.so.1"
    make(path, kind)
    make(it.lib / "libz.so.1", kind)
    mode = path.lstat().st_mode
    said = harden(it)
    assert "warning" not in said
    assert path.lstat().st_mode == mode
    assert (it.lib / "libz.so.1").lstat().st_mode == mode
    assert is_bound(it)
    assert run(app).said == (0, "1\n", "")


def make(path: Path, kind: str) -> None:
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            here = os.open(".", os.O_RDONLY)
            os.chdir(path.parent)  # the name of a socket is short
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path.name)
            os.fchdir(here)
            os.close(here)
        case "character device":
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        case "block device":
            os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 200))
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to("nowhere")


@pytest.mark.parametrize(
    "name", [b"a b", b"new\nline", b"\xff\xfe", b"-o", b"'\"$(x)`y`", b"a:b", b"\x01\x1b[2J", b"%s", b"~"]
)
def test_files_are_written_in_directories_of_any_name(store: Store, it: Package, name: bytes) -> None:
    place = os.fsencode(it.path) + b"/" + name + b"/" + name
    os.makedirs(place)
    program = Path(os.fsdecode(place + b"/" + name))
    program.write_bytes((it.bin / "app").read_bytes())
    program.chmod(0o755)
    harden(it)
    assert names(program).needed == names(it.bin / "app").needed
    assert is_bound(it)


def test_hard_links_into_another_output_are_one_file(store: Store, it: Package) -> None:
    other = store.package("other")
    (other.path / "bin").mkdir()
    (other.bin / "app").hardlink_to(it.bin / "app")
    harden(it, other)
    assert (other.bin / "app").samefile(it.bin / "app")
    assert is_bound(it)


def test_many_files_and_levels(store: Store, it: Package, record_property: Callable[[str, object], None]) -> None:
    """Every tenth begins almost as ELF does, and a program lies at the bottom."""
    data = (it.lib / "liba.so.1").read_bytes()[:200]
    directory = it.path
    for level in range(LEVELS):
        directory = directory / f"level{level}"
    directory.mkdir(parents=True)
    (directory / "app").write_bytes((it.bin / "app").read_bytes())
    for number in range(MANY):
        if not number % 1000:
            place = it.path / f"share{number}"
            place.mkdir()
        (place / str(number)).write_bytes(b"" if number % 10 else b"\x7fELG" + data)
    began = time.monotonic()
    words = store.harden(it).err
    took = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    assert "1 library, 2 programs" in words
    assert names(directory / "app").needed[0] == f"{it.lib}/liba.so.1"
    assert took < 60
    assert peak < 512
    record_property("files in one output", MANY)
