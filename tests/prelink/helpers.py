"""Prelink a program of a test's store, run it, and see who bound its symbols."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.schema import check
from support.store import Store, Words

INTERFACE = 9  # the functions that ld.so looks up in an audit module
COUNTED = re.compile(r"number of relocations: (\d+)")


@dataclass(frozen=True)
class Ran:
    """What a program did."""

    status: int
    out: str
    err: str


def prelink(store: Store, program: Path, *options: str, environ: Mapping[str, str] | None = None) -> Path:
    """The prelinked copy of a program, in a directory beside its own; what was said of it is what schemas/prelink.json says."""
    out = store.path / "prelinked" / program.name
    told = check("prelink", store.call("prelink", program, "-o", out, "--json", *options, environ=environ).out)
    assert told["proof"]["words"] > 0
    seen = check("prelink", store.call("prelink", "--check", "--json", out, environ=environ).out)
    assert (seen["fits"], seen["at_work"], seen["differences"]) == (True, True, [])
    assert out.with_name(f"{out.name}.prelink.so").is_file()
    return out


def refused(store: Store, program: Path) -> str:
    """What is said where nothing is written."""
    out = store.path / "prelinked" / program.name
    said = store.call("prelink", program, "-o", out, status=1).err
    assert "nothing was written" in said
    assert not out.parent.exists()
    return said


def run(*words: Words, environ: Mapping[str, str] | None = None) -> Ran:
    done = subprocess.run(
        words, env={"LC_ALL": "C", **(environ or {})}, capture_output=True, text=True, check=False, cwd="/"
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def lookups(*words: Words, environ: Mapping[str, str] | None = None) -> int:
    """How many symbols ld.so looked up before the program began (ld.so(8), LD_DEBUG=statistics)."""
    said = run(*words, environ={**(environ or {}), "LD_DEBUG": "statistics"}).err
    counted = COUNTED.search(said)
    assert counted, said
    return int(counted[1])


def is_at_work(program: Path, source: Path, environ: Mapping[str, str] | None = None) -> bool:
    """Whether ld.so looked up fewer symbols for a program than for that which it was made from; never more."""
    before, now = (lookups(each, environ=environ) for each in (source, program))
    assert now < before or now in (before, before + INTERFACE), (before, now)
    return now < before


def assert_same(program: Path, source: Path) -> None:
    """The module is at work, and the program does what it did, lazily bound or not."""
    for environ in ({}, {"LD_BIND_NOW": "1"}):
        assert run(program, environ=environ) == run(source, environ=environ)
        assert is_at_work(program, source, environ)


def assert_out_of_the_way(program: Path, source: Path, environ: Mapping[str, str]) -> None:
    """Under these variables ld.so does for the program what it does for that which it was made from."""
    now, before = (run(each, environ=environ) for each in (program, source))
    assert (now.status, now.out, os.path.basename(now.err)) == (before.status, before.out, os.path.basename(before.err))
    assert not is_at_work(program, source, environ)
