"""The files of the outputs, read once each."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nix_harden.errors import MalformedElf, ReadError
from nix_harden.model import COPY, File, Loadable, Output
from nix_harden.reading.elf import read_wants

Unread = MalformedElf | ReadError


@dataclass(frozen=True)
class Read:
    """What was found in the outputs: the ELF files, what could not be read, copies that a killed run left, and every entry.

    `loadables` has each of the files by its first path; `entries` are the paths in byte order, each with whether it is a regular file.
    """

    files: tuple[File, ...]
    loadables: Mapping[str, Loadable]
    unread: tuple[Unread, ...]
    leftovers: tuple[str, ...]
    entries: tuple[tuple[str, bool], ...]


def read_outputs(outputs: Sequence[Output]) -> Read:
    """Every ELF file of every output, each inode once, in byte order of the paths.

    An output that does not exist has no files: Nix itself asks for it at the end of the build. Raises ReadError where a
    directory cannot be read.
    """
    inodes: dict[tuple[int, int], list[tuple[str, str]]] = {}
    leftovers, entries = [], []
    for output in outputs:
        for path, regular in walk(output.path):
            if regular and os.path.basename(path).startswith(COPY):
                leftovers.append(path)
                continue
            entries.append((path, regular))
            if not regular:
                continue
            status = os.lstat(path)
            inodes.setdefault((status.st_dev, status.st_ino), []).append((output.name, path))
    files, loadables, unread = [], {}, []
    for links in inodes.values():
        (name, path), paths = links[0], tuple(path for _, path in links)
        try:
            loadable = read_wants(path)
        except (MalformedElf, ReadError) as error:
            unread.append(error)
            continue
        if loadable is not None:
            files.append(File(name, paths, loadable.object))
            loadables[path] = loadable
    return Read(tuple(files), loadables, tuple(unread), tuple(leftovers), tuple(entries))


def walk(top: str) -> list[tuple[str, bool]]:
    """The paths below `top` that are no directories, in byte order, each with whether it is a regular file.

    Symbolic links are not followed, nor is `top` where it is one: what it leads to is another store path's. A `top`
    that is no directory is its own only path. Raises ReadError.
    """
    if os.path.islink(top) or not os.path.isdir(top):
        return [(top, os.path.isfile(top) and not os.path.islink(top))] if os.path.lexists(top) else []
    found: list[tuple[str, bool]] = []
    directories = [top]
    while directories:
        directory = directories.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    else:
                        found.append((entry.path, entry.is_file(follow_symlinks=False)))
        except OSError as error:
            raise ReadError(directory, error.strerror or str(error)) from error
    return sorted(found, key=lambda pair: os.fsencode(pair[0]))
