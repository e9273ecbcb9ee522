"""Read: not ELF is passed over, malformed ELF is named with its reason and left alone, and nothing makes a traceback."""

import os
import random
import socket
from pathlib import Path

import pytest
from support import bytes as raw
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run

from nix_harden.errors import MalformedElf
from nix_harden.model import Object
from nix_harden.reading.elf import read_contents, read_object


@pytest.fixture
def it(store: Store) -> Package:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba])
    return it


def test_files_that_are_not_elf_are_passed_over(store: Store, it: Package) -> None:
    (it.lib / "libscript.so").write_text("/* GNU ld script */ INPUT(-la)")
    (it.lib / "libempty.so").touch()
    (it.lib / "libshort.so").write_bytes(b"\x7fEL")
    (it.lib / "libtext.so.1").write_bytes(b"\0\1\2ELF")
    (it.lib / "libdirectory.so").mkdir()
    (it.lib / "libdangling.so").symlink_to("nowhere")
    (it.lib / "libcircle.so").symlink_to("libcircle.so")
    os.mkfifo(it.lib / "libfifo.so")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(it.lib)  # the name of a socket is short
        listening.bind("libsocket.so")
        os.chdir(here)
    answer = store.harden(it, options=["--strict", "--json"])
    assert set(answer.plan) == {"app", "liba.so.1"}
    assert "warning" not in answer.err
    assert run(it.bin / "app").misses == ()


def test_links_are_not_followed_out_of_the_outputs(store: Store, it: Package) -> None:
    other = store.package("other")
    libb = other.library("libb.so.1", function("b", 1))
    before = libb.read_bytes()
    (it.lib / "libb.so.1").symlink_to(libb)
    (it.path / "share").symlink_to(other.path)
    assert set(store.harden(it, options=["--json"]).plan) == {"app", "liba.so.1"}
    assert libb.read_bytes() == before


def test_elf_is_found_by_its_magic_and_never_by_name_or_permission(store: Store, it: Package) -> None:
    for name in ("share/data.bin", "libexec/.app-wrapped", "cgi"):
        path = it.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((it.bin / "app").read_bytes())
        path.chmod(0o444)
    store.harden(it)
    for name in ("share/data.bin", "libexec/.app-wrapped", "cgi"):
        assert names(it.path / name).needed[0] == f"{it.lib}/liba.so.1"


@pytest.mark.parametrize(
    "name", ["a b.so.1", "-rf.so.1", "líb.so.1", "new\nline.so.1", "a'b\"c$d.so.1", "a:b.so.1", "*.so.1"]
)
def test_odd_names_of_libraries_and_directories(store: Store, it: Package, name: str) -> None:
    odd = store.package("odd")
    library = odd.library(name, function("z", 1), directory=f"lib/{name}.d", soname=name)
    program = it.program(f"{name}.app", prints("z"), flags=[str(library)], rpath=[store.libc])
    assert run(program).status == 127
    store.harden(odd, it)
    assert run(program).said == (0, "1\n", "")


def test_names_that_are_not_utf_8(store: Store, it: Package) -> None:
    path = os.fsencode(it.lib) + b"/lib\xff\xfe.so"
    os.rename(it.lib / "liba.so.1", path)
    os.symlink(b"lib\xff\xfe.so", it.lib / "liba.so.1")
    answer = store.harden(it, options=["--json", "--verbose"])
    assert os.path.basename(os.fsdecode(path)) in {os.path.basename(name) for name in answer.plan}
    assert run(it.bin / "app").said == (0, "1\n", "")
    assert names(Path(os.fsdecode(path))).soname == f"{it.lib}/liba.so.1"


def broken(it: Package, how: str) -> Path:
    """A library in `it` that begins as ELF does and then breaks the format."""
    path = it.lib / "libbroken.so"
    path.write_bytes((it.lib / "liba.so.1").read_bytes())
    tags = raw.dynamic(path)
    match how:
        case "cut":
            os.truncate(path, 100)
        case "class":
            raw.poke(path, raw.EI_CLASS, b"\7")
        case "byte order":
            raw.poke(path, raw.EI_DATA, b"\2")
        case "magic only":
            path.write_bytes(b"\x7fELF")
        case "string table":
            raw.retag(path, 5, 5, 1 << 40)
        case "string table's size":
            raw.retag(path, 10, 10, 1 << 62)
        case "soname":
            raw.retag(path, 14, 14, 1 << 31)
        case "program headers":
            raw.poke(path, 54, b"\1\0")
        case _:
            raise AssertionError(tags)
    return path


FAULTS = [
    "cut",
    "class",
    "byte order",
    "magic only",
    "string table",
    "string table's size",
    "soname",
    "program headers",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_elf_is_named_and_left_and_the_rest_is_hardened(store: Store, it: Package, fault: str) -> None:
    path = broken(it, fault)
    before = path.read_bytes(), path.stat()
    answer = store.harden(it)
    assert (path.read_bytes(), path.stat()) == before
    [warning] = [line for line in answer.err.splitlines() if "warning" in line]
    assert f"{path}: malformed ELF: " in warning
    assert run(it.bin / "app").misses == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_malformed_elf_fails_under_strict_and_nothing_is_written(store: Store, it: Package, fault: str) -> None:
    path, before = broken(it, fault), (it.bin / "app").read_bytes()
    answer = store.harden(it, options=["--strict"], status=1)
    assert f"{path}: malformed ELF: " in answer.err
    assert (it.bin / "app").read_bytes() == before


def test_a_malformed_candidate_is_passed_over_and_said(store: Store, it: Package) -> None:
    first, second = store.package("first"), store.package("second")
    liba = second.library("libz.so.1", function("z", 1))
    first.lib.mkdir()
    (first.lib / "libz.so.1").write_bytes(liba.read_bytes()[:300])
    program = it.program("z", prints("z"), needs=[liba], rpath=[])
    answer = store.harden(it, inputs=[first, second], options=["--json"])
    assert run(program).said == (0, "1\n", "")
    [needed, _] = answer.plan["z"]["needed"]
    assert any(
        tried["path"].startswith(str(first.lib)) and "malformed ELF" in tried["why"] for tried in needed["tried"]
    )


def reads(path: Path) -> Object | None:
    """Read a file: whatever is wrong with it, the answer is a value or a named error with its path."""
    try:
        found = read_object(str(path))
        read_contents(str(path))
    except MalformedElf as error:
        refusal = str(error)
    else:
        return found
    assert refusal.startswith(f"{path}: malformed ELF: ")
    return None


def test_no_length_of_a_cut_library_makes_a_traceback(it: Package, tmp_path: Path) -> None:
    data = (it.lib / "liba.so.1").read_bytes()
    path = tmp_path / "cut"
    refused = 0
    for length in sorted({*range(0, 1200, 7), *range(0, len(data), 97)}):
        path.write_bytes(data[:length])
        refused += reads(path) is None
    assert refused > 100
    path.write_bytes(data)
    assert reads(path) is not None


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_byte_makes_a_traceback(it: Package, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    source = it.bin / "app" if seed % 2 else it.lib / "liba.so.1"
    data = source.read_bytes()
    header = [*range(64), *range(64, 64 + 56 * 12)]
    offset = next(offset for kind, offset, _ in raw.segments(source) if kind == raw.PT_DYNAMIC)
    telling = [*header, *range(offset, offset + 400)]
    path = tmp_path / "flipped"
    outcomes = set()
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.choice((chance.choice(telling), chance.randrange(len(data))))] = chance.randrange(256)
        path.write_bytes(changed)
        outcomes.add(reads(path) is None)
    assert outcomes == {True, False}


@pytest.mark.parametrize("field", [0x20, 0x28, 0x36, 0x38, 0x3A, 0x3C, 0x3E])
@pytest.mark.parametrize("value", [b"\xff\xff", b"\0\0", b"\xff\x7f"])
def test_no_header_field_makes_a_traceback(it: Package, tmp_path: Path, field: int, value: bytes) -> None:
    path = tmp_path / "field"
    path.write_bytes((it.lib / "liba.so.1").read_bytes())
    raw.poke(path, field, value)
    found = reads(path)
    assert found is None or isinstance(found, Object)


def test_a_circle_of_version_needs_ends(it: Package, tmp_path: Path) -> None:
    """vn_next that leads back must not loop for ever."""
    path = tmp_path / "circle"
    path.write_bytes((it.bin / "app").read_bytes())
    tags = raw.dynamic(path)
    raw.retag(path, 0x6FFFFFFF, 0x6FFFFFFF, 0xFFFFFFFF)  # DT_VERNEEDNUM
    raw.poke(path, tags[0x6FFFFFFE][1] + 12, (0).to_bytes(4, "little"))
    assert reads(path) is not None
    raw.poke(path, tags[0x6FFFFFFE][1] + 12, (0xFFFFFFF0).to_bytes(4, "little"))
    assert reads(path) is None
