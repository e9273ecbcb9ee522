"""The benchmark of starts works, and what does not vary is as docs/performance.md says; times are not for a test."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from bench.startup import QUICK
from bench.ways import Way
from support.store import REPOSITORY


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Each way's figures for a small closure; every start of every way ended well."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    argv = [sys.executable, "tests/bench/startup.py", "--quick", "--rounds", "1", "--json", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    assert all(each["name"] in done.stdout for each in found["targets"])
    ways: dict[str, Any] = found["closures"][QUICK[0]]
    return ways


def test_what_is_bound_searches_for_nothing(rows: Mapping[str, Any]) -> None:
    """Every way but the unhardened one and that of the original hook, which leaves names bare."""
    opens = {way: rows[way.value]["fixed"]["opens"] for way in Way}
    assert opens[Way.SEARCHING] > opens[Way.SONAME] > 0
    assert {number for way, number in opens.items() if way not in (Way.SEARCHING, Way.SONAME)} == {0}


def test_in_place_nothing_is_added(rows: Mapping[str, Any]) -> None:
    """No byte, no segment and no mmap more than the unhardened files of the same link; patchelf adds all three."""
    before, placed, patched = (rows[way.value]["fixed"] for way in (Way.SEARCHING, Way.IN_PLACE, Way.PATCHELF))
    assert placed["size"] == before["size"]
    assert placed["segments"] == before["segments"] < patched["segments"]
    assert placed["mmaps"] <= before["mmaps"] < patched["mmaps"]


def test_an_unknown_closure_is_a_sentence() -> None:
    argv = [sys.executable, "tests/bench/startup.py", "--only", "nonsense"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 2
    assert "nonsense: no closure; they are 50 libraries" in done.stderr
    assert "Traceback" not in done.stderr
