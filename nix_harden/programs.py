"""A program as people name it: a link, a wrapper of nixpkgs', or the file that is started in the end.

makeShellWrapper writes a script that ends in `exec`, makeBinaryWrapper a small C program that holds, for people to read, the
command which made it (nixpkgs, pkgs/build-support/setup-hooks/make-wrapper.sh and pkgs/by-name/ma/makeBinaryWrapper). A symbolic link is
no wrapper: the kernel follows it.
"""

import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from nix_harden.errors import ReadError

# A wrapper is small; the longest of nixpkgs set a few hundred variables.
LARGEST = 1 << 20
MOST = 8  # wrappers that start each other
EXEC = re.compile(rb'^exec (?:-a (?:"[^"\n]*"|\S+) +)?"(/[^"\n$`\\]+)"(?: .*)? "\$@"', re.MULTILINE)
MADE_BY = re.compile(rb"^makeCWrapper ('/(?:[^'\n]|'\\'')+')", re.MULTILINE)
BINARY = b"The C-code for this binary wrapper has been generated"


@dataclass(frozen=True, slots=True)
class Step:
    """A file on the way from what people name to what is started: its real path, its status, its first bytes, none of what is no
    regular file, and the path that it starts if it is a wrapper."""

    path: str
    status: os.stat_result
    data: bytes
    starts: str | None

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_script(self) -> bool:
        return self.data.startswith(b"#!")

    @property
    def interpreter(self) -> str:
        """The program that a script names in its first line."""
        line = self.data[2:].partition(b"\n")[0].split()
        return os.fsdecode(line[0]) if line else "/bin/sh"


def steps(path: str) -> Iterator[Step]:
    """The wrappers on the way, and last what is none; a wrapper where more than MOST start each other. Raises ReadError."""
    following: str | None = path
    for _ in range(MOST + 1):
        if following is None:
            return
        found = step(following)
        yield found
        following = found.starts


def step(path: str) -> Step:
    """One file, as it is on such a way. Raises ReadError."""
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
        if not stat.S_ISREG(status.st_mode):
            return Step(real, status, b"", None)
        with open(real, "rb") as file:
            data = file.read(LARGEST)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    return Step(real, status, data, _wrapped(data))


def _wrapped(data: bytes) -> str | None:
    """The path that a wrapper starts, or None where these are not the bytes of one."""
    if data.startswith(b"#!"):
        found = EXEC.findall(data)
        return os.fsdecode(found[-1]) if found else None
    if BINARY in data and (made := MADE_BY.search(data)):
        return shlex.split(os.fsdecode(made[1]))[0]
    return None
