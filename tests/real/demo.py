"""Show the main job on real input: a chain built by real Nix, then Debian's `ruby3.1 sqlite3 file` laid out as a store.

    demo.py [--keep DIR] [--cache DIR]

Every package is hardened in dependency order, each program is run before and after, and a table says what the loader did. Exits
with 1 where an output differs, or where the loader still looks for a file in vain.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real import debstore
from real.observe import Trial, closure, environment, failing_opens, median_times, run, wall_time
from real.programs import PACKAGES, Run, runs
from support import nix

CHAIN = Path(__file__).with_name("chain.nix")
ROUNDS = 40
HEADINGS = ("program", "libraries", "failing openat", "", "wall time, ms", "", "output")


@dataclass(frozen=True)
class Row:
    """One line of the table; each pair is before and after."""

    title: str
    libraries: int
    opens: tuple[int, int]
    seconds: tuple[float, float] | None
    same: bool

    @property
    def good(self) -> bool:
        return self.same and not self.opens[1]

    def cells(self) -> tuple[str, ...]:
        before, after = self.opens
        slow, fast = (f"{seconds * 1000:.1f}" for seconds in self.seconds) if self.seconds else ("", "")
        return (
            self.title,
            str(self.libraries),
            str(before),
            f"→ {after}",
            slow,
            fast and f"→ {fast}",
            "same" if self.same else "DIFFERS",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build the store in DIR and leave it there")
    parser.add_argument("--cache", type=Path, default=debstore.default_cache(), help="Debian's archives [%(default)s]")
    arguments = parser.parse_args()
    rows = show_chain()
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = arguments.keep or Path(temporary)
        dest.mkdir(parents=True, exist_ok=True)
        dest.chmod(0o755)
        rows += show_programs(dest, arguments.cache)
    bad = [row.title for row in rows if not row.good]
    if bad:
        print(f"\nNot as it should be: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def show_chain(expression: Path = CHAIN) -> list[Row]:
    """Build the chain with real Nix, with the hook and without, and run both programs."""
    say("liba → libb → app, built by real Nix, without the hook and with it in `nativeBuildInputs`")
    plain, hardened = (nix_build(expression, attribute) / "bin/app" for attribute in ("without", "hardened"))
    outputs = [subprocess.run([program], capture_output=True, check=True).stdout for program in (plain, hardened)]
    loader = interpreter(hardened)
    row = Row(
        "app",
        len(closure(loader, hardened).files),
        (failing_opens(interpreter(plain), plain), failing_opens(loader, hardened)),
        (usual_time(plain), usual_time(hardened)),
        outputs[0] == outputs[1],
    )
    print_table([row])
    print(f"\n$ readelf --dynamic {hardened}")
    for name in needed(hardened):
        print(f"    NEEDED {name}")
    return [row]


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


def show_programs(dest: Path, cache: Path) -> list[Row]:
    """Build the store, harden it, and run every program in both states."""
    say(f"{' '.join(PACKAGES)} of Debian, laid out as a Nix store")
    start = time.perf_counter()
    store = debstore.build(dest, PACKAGES, cache)
    count = sum(package.elf for package in store.packages)
    print(
        f"{len(store.packages)} packages, {count} ELF files in {store.directory}: {time.perf_counter() - start:.1f} s"
    )
    start = time.perf_counter()
    trial = Trial(dest)
    print(f"each hardened after its dependencies by `nix-harden fixup`: {time.perf_counter() - start:.1f} s\n")
    for name, log in trial.log.items():
        for line in log.splitlines():
            if "no ELF files" not in line:
                print(f"  {name}: {line.removeprefix('nix-harden-needed: ')}")
    print()
    rows = [measure(trial, each, environment(store, dest / "home"), dest / "home") for each in runs(store)]
    rows.append(measure_libraries(trial))
    print_table(rows)
    opens = [sum(row.opens[state] for row in rows) for state in (0, 1)]
    seconds = [sum(row.seconds[state] for row in rows if row.seconds) for state in (0, 1)]
    print(
        f"\n{len(rows)} rows: the loader opens {opens[0]} files in vain before, {opens[1]} after; "
        f"{seconds[0]:.2f} s before, {seconds[1]:.2f} s after; {sum(not row.same for row in rows)} outputs differ"
    )
    return rows


def measure(trial: Trial, each: Run, env: dict[str, str], cwd: Path) -> Row:
    """Run a program in both states, and let its loader say what it opens."""
    argv, program, loader = each.argv(trial.store), each.elf(trial.store), trial.store.loader
    outcomes = trial.both(lambda: run(argv, env, cwd, each.stdin))
    return Row(
        str(each),
        len(closure(loader, program).files),
        trial.both(lambda: failing_opens(loader, program)),
        median_times(trial, argv, env, cwd, each.stdin),
        outcomes[0] == outcomes[1],
    )


def measure_libraries(trial: Trial) -> Row:
    """One row for the closures of all libraries and plugins together: what a dlopen(3) of each would search for."""
    loader = trial.store.loader
    libraries = [path for path in trial.store.elf_files() if path != loader and "/lib/" in str(path)]
    closures = trial.both(lambda: [closure(loader, path) for path in libraries])
    opens = trial.both(lambda: sum(failing_opens(loader, path) for path in libraries))
    title = "each library and plugin, as ld.so lists it"
    return Row(title, len(libraries), opens, None, closures[0] == closures[1])


def interpreter(program: Path) -> Path:
    dynamic = debstore.read_dynamic(program)
    assert dynamic is not None
    assert dynamic.interpreter is not None
    return Path(dynamic.interpreter)


def needed(program: Path) -> Sequence[str]:
    dynamic = debstore.read_dynamic(program)
    return dynamic.needed if dynamic else ()


def usual_time(program: Path) -> float:
    """The median wall time of some runs."""
    return statistics.median(wall_time([program], {}, program.parent) for _ in range(ROUNDS))


def say(title: str) -> None:
    print(f"\n== {title}\n", flush=True)


def print_table(rows: Sequence[Row]) -> None:
    """Columns as wide as their widest cell: words to the left, numbers to the right."""
    table = [row.cells() for row in rows]
    widths = [max(len(row[column]) for row in (HEADINGS, *table)) for column in range(len(HEADINGS))]
    widths[2] = max(len(row[2]) for row in table)
    widths[4] = max(len(row[4]) for row in table)
    head = [HEADINGS[0].ljust(widths[0]), HEADINGS[1]]
    head.append(HEADINGS[2].ljust(widths[2] + 2 + widths[3]))
    head.append(HEADINGS[4].ljust(widths[4] + 2 + widths[5]))
    print("  ".join([*head, HEADINGS[6]]))
    for cells in table:
        words = [cells[0].ljust(widths[0]), cells[1].rjust(widths[1])]
        words.append(f"{cells[2].rjust(widths[2])}  {cells[3].ljust(widths[3])}".ljust(len(head[2])))
        words.append(f"{cells[4].rjust(widths[4])}  {cells[5].ljust(widths[5])}".ljust(len(head[3])))
        print("  ".join([*words, cells[6]]))


if __name__ == "__main__":
    os.environ.pop("LD_LIBRARY_PATH", None)
    sys.exit(main())
