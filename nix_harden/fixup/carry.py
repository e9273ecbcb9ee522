"""Bring the hardened libraries that unhardened files need along, so that none of them is left to name another by path."""

import os
import shutil
from collections.abc import Iterable

from nix_harden.errors import UsageError
from nix_harden.model import File, Object
from nix_harden.reading.elf import read_object


def carry(files: Iterable[File], directory: str) -> dict[str, str]:
    """Copy each hardened library that is named by path, from these files on, into `directory`; the copies, by their old names.

    A library is hardened where it has an absolute SONAME or NEEDED; any other is left where it is. Raises UsageError where
    two different files would get one name.
    """
    paths = {os.path.realpath(path) for file in files for path in file.paths}
    queue = [file.object for file in files]
    copies: dict[str, str] = {}
    sources: dict[str, str] = {}
    for obj in queue:
        for name in obj.needed:
            real = os.path.realpath(name)
            if not os.path.isabs(name) or name in copies or real in paths or not os.path.isfile(real):
                continue
            found = read_object(real)
            if found is None or not is_hardened(found):
                continue
            copy = os.path.join(directory, os.path.basename(name))
            if sources.setdefault(copy, real) != real:
                problem = f"{sources[copy]} and {real} would both be {copy}; unharden them apart"
                raise UsageError("--carry", problem)
            os.makedirs(directory, exist_ok=True)
            shutil.copy2(real, copy)
            os.chmod(copy, os.stat(copy).st_mode | 0o200)
            copies[name] = copy
            queue.append(found)
    return copies


def is_hardened(obj: Object) -> bool:
    """Whether a path stands where a bare name once stood."""
    return os.path.isabs(obj.soname or "") or any(os.path.isabs(name) for name in obj.needed)
