"""Start programs that are bound in each of the ways, side by side, and say which targets are met.

    startup.py [--quick] [--only CLOSURE…] [--rounds N] [--json FILE]

Closures are 50, 300 and 1000 synthetic libraries, and programs of Debian's. In each round every way is started once, in an order that
rotates, so that whatever else the machine does meets all of them. Prints a table a closure, then a row a target.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from bench.measure import Fixed, fixed, start
from bench.ways import REAL, Bound, Way, real, synthetic
from support import glibc

SYNTHETIC = {"50 libraries": 50, "300 libraries": 300, "1000 libraries": 1000}
ROUNDS = 21
COPIES = 20
QUICK = ("8 libraries", 8)
SECONDS = 20.0  # no closure's rounds take much longer
HEADINGS = (
    *("", "start, ms", "min–max", "× unhardened", "× limit", "bind now, ms", "× unhardened", "mmap", "PT_LOAD"),
    *("failing opens", "page faults", "MiB on disk", "MiB of 20 at once", "hook, s"),
)


@dataclass(frozen=True)
class Row:
    """What one way of one closure costs: seconds of each start, lazily bound and not, page faults, and what does not vary."""

    seconds: tuple[float, ...]
    bind_now: tuple[float, ...]
    faults: int
    fixed: Fixed
    hook: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def median_bind_now(self) -> float:
        return statistics.median(self.bind_now)


@dataclass(frozen=True)
class Target:
    """What is to hold of a closure, the figure that was measured, and whether it does."""

    closure: str
    name: str
    limit: str
    figure: str
    met: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a closure of eight libraries alone")
    parser.add_argument("--only", nargs="+", metavar="CLOSURE", help=f"some of {', '.join([*SYNTHETIC, *REAL])}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="starts of each way [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args()
    wanted = arguments.only or ([QUICK[0]] if arguments.quick else [*SYNTHETIC, *REAL])
    if unknown := set(wanted) - {*SYNTHETIC, *REAL, QUICK[0]}:
        parser.error(f"{', '.join(sorted(unknown))}: no closure; they are {', '.join([*SYNTHETIC, *REAL])}")
    found = {}
    targets: list[Target] = []
    for closure, rows in measure(wanted, arguments.rounds):
        for line in table(closure, rows):
            print(line)
        found[closure] = {way.value: asdict(row) for way, row in rows.items()}
        targets += judge(closure, rows)
    for line in verdicts(targets):
        print(line)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"closures": found, "targets": [asdict(each) for each in targets]}, indent=2)
        )
    return 0


def measure(wanted: Sequence[str], rounds: int) -> Iterator[tuple[str, Mapping[Way, Row]]]:
    """Build each closure in all ways, and start its programs."""
    template = glibc.make()
    try:
        for name, count in (*SYNTHETIC.items(), QUICK):
            if name in wanted:
                with tempfile.TemporaryDirectory(prefix="nix-harden-bench-") as top:
                    yield name, rows(synthetic(Path(top), template, count), rounds)
        if programs := [name for name in REAL if name in wanted]:
            with tempfile.TemporaryDirectory(prefix="nix-harden-bench-") as top:
                for name, bound in real(Path(top), programs).items():
                    yield name, rows(bound, rounds)
    finally:
        shutil.rmtree(template)


def rows(bound: Mapping[Way, Bound], rounds: int) -> Mapping[Way, Row]:
    seconds: dict[bool, dict[Way, list[float]]] = {now: {way: [] for way in bound} for now in (False, True)}
    faults = {way: start(each.program).faults for way, each in bound.items()}  # and the cache is warm
    ways = list(bound)
    for number in range(rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            for now, taken in seconds.items():
                taken[way].append(start(bound[way].program, binds_now=now).seconds)
        if sum(map(sum, seconds[False].values())) > SECONDS:
            break
    return {
        way: Row(
            tuple(seconds[False][way]),
            tuple(seconds[True][way]),
            faults[way],
            fixed(each.program, COPIES),
            each.seconds,
        )
        for way, each in bound.items()
    }


def table(closure: str, rows: Mapping[Way, Row]) -> Iterator[str]:
    """A line a way: the median start with its spread, and ratios of medians."""
    unhardened, unhardened_now = rows[Way.SEARCHING].median, rows[Way.SEARCHING].median_bind_now
    limit = rows[Way.LINKED].median if Way.LINKED in rows else None
    lines = [(closure, *HEADINGS[1:])]
    for way, row in rows.items():
        lines.append(
            (
                way.value,
                f"{row.median * 1000:.2f}",
                f"{min(row.seconds) * 1000:.2f}–{max(row.seconds) * 1000:.2f}",
                f"{row.median / unhardened:.2f}",
                f"{row.median / limit:.2f}" if limit else "-",
                f"{row.median_bind_now * 1000:.2f}",
                f"{row.median_bind_now / unhardened_now:.2f}",
                str(row.fixed.mmaps),
                str(row.fixed.segments),
                str(row.fixed.opens),
                str(row.faults),
                f"{row.fixed.size / 2**20:.1f}",
                "-" if row.fixed.resident is None else f"{row.fixed.resident / 2**20:.1f}",
                f"{row.hook:.1f}" if row.hook else "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        yield "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
    yield ""


# Of unhardened, what a prelinked start may take.
PRELINKED = {"ffmpeg": 0.42, "inkscape": 0.40}


def judge(closure: str, rows: Mapping[Way, Row]) -> Iterator[Target]:
    """What is asked of binding in place, and of prelinking."""
    mine, unhardened = rows[Way.IN_PLACE], rows[Way.SEARCHING]
    if Way.LINKED in rows:
        ratio = mine.median / rows[Way.LINKED].median
        yield Target(closure, "start, × limit", "≤ 1.03", f"{ratio:.3f}", ratio <= 1.03)
    ratio = mine.median / unhardened.median
    if closure == "300 libraries":
        yield Target(closure, "start, × unhardened", "≤ 0.30", f"{ratio:.3f}", ratio <= 0.3)
    for name, now, before in (
        ("mmaps more than unhardened", mine.fixed.mmaps, unhardened.fixed.mmaps),
        ("PT_LOADs more than unhardened", mine.fixed.segments, unhardened.fixed.segments),
        ("growth at fixup, bytes", mine.fixed.size, unhardened.fixed.size),
    ):
        yield Target(closure, name, "≤ 0", str(now - before), now <= before)
    yield Target(closure, "failing opens by the loader", "0", str(mine.fixed.opens), mine.fixed.opens == 0)
    prelinked = rows[Way.PRELINKED]
    if closure in PRELINKED:
        ratio, most = prelinked.median / unhardened.median, PRELINKED[closure]
        yield Target(closure, "prelinked, × unhardened", f"≤ {most:.2f}", f"{ratio:.3f}", ratio <= most)
    if closure == "git":
        ratio = prelinked.median / mine.median
        yield Target(closure, "prelinked, × bound in place", "≤ 1.03", f"{ratio:.3f}", ratio <= 1.03)
    else:
        ratio = prelinked.median / rows[Way.PROVEN].median
        yield Target(closure, "prelinked, × the proven order", "≤ 0.75", f"{ratio:.3f}", ratio <= 0.75)
    if prelinked.fixed.resident is not None and mine.fixed.resident is not None:
        ratio = prelinked.fixed.resident / mine.fixed.resident
        yield Target(closure, "prelinked, memory of 20, × bound", "≤ 1.00", f"{ratio:.3f}", ratio <= 1.0)
    seconds = 5 if closure == "inkscape" else 3
    yield Target(closure, "seconds to prelink", f"≤ {seconds}", f"{prelinked.hook:.1f}", prelinked.hook <= seconds)


def verdicts(targets: Sequence[Target]) -> Iterator[str]:
    widths = [max(len(each.closure) for each in targets), max(len(each.name) for each in targets)]
    for each in targets:
        met = "met" if each.met else "missed"
        yield f"{each.closure.ljust(widths[0])}  {each.name.ljust(widths[1])}  {each.limit:>6}  {each.figure:>8}  {met}"


if __name__ == "__main__":
    sys.exit(main())
