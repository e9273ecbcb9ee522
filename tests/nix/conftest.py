"""Real Nix: one configuration for every test here, and the expressions that they build."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.nix import environment

ROOT = Path(__file__).parents[2]
Nix = Callable[..., str]


@pytest.fixture(scope="session")
def nix() -> Nix:
    """Run a Nix command in the checkout and answer with its standard output; its log is shown where it fails."""

    def run(*words: str, root: Path = ROOT, fails: bool = False) -> str:
        done = subprocess.run(words, cwd=root, env=environment(), capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{' '.join(words)}\n{done.stderr[-20_000:]}"
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture(scope="session")
def clean_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would hand to somebody else: tracked files and new ones that are not ignored."""
    top = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [
        name for name in listed.stdout.split(b"\0") if name and os.path.lexists(os.path.join(os.fsencode(ROOT), name))
    ]
    archive = subprocess.run(
        ["tar", "-c", "--null", "--files-from=-"], cwd=ROOT, input=b"\0".join(names), capture_output=True, check=True
    )
    subprocess.run(["tar", "-x"], cwd=top, input=archive.stdout, check=True)
    return top
