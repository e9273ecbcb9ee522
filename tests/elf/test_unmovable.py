"""Write: files in which nothing may move, or moving costs too much, are edited in the bytes that they have, as far as that goes."""

import struct
from pathlib import Path

import pytest
from support import bytes as raw
from support.dynamic import names
from support.source import function, opens, prints
from support.store import LINKERS, Package, Store
from support.trace import run

from nix_harden.reading.elf import read_table

DT_STRSZ, DT_SYMTAB, DT_VERSYM = 10, 6, 0x6FFFFFF0
PAYLOAD = b"PAYLOAD" * 1000
SEGMENT = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_NOTE = 1, 4


@pytest.fixture
def it(store: Store) -> Package:
    it = store.package("it")
    it.library("liba.so.1", function("a", 1))
    return it


def roomy(it: Package, linker: str = "bfd", *flags: str) -> Path:
    """A program whose search path is longer than the names that take its place."""
    path = [it.lib, it.store.libc, f"/{'r' * 300}"]
    return it.program("app", prints("a"), needs=[it.lib / "liba.so.1"], linker=linker, rpath=path, flags=flags)


def segments(path: Path) -> list[tuple[int, ...]]:
    """The program headers of a 64-bit little-endian file, as they stand there."""
    data = path.read_bytes()
    (offset,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    return [SEGMENT.unpack_from(data, offset + index * SEGMENT.size) for index in range(count)]


def test_appended_data_stays_where_it_is(it: Package) -> None:
    """Both ways: a self-extracting program finds it by its distance from the start or the end."""
    program = roomy(it)
    size = program.stat().st_size
    with program.open("ab") as file:
        file.write(PAYLOAD)
    assert it.store.harden(it, options=["--json"]).plan["app"]["skipped"] is None
    assert program.read_bytes()[size:] == PAYLOAD
    assert (run(program).said, run(program).misses) == ((0, "1\n", ""), ())
    it.store.call("unharden", it.path)
    assert names(program).needed[0] == "liba.so.1"
    assert program.read_bytes()[size:] == PAYLOAD


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("hashes", ["gnu", "sysv"])
def test_without_sections_names_take_the_bytes_of_names(it: Package, linker: str, hashes: str) -> None:
    """Names and search paths that go out of use are free bytes; of others no section says that nothing uses them."""
    program = roomy(it, linker, f"-Wl,--hash-style={hashes}", "-rdynamic")
    raw.drop_section_headers(program)
    before = program.read_bytes()
    assert run(program).out == "1\n"
    assert it.store.harden(it, options=["--json"]).plan["app"]["skipped"] is None
    after = program.read_bytes()
    ran = run(program, environ={"LD_BIND_NOW": "1"})
    assert (ran.said, ran.misses) == ((0, "1\n", ""), ())
    for name in (b"printf\0", b"a\0", b"__libc_start_main\0"):
        assert after.count(b"\0" + name) >= before.count(b"\0" + name)


def test_bytes_that_no_name_used_are_free_with_sections_alone(it: Package) -> None:
    """What a shrunk search path left may be anything where no section header says that it is a string table."""
    program = it.program("app", prints("a"), needs=[it.lib / "liba.so.1"], rpath=[f"/{'r' * 300}"])
    data = program.read_bytes()
    program.write_bytes(data.replace(b"/" + b"r" * 300, b"\0" + b"r" * 300))
    assert it.store.harden(it, options=["--json", "--dry-run"]).plan["app"]["skipped"] is None
    raw.drop_section_headers(program)
    assert it.store.harden(it, options=["--json"]).plan["app"]["skipped"] == "no section headers"


@pytest.mark.parametrize("what", ["a table that a tag names", "a segment with a meaning", "the end of what is loaded"])
def test_without_sections_a_string_table_that_holds_something_else_is_left_alone(it: Package, what: str) -> None:
    program = roomy(it)
    raw.drop_section_headers(program)
    table = read_table(str(program))
    assert table is not None
    if what == "a table that a tag names":
        position, address = raw.dynamic(program)[5]
        raw.poke(program, raw.dynamic(program)[DT_VERSYM][0] + 8, struct.pack("<Q", address + 8))
    elif what == "a segment with a meaning":
        (offset,) = struct.unpack_from("<Q", program.read_bytes(), 32)
        index = next(index for index, segment in enumerate(segments(program)) if segment[0] == PT_NOTE)
        raw.poke(program, offset + index * SEGMENT.size + 8, struct.pack("<Q", table.offset + 4))
    else:
        position = raw.dynamic(program)[DT_STRSZ][0]
        raw.poke(program, position + 8, struct.pack("<Q", 0x2000))
        end = table.offset + 0x2000
        raw.poke(program, end - 1, b"\0")
    assert read_table(str(program)) is None


def test_a_library_aligned_to_megabytes_does_not_grow_for_its_soname(store: Store) -> None:
    """patchelf pads by up to twice the alignment; what has room is bound, and the SONAME, which can do without, stays bare."""
    it, other = store.package("a-package" * 20), store.package("a-dependency-of-quite-some-length")
    libd = other.library("libd.so.1", function("d", 1))
    liba = it.library("liba.so.1", function("a", 1, ["d"]), needs=[libd], flags=["-Wl,-z,max-page-size=0x200000"])
    program = it.program("app", prints("a"), needs=[liba])
    size = liba.stat().st_size
    answer = store.harden(it, inputs=[other], options=["--json"])
    soname = answer.plan["liba.so.1"]["soname"]
    assert (soname["new"], soname["why"], soname["detail"]) == (None, "no room", "2.0 MiB")
    assert liba.stat().st_size == size
    assert names(liba).needed[0] == str(libd)
    assert (run(program).said, run(program).misses) == ((0, "2\n", ""), ())
    assert "written" not in store.harden(it, inputs=[other]).err


def test_what_patchelf_adds_is_said(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1), rpath=[])
    size = liba.stat().st_size
    said = store.harden(it).err
    growth = liba.stat().st_size - size
    assert growth > 0
    assert f"1 file written, 0 in place and 1 by patchelf, which added {growth / 1024:.1f} KiB" in said


@pytest.mark.parametrize("linker", ["bfd", "gold", "mold"])
@pytest.mark.parametrize("room", [True, False])
def test_a_search_path_that_is_given_takes_a_spare_place_in_the_dynamic_section(
    store: Store, linker: str, room: bool
) -> None:
    """Code that walks its own _DYNAMIC finds it where it was linked to be, also where patchelf makes room for strings."""
    it, a = store.package("it"), store.package("liba")
    liba = a.library("liba.so.1", function("a", 1))
    flags = [f"-Wl,-soname,{'s' * 300}", "-shared"] if room else ["-shared"]
    source = opens("liba.so.1", "a", calls=["a"]).replace("int main(void)", "int b(void)")
    libb = it.plugin("libb.so", source, needs=[liba], linker=linker, rpath=[], flags=flags)
    was = raw.dynamic_place(libb)
    store.harden(it, inputs=[a])
    assert str(a.lib) in (names(libb).rpath or names(libb).runpath or "")
    assert names(libb).needed[0] == str(liba)
    assert raw.dynamic_place(libb) == was
    before = libb.read_bytes()
    store.harden(it, inputs=[a])
    assert libb.read_bytes() == before


@pytest.mark.parametrize("address", ["0x10000", "0x200000"])
def test_a_program_is_never_moved_to_where_a_kernel_maps_nothing(store: Store, address: str) -> None:
    """patchelf puts a segment before the first one; below 64 KiB (vm.mmap_min_addr) nobody may map."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    flags = ["-no-pie", f"-Wl,-Ttext-segment={address}"]
    program = it.program("app", prints("a"), needs=[liba], flags=flags, rpath=[it.lib, store.libc])
    assert run(program).out == "1\n"
    low = address == "0x10000"
    said = store.harden(it, options=["--keep-runpath"]).err
    assert (f"{program}: stays as it is: it has no room for the names, and patchelf spoils it: " in said) == low
    assert run(program).said == (0, "1\n", "")
    assert min(segment[3] for segment in segments(program) if segment[0] == PT_LOAD) >= 0x10000
    assert names(program).needed[0].startswith("/") == (not low)


@pytest.mark.parametrize("pie", ["-pie", "-no-pie"])
def test_program_headers_of_no_bytes_stand_last_where_patchelf_has_sorted_them(store: Store, pie: str) -> None:
    """Go's reader of build information takes PT_GNU_STACK for the segment that holds every address, where it comes first."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], flags=[pie])
    said = store.harden(it, options=["--keep-runpath"]).err
    assert "by patchelf, which added" in said
    headers = segments(program)
    empty = [not each[5] and each[0] != PT_LOAD for each in headers]
    assert any(empty)
    assert empty == sorted(empty)
    addresses = [each[3] for each in headers if each[0] == PT_LOAD]
    assert addresses == sorted(addresses)
    assert run(program).said == (0, "1\n", "")
