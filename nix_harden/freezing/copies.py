"""Write the copies of a closure: all of them aside, then in place by one rename(2), and gone again where what follows fails."""

import contextlib
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from nix_harden.errors import UsageError, WriteError
from nix_harden.fixup.write import clone, write_copy
from nix_harden.freezing.closure import Copy, changes
from nix_harden.model import COPY
from nix_harden.settings import Settings

# What no entry of a search path can have in it, in words.
ODD = {":": "colon", "\n": "newline", "$": "dollar sign"}


def check_parent(path: str, option: str) -> None:
    """Raise UsageError where something else than a directory is in the way of what is to lie at `path`."""
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise UsageError(option, f"{parent} is no directory, and {path} cannot be in it; say another name")


@contextlib.contextmanager
def made_directory(directory: str) -> Iterator[None]:
    """The directory is there within this context, with those above it, and as it was if it is left by an exception."""
    missing = []
    while not os.path.lexists(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    try:
        try:
            for place in reversed(missing):
                os.mkdir(place)
        except OSError as error:
            raise WriteError(place, error.strerror or str(error)) from error
        yield
    except BaseException:
        for place in missing:
            with contextlib.suppress(OSError):
                os.rmdir(place)
        raise


def check_directory(directory: str) -> str:
    """The real path of a directory that may be written: one that is not there, or holds nothing. Raises UsageError.

    Loaders end a directory of a search path at a colon, musl's at a newline, and read `$` as the start of a token.
    """
    path = os.path.join(
        os.path.realpath(os.path.dirname(os.path.abspath(directory))), os.path.basename(directory.rstrip("/"))
    )
    check_parent(path, "--closure")
    odd = next((word for sign, word in ODD.items() if sign in path), None)
    if odd is not None:
        raise UsageError(
            "--closure", f"{path} has a {odd} in it, which a search path cannot hold; say another directory"
        )
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        raise UsageError("--closure", f"{path} is there and no directory; say another name")
    if os.path.isdir(path) and os.listdir(path):
        raise UsageError("--closure", f"{path} is not empty; say another directory, or delete it first")
    return path


@contextlib.contextmanager
def written(copies: Sequence[Copy], links: Mapping[str, str], directory: str, settings: Settings) -> Iterator[int]:
    """The copies, and links to them, lie in `directory` within this context, and after it unless it is left by an exception; answers their size in bytes.

    Raises WriteError and ToolError; then, and after an exception, the directory is as it was.
    """
    aside = ""
    empty = os.path.isdir(directory)
    try:
        try:
            aside = tempfile.mkdtemp(prefix=COPY, dir=os.path.dirname(directory))
            os.chmod(aside, stat.S_IMODE(os.stat(directory).st_mode) if empty else 0o755)
            targets = [os.path.join(aside, os.path.relpath(copy.path, directory)) for copy in copies]
            for place in {os.path.dirname(target) for target in targets}:
                os.makedirs(place, exist_ok=True)
            with ThreadPoolExecutor(settings.jobs) as pool:
                size = sum(pool.map(_write, copies, targets, itertools.repeat(settings)))
            for link, path in links.items():
                os.symlink(os.path.relpath(path, directory), os.path.join(aside, os.path.basename(link)))
            os.rename(aside, directory)
        except OSError as error:
            raise WriteError(directory, error.strerror or str(error)) from error
        aside = directory
        yield size
        aside = ""
    finally:
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
            if empty and not os.path.isdir(directory):
                os.mkdir(directory)


def _write(copy: Copy, target: str, settings: Settings) -> int:
    if changes(copy.edit):
        size = write_copy(copy.edit, target, settings, lambda _: None)
    else:
        source = copy.edit.paths[0]
        with open(target, "xb"):
            pass
        clone(source, target)
        size = os.stat(target).st_size
    os.chmod(target, stat.S_IMODE(os.stat(copy.edit.paths[0]).st_mode) & 0o777)  # nobody's but the user's
    return size
