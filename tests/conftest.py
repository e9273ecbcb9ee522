"""The fixtures that tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import glibc
from support.store import Store


@pytest.fixture(scope="session")
def glibc_template() -> Iterator[Path]:
    """A glibc to be linked into each test's store; each worker makes its own."""
    top = glibc.make()
    yield top
    shutil.rmtree(top)


@pytest.fixture
def store(tmp_path: Path, glibc_template: Path) -> Store:
    return Store.create(tmp_path / "store", glibc_template)
