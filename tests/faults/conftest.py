"""Stores for all users, and the counts at the end: how often each fault was made, whichever worker did it."""

import collections
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.store import Store


@pytest.fixture
def open_store(glibc_template: Path) -> Iterator[Store]:
    """A store below a directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Store.create(Path(directory) / "store", glibc_template)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.getreports("passed"):
        if "/faults/" in report.nodeid:
            for name, value in report.user_properties:
                counts[name] += int(str(value))
    for name, value in counts.items():
        terminalreporter.write_line(f"{name}: {value}")
