"""A directory for copies that a run makes, which the next run takes away where this one was killed."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator

from nix_harden.model import COPY

SCRATCH = "nix-harden-copies-"
SETTLED = 60  # seconds in which a scratch directory that is made is also locked


@contextlib.contextmanager
def scratch_directory() -> Iterator[str]:
    """A directory for copies, locked while it is in use; those of runs that were killed, whose locks are gone, are cleared away."""
    top = tempfile.gettempdir()
    for entry in os.scandir(top):
        if entry.name.startswith(SCRATCH) and entry.is_dir(follow_symlinks=False):
            clear(entry.path)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=top) as scratch, lock(scratch, wait=True):
        yield scratch


def clear(scratch: str) -> None:
    """Delete a scratch directory of this user that no run holds; one in which lies anything but copies is somebody else's, and stays."""
    with contextlib.suppress(OSError), lock(scratch, wait=False):
        status = os.stat(scratch)
        if status.st_uid == os.geteuid() and status.st_mtime < time.time() - SETTLED:
            with os.scandir(scratch) as entries:
                copies = list(entries)
            if all(each.name.startswith(COPY) and each.is_file(follow_symlinks=False) for each in copies):
                for each in copies:
                    os.unlink(each.path)
                os.rmdir(scratch)


@contextlib.contextmanager
def lock(directory: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a directory, which ends with this process and its forks; where another holds it, wait or raise OSError.

    Who looks whether a directory is in use holds its lock for a moment, so that its owner has to wait.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
