"""Both modes of the hook on the plain outputs of the distribution: what is bound, what is searched for, what files grow by, what it takes.

    modes.py [--only NAME…]

Every package is hardened in the order of its dependencies, as its build would have done, in each mode anew. Runs as root: in a mount
namespace of its own with an overlay over the store, so that nothing of the store changes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real.distro import PLAIN, Package, build, examine, load, query

MODES = ("needed", "soname")
AGAIN = "NIX_HARDEN_MODE_IN_NAMESPACE"
HEADINGS = ("mode", "ELF files", "names bound", "SONAMEs", "growth, KiB", "failing openat", "s", "ms a package")


@dataclass(frozen=True)
class Found:
    """What one mode came to: `opens` are the loader's failing opens of all programs, before and after."""

    packages: int
    files: int
    bound: int
    sonames: int
    growth: int
    opens: tuple[int, int]
    seconds: float

    def cells(self, mode: str) -> tuple[str, ...]:
        return (
            mode,
            str(self.files),
            str(self.bound),
            str(self.sonames),
            f"{self.growth / 1024:+.0f}",
            f"{self.opens[0]} → {self.opens[1]}",
            f"{self.seconds:.1f}",
            f"{self.seconds / self.packages * 1000:.0f}",
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these packages and what they need")
    arguments = parser.parse_args()
    packages = load(arguments.only)
    if mode := os.environ.get(AGAIN):
        print(json.dumps(asdict(harden(packages, mode))))
        return 0
    build([package.builds[PLAIN] for package in packages], 2)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    print(f"python3 -I -c pass: {(time.perf_counter() - begin) * 1000:.0f} ms")
    rows = [HEADINGS, *(compare(mode) for mode in MODES)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def compare(mode: str) -> tuple[str, ...]:
    """The row of one mode, from a namespace of its own."""
    with tempfile.TemporaryDirectory() as top:
        for name in ("upper", "work"):
            (Path(top) / name).mkdir()
        layers = f"lowerdir=/nix/store,upperdir={top}/upper,workdir={top}/work"
        script = 'mount -t overlay overlay -o "$0" /nix/store && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", script, layers, sys.executable, *sys.argv]
        done = subprocess.run(argv, env={**os.environ, AGAIN: mode}, stdout=subprocess.PIPE, check=True)
    return Found(**json.loads(done.stdout)).cells(mode)


def harden(packages: Sequence[Package], mode: str) -> Found:
    """Harden every package, and look at each before and after."""
    before = [examine(package.builds[PLAIN]) for package in packages]
    bound = sonames = 0
    seconds = 0.0
    for package in packages:
        outputs = package.builds[PLAIN].outputs
        argv = [sys.executable, "-I", "-m", "nix_harden", "fixup", "--json", "--mode", mode]
        argv += [word for name, path in outputs.items() for word in ("--output", f"{name}={path}")]
        argv += ["--input", *query("--references", [str(path) for path in outputs.values()])]
        begin = time.perf_counter()
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        seconds += time.perf_counter() - begin
        for file in json.loads(done.stdout)["files"]:
            bound += sum(bool(each["new"]) and each["new"] != each["old"] for each in file["needed"])
            sonames += bool(file["soname"] and file["soname"]["new"] and file["soname"]["new"] != file["soname"]["old"])
    after = [examine(package.builds[PLAIN]) for package in packages]
    return Found(
        len(packages),
        sum(len(each.sizes) for each in before),
        bound,
        sonames,
        sum(sum(each.sizes.values()) for each in after) - sum(sum(each.sizes.values()) for each in before),
        (sum(sum(each.opens.values()) for each in before), sum(sum(each.opens.values()) for each in after)),
        seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
