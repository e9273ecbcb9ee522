"""Build a distribution of real packages plain, hardened, and half hardened in two ways, run its programs, and compare.

    distro.py [--only NAME…] [--jobs N] [--check]

The packages are those of nix/distro, built by real Nix over nix/hostpkgs with upstream's own test suites. Each package is built
plain and hardened one after the other, so that the two times are of the same minutes; then with every second package
hardened, and with the others. A table says what came of it. Exits with 1 where a program shows anything else than the plain
one, where its loader looks for a file in vain although everything is hardened, or in vain more often than in the plain build.
A search by the compiler's runtime is counted and named, and is no fault: it stays as it is, and its names are nobody's to bind.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real.observe import Outcome, failing_opens, searching
from support import nix

from nix_harden.errors import HardenError
from nix_harden.model import Kind
from nix_harden.names import RUNTIMES
from nix_harden.reading.elf import read_object
from nix_harden.settings import matches

EXPRESSION = Path(__file__).with_name("distro.nix")
FETCH = Path(__file__).parents[2] / "nix/distro/fetch.py"
PLAIN, HARDENED, HALVES = "plain", "hardened", ("first", "second")
# These and all that they need are built half hardened, too: two dozen packages, up to five levels deep.
HALVED = ("curl", "libarchive", "lua-env", "sqliteodbc")
ACTIVITY_OF_A_BUILD = 105  # actBuild of Nix's logging.hh
TIMEOUT = 120
SUMMARY = re.compile(
    r"nix-harden-needed: \w+: .*?; (?P<bound>\d+) names? bound"
    r"(?: \((?P<already>\d+) already\))?(?:, \d+ left bare: (?P<bare>.*?))?(?:; \d+ files? left alone: .*)?$",
    re.MULTILINE,
)
BARE = re.compile(r"(?P<name>[^ ,]+) \((?P<why>.*?)\)(?: ×(?P<times>\d+))?(?:, |$)")
HEADINGS = (
    "package",
    "ELF",
    "bound",
    "growth, KiB",
    "programs",
    "failing openat",
    "halves",
    "build, s",
    "tests",
    "runs",
)


@dataclass(frozen=True)
class Build:
    """One derivation, and the paths of its outputs by name."""

    drv: str
    outputs: Mapping[str, Path]


@dataclass(frozen=True)
class Package:
    """One package of the distribution: its builds by name, the runs that show it at work, whether upstream's tests are run."""

    name: str
    builds: Mapping[str, Build]
    programs: Sequence[Mapping[str, Any]]
    tested: bool


@dataclass(frozen=True)
class Seen:
    """What is in a build: the size of each ELF file, and how many files its loader opens in vain for each program.

    `runtimes` are the programs for which the loader searches for nothing but names of the compiler's runtime, and on behalf of which.
    """

    sizes: Mapping[str, int]
    opens: Mapping[str, int]
    runtimes: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """All that the table says of one package. Pairs are plain and hardened; seconds are 0 where nothing had to be built."""

    name: str
    files: int
    bound: int
    bare: Counter[tuple[str, str]]
    growth: int
    programs: int
    opens: tuple[int, int]
    halves: tuple[int, ...]
    seconds: tuple[float, float]
    tested: bool
    runs: int
    runtimes: tuple[str, ...]
    faults: tuple[str, ...]

    def cells(self) -> tuple[str, ...]:
        return (
            self.name,
            str(self.files),
            str(self.bound),
            f"{self.growth / 1024:+.0f}",
            str(self.programs),
            f"{self.opens[0]} → {self.opens[1]}",
            " ".join(map(str, self.halves)) or "-",
            " → ".join(f"{seconds:.1f}" if seconds else "-" for seconds in self.seconds),
            "passed" if self.tested else "-",
            "; ".join(self.faults) or (f"{self.runs} same" if self.runs else "-"),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these packages and what they need")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="derivations at once where no time is taken [1]"
    )
    parser.add_argument(
        "--check", action="store_true", help="build each hardened package a second time: the same bytes?"
    )
    arguments = parser.parse_args()
    rows = list(compare(arguments.only, arguments.jobs, check=arguments.check))
    for line in table(rows):
        print(line)
    return 1 if any(row.faults for row in rows) else 0


def compare(only: Sequence[str], jobs: int, *, check: bool = False) -> Iterator[Row]:
    """Build the packages, or those named with what they need, in each way, and look at each; what is done goes to stderr."""
    packages = load(only)
    subprocess.run([FETCH, *(package.name for package in packages)], env=nix.environment(), check=True)
    seconds = {}
    for place, package in enumerate(packages, 1):
        times = []
        for way in (PLAIN, HARDENED):
            say(f"[{place}/{len(packages)}] {package.name}, {way}")
            times.append(build([package.builds[way]], 1))
        seconds[package.name] = (times[0], times[1])
        if check:
            realise(["--check", package.builds[HARDENED].drv])
    for half in HALVES:
        halved = [package.builds[half] for package in packages if half in package.builds]
        say(f"half of {len(halved)} packages hardened ({half})")
        build(halved, jobs)
    for package in packages:
        yield look(package, seconds[package.name])


def load(only: Sequence[str]) -> list[Package]:
    """The packages in the order of their dependencies; of those that are halved, every second is hardened in the one half."""
    found = evaluate([], [])
    drvs = {package.builds[PLAIN].drv: package.name for package in found.values()}
    wanted = [drv for drv, name in drvs.items() if not only or name in only]
    if missing := set(only) - set(found):
        raise SystemExit(
            f"distro.py: {', '.join(sorted(missing))}: no package of nix/distro; they are {', '.join(found)}"
        )
    order = [drvs[path] for path in query("--requisites", wanted) if path in drvs]
    tops = [found[name].builds[PLAIN].drv for name in order if name in HALVED]
    halved = [drvs[path] for path in query("--requisites", tops) if path in drvs] if tops else order
    found = evaluate(halved[::2], halved[1::2])
    return [found[name] for name in order]


def evaluate(first: Sequence[str], second: Sequence[str]) -> dict[str, Package]:
    words = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", str(EXPRESSION)]
    for name, half in (("first", first), ("second", second)):
        words += ["--arg", name, f"[ {' '.join(map(json.dumps, half))} ]"]
    done = subprocess.run(words, env=nix.environment(), stdout=subprocess.PIPE, check=True)
    return {
        name: Package(
            name,
            {
                way: Build(each["drvPath"], {output: Path(path) for output, path in each["outputs"].items()})
                for way, each in said["builds"].items()
                if way not in HALVES or name in (*first, *second)
            },
            said["programs"],
            said["tested"],
        )
        for name, said in json.loads(done.stdout).items()
    }


def query(what: str, paths: Sequence[str]) -> list[str]:
    argv = ["nix-store", "--query", what, *paths]
    return subprocess.run(argv, env=nix.environment(), capture_output=True, text=True, check=True).stdout.split()


def build(builds: Iterable[Build], jobs: int) -> float:
    """Build derivations; the seconds that their own builders took, not what they wait for."""
    mine = {each.drv for each in builds}
    return sum(realise(["--max-jobs", str(jobs), *sorted(mine)]).get(drv, 0.0) for drv in mine)


def realise(words: Sequence[str]) -> dict[str, float]:
    """Let Nix build, by its own log's account of when each builder began and ended; the end of a log that tells of a failure."""
    argv = ["nix-store", "--realise", "--log-format", "internal-json", *words]
    begun: dict[int, tuple[str, float]] = {}
    seconds: dict[str, float] = {}
    errors = []
    with subprocess.Popen(
        argv, env=nix.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if not line.startswith("@nix "):
                errors.append(line)
                continue
            event = json.loads(line.removeprefix("@nix "))
            if event["action"] == "start" and event["type"] == ACTIVITY_OF_A_BUILD:
                begun[event["id"]] = (event["fields"][0], time.monotonic())
            elif event["action"] == "stop" and event["id"] in begun:
                drv, start = begun[event["id"]]
                seconds[drv] = time.monotonic() - start
            elif event["action"] == "msg" and event["level"] == 0:
                errors.append(event["msg"] + "\n")
    if process.returncode:
        raise SystemExit(f"distro.py: {' '.join(argv)} failed:\n{''.join(errors)}")
    return seconds


def look(package: Package, seconds: tuple[float, float]) -> Row:
    """Compare every build of one package with the plain one."""
    seen = {way: examine(each) for way, each in package.builds.items()}
    plain, hardened = seen[PLAIN], seen[HARDENED]
    faults = []
    for way, each in seen.items():
        if each.sizes.keys() != plain.sizes.keys():
            faults.append(f"{way}: other files")
        limit = {path: plain.opens[path] if way != HARDENED or path in each.runtimes else 0 for path in each.opens}
        faults += [
            f"{way}: {path} opens {number} in vain" for path, number in each.opens.items() if number > limit[path]
        ]
    for run in package.programs:
        outcomes = {way: perform(each, run) for way, each in package.builds.items()}
        words = " ".join(run["argv"])
        if outcomes[PLAIN].status != 0:
            faults.append(f"{words}: status {outcomes[PLAIN].status} in the plain build")
        faults += [f"{words}: differs ({way})" for way, outcome in outcomes.items() if outcome != outcomes[PLAIN]]
    bound, bare = names(package.builds[HARDENED].drv)
    return Row(
        package.name,
        len(hardened.sizes),
        bound,
        bare,
        sum(hardened.sizes.values()) - sum(plain.sizes.values()),
        len(hardened.opens),
        (sum(plain.opens.values()), sum(hardened.opens.values())),
        tuple(sum(seen[half].opens.values()) for half in HALVES if half in seen),
        seconds,
        package.tested,
        len(package.programs),
        tuple(f"{path} {hardened.opens[path]} ({objects})" for path, objects in hardened.runtimes.items()),
        tuple(faults),
    )


def examine(each: Build) -> Seen:
    """Every ELF file of a build that is loaded, by its path in its output."""
    sizes, opens, runtimes = {}, {}, {}
    for output, top in each.outputs.items():
        for path in sorted(top.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            try:
                obj = read_object(str(path))
            except HardenError:
                continue
            if obj is None or obj.kind is Kind.OTHER:
                continue
            key = f"{output}/{path.relative_to(top)}"
            sizes[key] = path.stat().st_size
            if obj.kind is Kind.PROGRAM and obj.interpreter:
                loader = Path(obj.interpreter)
                opens[key] = failing_opens(loader, path)
                objects = searching(loader, path) if opens[key] else set()
                if objects and all(matches(RUNTIMES, name) for name in objects):
                    runtimes[key] = ", ".join(sorted(objects))
    return Seen(sizes, opens, runtimes)


def perform(each: Build, run: Mapping[str, Any]) -> Outcome:
    """One run of a program in an empty directory, as nix/distro/README.md says."""
    name, *words = run["argv"]
    program = next((path for top in each.outputs.values() if (path := top / name).exists()), Path(name))
    with tempfile.TemporaryDirectory() as directory:
        places = [str(top / "bin") for top in each.outputs.values() if (top / "bin").is_dir()]
        environ = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "HOME": directory,
            **run.get("env", {}),
        }
        if "setup" in run:
            path = ":".join([*places, environ["PATH"]])
            subprocess.run(
                ["/bin/bash", "-euc", run["setup"]], cwd=directory, env={**environ, "PATH": path}, check=True
            )
        done = subprocess.run(
            [program, *words],
            cwd=directory,
            env=environ,
            input=run.get("stdin", "").encode(),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    return Outcome(done.returncode, masked(done.stdout, each), masked(done.stderr, each))


def masked(said: bytes, each: Build) -> bytes:
    """What a program said, without the hashes of its own outputs: each build has others."""
    for output, path in each.outputs.items():
        said = said.replace(os.fsencode(path), os.fsencode(output))
    return said


def names(drv: str) -> tuple[int, Counter[tuple[str, str]]]:
    """From the log of a hardened build: how many names were bound, then or before, and which were left with which reason."""
    log = subprocess.run(["nix-store", "--read-log", drv], env=nix.environment(), capture_output=True, check=False)
    bound = 0
    bare: Counter[tuple[str, str]] = Counter()
    for match in SUMMARY.finditer(log.stdout.decode(errors="replace")):
        bound += int(match["bound"]) + int(match["already"] or 0)
        for each in BARE.finditer(match["bare"] or ""):
            bare[each["name"], each["why"]] += int(each["times"] or 1)
    return bound, bare


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line a package, one for all, and what was left bare with its reason."""
    total = Row(
        f"{len(rows)} packages",
        sum(row.files for row in rows),
        sum(row.bound for row in rows),
        Counter(),
        sum(row.growth for row in rows),
        sum(row.programs for row in rows),
        (sum(row.opens[0] for row in rows), sum(row.opens[1] for row in rows)),
        tuple(sum(row.halves[half] for row in rows if row.halves) for half in range(len(HALVES))),
        (
            sum(row.seconds[0] for row in rows if all(row.seconds)),
            sum(row.seconds[1] for row in rows if all(row.seconds)),
        ),
        False,
        sum(row.runs for row in rows),
        (),
        (f"{faulty} with faults",) if (faulty := sum(bool(row.faults) for row in rows)) else (),
    )
    lines = [HEADINGS, *(row.cells() for row in rows), total.cells()]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(HEADINGS))]
    for cells in lines:
        words = [cells[0].ljust(widths[0])]
        words += [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([*words, cells[-1]])
    bare: Counter[tuple[str, str]] = Counter()
    for row in rows:
        bare += row.bare
    for (name, why), times in sorted(bare.items()):
        yield f"left bare: {name} ({why}) ×{times}: {', '.join(row.name for row in rows if (name, why) in row.bare)}"
    for row in rows:
        if row.runtimes:
            yield f"searched for by the compiler's runtime: {row.name}: {'; '.join(row.runtimes)}"
    if total.seconds[0]:
        yield f"build time, hardened to plain: {total.seconds[1] / total.seconds[0]:.3f}"


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.pop("LD_LIBRARY_PATH", None)
    sys.exit(main())
