"""What compile.py made, and how a table of one program is put behind it: one file, with the table as its last segment."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_NOTE, PF_R = 1, 4, 4
BUILD_ID = 4  # how a linker aligns its note; that of .note.gnu.property is 8
# Where the compiled files lie, named as <elf.h> names the machine; and what they are.
COMPILED = os.path.join(os.path.dirname(__file__), "compiled")
MODULE, START = "module.so", "start"
PARTED = b"nixpart1"  # how the table of a program in parts begins
SMALL = 4096  # the headers are in so many bytes of what was compiled here
# Segments begin on pages of the largest size that the machine's kernels have.
PAGES: Mapping[str, int] = {"EM_X86_64": 1 << 12, "EM_AARCH64": 1 << 16}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program header (Elf64_Phdr)."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    align: int


def read(machine: str, what: str) -> bytes | None:
    """What was compiled for a machine, None where nothing was."""
    try:
        with open(os.path.join(COMPILED, f"{machine}.{what}"), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def advice(machine: str) -> str:
    """How to come by it."""
    return f"compile it once with python3 -m nix_harden.native.compile and a compiler for {machine}"


def headers(file: bytes) -> list[tuple[int, Loaded]]:
    """The program headers of a 64-bit little-endian file, with the offset of each; none where it has none, or has lost some."""
    if len(file) < HEADER.size or not file.startswith(b"\x7fELF\2\1"):
        return []
    *_, place, _, _, _, size, count, _, _, _ = HEADER.unpack_from(file)
    if place + count * size > len(file) or size < SEGMENT.size:
        return []
    offsets = [place + number * size for number in range(count)]
    return [(offset, Loaded(*SEGMENT.unpack_from(file, offset))) for offset in offsets]


def behind(file: bytes) -> Loaded | None:
    """The program header of what `attach` put behind a file, of which the headers suffice; the last of any other."""
    loaded = (each for _, each in headers(file) if each.type == PT_LOAD)
    return max(loaded, key=lambda each: each.address, default=None)


def is_start(path: str) -> bool:
    """Whether a file is what starts a program from its parts. Raises OSError."""
    with open(path, "rb") as file:
        if (last := behind(file.read(SMALL))) is None:
            return False
        file.seek(last.offset)
        return file.read(len(PARTED)) == PARTED


def attach(compiled: bytes, table: bytes, *, page: int) -> bytes:
    """The file that is loaded: `compiled`, and behind it `table`, to which the program header of the build id now leads."""
    segments = headers(compiled)
    note = next(place for place, each in segments if each.type == PT_NOTE and each.align == BUILD_ID)
    end = max(each.address + each.memory for _, each in segments if each.type == PT_LOAD)
    offset, address = (-(-where // page) * page for where in (len(compiled), end))
    found = bytearray(compiled)
    SEGMENT.pack_into(found, note, PT_LOAD, PF_R, offset, address, address, len(table), len(table), page)
    return bytes(found) + bytes(offset - len(found)) + table
