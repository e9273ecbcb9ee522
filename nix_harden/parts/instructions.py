"""Instructions without the distances by which they reach what lies elsewhere; pure.

Those of x86-64 are read by iced-x86, where it is installed (`available`). Those of AArch64 are words of which few kinds have a distance
(Arm Architecture Reference Manual, C4.1).
"""

import struct
from collections.abc import Callable, Mapping
from importlib.util import find_spec

LIBRARY = "iced_x86"
FAR = 4  # bytes of a distance to what is not near; jumps within a function are left as they are
# Of AArch64, which words have a distance, by mask and value, and the bits of it: b and bl; b.cond and cbz, ldr from a literal; tbz; adr
# and adrp.
DISTANCES = (
    (0x7C000000, 0x14000000, 0x03FFFFFF),
    (0xFF000010, 0x54000000, 0x00FFFFE0),
    (0x7E000000, 0x34000000, 0x00FFFFE0),
    (0x3B000000, 0x18000000, 0x00FFFFE0),
    (0x7E000000, 0x36000000, 0x0007FFE0),
    (0x1F000000, 0x10000000, 0x60FFFFE0),
)


def available(machine: str) -> bool:
    """Whether instructions of a machine, by its name in <elf.h>, are read here."""
    return machine in READERS and (machine == "AARCH64" or find_spec(LIBRARY) is not None)


def placeless(machine: str, data: bytes, address: int) -> bytes:
    """The instructions at an address with zeros for each distance; only where these are `available`."""
    return READERS[machine](data, address)


def _x86(data: bytes, address: int) -> bytes:
    from iced_x86 import Decoder

    found = bytearray(data)
    decoder = Decoder(64, data, ip=address)
    for each in decoder:
        is_data = each.is_ip_rel_memory_operand
        if not is_data and not (each.is_call_near or each.is_jmp_near or each.is_jcc_near):
            continue
        parts = decoder.get_constant_offsets(each)
        offset, size = (
            (parts.displacement_offset, parts.displacement_size)
            if is_data
            else (parts.immediate_offset, parts.immediate_size)
        )
        if size == FAR:
            start = each.ip - address + offset
            found[start : start + size] = bytes(size)
    return bytes(found)


def _aarch64(data: bytes, address: int) -> bytes:
    words = struct.Struct("<I")
    whole = len(data) - len(data) % words.size
    found = bytearray()
    for (word,) in words.iter_unpack(data[:whole]):
        distance = next((bits for mask, value, bits in DISTANCES if word & mask == value), 0)
        found += words.pack(word & ~distance)
    return bytes(found) + data[whole:]


READERS: Mapping[str, Callable[[bytes, int], bytes]] = {"X86_64": _x86, "AARCH64": _aarch64}
