"""Freeze programs of Debian's, laid out as a store, in each way, beside shrinkwrap's; compare what they print and how they start.

    freeze.py [--only PROGRAM…] [--rounds N] [--json FILE]

In each round every way is started once, in an order that rotates. The shortest start counts,
as all else that the machine does only adds. Prints a table in Markdown. Needs the extra `bench`.
"""

import argparse
import enum
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from bench.measure import Program, start
from real import debstore
from real.observe import closure, failing_opens

ROUNDS = 21
HEADINGS = (
    "program",
    "way",
    "libraries",
    "failing opens",
    "start, ms",
    "× before",
    "output",
    "MiB written",
    "seconds to freeze",
)
SHRINKWRAP = Path(__file__).with_name("shrinkwrap.py")


class Way(enum.Enum):
    """How a program is frozen."""

    BEFORE = "before"
    LIFT = "`freeze`"
    CLOSURE = "`--closure`"
    RELATIVE = "`--closure --relative`"
    SHRINKWRAP = "shrinkwrap's way"


@dataclass(frozen=True)
class Real:
    """A program of a Debian package: its path, what it starts with to end at once, and a piece of work, whose output is compared.

    `%` in a word stands for the store path of the package.
    """

    package: str
    path: str
    ends: Sequence[str]
    works: Sequence[str]


PROGRAMS = {
    "curl": Real("curl", "bin/curl", ("--version",), ("-s", "file://%/bin/curl")),
    "convert": Real("imagemagick-6.q16", "bin/convert-im6.q16", ("-version",), ("-list", "colorspace")),
    "vim": Real("vim-gtk3", "bin/vim.gtk3", ("--version",), ("-u", "NONE", "-es", "+put =6*7", "+%print", "+qa!")),
    "inkscape": Real("inkscape", "bin/inkscape", ("--version",), ("--action-list",)),
    "ffmpeg": Real(
        "ffmpeg",
        "bin/ffmpeg",
        ("-version",),
        ("-v", "error", "-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x64", "-f", "rawvideo", "-"),
    ),
    "mpv": Real("mpv", "bin/mpv", ("--version",), ("--no-config", "--vo=help")),
}


@dataclass(frozen=True)
class Frozen:
    """A program frozen in one way: the bytes that were written for it, and the seconds that it took."""

    path: Path
    size: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """What one way of a program costs and says; `start` is the shortest, in seconds."""

    libraries: int
    opens: int
    start: float
    output: str
    size: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PROGRAM", choices=PROGRAMS, help=", ".join(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="starts of each way [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args()
    names = arguments.only or list(PROGRAMS)
    found = {}
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---" * len(HEADINGS) + "|", flush=True)
    with tempfile.TemporaryDirectory(prefix="nix-harden-bench-") as temporary:
        top = Path(temporary)
        store = debstore.build(top, [PROGRAMS[name].package for name in names], debstore.default_cache())
        for name in names:
            rows = measure(PROGRAMS[name], store, top / name, arguments.rounds)
            for line in table(name, rows):
                print(line, flush=True)
            found[name] = {way.name.lower(): asdict(row) for way, row in rows.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    return 0


def measure(real: Real, store: debstore.Store, top: Path, rounds: int) -> Mapping[Way, Row]:
    package = store.path(real.package)
    program = (package / real.path).resolve()
    frozen = {way: freeze(way, program, top / way.name.lower()) for way in Way}
    works = [word.replace("%", str(package)) for word in real.works]
    programs = {way: Program(each.path, real.ends, ()) for way, each in frozen.items()}
    said = {way: output(each.path, works) for way, each in frozen.items()}
    seconds: dict[Way, list[float]] = {way: [] for way in Way}
    ways = [way for way in Way if said[way] is not None]
    for way in ways:
        start(programs[way])  # and the cache is warm
    for number in range(rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            seconds[way].append(start(programs[way]).seconds)
    return {
        way: Row(
            len(closure(store.loader, each.path).files),
            failing_opens(store.loader, each.path),
            min(seconds[way], default=0.0),
            "same" if said[way] == said[Way.BEFORE] else "different" if said[way] is not None else "does not start",
            each.size,
            each.seconds,
        )
        for way, each in frozen.items()
    }


def freeze(way: Way, program: Path, top: Path) -> Frozen:
    """Freeze a program into a new directory, which is moved where it can be."""
    if way is Way.BEFORE:
        return Frozen(program)
    top.mkdir(parents=True)
    out = top / program.name
    words: list[str | Path] = ["-m", "nix_harden", "freeze", program, "-o", out]
    if way is Way.SHRINKWRAP:
        words = [SHRINKWRAP, program, out]
    elif way is not Way.LIFT:
        words += ["--closure", top / "lib", *(["--relative"] if way is Way.RELATIVE else [])]
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    if way is Way.RELATIVE:
        out = Path(shutil.move(top, top.with_name("moved"))) / program.name
    size = sum(path.stat().st_size for path in out.parent.rglob("*") if path.is_file())
    return Frozen(out, size, seconds)


def output(program: Path, words: Sequence[str]) -> tuple[int, bytes] | None:
    """The exit status and what a piece of work prints; None where the program does not come to that."""
    done = subprocess.run(
        [program, *words], capture_output=True, check=False, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}
    )
    return None if done.returncode < 0 or done.returncode == 127 else (done.returncode, done.stdout)


def table(name: str, rows: Mapping[Way, Row]) -> Iterator[str]:
    before = rows[Way.BEFORE].start
    for way, row in rows.items():
        cells = (
            f"`{name}`" if way is Way.BEFORE else "",
            way.value,
            str(row.libraries),
            str(row.opens),
            f"{row.start * 1000:.1f}" if row.start else "-",
            f"{row.start / before:.2f}" if row.start else "-",
            row.output if way is not Way.BEFORE else "",
            f"{row.size / 2**20:.1f}" if row.size else "",
            f"{row.seconds:.1f}" if row.seconds else "",
        )
        yield "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
