"""Show the main job on real input: a chain built by real Nix, then programs of Debian's laid out as a store, in each of three ways.

    demo.py [--keep DIR] [--cache DIR]

The store's packages are hardened in the order of what they refer to, and every run of the programs is compared before and after. From what
they were before, as a cache has it, some are frozen and prelinked. A table says what their loaders do in each way. Exits with 1 where an
output differs, or where a loader still looks for a file in vain.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real import debstore
from real.observe import Trial, closure, environment, failing_opens, run, wall_time
from real.programs import PACKAGES, runs
from support import nix

CHAIN = Path(__file__).with_name("chain.nix")
PLAIN, BOUND, FROZEN, PRELINKED = WAYS = ("as it comes", "bound", "frozen", "prelinked")
ROUNDS = 15
RELOCATIONS = re.compile(r"number of relocations: (\d+)")
WORDS = ("program", "libraries", *WAYS, "output")


@dataclass(frozen=True)
class Shown:
    """A program of the last table: its package, its path there, and what it is run with."""

    package: str
    path: str
    argument: str


SHOWN = (
    Shown("file", "bin/file", "--version"),
    Shown("sqlite3", "bin/sqlite3", "-version"),
    Shown("git", "bin/git", "--version"),
    Shown("ruby3.1", "bin/ruby3.1", "--version"),
    Shown("imagemagick-6.q16", "bin/convert-im6.q16", "-version"),
)


@dataclass(frozen=True)
class State:
    """A program in one way: what its loader opens in vain, the symbols that it looks up, seconds of its start, and what it says."""

    vain: int
    symbols: int
    seconds: float
    said: object


@dataclass(frozen=True)
class Row:
    """A program in each of its ways, and how many libraries it loads."""

    title: str
    libraries: int
    states: Mapping[str, State]

    @property
    def is_good(self) -> bool:
        before = self.states[PLAIN]
        return all(state.said == before.said and not state.vain for way, state in self.states.items() if way != PLAIN)

    def cells(self) -> Iterator[str]:
        yield self.title
        yield str(self.libraries)
        for way in WAYS:
            state = self.states.get(way)
            yield f"{state.vain:4} {state.symbols:6} {state.seconds * 1000:7.2f} ms" if state is not None else ""
        yield "same" if self.is_good else "NOT AS IT SHOULD BE"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build the store in DIR and leave it there")
    parser.add_argument("--cache", type=Path, default=debstore.default_cache(), help="Debian's archives [%(default)s]")
    arguments = parser.parse_args()
    rows = [show_chain()]
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = arguments.keep or Path(temporary)
        dest.mkdir(parents=True, exist_ok=True)
        dest.chmod(0o755)
        different, found = show_programs(dest, arguments.cache)
    rows += found
    say("what their loaders do at each start: lookups in vain, symbols looked up, and how long it takes")
    print_table(rows)
    bad = [*different, *(row.title for row in rows if not row.is_good)]
    if bad:
        print(f"\nNot as it should be: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def show_chain(expression: Path = CHAIN) -> Row:
    """Build the chain with real Nix, with the hook and without."""
    say("liba → libb → app, built by real Nix, without the hook and with it in `nativeBuildInputs`")
    plain, hardened = (nix_build(expression, attribute) / "bin/app" for attribute in ("without", "hardened"))
    print(f"\n$ readelf --dynamic {hardened}")
    dynamic = debstore.read_dynamic(hardened)
    for name in dynamic.needed if dynamic is not None else ():
        print(f"    NEEDED {name}")
    states = measure({PLAIN: plain, BOUND: hardened}, "", {}, hardened.parent, nullcontext)
    return Row("app", len(closure(interpreter(hardened), hardened).files), states)


def nix_build(expression: Path, attribute: str) -> Path:
    """The store path that an attribute builds; its log is shown if it fails."""
    argv = ["nix-build", "--no-out-link", "--attr", attribute, str(expression)]
    done = subprocess.run(argv, env=nix.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    for line in done.stderr.splitlines():
        if line.startswith("nix-harden-needed:"):
            print(f"  {line}")
    return Path(done.stdout.splitlines()[-1])


def show_programs(dest: Path, cache: Path) -> tuple[list[str], list[Row]]:
    """Build the store, harden it, and run every program before and after: which say something else, and the rows of SHOWN."""
    roots = list(dict.fromkeys([*PACKAGES, *(each.package for each in SHOWN)]))
    say(f"{' '.join(roots)} of Debian, laid out as a Nix store")
    start = time.perf_counter()
    store = debstore.build(dest, roots, cache)
    count = sum(package.elf for package in store.packages)
    print(
        f"{len(store.packages)} packages, {count} ELF files in {store.directory}: {time.perf_counter() - start:.1f} s"
    )
    start = time.perf_counter()
    trial = Trial(dest, harden=nix_harden_store)
    print(f"hardened by `nix-harden fixup-store`: {time.perf_counter() - start:.1f} s\n")
    print("\n".join(f"  {line}" for line in trial.log["store"].splitlines()[-1:]))
    home = dest / "home"
    env = environment(store, home)
    every = [each for each in runs(store) if each.package in PACKAGES]

    def answers() -> list[object]:
        return [run(each.argv(store), env, home, each.stdin) for each in every]

    before, after = trial.both(answers)
    different = [str(each) for each, one, other in zip(every, before, after, strict=True) if one != other]
    print(f"\n{len(every)} runs of their programs, hardened and not: {len(different)} outputs differ", flush=True)
    return different, [show(trial, each, dest / "copies", env) for each in SHOWN]


def nix_harden_store(store: debstore.Store) -> dict[str, str]:
    """Harden all packages of a store at once; what was said."""
    return {"store": nix_harden("fixup-store", store.directory)}


def nix_harden(*words: str | Path) -> str:
    argv = [sys.executable, "-m", "nix_harden", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stderr


def show(trial: Trial, each: Shown, copies: Path, env: Mapping[str, str]) -> Row:
    """A program of the store in each way; the copies are of what it was before, and need its libraries as they were."""
    program = trial.store.path(each.package) / each.path
    copies.mkdir(exist_ok=True)
    ways = {PLAIN: program, BOUND: program}
    with trial.unhardened():
        for way, command in ((FROZEN, "freeze"), (PRELINKED, "prelink")):
            ways[way] = copies / way / program.name
            nix_harden(command, program, "-o", ways[way])
        libraries = len(closure(trial.store.loader, program).files)
    return Row(program.name, libraries, measure(ways, each.argument, env, copies, trial.unhardened))


def measure(
    ways: Mapping[str, Path],
    argument: str,
    env: Mapping[str, str],
    cwd: Path,
    unhardened: Callable[[], AbstractContextManager[None]],
) -> dict[str, State]:
    """A program in some ways, started in turn; each but BOUND where nothing is hardened."""
    commands: dict[str, list[str | Path]] = {
        way: [path, *([argument] if argument else [])] for way, path in ways.items()
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    states = {}
    for number in range(ROUNDS):
        for way, command in commands.items():
            with nullcontext() if way == BOUND else unhardened():
                seconds[way].append(wall_time(command, env, cwd))
                if number + 1 == ROUNDS:
                    vain = failing_opens(interpreter(ways[way]), ways[way])
                    usual = statistics.median(seconds[way])
                    states[way] = State(vain, symbols(command, env), usual, run(command, env, cwd))
    return states


def symbols(command: Sequence[str | Path], env: Mapping[str, str]) -> int:
    """How many symbols the loader looks up before the program begins (ld.so(8), LD_DEBUG=statistics)."""
    done = subprocess.run(
        command, env={**env, "LD_DEBUG": "statistics"}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    counted = RELOCATIONS.search(os.fsdecode(done.stderr))
    return int(counted[1]) if counted else 0


def interpreter(program: Path) -> Path:
    dynamic = debstore.read_dynamic(program)
    assert dynamic is not None
    assert dynamic.interpreter is not None
    return Path(dynamic.interpreter)


def say(title: str) -> None:
    print(f"\n== {title}\n", flush=True)


def print_table(rows: Sequence[Row]) -> None:
    """Columns as wide as their widest cell: the program to the left, numbers to the right."""
    table = [WORDS, *(tuple(row.cells()) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(WORDS))]
    for row in table:
        first, *cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(len(first)), *cells]))


if __name__ == "__main__":
    os.environ.pop("LD_LIBRARY_PATH", None)
    sys.exit(main())
