"""How long programs of the distribution take to start where each lookup is slow, as on a network store: plain and hardened.

    delay.py [--only NAME…] [--runs N]

strace puts a delay before each openat of the loader, found or not, which is asked to list a program's libraries (LD_TRACE_LOADED_OBJECTS):
so that nothing of the program itself is timed. The same delays and the same strace stand in both columns; what differs is the search.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real.distro import HARDENED, PLAIN, Build, Package, build, examine, load
from real.observe import failing_opens

from nix_harden.reading.elf import read_object

DELAYS = (0, 200, 1000, 5000)  # microseconds


@dataclass(frozen=True)
class Start:
    """The failing opens of one program's start, and the median of its seconds with each delay."""

    opens: int
    seconds: tuple[float, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these packages and what they need")
    parser.add_argument(
        "--runs", type=int, default=5, metavar="N", help="runs of each program with each delay [%(default)s]"
    )
    arguments = parser.parse_args()
    print("program".ljust(24), "failing openat".rjust(16), *(f"{delay / 1000:g} ms".rjust(22) for delay in DELAYS))
    packages = load(arguments.only)
    build([package.builds[way] for package in packages for way in (PLAIN, HARDENED)], 2)
    for package in packages:
        if (name := widest(package)) is not None:
            show(package, name, arguments.runs)
    return 0


def widest(package: Package) -> str | None:
    """The program of the package whose loader opens most files in vain."""
    opens = examine(package.builds[PLAIN]).opens
    return max(opens, key=lambda name: opens[name], default=None)


def show(package: Package, name: str, runs: int) -> None:
    before, after = (start(package.builds[way], name, runs) for way in (PLAIN, HARDENED))
    cells = [
        f"{one * 1000:.1f} → {other * 1000:.1f} ({other / one:.2f})"
        for one, other in zip(before.seconds, after.seconds, strict=True)
    ]
    title = f"{package.name} {Path(name).name}"
    print(title.ljust(24), f"{before.opens} → {after.opens}".rjust(16), *(cell.rjust(22) for cell in cells), flush=True)


def start(each: Build, name: str, runs: int) -> Start:
    output, _, rest = name.partition("/")
    program = each.outputs[output] / rest
    obj = read_object(str(program))
    assert obj is not None
    assert obj.interpreter is not None
    loader = Path(obj.interpreter)
    seconds = (statistics.median(timed(loader, program, delay) for _ in range(runs)) for delay in DELAYS)
    return Start(failing_opens(loader, program), tuple(seconds))


def timed(loader: Path, program: Path, delay: int) -> float:
    argv: Sequence[str | Path] = [
        *("strace", "-qq", "--output=/dev/null", "--trace=openat", "--env=LD_TRACE_LOADED_OBJECTS=1"),
        *((f"--inject=openat:delay_enter={delay}",) if delay else ()),
        *("--", loader, program),
    ]
    begin = time.perf_counter()
    subprocess.run(argv, capture_output=True, check=True, env={"LC_ALL": "C"})
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
