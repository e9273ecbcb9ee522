"""The module with a table of its own: one file, of what module.c was compiled to and a table as its last segment; pure."""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from nix_harden.prelinking.table import MAGIC

HEADER = struct.Struct("<16xHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
PT_LOAD, PT_NOTE, PF_R = 1, 4, 4
BUILD_ID = 4  # how a linker aligns its note; that of .note.gnu.property is 8
# Where the compiled modules lie, one a machine, named as <elf.h> names it; compile.py makes them.
COMPILED = os.path.join(os.path.dirname(__file__), "modules")
# Segments begin on pages of the largest size that the machine's kernels have.
PAGES: Mapping[str, int] = {"EM_X86_64": 1 << 12, "EM_AARCH64": 1 << 16}


@dataclass(frozen=True, slots=True)
class _Segment:
    """A program header (Elf64_Phdr)."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    size: int
    memory: int
    align: int


def attach(compiled: bytes, table: bytes, *, page: int) -> bytes:
    """The file that ld.so loads: `compiled`, and behind it `table`, to which the program header of the build id now leads."""
    *_, place, _, _, _, size, count, _, _, _ = HEADER.unpack_from(compiled)
    segments = [_Segment(*SEGMENT.unpack_from(compiled, place + number * size)) for number in range(count)]
    note = next(number for number, each in enumerate(segments) if each.type == PT_NOTE and each.align == BUILD_ID)
    end = max(each.address + each.memory for each in segments if each.type == PT_LOAD)
    offset, address = (-(-where // page) * page for where in (len(compiled), end))
    found = bytearray(compiled)
    SEGMENT.pack_into(found, place + note * size, PT_LOAD, PF_R, offset, address, address, len(table), len(table), page)
    return bytes(found) + bytes(offset - len(found)) + table


def detach(module: bytes) -> bytes | None:
    """The table of a file that `attach` made, None of any other."""
    at = _last(module)
    return None if at is None else module[at.offset : at.offset + at.size]


def exchange(module: bytes, table: bytes) -> bytes:
    """A file that `attach` made, with another table of the same size."""
    at = _last(module)
    assert at is not None
    assert at.size == len(table)
    return module[: at.offset] + table


def _last(module: bytes) -> _Segment | None:
    """The program header of the table, None where there is none."""
    if len(module) < HEADER.size or not module.startswith(b"\x7fELF\2\1"):
        return None
    *_, place, _, _, _, size, count, _, _, _ = HEADER.unpack_from(module)
    if place + count * size > len(module) or size < SEGMENT.size:
        return None
    segments = [_Segment(*SEGMENT.unpack_from(module, place + number * size)) for number in range(count)]
    last = max((each for each in segments if each.type == PT_LOAD), key=lambda each: each.address, default=None)
    if last is None or module[last.offset : last.offset + len(MAGIC)] != MAGIC:
        return None
    return last
