"""Work is shared among processes, and what goes wrong in one of them is not lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nix_harden.errors import ToolError, WriteError
from nix_harden.fixup.workers import share

ITEMS = range(40)


def test_answers_keep_the_order_of_the_items() -> None:
    assert share(lambda item: item * 2, ITEMS, 3) == [item * 2 for item in ITEMS]


def test_every_process_works() -> None:
    assert len(set(share(lambda _: os.getpid(), ITEMS, 3))) == 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_few_items_are_done_by_this_process(jobs: int) -> None:
    assert set(share(lambda _: os.getpid(), range(3), jobs)) == {os.getpid()}


@pytest.mark.parametrize("item", [0, 1, 2])
def test_what_one_of_them_raises_is_raised(item: int) -> None:
    def work(each: int) -> None:
        if each == item:
            raise WriteError("a", "b", ("c",))

    with pytest.raises(WriteError) as caught:
        share(work, ITEMS, 3)
    assert (caught.value.path, caught.value.problem, caught.value.replaced) == ("a", "b", ("c",))


def test_one_that_is_killed_is_an_error() -> None:
    """As when memory runs out."""
    first = os.getpid()

    def work(_: int) -> None:
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ToolError, match="ended with status -9; run again"):
        share(work, ITEMS, 2)


def test_none_outlives_the_first(tmp_path: Path) -> None:
    """Killed, it leaves nobody who goes on writing."""
    script = f"""
import os, time
from nix_harden.fixup.workers import share
def work(_):
    open({str(tmp_path)!r} + "/" + str(os.getpid()), "w").close()
    time.sleep(60)
share(work, range(40), 3)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        process.kill()
    until = time.monotonic() + 20
    pids = [path.name for path in tmp_path.iterdir()]
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.01)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
