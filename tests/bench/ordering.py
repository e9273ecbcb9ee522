"""How long the proof of an order takes: freeze --explain-order on a closure of many libraries with many symbols.

    tests/bench/ordering.py [--libraries N] [--symbols N]

Every library defines its share of the symbols, looks a third as many up in others, and defines some weak ones that others define
too, as C++ does. Also: tests/bench/ordering.py --program PATH, which prints the same of a program that is there.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import glibc
from support.store import REPOSITORY, Store

POOL, WEAK = 3000, 20  # names that several define, and how many of them each does


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libraries", type=int, default=300, metavar="N")
    parser.add_argument("--symbols", type=int, default=500_000, metavar="N", help="of all libraries together")
    parser.add_argument("--program", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    if arguments.program:
        explain(arguments.program)
        return 0
    template = glibc.make()
    with tempfile.TemporaryDirectory(prefix="nix-harden-bench-") as top:
        explain(make(Store.create(Path(top), template), arguments.libraries, arguments.symbols // arguments.libraries))
    return 0


def explain(program: Path) -> None:
    """Print what freeze says of the program's order, and what it took to find out."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    argv: list[str | Path] = [sys.executable, "-m", "nix_harden", "freeze", "--explain-order", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    seconds = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout.partition("\n\n")[0] or done.stderr)
    print(
        f"{seconds:.1f} s, {used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime:.1f} s of them busy, {used.ru_maxrss >> 10} MiB"
    )


def make(store: Store, libraries: int, symbols: int) -> Path:
    """A program that needs the last of so many libraries, each of which needs three before it."""
    chance = random.Random(0)
    package = store.package("wide")
    package.lib.mkdir()
    paths: list[Path] = []
    for number in range(libraries):
        path = package.lib / f"libwide{number:04}.so.1"
        asked = [(chance.randrange(number + 1), chance.randrange(symbols)) for _ in range(symbols // 3)]
        lines = [".text"]
        lines += [
            f".globl wide{number}_{k}\n.type wide{number}_{k},@function\nwide{number}_{k}: ret" for k in range(symbols)
        ]
        lines += [f".weak shared{k}\nshared{k}: ret" for k in sorted(chance.sample(range(POOL), WEAK))]
        lines += [
            ".data",
            *(f".quad wide{other}_{k}" for other, k in asked),
            '.section .note.GNU-stack,"",@progbits',
            "",
        ]
        source = store.path / "wide.s"
        source.write_text("\n".join(lines))
        needs = [paths[number - back] for back in (1, 7, 40) if number >= back]
        run("as", "-o", store.path / "wide.o", source)
        words: list[str | Path] = [
            "ld",
            "-shared",
            "--no-as-needed",
            "--allow-shlib-undefined",
            "-soname",
            path.name,
            "-rpath",
            package.lib,
        ]
        run(*words, "-o", path, store.path / "wide.o", *needs)
        paths.append(path)
    return package.program("wide", "int main(void) { return 0; }", needs=[paths[-1]])


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    sys.exit(main())
