"""How long the hook's program takes on the plain outputs of the distribution: what it adds to their builds.

    hook_time.py [--only NAME…]

Runs as root: in a mount namespace of its own with an overlay over the store, so that nothing of the store changes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from real.distro import PLAIN, Package, build, examine, load, query

AGAIN = "NIX_HARDEN_HOOK_TIME"  # set in the namespace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these packages and what they need")
    arguments = parser.parse_args()
    packages = load(arguments.only)
    build([package.builds[PLAIN] for package in packages], 2)
    if AGAIN not in os.environ:
        with tempfile.TemporaryDirectory() as top:
            for name in ("upper", "work"):
                (Path(top) / name).mkdir()
            layers = f"lowerdir=/nix/store,upperdir={top}/upper,workdir={top}/work"
            script = 'mount -t overlay overlay -o "$0" /nix/store && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", script, layers, sys.executable, *sys.argv]
            return subprocess.run(argv, env={**os.environ, AGAIN: "1"}, check=False).returncode
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    print(f"python3 -I -c pass: {(time.perf_counter() - begin) * 1000:.0f} ms")
    files, total = 0, 0.0
    for package in packages:
        number, seconds = len(examine(package.builds[PLAIN]).sizes), harden(package)
        files, total = files + number, total + seconds
        print(f"{package.name.ljust(16)} {number:4} ELF files {seconds * 1000:6.0f} ms", flush=True)
    print(
        f"{len(packages)} packages, {files} ELF files: {total:.1f} s, {total / len(packages) * 1000:.0f} ms a package"
    )
    return 0


def harden(package: Package) -> float:
    """The seconds of one run, with what the outputs refer to as inputs."""
    outputs = package.builds[PLAIN].outputs
    argv = [sys.executable, "-I", "-m", "nix_harden", "fixup"]
    argv += [word for name, path in outputs.items() for word in ("--output", f"{name}={path}")]
    argv += ["--input", *query("--references", [str(path) for path in outputs.values()])]
    begin = time.perf_counter()
    subprocess.run(argv, capture_output=True, check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
