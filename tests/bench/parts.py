"""Start programs from their files and from their parts, side by side: what it costs that a store has parts.

    parts.py [--quick] [--rounds N]

Of each program the start from spawn to exit, the page faults without disk, and the proportional set size of ten copies at once.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from bench.measure import Program, resident, start
from bench.ways import REAL, Real
from real import debstore

ROUNDS = 41
COPIES = 10
HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return getchar() == 0; }'
PROGRAMS = {
    "sqlite3": Real("sqlite3", "bin/sqlite3", ("-version",), ()),
    "ruby": Real("ruby3.1", "bin/ruby3.1", ("--version",), ("--disable-gems", "-e", "gets")),
    **{name: REAL[name] for name in ("git", "ffmpeg")},
}
HEADINGS = ("", "start, ms", "parts", "×", "page faults", "parts", "MiB of 10", "parts", "files")


def in_parts(program: Program) -> Program:
    """The same program in parts, in a directory beside it."""
    out = program.path.parent / f"{program.path.name}-parts"
    subprocess.run(
        [sys.executable, "-m", "nix_harden", "split", program.path, "-o", out], check=True, stderr=subprocess.DEVNULL
    )
    return Program(out / program.path.name, program.ends, program.waits)


def programs(top: Path, *, quick: bool) -> Mapping[str, Program]:
    """A program of one library that is compiled here, and without `quick` Debian's."""
    hello = top / "hello"
    subprocess.run(["gcc", "-O2", "-x", "c", "-", "-o", hello], input=HELLO, text=True, check=True)
    found = {"hello": Program(hello, (), ())}
    if quick:
        return found
    store = debstore.build(top / "store", [each.package for each in PROGRAMS.values()], debstore.default_cache())
    for name, each in PROGRAMS.items():
        found[name] = Program(store.path(each.package) / each.path, each.ends, each.waits)
    return found


def row(name: str, whole: Program, rounds: int) -> tuple[str, ...]:
    both = whole, in_parts(whole)
    for each in both:
        start(each)
    starts = [[start(each) for each in both] for _ in range(rounds)]
    times = [statistics.median(each[side].seconds for each in starts) * 1000 for side in (0, 1)]
    ratio = statistics.median(parts.seconds / file.seconds for file, parts in starts)
    faults = [statistics.median(each[side].faults for each in starts) for side in (0, 1)]
    memory = [resident(each.path, each.waits or (), COPIES) / 2**20 for each in both]
    files = len(list(both[1].path.parent.iterdir()))
    return (
        *(name, f"{times[0]:.2f}", f"{times[1]:.2f}", f"{ratio:.2f}", f"{faults[0]:.0f}", f"{faults[1]:.0f}"),
        *(f"{memory[0]:.1f}", f"{memory[1]:.1f}", str(files)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="hello alone")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="starts of each [%(default)s]")
    arguments = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="nix-harden-"))
    try:
        print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
        for name, program in programs(top, quick=arguments.quick).items():
            print(f"| {' | '.join(row(name, program, arguments.rounds))} |", flush=True)
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
