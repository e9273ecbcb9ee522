"""Find the program that one of nixpkgs' wrappers starts; pure over the wrapper's bytes.

makeShellWrapper writes a script that ends in `exec`, makeBinaryWrapper a small C program that holds, for people to read, the
command which made it (nixpkgs, pkgs/build-support/setup-hooks/make-wrapper.sh and pkgs/by-name/ma/makeBinaryWrapper).
"""

import os
import re
import shlex

# A wrapper is small; the longest of nixpkgs set a few hundred variables.
LARGEST = 1 << 20
EXEC = re.compile(rb'^exec (?:-a (?:"[^"\n]*"|\S+) +)?"(/[^"\n$`\\]+)"(?: .*)? "\$@"', re.MULTILINE)
MADE_BY = re.compile(rb"^makeCWrapper ('/(?:[^'\n]|'\\'')+')", re.MULTILINE)
BINARY = b"The C-code for this binary wrapper has been generated"


def wrapped(data: bytes) -> str | None:
    """The path that a wrapper starts, or None where these are not the bytes of one."""
    if data.startswith(b"#!"):
        found = EXEC.findall(data)
        return os.fsdecode(found[-1]) if found else None
    if BINARY in data and (made := MADE_BY.search(data)):
        return shlex.split(os.fsdecode(made[1]))[0]
    return None


def interpreter(data: bytes) -> str:
    """The program that a script names in its first line."""
    line = data[2:].partition(b"\n")[0].split()
    return os.fsdecode(line[0]) if line else "/bin/sh"
