"""A glibc to put into stores: the host's, made to search where nixpkgs' does, so that the host answers no name by accident."""

import shutil
import tempfile
from pathlib import Path

HOST = Path("/lib/x86_64-linux-gnu")
LOADER = "ld-linux-x86-64.so.2"
FILES = (LOADER, "libc.so.6", "libm.so.6")
RUNTIMES = ("libgcc_s.so.1", "libstdc++.so.6")
DEFAULT_DIRECTORY = b"/lib/x86_64-linux-gnu/\0"  # the first of the directories that Debian's loader searches last


def make() -> Path:
    """A new directory whose lib/ holds the glibc; its loader reads no cache and searches that lib/ last.

    The strings are replaced in place by others of the same length, hence the short directory below /tmp.
    """
    top = Path(tempfile.mkdtemp(prefix="nhn_", dir="/tmp"))
    lib = top / "lib"
    lib.mkdir()
    top.chmod(0o755)
    for name in FILES:
        shutil.copy(HOST / name, lib / name)
    loader = (lib / LOADER).read_bytes()
    mine = bytes(lib) + b"/\0"
    assert len(mine) == len(DEFAULT_DIRECTORY), lib
    assert loader.count(b"\0" + DEFAULT_DIRECTORY) == 1, "the loader's default directories have another form"
    loader = loader.replace(b"\0" + DEFAULT_DIRECTORY, b"\0" + mine)
    for other in (b"/usr/lib/x86_64-linux-gnu/", b"/lib/", b"/usr/lib/"):
        loader = loader.replace(b"\0" + other + b"\0", b"\0" + other.replace(b"lib/", b"no-/", 1) + b"\0")
    (lib / LOADER).write_bytes(loader.replace(b"/etc/ld.so.cache", b"/no-/ld.so.cache"))
    return top
