"""The benchmark of freezing works, and what does not vary is as docs/freeze.md says; times are not for a test."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from bench.freeze import Way
from support.store import REPOSITORY


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Each way's figures for curl."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    argv = [sys.executable, "tests/bench/freeze.py", "--only", "curl", "--rounds", "1", "--json", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())["curl"]
    assert "| `curl` | before |" in done.stdout
    return found


def test_frozen_programs_do_the_same_and_search_for_nothing(rows: Mapping[str, Any]) -> None:
    before = rows[Way.BEFORE.name.lower()]
    assert before["opens"] > 300
    assert before["libraries"] > 25
    for way in (Way.LIFT, Way.CLOSURE, Way.RELATIVE):
        row = rows[way.name.lower()]
        assert (row["output"], row["opens"], row["libraries"]) == ("same", 0, before["libraries"])
    assert rows[Way.LIFT.name.lower()]["size"] < 1 << 20 < rows[Way.CLOSURE.name.lower()]["size"]
