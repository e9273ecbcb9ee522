"""Start a program and stop it at its first own instruction: after its loader is done, before anything of the program's `main`.

The kernel holds the program at its exec; a breakpoint instruction is written over its entry point (AT_ENTRY, getauxval(3)), in memory
alone; where the program arrives there, it is stopped and then killed. This is the same for every loader, and for programs without one:
what runs is the loader and, with glibc, the constructors of libraries. `ptrace` below is that of ptrace(2).
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, NoReturn

from nix_harden.errors import ToolError

SECONDS = 60.0  # no start takes as long; a constructor that waits for something may
PATIENCE = 5.0  # with a program that is asked to end
PTRACE_TRACEME, PTRACE_CONT, PTRACE_DETACH, PTRACE_SETOPTIONS = 0, 7, 17, 0x4200
PTRACE_O_EXITKILL = 0x100000
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
AT_BASE, AT_ENTRY = 7, 9
# A dump of what is killed on purpose is of no use, and 1 says so to those who pipe it into a program as well (core(5), fs/coredump.c).
NO_CORE = 1
TRAPS = {  # the breakpoint instruction by machine, in the byte order of instructions
    "EM_386": b"\xcc",
    "EM_X86_64": b"\xcc",
    "EM_AARCH64": b"\x00\x00\x20\xd4",
    "EM_ARM": b"\xf0\x01\xf0\xe7",
    "EM_RISCV": b"\x73\x00\x10\x00",
    "EM_LOONGARCH": b"\x00\x00\x2a\x00",
    "EM_S390": b"\x00\x01",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """The seconds that passed, and those that a processor worked for the process; None where the kernel does not say."""

    seconds: float
    processor: float | None


@dataclass(frozen=True, slots=True)
class Process:
    """A program that is held right after its exec, with the trap at its entry.

    `loader` are the addresses, from and to, that its loader is mapped at; None for a program without.
    """

    pid: int
    image: str
    loader: tuple[int, int] | None
    output: IO[bytes]

    def run(self) -> Spent:
        """Let it run to its entry; what that took. Raises ToolError where it does not come there."""
        before = _processor(self.pid)
        begin = time.perf_counter()
        status = _continue(self.pid, 0)
        while os.WIFSTOPPED(status) and os.WSTOPSIG(status) != signal.SIGTRAP:
            status = _continue(self.pid, os.WSTOPSIG(status))
        seconds = time.perf_counter() - begin
        if not os.WIFSTOPPED(status):
            self.fail(status)
        after = _processor(self.pid)
        return Spent(seconds, None if before is None or after is None else after - before)

    def release(self) -> None:
        """Leave it stopped, for another tracer to attach to; it goes on at SIGCONT, and dies of its trap."""
        _ptrace(PTRACE_DETACH, self.pid, signal.SIGSTOP)

    def wait(self) -> None:
        """After `release`: wait for its death at its entry. Raises ToolError where it ends in another way."""
        _, status = os.waitpid(self.pid, 0)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTRAP):
            self.fail(status)

    def end(self, seconds: float | None) -> tuple[int, bool]:
        """After `release`: wait for its end, and answer its status as a shell has it and whether that was not its own wish.

        What takes longer than `seconds` gets SIGTERM, and where that does not help SIGKILL. The keys of a terminal are for it alone.
        """
        timers = [
            threading.Timer(seconds + more, _kill, [self.pid, number])
            for more, number in ((0.0, signal.SIGTERM), (PATIENCE, signal.SIGKILL))
            if seconds is not None
        ]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for timer in timers:
                timer.start()
            _, status = os.waitpid(self.pid, 0)
        finally:
            signal.signal(signal.SIGINT, before)
            for timer in timers:
                timer.cancel()
        late = bool(timers) and not timers[0].is_alive()
        code = os.waitstatus_to_exitcode(status)
        return (code if code >= 0 else 128 - code), late

    def fail(self, status: int) -> NoReturn:
        """Raise ToolError with how the program ended, which was not to end yet, and the last line that it printed."""
        raise ToolError(self.image, f"did not come to its own first instruction: {_ended(status, self.output)}")


@contextlib.contextmanager
def hold(argv: Sequence[str], program: str, image: str, machine: str, environ: Mapping[str, str]) -> Iterator[Process]:
    """Start `program` with `argv`, and hold its process once it has become `image`, a real path, by as many execs as that takes.

    What it prints is kept from everybody but the words of an error; it reads from /dev/null. `machine` is the name of e_machine. At
    the end of the context it is killed. Raises ToolError where it ends before.
    """
    if machine not in TRAPS:
        raise ToolError(image, f"no breakpoint instruction is known for {machine.removeprefix('EM_')}")
    with tempfile.TemporaryFile() as output, open(os.devnull, "rb") as nothing:
        streams = (nothing.fileno(), output.fileno(), output.fileno())
        with _started(argv, program, image, environ, streams=streams, output=output) as pid:
            timer = threading.Timer(SECONDS, _kill, [pid])
            timer.daemon = True
            timer.start()
            try:
                yield _set_trap(pid, image, TRAPS[machine], output)
            finally:
                timer.cancel()


@contextlib.contextmanager
def hold_for_good(argv: Sequence[str], program: str, image: str) -> Iterator[Process]:
    """As `hold`, without a trap: once it goes on it runs to its own end. It reads what this process reads, and prints to standard error."""
    with (
        tempfile.TemporaryFile() as output,
        _started(argv, program, image, os.environ, streams=(0, 2, 2), output=output) as pid,
    ):
        yield Process(pid, image, _loader(pid), output)


@contextlib.contextmanager
def _started(
    argv: Sequence[str],
    program: str,
    image: str,
    environ: Mapping[str, str],
    *,
    streams: tuple[int, int, int],
    output: IO[bytes],
) -> Iterator[int]:
    """A process that is stopped where it has become `image`; at the end of the context it is killed."""
    pid = os.fork()
    if not pid:
        _become(argv, program, environ, streams)
    timer = threading.Timer(SECONDS, _kill, [pid])
    timer.daemon = True
    timer.start()
    try:
        _, status = os.waitpid(pid, 0)
        if os.WIFSTOPPED(status):
            _ptrace(PTRACE_SETOPTIONS, pid, PTRACE_O_EXITKILL)
        while not (os.WIFSTOPPED(status) and os.path.realpath(f"/proc/{pid}/exe") == image):
            if not os.WIFSTOPPED(status):
                raise ToolError(program, f"ended before it became {image}: {_ended(status, output)}")
            # The SIGTRAP of an exec is for the tracer, and not handed on. It is asked for no event instead (PTRACE_O_TRACEEXEC),
            # from whose stop a process cannot be left stopped.
            number = os.WSTOPSIG(status)
            status = _continue(pid, 0 if number == signal.SIGTRAP else number)
        timer.cancel()
        yield pid
    finally:
        timer.cancel()
        _kill(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _become(argv: Sequence[str], program: str, environ: Mapping[str, str], streams: tuple[int, int, int]) -> NoReturn:
    """In the child: be traced by its parent, and become the program."""
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # Yama (ptrace_scope 1) lets ancestors trace alone, and the next tracer is none; without Yama there is no such call.
        LIBC.prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
        _ptrace(PTRACE_TRACEME, 0, 0)
        os.execve(program, tuple(argv), environ)
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
    finally:
        os._exit(127)


def _auxiliary(pid: int) -> dict[int, int]:
    """The auxiliary vector of a process (getauxval(3))."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        data = file.read()
    with open(f"/proc/{pid}/exe", "rb") as file:
        words = struct.Struct("=II" if file.read(5)[4] == 1 else "=QQ")
    return dict(words.iter_unpack(data))


def _loader(pid: int) -> tuple[int, int] | None:
    """The addresses that the loader of a process is mapped at; None where it has none."""
    base = _auxiliary(pid).get(AT_BASE, 0)
    return (base, _end(pid, base)) if base else None


def _set_trap(pid: int, image: str, trap: bytes, output: IO[bytes]) -> Process:
    _, most = resource.prlimit(pid, resource.RLIMIT_CORE)
    resource.prlimit(pid, resource.RLIMIT_CORE, (min(NO_CORE, most) if most >= 0 else NO_CORE, most))
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(_auxiliary(pid)[AT_ENTRY])
        memory.write(trap)
    return Process(pid, image, _loader(pid), output)


def _end(pid: int, base: int) -> int:
    """Where the mappings of the file that is mapped at `base` end (proc_pid_maps(5))."""
    with open(f"/proc/{pid}/maps", "rb") as file:
        rows = [line.split(None, 5) for line in file]
    ranges = [(*(int(end, 16) for end in row[0].split(b"-")),) for row in rows]
    files = [row[3:5] for row in rows]  # device and inode
    mine = next(file for range_, file in zip(ranges, files, strict=True) if range_[0] == base)
    return max(range_[1] for range_, file in zip(ranges, files, strict=True) if file == mine)


def _processor(pid: int) -> float | None:
    """The seconds that a process has been on a processor (Linux, Documentation/scheduler/sched-stats.rst)."""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except FileNotFoundError:
        return None


def _continue(pid: int, number: int) -> int:
    _ptrace(PTRACE_CONT, pid, number)
    return os.waitpid(pid, 0)[1]


def _ptrace(request: int, pid: int, data: int) -> None:
    if LIBC.ptrace(request, pid, None, data) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace: {os.strerror(error)}")


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _ended(status: int, output: IO[bytes]) -> str:
    output.seek(0)
    words = os.fsdecode(output.read()).strip().splitlines()
    if os.WIFSIGNALED(status):
        killed = os.WTERMSIG(status) == signal.SIGKILL
        how = f"it took more than {SECONDS:.0f} seconds" if killed else f"killed by signal {os.WTERMSIG(status)}"
    else:
        how = f"it ended with status {os.WEXITSTATUS(status)}"
    return f"{how}: {words[-1]}" if words else how


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    return libc


LIBC = _libc()
