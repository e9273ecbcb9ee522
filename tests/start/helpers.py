"""Trace a program as a user would, and count the same by hand in what strace prints of a whole run."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import schema
from support.store import Store

RETURNED = re.compile(r"\) += (-1 E)?")
LOOKUP = re.compile(r'(?:openat|open|newfstatat|stat|access|statx)\((?:AT_FDCWD, )?"([^"]+)"')


@dataclass(frozen=True)
class Grep:
    """What strace prints of a run until the loader is done: system calls, and the lookups among them that failed."""

    calls: int
    failed: tuple[str, ...]


def by_hand(program: Path, until: str) -> Grep:
    """Run a program under strace and count its lines from execve to the first that begins with `until`."""
    done = subprocess.run(
        ["strace", "-s", "0", "-o", "/dev/stdout", program], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if RETURNED.search(line)]
    end = next(place for place, line in enumerate(lines) if line.startswith(until))
    start = lines[1:end]
    failed = (match[1] for line in start if "= -1 E" in line and (match := LOOKUP.match(line)))
    return Grep(len(start), tuple(path for path in failed if path != "/etc/ld.so.preload"))


def trace(store: Store, *words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    """What `nix-harden trace --json` says of each program."""
    done = store.call("trace", "--json", *words, status=status)
    assert done.err == ""
    programs: list[dict[str, Any]] = schema.check("trace", done.out)["programs"]
    return programs


def refused(store: Store, *words: str | Path, status: int, path: str | None = None) -> str:
    """The one sentence of an error."""
    done = store.call("trace", *words, status=status, environ={"PATH": path or os.environ["PATH"]})
    assert done.out == ""
    (line,) = done.err.splitlines()
    return line


__all__ = ["by_hand", "json", "refused", "trace"]
