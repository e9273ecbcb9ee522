"""Runs within the limits of time and memory that one file of an output may cost."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from faults.fuzz import MEMORY, SECONDS
from support.store import REPOSITORY, Package

READ = """
import sys
from nix_harden.reading.elf import read_contents, read_loadable, read_object, read_stale
from nix_harden.errors import MalformedElf
for path in sys.argv[1:]:
    for read in (read_object, read_contents, read_loadable, lambda path: read_stale(path, "/nix/store")):
        try:
            read(path)
        except MalformedElf:
            pass
"""


def limited(words: list[str], environ: dict[str, str] | None = None) -> str:
    """Run a program within the limits, and some time to start; what it says."""
    began = time.monotonic()
    done = subprocess.run(
        words,
        cwd=REPOSITORY,
        env=environ,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    took = time.monotonic() - began
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of nix-harden" not in done.stderr, done.stderr
    assert took < SECONDS + 1, f"took {took:.1f} s"
    return done.stderr


def read_within(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    limited([sys.executable, "-c", READ, str(path)])


def harden(it: Package, *outputs: Package) -> str:
    words = [word for output in (it, *outputs) for word in ("--output", f"{output.path.name[33:]}={output.path}")]
    return limited([sys.executable, "-m", "nix_harden", "fixup", *words, "--jobs", "1"], it.store.environ)
