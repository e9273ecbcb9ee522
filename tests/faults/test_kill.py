"""Write: killed at random moments, each file is the whole old or the whole new one, and a second run finishes."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from faults.outputs import WHERE, Written, scratch, written
from support.store import REPOSITORY, Store

RUNS = 500 if "NIX_HARDEN_TORTURE" in os.environ else 12


def start(it: Written) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        it.program("nix_harden"), cwd=REPOSITORY, env=it.environ, stderr=subprocess.DEVNULL, start_new_session=True
    )


def end(process: "subprocess.Popen[bytes]", *, all_of_it: bool) -> None:
    """Kill the program, with its patchelfs as the end of a build does or alone; then wait for all of them."""
    if all_of_it:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.005)


@pytest.mark.parametrize("where", WHERE)
def test_killed_at_random_moments(store: Store, where: str, record_property: Callable[[str, object], None]) -> None:
    chance = random.Random(where)
    amid = 0
    with scratch(store, where) as tmpdir:
        it = written(store, tmpdir, programs=8)
        began = time.monotonic()
        assert start(it).wait() == 0
        whole = time.monotonic() - began
        for run in range(RUNS // 2):
            it.restore()
            process = start(it)
            time.sleep(whole * chance.uniform(0.3, 1))
            end(process, all_of_it=bool(run % 2))
            new = it.check(leftovers=where == WHERE[1])
            amid += 0 < new < len(it.old)
            it.finish()
    assert amid > 20 or RUNS < 500
    record_property(f"runs killed, copies {where}", RUNS // 2)
    record_property(f"of them amid the files, copies {where}", amid)
