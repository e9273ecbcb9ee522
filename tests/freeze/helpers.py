"""Freeze a program as a user would, and ask its loader what it then maps."""

import os
import re
import subprocess
from pathlib import Path

from support.store import Hardened, Package, Store
from support.trace import Run, run

LISTED = re.compile(r"\t(?:.* => )?(/.*) \(0x[0-9a-f]+\)")
BINDING = re.compile(r"^ *\d+:\t(binding file .*)$", re.MULTILINE)


def freeze(store: Store, program: Path, out: Path, *options: str | Path, status: int = 0) -> Hardened:
    return store.call("freeze", program, "-o", out, *options, status=status)


def refused(store: Store, program: Path, *options: str | Path) -> str:
    """The sentence of a refusal, after which there is nothing new in the directory of OUT."""
    out = store.path / "out" / "frozen"
    out.parent.mkdir(exist_ok=True)
    before = sorted(out.parent.iterdir())
    done = freeze(store, program, out, *options, status=1)
    assert sorted(out.parent.iterdir()) == before
    assert done.out == ""
    (line,) = done.err.splitlines()
    return line


def listing(program: Path) -> list[str]:
    """The files that the loader maps, by the paths under which it opened them, in its order."""
    done = subprocess.run([program], env={"LD_TRACE_LOADED_OBJECTS": "1"}, capture_output=True, text=True, check=True)
    return [match[1] for line in done.stdout.splitlines() if (match := LISTED.fullmatch(line))]


def bindings(program: Path, called: Path) -> set[str]:
    """What the loader says of every symbol that it binds before and while the program runs, with `called` for its name."""
    environ = {"LD_DEBUG": "bindings", "LD_BIND_NOW": "1"}
    done = subprocess.run([program], env=environ, capture_output=True, text=True, check=False)
    return set(BINDING.findall(done.stderr.replace(str(program), str(called))))


def loaders_misses(ran: Run) -> list[str]:
    """The libraries that were looked for in vain."""
    return [path for path in ran.misses if ".so" in os.path.basename(path) or "hwcaps" in path]


def frozen(store: Store, program: Path, *options: str | Path) -> Path:
    """The frozen copy of a program that says the same and searches for nothing."""
    out = store.package("frozen").bin / program.name
    out.parent.mkdir(exist_ok=True)
    freeze(store, program, out, *options)
    before, after = run(program), run(out)
    assert after.said == before.said
    assert loaders_misses(after) == []
    return out


__all__ = ["Package", "bindings", "freeze", "frozen", "listing", "loaders_misses", "refused", "run"]
