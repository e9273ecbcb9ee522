"""Edit a 64-bit little-endian ELF file where no tool would: what a linker never writes, a loader may still meet."""

import os
import struct
from pathlib import Path

EI_CLASS, EI_DATA, EI_OSABI, E_MACHINE = 4, 5, 7, 18
AARCH64 = 183
PT_DYNAMIC = 2
DT_NEEDED, DT_RPATH, DT_DEBUG, DT_RUNPATH = 1, 15, 21, 29


def poke(path: Path, offset: int, value: bytes) -> None:
    """Write `value` over what stands at `offset`."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)


def segments(path: Path) -> list[tuple[int, int, int]]:
    """Type, offset and size in the file of each segment."""
    data = path.read_bytes()
    (phoff,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = [struct.unpack_from("<IIQQQQ", data, phoff + index * size) for index in range(count)]
    return [(kind, offset, length) for kind, _, offset, _, _, length in rows]


def dynamic_place(path: Path) -> int:
    """The file offset of the dynamic section."""
    return next(offset for kind, offset, _ in segments(path) if kind == PT_DYNAMIC)


def dynamic(path: Path, *, first: bool = False) -> dict[int, tuple[int, int]]:
    """The dynamic section: for each tag, the file offset of its last (or first) entry, and its value."""
    data = path.read_bytes()
    offset = dynamic_place(path)
    found: dict[int, tuple[int, int]] = {}
    while True:
        tag, value = struct.unpack_from("<QQ", data, offset)
        if not tag:
            return found
        if not (first and tag in found):
            found[tag] = offset, value
        offset += 16


def retag(path: Path, old: int, new: int, value: int) -> None:
    """Turn the entry of one tag into another tag with another value."""
    poke(path, dynamic(path)[old][0], struct.pack("<QQ", new, value))


def drop_section_headers(path: Path) -> None:
    """Make the file one that ends with its last segment: stripped of the section header table, legal, and able to run."""
    poke(path, 40, bytes(8))
    poke(path, 60, bytes(4))
    os.truncate(path, max(offset + size for _, offset, size in segments(path)))
