"""Runs to which the permissions of files apply: by root without its privileges over them, and by another user."""

import os
import subprocess
import sys
from collections.abc import Mapping

from support.store import REPOSITORY, Store, Words

NOBODY = 65534
# The tests' Python may lie where root alone may go, so the user stays and the privileges go.
WITHOUT_PRIVILEGES = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown,-sys_admin",
    "--inh-caps=-all",
]


def harden(store: Store, *words: Words, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run `nix-harden` with no privilege over files; its status and its words."""
    done = subprocess.run(
        [*WITHOUT_PRIVILEGES, sys.executable, "-m", "nix_harden", *words],
        cwd=REPOSITORY,
        env={**store.environ, **(environ or {})},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "fault of nix-harden" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def run_as_nobody(*words: Words, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a program as a user without any privilege: its status, its output, its words."""
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", *map_to_words(environ), *words],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def map_to_words(environ: Mapping[str, str] | None) -> list[str]:
    return [f"{name}={value}" for name, value in (environ or {}).items()]
