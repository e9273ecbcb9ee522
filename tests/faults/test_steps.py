"""Write: whatever fails or ends the run at any one step, each file is the whole old or the whole new one, and a second run finishes."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from faults.outputs import WHERE, Written, files, scratch, written
from support.store import REPOSITORY, Store

PAST_THE_LAST = 10_000
FAULTS = ["kill", "ENOSPC", *(["EROFS", "EIO", "EACCES", "ENOMEM"] if "NIX_HARDEN_TORTURE" in os.environ else [])]


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped at a step: its status, its words, and the steps that it made."""

    status: int
    words: str
    steps: list[str]


@contextmanager
def runs(it: Written) -> Iterator[Callable[[int, str], Stopped]]:
    """What makes a run that is stopped at a step by a fault."""
    with subprocess.Popen(
        [*it.program("faults.step"), "--jobs", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env=it.environ,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def run(step: int, fault: str) -> Stopped:
            print(step, fault, file=questions, flush=True)
            return Stopped(**json.loads(answers.readline()))

        yield run
        questions.close()


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_step(store: Store, where: str, fault: str, record_property: Callable[[str, object], None]) -> None:
    with scratch(store, where) as tmpdir:
        it = written(store, tmpdir, programs=1, links=True)
        with runs(it) as run:
            whole = run(PAST_THE_LAST, fault)
            assert whole.status == 0
            for step, name in enumerate(whole.steps, 1):
                it.restore()
                stopped = run(step, fault)
                assert stopped.steps[:step] == whole.steps[:step]
                assert "Traceback" not in stopped.words
                assert "fault of nix-harden" not in stopped.words
                # what cannot be deleted stays; beside the outputs, the end of a run finds the copies in TMPDIR
                it.check(leftovers=where == WHERE[1] and (fault == "kill" or name == "os.remove"))
                if fault == "kill":
                    assert stopped.status == -9
                assert run(PAST_THE_LAST, fault).status == 0
                assert files(it.package) == it.new
        record_property(f"steps at which a run was stopped by {fault}", len(whole.steps))
