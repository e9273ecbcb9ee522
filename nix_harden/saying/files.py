"""Whole files: what a command makes for people, which is written as one or not at all, and the bytes of what is there."""

import mmap
import os
import stat
import tempfile

from nix_harden.errors import UsageError, WriteError


def put(path: str, data: bytes, option: str = "--output") -> None:
    """Put a file at `path`, written aside and renamed; one that is there is replaced, a pipe or device is written to.

    `option` is what named the place. Raises UsageError where that cannot hold a file, WriteError where the system refuses; what was there is whole then.
    """
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    if os.path.isdir(target):
        raise UsageError(option, f"{path} is a directory; say the name of a file in it")
    if not os.path.isdir(directory):
        raise UsageError(option, f"{directory} is no directory; make it first")
    try:
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            with open(target, "wb") as stream:
                stream.write(data)
            return
        _replace(target, data)
    except OSError as error:
        raise WriteError(path, error.strerror or str(error)) from error


def _replace(target: str, data: bytes) -> None:
    handle, aside = tempfile.mkstemp(prefix=".nix-harden-", dir=os.path.dirname(target))
    try:
        with open(handle, "wb") as stream:
            stream.write(data)
        os.chmod(aside, _mode(target))
        os.replace(aside, target)
    except BaseException:
        os.unlink(aside)
        raise


def _mode(target: str) -> int:
    """That of the file that is replaced, else what open(2) would give a new one."""
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def contents(path: str) -> bytes | mmap.mmap:
    """The bytes of a regular file, not read into memory; none where it is not regular or not ours to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return b""
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
