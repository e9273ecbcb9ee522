"""Run other programs, and what their processes may; the only importer of subprocess."""

import os
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from nix_harden.errors import ToolError

CAPABILITIES = "security.capability"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said, whatever its status."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Output:
    """What a program wrote, in bytes, whatever its status."""

    status: int
    out: bytes
    err: bytes


def ask(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Answer:
    """As `collect`, in text."""
    done = collect(argv, environ, seconds)
    return Answer(done.status, os.fsdecode(done.out), os.fsdecode(done.err))


def collect(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Output:
    """Run a program from the root directory with these variables alone.

    Raises ToolError where it cannot be started or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"LC_ALL": "C"} | dict(environ),
            cwd="/",
            timeout=seconds,
            check=False,
        )
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(argv[0], f"did not answer within {seconds:.0f} seconds") from error
    return Output(done.returncode, done.stdout, done.stderr)


def feed(argv: Sequence[str], data: bytes, seconds: float) -> bytes:
    """What a program makes of its standard input, on its standard output.

    Raises ToolError with the first line that it said where it cannot be started, fails or takes longer than `seconds`.
    """
    try:
        done = subprocess.run(
            argv, input=data, capture_output=True, env=os.environ | {"LC_ALL": "C"}, timeout=seconds, check=False
        )
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(argv[0], f"did not end within {seconds:.0f} seconds") from error
    if done.returncode:
        words = os.fsdecode(done.stderr).strip().splitlines()
        raise ToolError(argv[0], f"failed with status {done.returncode}: {words[0] if words else 'it said nothing'}")
    return done.stdout


def show(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[int, int]:
    """Run a program for the user to see, with more variables, and answer its status, negative for a signal, and its process id.

    It reads this process's standard input; all that it prints goes to standard error. Raises ToolError where it cannot be started.
    """
    try:
        with subprocess.Popen(argv, stdout=sys.stderr.fileno(), env=os.environ | dict(environ)) as process:
            return process.wait(), process.pid
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error


def run(argv: Sequence[str]) -> str:
    """The standard output of a program that ends with status 0, run without a shell in the C locale.

    Raises ToolError with the last line that it printed where it cannot be started or fails.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error
    if done.returncode:
        how = (
            f"was killed by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed with status {done.returncode}"
        )
        words = os.fsdecode(done.stderr).strip().splitlines()
        raise ToolError(argv[0], f"{how} on {argv[-1]}: {words[-1] if words else 'it said nothing'}", done.returncode)
    return os.fsdecode(done.stdout)


@dataclass(frozen=True, slots=True)
class Beside:
    """A program that goes on running while this one does something."""

    tool: str
    running: "subprocess.Popen[bytes]"
    said: "deque[bytes]"
    reader: threading.Thread

    def end(self) -> None:
        """Wait for its end. Raises ToolError where it fails."""
        status = self.running.wait()
        self.reader.join()
        if status:
            raise _failed(self.tool, os.fsdecode(b"".join(self.said)))

    def stop(self, seconds: float) -> None:
        """Give it that long to end by itself, then ask it to."""
        try:
            self.running.wait(seconds)
        except subprocess.TimeoutExpired:
            self.running.terminate()
            self.running.wait()
        self.reader.join()


def start_beside(argv: Sequence[str], ready: str) -> Beside:
    """Start a program, and go on once it has said, on standard error, a line that holds `ready`. No key of a terminal ends it.

    Raises ToolError, with its last line, where it cannot be started or ends without having said it.
    """
    try:
        running = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            process_group=0,
        )
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error
    assert running.stderr is not None
    said = ""
    while line := os.fsdecode(running.stderr.readline()):
        said = line
        if ready in line:
            return _beside(argv[0], running, running.stderr)
    running.communicate()
    raise _failed(argv[0], said)


def _beside(tool: str, running: "subprocess.Popen[bytes]", err: IO[bytes]) -> Beside:
    """What is running, with somebody to hear what it says, so that it never waits for that."""
    said: deque[bytes] = deque(maxlen=1)

    def hear() -> None:
        with err:
            said.extend(err)

    reader = threading.Thread(target=hear, daemon=True)
    reader.start()
    return Beside(tool, running, said, reader)


def _failed(tool: str, said: str) -> ToolError:
    words = said.strip().splitlines()
    return ToolError(tool, f"failed: {words[-1] if words else 'it said nothing'}")


def privilege(file: str | int, status: os.stat_result) -> str | None:
    """What gives the process of a program more than whoever starts it has, None where nothing does."""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "set-user-ID or set-group-ID"
    if CAPABILITIES in os.listxattr(file):
        return "given capabilities (capabilities(7))"
    return None
