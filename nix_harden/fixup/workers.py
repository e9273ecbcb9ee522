"""Share work among processes: Python runs one thread at a time, and what is done to a file is half Python."""

import ctypes
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from nix_harden.errors import ToolError

T = TypeVar("T")
R = TypeVar("R")

PR_SET_PDEATHSIG = 1  # prctl(2)
FEW = 4  # for fewer items a process more costs more than it saves


def share(work: Callable[[T], R], items: Sequence[T], jobs: int) -> list[R]:
    """What `work` answers for each item, in their order, by at most `jobs` processes, of which this one is the first.

    The others are forks that end with this process, however it ends. What `work` raises is raised here, once all others have come to
    their end. Answers are pickled. Raises ToolError where a process is killed.
    """
    number = max(1, min(jobs, len(items) // FEW))
    others = [_start(work, items[place::number]) for place in range(1, number)]
    answers: list[list[R]] = [[]] * number
    failures: list[BaseException] = []
    try:
        answers[0] = [work(item) for item in items[::number]]
    except BaseException as error:
        failures.append(error)
        for process, _ in others:
            os.kill(process, signal.SIGINT)
    for place, (process, pipe) in enumerate(others, 1):
        with os.fdopen(pipe, "rb") as file:
            data = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status:
            failures.append(ToolError("a process of nix-harden", f"ended with status {status}; run again"))
            continue
        found = pickle.loads(data)
        if isinstance(found, BaseException):
            failures.append(found)
        else:
            answers[place] = found
    if failures:
        raise failures[0]
    return [answers[index % number][index // number] for index in range(len(items))]


def _start(work: Callable[[T], R], items: Sequence[T]) -> tuple[int, int]:
    """A fork at work, and the pipe where its answers will be: a list, or what was raised."""
    parent = os.getpid()
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            found: list[R] | Exception
            try:
                found = [work(item) for item in items]
            except Exception as error:
                found = error
            with os.fdopen(writing, "wb") as file:
                pickle.dump(found, file)
            status = 0
    finally:
        os._exit(status)
