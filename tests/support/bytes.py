"""Edit a 64-bit little-endian ELF file where no tool would: what a linker never writes, a loader may still meet."""

import struct
from pathlib import Path

EI_CLASS, EI_DATA, EI_OSABI, E_MACHINE = 4, 5, 7, 18
AARCH64 = 183
DT_DEBUG, DT_RPATH, DT_RUNPATH = 21, 15, 29


def poke(path: Path, offset: int, value: bytes) -> None:
    """Write `value` over what stands at `offset`."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)


def dynamic(path: Path) -> dict[int, tuple[int, int]]:
    """The dynamic section: for each tag, the file offset of its last entry, and its value."""
    data = path.read_bytes()
    (phoff,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, _, offset = struct.unpack_from("<IIQ", data, phoff + index * size)
        if kind == 2:
            break
    found = {}
    while True:
        tag, value = struct.unpack_from("<QQ", data, offset)
        if not tag:
            return found
        found[tag] = offset, value
        offset += 16


def retag(path: Path, old: int, new: int, value: int) -> None:
    """Turn the entry of one tag into another tag with another value."""
    poke(path, dynamic(path)[old][0], struct.pack("<QQ", new, value))


def drop_section_headers(path: Path) -> None:
    """Make the file one whose section header table was stripped, which is legal and runs."""
    poke(path, 40, bytes(8))
    poke(path, 60, bytes(4))
