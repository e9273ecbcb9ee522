"""The smallest 64-bit little-endian shared object that holds what a test says, byte for byte."""

import struct
from collections.abc import Sequence

NEEDED, STRTAB, SYMTAB, STRSZ, SONAME, HASH = 1, 5, 6, 10, 14, 4
VERNEED, VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
BASE = 0x1000  # where `blob` lies, in the file and in memory


def elf(dynamic: Sequence[tuple[int, int]], blob: bytes, interpreter: bytes = b"") -> bytes:
    """A file of one loaded segment: headers, `blob` at BASE, the dynamic section, the interpreter's name."""
    tags = b"".join(struct.pack("<QQ", *entry) for entry in [*dynamic, (0, 0)])
    body = blob + bytes(-len(blob) % 8)
    at = BASE + len(body)
    body += tags + interpreter
    size = BASE + len(body)
    rows = [(1, 6, 0, size), (2, 6, at, len(tags))]
    if interpreter:
        rows.append((3, 4, at + len(tags), len(interpreter)))
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(rows), 0, 0, 0
    )
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, length, length, 8)
        for kind, flags, offset, length in rows
    )
    return (header + table).ljust(BASE, b"\0") + body


def version_needs(count: int) -> bytes:
    """A string table, and `count` version needs that all lead to one chain of `count` versions."""
    strings = b"\0libc.so.6".ljust(16, b"\0")
    chain = len(strings) + 16 * count
    needs = [
        struct.pack("<HHIII", 1, 0xFFFF, 1, chain - (len(strings) + 16 * at), 16 if at < count - 1 else 0)
        for at in range(count)
    ]
    versions = [struct.pack("<IHHII", 0, 0, 0, 1, 16 if at < count - 1 else 0) for at in range(count)]
    return strings + b"".join(needs) + b"".join(versions)
