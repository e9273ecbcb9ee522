"""Move the default search path of Debian's ld.so into the store.

usage: patch-loader.py LD_SO LIBDIR/

Built by Nix, glibc would search its own lib directory and know no cache.
Debian's has both in constants (elf/dl-load.c, _dl_init_paths): a block of four
NUL-terminated directories, the table of their lengths, and in instructions the
first one's length, the second one's address and the greatest length. If the
instructions are not found exactly as expected, then the loader gets no default
search path at all, rather than the host's.
"""

import re
import struct
import sys

DIRECTORIES = (b"/lib/x86_64-linux-gnu/", b"/usr/lib/x86_64-linux-gnu/", b"/lib/", b"/usr/lib/")
CACHE = b"/etc/ld.so.cache\0"


class Unexpected(Exception):
    pass


def block(directories):
    return b"".join(directory + b"\0" for directory in directories)


def only(pattern, data, what):
    places = [match.start() for match in re.finditer(pattern, data, re.DOTALL)]
    if len(places) != 1:
        raise Unexpected(f"{what}: found {len(places)} times")
    return places[0]


def put(data, at, new):
    data[at : at + len(new)] = new


def with_directory(data, directory):
    """The loader whose first default directory is that one; the others do not exist."""
    size = len(block(DIRECTORIES))
    rest = size - len(directory) - 1
    if rest < 11:
        raise Unexpected(f"no room for {directory!r}")
    new = (directory, b"/-/", b"/-/", b"/" + b"-" * (rest - 10))
    data = bytearray(data)

    # lea second(%rip), %rbx
    table = only(re.escape(struct.pack("<4Q", *map(len, DIRECTORIES))), data, "table of lengths")
    seconds = []
    for match in re.finditer(rb"(?=[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d])", data):
        at = match.start()
        target = at + 7 + struct.unpack_from("<i", data, at + 3)[0]
        old = target - len(DIRECTORIES[0]) - 1
        if old > 0 and data[old : old + size] == block(DIRECTORIES):
            seconds.append((at, old))
    if len(seconds) != 1:
        raise Unexpected(f"address of the second directory: found {len(seconds)} times")
    at, old = seconds[0]

    # movq $first, 0x20(%r13), soon after it
    code = bytes(data[at : at + 64])
    first = at + only(rb"[\x48\x49]\xc7.\x20" + struct.pack("<I", len(DIRECTORIES[0])), code, "first length") + 4
    # movq $greatest, max_dirnamelen(%rip), the size of a buffer on the stack
    greatest = 7 + only(rb"\x48\xc7\x05...." + struct.pack("<I", max(map(len, DIRECTORIES))), data, "greatest length")

    put(data, at + 3, struct.pack("<i", old + len(directory) + 1 - at - 7))
    put(data, first, struct.pack("<I", len(directory)))
    put(data, greatest, struct.pack("<I", max(map(len, new))))
    put(data, table, struct.pack("<4Q", *map(len, new)))
    # a second block is what --list-diagnostics prints
    return bytes(data).replace(block(DIRECTORIES), block(new))


def without_directories(data):
    gone = [re.sub(rb"[a-z]", b"-", directory) for directory in DIRECTORIES]
    return data.replace(block(DIRECTORIES), block(gone))


def main(path, directory):
    with open(path, "rb") as file:
        data = file.read()
    try:
        patched = with_directory(data, directory.encode())
    except Unexpected as reason:
        print(f"patch-loader: {reason}; the loader gets no default directories", file=sys.stderr)
        patched = without_directories(data)
    patched = patched.replace(CACHE, CACHE.replace(b"/etc/", b"/no-/"))
    if block(DIRECTORIES) in patched or CACHE in patched:
        raise SystemExit("patch-loader: the host's directories are still there")
    with open(path, "wb") as file:
        file.write(patched)


main(*sys.argv[1:])
