"""The demo ends well, and its table is as the README has it."""

import re
import subprocess
import sys

import pytest
from support.store import REPOSITORY

pytestmark = pytest.mark.xdist_group("debian order")


def test_demo() -> None:
    """Nothing is looked up in vain in any of the three ways, next to no symbol by what is prelinked, and every output is the same."""
    argv = [sys.executable, "tests/real/demo.py"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 outputs differ" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.endswith("same")]
    assert [row[0] for row in rows] == ["app", "file", "sqlite3", "git", "ruby3.1", "convert-im6.q16"]
    for row in rows[1:]:
        ways = re.findall(r"(\d+) (\d+) [\d.]+ ms", " ".join(row))
        assert len(ways) == 4
        (vain, symbols), *others = ((int(one), int(other)) for one, other in ways)
        assert vain > 20
        assert {each for each, _ in others} == {0}
        assert others[2][1] < symbols
