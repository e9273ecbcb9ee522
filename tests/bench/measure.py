"""What one start of a program costs, by the kernel's own account."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from real.observe import closure, failing_opens

from nix_harden.reading.elf import read_object
from nix_harden.reading.image import PT_LOAD, Image

SETTLED = 0.4  # seconds without work after which a program waits for its input
PSS = "Pss:"


@dataclass(frozen=True)
class Program:
    """A program: what it is run with to end at once, and with what it waits for a byte on its standard input, if with anything."""

    path: Path
    ends: Sequence[str]
    waits: Sequence[str] | None

    @property
    def loader(self) -> Path:
        obj = read_object(str(self.path))
        assert obj is not None
        assert obj.interpreter is not None
        return Path(obj.interpreter)


@dataclass(frozen=True)
class Start:
    """Wall time in seconds from spawn to exit, and the page faults that needed no disk."""

    seconds: float
    faults: int


@dataclass(frozen=True)
class Fixed:
    """What does not vary: of one start its mmaps and the loader's failing opens; of the closure its segments and bytes.

    `resident` is the sum of the proportional set sizes of so many copies at once, in bytes; None of a program that does not wait.
    """

    mmaps: int
    opens: int
    segments: int
    size: int
    resident: int | None


def start(program: Program, *, binds_now: bool = False) -> Start:
    """Run to the end, from posix_spawn(3), which copies no page tables, to wait4(2).

    With `binds_now` every symbol is bound at the start, as in programs linked with `-z now`, which are all of nixpkgs'.
    """
    null = [(os.POSIX_SPAWN_OPEN, each, os.devnull, os.O_RDWR, 0) for each in (0, 1, 2)]
    argv = [str(program.path), *program.ends]
    environ = {"LC_ALL": "C"} | ({"LD_BIND_NOW": "1"} if binds_now else {})
    begin = time.perf_counter()
    process = os.posix_spawn(program.path, argv, environ, file_actions=null)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begin
    assert status == 0, f"{argv} ended with {os.waitstatus_to_exitcode(status)}"
    return Start(seconds, usage.ru_minflt)


def fixed(program: Program, copies: int) -> Fixed:
    files = [*closure(program.loader, program.path).files, str(program.path)]
    return Fixed(
        _mmaps(program),
        failing_opens(program.loader, program.path),
        sum(segments(path) for path in files),
        sum(os.stat(path).st_size for path in files),
        None if program.waits is None else resident(program.path, program.waits, copies),
    )


def segments(path: str) -> int:
    """The PT_LOADs of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return sum(segment.type == PT_LOAD for segment in Image(descriptor).segments)
    finally:
        os.close(descriptor)


def _mmaps(program: Program) -> int:
    argv: list[str | Path] = [
        "strace",
        "-qq",
        "-o",
        "/dev/stderr",
        "-e",
        "trace=mmap",
        "-e",
        "signal=none",
        "--",
        program.path,
    ]
    done = subprocess.run(
        [*argv, *program.ends], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, env=_environ()
    )
    return sum(line.startswith(b"mmap(") for line in done.stderr.splitlines())


def resident(path: Path, waits: Sequence[str], copies: int) -> int:
    processes = [
        subprocess.Popen(
            [path, *waits],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environ(),
        )
        for _ in range(copies)
    ]
    try:
        _settle([process.pid for process in processes])
        assert all(process.poll() is None for process in processes), f"{path} does not wait"
        return sum(_proportional(process.pid) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _settle(processes: Sequence[int]) -> None:
    """Wait until none of them has used the processor for a while."""
    used = None
    while (now := [_ticks(process) for process in processes]) != used:
        used = now
        time.sleep(SETTLED)


def _ticks(process: int) -> tuple[str, ...]:
    """utime and stime of proc_pid_stat(5)."""
    return tuple(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13])


def _proportional(process: int) -> int:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith(PSS):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel says no Pss")


def _environ() -> dict[str, str]:
    return {"LC_ALL": "C", "PATH": os.environ["PATH"]}
