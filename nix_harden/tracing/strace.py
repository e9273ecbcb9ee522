"""What strace(1) wrote of one process, as values; pure. The form is that of `strace -i -y -ttt`, which `OPTIONS` asks for."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

OPTIONS = ("-i", "-y", "-ttt", "-s", "0")
# Calls that look a file up by the path which they are given.
LOOKUPS = frozenset(
    (
        "access faccessat faccessat2 lstat lstat64 newfstatat fstatat64 open openat openat2 readlink readlinkat stat stat64 statx"
    ).split()
)
MAPS = ("mmap", "mmap2")
EXECS = ("execve", "execveat")
FORKS = ("clone", "clone3", "fork", "vfork")
LINE = re.compile(r"^(\d+\.\d+) \[([0-9a-f?]+)\] (.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (\S+)(?: (E[A-Z0-9]+) \([^)]*\))?.*?( \(DELAYED\))?$")
# The directory that a path is relative to, with the path that -y says of it, and the path.
PATH = re.compile(r'^(?:(?:AT_FDCWD|\d+)(?:<((?:[^>\\]|\\.)*)>)?, )?"((?:[^"\\]|\\.)*)"')
MAPPED = re.compile(r"^\S+, (\d+), .*, \d+<((?:[^>\\]|\\.)*)>(?:\(deleted\))?, \S+$")
ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-f]{2}|.)")
NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: when it began in seconds, and the address of the instruction that made it.

    `path` is that of a lookup or exec, absolute where strace knows the directory; `file` is what an mmap maps, by the kernel's word, and
    `span` the addresses, from and to, that it maps it at; `error` is the name of errno where the call failed; `child` is what a fork or
    clone made.
    """

    at: float
    address: int
    name: str
    path: str | None = None
    file: str | None = None
    error: str | None = None
    delayed: bool = False
    child: int | None = None
    span: tuple[int, int] | None = None

    @property
    def is_failed_lookup(self) -> bool:
        return self.name in LOOKUPS and self.path is not None and self.error is not None


@dataclass(frozen=True, slots=True)
class Log:
    """The calls of a process in their order, and when it was last heard of, in seconds as theirs."""

    calls: tuple[Call, ...]
    begin: float
    end: float


def parse(lines: Iterable[str]) -> Log:
    """The calls in the lines of a log, and the times of its SIGCONT, or first line, and of its last."""
    calls: list[Call] = []
    begin = end = 0.0
    for line in lines:
        if (match := LINE.match(line)) is None:
            continue
        at = float(match[1])
        begin = at if not begin or "--- SIGCONT " in line else begin
        if match[2].startswith("?"):
            continue  # the process is gone, and its last line was the one before
        end = at
        calls.extend(_call(at, int(match[2], 16), match[3]))
    return Log(tuple(calls), begin, end)


def _call(at: float, address: int, text: str) -> Iterator[Call]:
    if (match := CALL.match(text)) is None:
        return
    name, words, returned, error, delayed = match.groups()
    path = file = child = span = None
    if name in FORKS and returned.isdecimal():
        child = int(returned)
    elif name in (*LOOKUPS, *EXECS) and (found := PATH.match(words)) and found[2]:
        path = os.path.join(unescape(found[1] or ""), unescape(found[2]))
    elif name in MAPS and (found := MAPPED.search(words)):
        file = unescape(found[2])
        if error is None:
            start = int(returned, 16)
            span = start, start + int(found[1])
    yield Call(at, address, name, path, file, error, delayed is not None, child, span)


def of_one_program(logs: Mapping[int, Log], first: int) -> tuple[Call, ...]:
    """The calls of a program, its threads and forks, by time, from the logs of all that came from process `first`.

    A fork counts until it becomes another program by exec, whose call is the last of it; what that one forks does not count.
    """
    calls: list[Call] = []
    waiting = [first]
    for number in waiting:
        mine = logs[number].calls if number in logs else ()
        end = next((place for place, call in enumerate(mine) if call.name in EXECS and call.error is None), len(mine))
        calls += mine[: end + 1]
        waiting += [call.child for call in mine[:end] if call.child is not None]
    return tuple(sorted(calls, key=lambda call: call.at))


def unescape(text: str) -> str:
    """A string as strace quotes it, by the rules of C."""
    if "\\" not in text:
        return text
    return os.fsdecode(ESCAPE.sub(_unescaped, os.fsencode(text)))


def _unescaped(match: re.Match[bytes]) -> bytes:
    word = match[1]
    if word.isdigit():
        return bytes([int(word, 8) & 0xFF])
    if len(word) == 3:
        return bytes([int(word[1:], 16)])
    return NAMED.get(word, word)
