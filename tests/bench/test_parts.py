"""The benchmarks of parts work, and what is counted rather than timed is as docs/parts.md says."""

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.store import BOTH, CHUNKS, EXPRESSION, FILE, PARTS, PLACELESS, State, fresh, looked_at, table
from support import nix
from support.source import function
from support.store import REPOSITORY, Store


def test_starts_and_memory() -> None:
    argv = [sys.executable, "tests/bench/parts.py", "--quick", "--rounds", "3"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    *_, row = done.stdout.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "hello"
    faults, of_parts = map(int, cells[4:6])
    assert faults < of_parts < faults + 40


def states(store: Store) -> tuple[State, State]:
    """Two libraries of which one has another constant afterwards, and one is on other pages of memory."""

    def state(name: str, constant: int, page: str) -> State:
        package = store.package(name)
        text = "".join(function(f"f{number}", number) for number in range(2000))
        flags = ["-Wl,--build-id=none", f"-Wl,-z,max-page-size={page}"]
        return State(
            {
                "a": package.library("liba.so.1", text + function("a", constant), flags=flags[:1]),
                "b": package.library("libb.so.1", text + "char data[40000] = {1};", flags=flags),
                "c": package.library("libc.so.1", function("c", 1), flags=flags[:1]),
            }
        )

    return state("old", 1, "0x1000"), state("new", 2, "0x10000")


def test_what_is_kept_once(store: Store) -> None:
    """A file that is the same costs nothing in any way, and each way that sees more keeps less."""
    old, new = ([looked_at(path) for path in state.files.values()] for state in states(store))
    sizes = {
        way: [sum(unit.size for unit in each) for each in fresh(way, old, new).values()]
        for way in (FILE, CHUNKS, PARTS, PLACELESS, BOTH)
    }
    assert sizes[FILE] == [file.size for file in new[:2]] + [0]
    assert {each[2] for each in sizes.values()} == {0}
    assert sum(sizes[FILE]) > sum(sizes[CHUNKS])
    assert sum(sizes[FILE]) > sum(sizes[PARTS]) >= sum(sizes[PLACELESS]) >= sum(sizes[BOTH])


def test_tables(store: Store, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool:
        lines = "\n".join(table(*states(store), pool, tmp_path))
    assert lines.count("\n|---|---|---|") == 2
    assert "2 files of " in lines


def test_what_is_built_twice() -> None:
    """The distribution before and after: what needs zlib is another derivation, and nothing else."""
    expression = (
        f"let sets = import {EXPRESSION} {{ }}; drvs = builtins.mapAttrs (_: p: p.drvPath);"
        " changed = set: builtins.filter (name: (drvs set.before).${name} != (drvs set.after).${name}) (builtins.attrNames set.before);"
        " in builtins.mapAttrs (_: changed) sets"
    )
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "-E", expression]
    done = subprocess.run(argv, env=nix.environment(), capture_output=True, text=True, check=True)
    changed = json.loads(done.stdout)
    assert changed["plain"] == changed["hardened"]
    assert {"zlib-out", "curl-out", "libpng-out"} <= set(changed["plain"])
    assert not {"brotli-out", "expat-out", "xz-out"} & set(changed["plain"])
