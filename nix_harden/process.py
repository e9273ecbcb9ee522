"""Run other programs; the only importer of subprocess."""

import os
import subprocess
from collections.abc import Sequence

from nix_harden.errors import ToolError


def run(argv: Sequence[str]) -> str:
    """The standard output of a program that ends with status 0, run without a shell in the C locale.

    Raises ToolError with the last line that it printed where it cannot be started or fails.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise ToolError(argv[0], f"cannot be started: {error.strerror}") from error
    if done.returncode:
        how = (
            f"was killed by signal {-done.returncode}"
            if done.returncode < 0
            else f"failed with status {done.returncode}"
        )
        words = os.fsdecode(done.stderr).strip().splitlines()
        raise ToolError(argv[0], f"{how} on {argv[-1]}: {words[-1] if words else 'it said nothing'}")
    return os.fsdecode(done.stdout)
