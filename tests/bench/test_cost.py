"""The benchmark of the hook's cost works, and what is counted rather than timed is as docs/performance.md says."""

import re
import subprocess
import sys

import pytest
from support.store import REPOSITORY


@pytest.fixture(scope="module")
def said() -> str:
    argv = [sys.executable, "tests/bench/cost.py", "--quick"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_few_dozen_files_take_little_memory(said: str) -> None:
    """The rows of an ELF-free derivation, of many files and of a large one are there; no more than 40 MiB were used."""
    assert "no ELF file, × python3 -c pass" in said
    assert re.search(r"one name in 8 MiB on ", said)
    peaks = [int(peak) for peak in re.findall(r"\d+: (\d+) MiB", said)]
    assert len(peaks) == 2
    assert max(peaks) < 40
