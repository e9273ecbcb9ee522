"""Run a program under the loader, which is the oracle, and see through strace what it looked for and what it mapped."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FAILED = re.compile(r'(?:openat|open|newfstatat|stat64|stat|statx|access)\((?:AT_FDCWD[^,]*, )?"([^"]*)".* = -1 E')
MAPPED = re.compile(r"mmap2?\(.*, \d+<([^>]*)>, \S+\) = 0x")
NEVER_A_LIBRARY = ("/etc/ld.so.preload",)  # every loader asks for it


@dataclass(frozen=True)
class Run:
    """One run of a program: what it said, the paths that were looked for in vain, and the files that were mapped.

    `mapped` holds what the kernel says of the open file, so every symbolic link is followed.
    """

    status: int
    out: str
    err: str
    misses: tuple[str, ...]
    mapped: tuple[str, ...]

    @property
    def behaviour(self) -> tuple[object, ...]:
        """What hardening may not change: what the program says, and the files that the loader maps, in its order."""
        return *self.said, *self.mapped

    @property
    def said(self) -> tuple[int, str, str]:
        return self.status, self.out, self.err

    def files(self, name: str) -> list[str]:
        """The mapped files whose name begins with `name`."""
        return [path for path in self.mapped if os.path.basename(path).startswith(name)]


def run(program: Path, *arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Run a program under strace; the variables of `environ` reach the program alone."""
    trace = program.parent.parent / f".trace-{os.getpid()}"
    variables = [word for name, value in (environ or {}).items() for word in ("-E", f"{name}={value}")]
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "4096", "-o", trace, "-e", "trace=%file,mmap", *variables, program, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        cwd=cwd,
        check=False,
    )
    lines = trace.read_text(errors="surrogateescape").splitlines()
    trace.unlink()
    assert any("execve(" in line and line.endswith("= 0") for line in lines), done.stderr
    misses = [match[1] for line in lines if (match := FAILED.search(line)) and match[1] not in NEVER_A_LIBRARY]
    mapped = dict.fromkeys(match[1] for line in lines if (match := MAPPED.search(line)))
    return Run(done.returncode, done.stdout, done.stderr, tuple(misses), tuple(mapped))
