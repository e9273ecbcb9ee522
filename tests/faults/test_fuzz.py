"""Read, plan and read again: mutated files lead to an answer or a named error, in 2 seconds and 256 MiB."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.store import REPOSITORY

INPUTS = 1_000_000 if "NIX_HARDEN_TORTURE" in os.environ else 6_000
SLICE = 50_000  # inputs of one process, the memory of which is limited
GUIDED = 100_000


def fuzz(module: str, inputs: int, number: int, finds: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, str(inputs), str(number), str(finds)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/tests:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = done.stdout[-2000:]
    assert done.returncode == 0, f"{said}\nwhat was found is in {finds}"
    return said


@pytest.mark.parametrize("half", range(2))
def test_mutated_files(tmp_path: Path, half: int, record_property: Callable[[str, object], None]) -> None:
    """Half of them in each of two tests, so that both processors have something to do."""
    done = 0
    while done < INPUTS // 2:
        inputs = min(SLICE, INPUTS // 2 - done)
        said = fuzz("faults.fuzz", inputs, 1000 * half + done // SLICE, tmp_path / "finds")
        assert re.search(r"'planned': \d{2}", said)
        assert re.search(r"'replaced': \d{3}", said)
        done += inputs
    record_property("mutated files", done)


def guided_by_coverage(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    said = fuzz("faults.guided", GUIDED, 1, tmp_path / "finds")
    assert f"{GUIDED} guided inputs" in said
    assert "finds: none" in said, f"{said}\nwhat was found is in {tmp_path}/finds"
    record_property("mutated files, guided by coverage", GUIDED)


# It takes minutes and needs atheris, which `make torture` installs.
if "NIX_HARDEN_TORTURE" in os.environ:
    test_files_that_coverage_leads_to = guided_by_coverage
