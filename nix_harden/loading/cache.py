"""What ld.so.cache says, in the format of glibc 2.2 and newer (elf/dl-cache.c, sysdeps/generic/dl-cache.h); pure."""

import os
import re
import struct
from dataclasses import dataclass

CACHE_MAGIC_OLD, CACHE_MAGIC = b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1"
CACHE_EXTENSION_MAGIC = 0xEAA42174
CACHE_NAMED_HWCAP = 1 << 62
CACHE_FLAGS = {  # flags of an entry that this machine's loader takes: ELF_LIBC6 and the machine's own (dl-cache.h, ldconfig.h)
    ("EM_X86_64", 64): (0x0303,),
    ("EM_X86_64", 32): (0x0803,),
    ("EM_S390", 64): (0x0403,),
    ("EM_PPC64", 64): (0x0503,),
    ("EM_AARCH64", 64): (0x0A03,),
    ("EM_ARM", 32): (0x0903, 0x0B03, 3),
    ("EM_RISCV", 64): (0x1003, 0x0F03),
    ("EM_LOONGARCH", 64): (0x1203, 0x1103),
}


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file that ld.so.cache knows: `subdirectory` is that of glibc-hwcaps, `hwcap` the bits of the older scheme."""

    path: str
    flags: int
    subdirectory: str | None = None
    hwcap: int = 0


def cache_key(name: str) -> str:
    """A name under which all that ld.so.cache holds equal are equal: numbers are compared by value (`_dl_cache_libcmp`)."""
    return re.sub(r"[0-9]+", lambda digits: str(int(digits[0])), name)


def parse_cache(data: bytes, little_endian: bool) -> dict[str, tuple[CacheEntry, ...]]:
    """The entries of an ld.so.cache in the format of glibc 2.2 and newer, alone or behind the older one (dl-cache.h); none where it is neither."""
    order = "<" if little_endian else ">"
    if data.startswith(CACHE_MAGIC_OLD):
        (count,) = struct.unpack_from(order + "I", data, 12)
        data = data[(16 + count * 12 + 7) & ~7 :]
    header, entry = struct.Struct(order + "20sIIB3xI12x"), struct.Struct(order + "iIIIQ")
    if not data.startswith(CACHE_MAGIC) or len(data) < header.size:
        return {}
    _, count, _, _, extensions = header.unpack_from(data)
    if header.size + count * entry.size > len(data):
        return {}
    subdirectories = _cache_subdirectories(data, extensions, order)
    found: dict[str, list[CacheEntry]] = {}
    for row in range(count):
        flags, key, value, _, hwcap = entry.unpack_from(data, header.size + row * entry.size)
        subdirectory = None
        if hwcap & CACHE_NAMED_HWCAP:
            index = hwcap & 0xFFFFFFFF
            subdirectory = subdirectories[index] if index < len(subdirectories) else "?"
        path = os.fsdecode(_string(data, value))
        found.setdefault(cache_key(os.fsdecode(_string(data, key))), []).append(
            CacheEntry(path, flags, subdirectory, 0 if subdirectory else hwcap)
        )
    return {name: tuple(entries) for name, entries in found.items()}


def _string(data: bytes, offset: int) -> bytes:
    end = data.find(b"\0", offset)
    return data[offset:end] if end >= 0 else b""


def _cache_subdirectories(data: bytes, offset: int, order: str) -> list[str]:
    """The names of glibc-hwcaps subdirectories that entries refer to by number."""
    if not offset or offset + 8 > len(data):
        return []
    magic, count = struct.unpack_from(order + "II", data, offset)
    if magic != CACHE_EXTENSION_MAGIC or offset + 8 + count * 16 > len(data):
        return []
    for row in range(count):
        tag, _, start, size = struct.unpack_from(order + "IIII", data, offset + 8 + row * 16)
        if tag == 1 and start + size <= len(data):
            return [
                os.fsdecode(_string(data, at))
                for (at,) in struct.iter_unpack(order + "I", data[start : start + size // 4 * 4])
            ]
    return []
