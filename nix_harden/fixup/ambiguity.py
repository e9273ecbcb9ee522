"""Which roots have names whose meaning may depend on what else is loaded: only they have to be walked.

A name leads an object to what is loaded under that name or SONAME, else to what its own search finds (elf/dl-load.c,
`_dl_map_object`). Where, in all that a root can reach, each name leads to one file by every object's own search and is the SONAME of no
other, whoever loads what first makes no difference. If a plan then leaves each name the file that it led to, and takes no SONAME or name
from a file for which something still asks by it, no walk of that root can differ. That is seen once for each object, while a
walk of every root would look at each object as often as there are roots above it.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nix_harden.loading.graph import NEEDED, Family, Found, Loader, Reader, Seen
from nix_harden.loading.loader import walk
from nix_harden.model import Loadable, Object
from nix_harden.names import LOADERS
from nix_harden.settings import matches

File = tuple[int, int]  # a device and an inode


@dataclass(frozen=True, slots=True)
class _Own:
    """What an object's own search makes of its names, in their order: pairs of a name and the file and path that it leads to."""

    loadable: Loadable
    names: tuple[tuple[str, File, str], ...]


@dataclass
class _File:
    """A file in reach: the first path by which it is opened, all directories of such paths, and its real paths, of which hard links are several.

    `before` and `after` are None where its own search does not say what its names mean; `above` are those that reach it at once.
    """

    path: str
    origins: set[str] = field(default_factory=set)
    reals: set[str] = field(default_factory=set)
    before: _Own | None = None
    after: _Own | None = None
    above: set[File] = field(default_factory=set)


class _Alone:
    """A file system in which one object has names, that at `path`, and no other; none has notes on what it opens."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._nameless: dict[str, Seen] = {}
        self.path = ""

    def open(self, path: str) -> Seen:
        if path != self.path:
            if path not in self._nameless:
                self._nameless[path] = self._bare(path)
            return self._nameless[path]
        seen = self._reader.open(path)
        if not isinstance(seen, Found):
            return seen
        obj = replace(seen.loadable.object, notes=())
        return replace(seen, loadable=replace(seen.loadable, object=obj, mentions=()))

    def _bare(self, path: str) -> Seen:
        seen = self._reader.open(path)
        if not isinstance(seen, Found):
            return seen
        obj = replace(seen.loadable.object, runpath=None, rpath=None, version_files=(), notes=())
        return replace(seen, loadable=replace(seen.loadable, object=obj, wants=(), mentions=()))

    def is_directory(self, path: str) -> bool:
        return self._reader.is_directory(path)

    def writable_at(self, path: str) -> str | None:
        return None  # which no walk depends on


@dataclass(frozen=True, slots=True)
class Change:
    """The files as they are, as a plan makes them, and which of them it edits; `opens` are the bare names that an object may give to dlopen(3)."""

    before: Reader
    after: Reader
    edited: Collection[File]
    opens: Callable[[Object], Iterable[str]]


def ambiguous(roots: Iterable[str], loader: Loader, change: Change) -> frozenset[str]:
    """Those of the roots, which are real paths, that have to be walked; all, where the rules are not glibc's."""
    roots = frozenset(roots)
    if loader.family is not Family.GLIBC:
        return roots
    files = _reach(roots, loader, change)
    unclear = _above(files, _unclear(files))
    for asker, lost in _asks(files, change):
        unclear |= _above(files, [asker]) & _above(files, lost)
    clear = {file.path for identity, file in files.items() if identity not in unclear}
    return roots - clear


def _above(files: Mapping[File, _File], some: Iterable[File]) -> set[File]:
    """Those files, and all that reach one of them."""
    waiting = list(some)
    found = set(waiting)
    for identity in waiting:
        more = files[identity].above - found
        found |= more
        waiting += more
    return found


def _reach(roots: Iterable[str], loader: Loader, change: Change) -> dict[File, _File]:
    """All files in reach of the roots by the objects' own searches, the roots by their own paths."""
    files: dict[File, _File] = {}
    before, after = _Alone(change.before), _Alone(change.after)
    waiting = sorted(roots)
    for path in waiting:
        seen = change.before.open(path)
        if not isinstance(seen, Found):
            continue
        known = seen.identity in files
        file = files.setdefault(seen.identity, _File(path))
        file.origins.add(os.path.dirname(path))
        file.reals.add(seen.real)
        if not known:
            file.before = _own(path, loader, before)
            waiting += [path for _, _, path in file.before.names] if file.before else []
    for identity, file in files.items():
        if file.before is None:
            continue
        near = {target for _, target, _ in file.before.names}
        is_changed = identity in change.edited or not near.isdisjoint(change.edited)
        file.after = _own(file.path, loader, after) if is_changed else file.before
        for target in near:
            files[target].above.add(identity)
        for _, target, path in file.after.names if file.after else ():
            if target in files:
                files[target].origins.add(os.path.dirname(path))
    return files


def _own(path: str, loader: Loader, reader: _Alone) -> _Own | None:
    """What the names of the object that is opened by a path mean by its own search alone; None where that does not say it all."""
    reader.path = path
    seen = reader.open(path)
    graph = walk(path, loader, reader)
    if not isinstance(seen, Found) or graph is None or graph.refusal is not None or graph.unmatched:
        return None
    obj = seen.loadable.object
    inherited = obj.rpath is not None and obj.runpath is None  # what it loads searches it, too
    if inherited or any(tag != NEEDED for tag, _ in seen.loadable.wants):
        return None
    names = []
    for edge in graph.edges:
        if matches(LOADERS, os.path.basename(edge.name)):
            continue
        target = reader.open(edge.path) if edge.path is not None else None
        if edge.path is None or not isinstance(target, Found):
            return None
        names.append((edge.name, target.identity, edge.path))
    return _Own(seen.loadable, tuple(names))


def _unclear(files: Mapping[File, _File]) -> Iterator[File]:
    """The files whose names may mean another file after than before, or none, by what is loaded."""
    answers: dict[str, set[File]] = {}
    askers: dict[str, set[File]] = {}
    for identity, file in files.items():
        was, now = file.before, file.after
        if was is None or now is None or _targets(was) != _targets(now):
            yield identity
            continue
        if len(file.reals) > 1 or (len(file.origins) > 1 and _says_where_it_is(was.loadable)):
            yield identity
        for own in (was, now):
            soname = own.loadable.object.soname
            borne = [(soname, identity)] if soname is not None else []
            for name, target in (*((name, target) for name, target, _ in own.names), *borne):
                answers.setdefault(name, set()).add(target)
                askers.setdefault(name, set()).add(identity)
    for name, targets in answers.items():
        if len(targets) > 1:
            yield from askers[name]


def _asks(files: Mapping[File, _File], change: Change) -> Iterator[tuple[File, set[File]]]:
    """The files that ask, or may ask later, by a name under which others are found no more once they are loaded, and these others."""
    gone: dict[str, set[File]] = {}
    for identity, file in files.items():
        was, now = file.before, file.after
        if was is None or now is None:
            continue
        for (old, target, _), (new, _, _) in zip(was.names, now.names, strict=False):
            if old != new and _soname(files[target].after) != old:
                gone.setdefault(old, set()).add(target)
        if (soname := _soname(was)) is not None and soname != _soname(now):
            gone.setdefault(soname, set()).add(identity)
    for identity, file in files.items() if gone else ():
        if file.after is not None:
            names = {name for name, _, _ in file.after.names}.union(change.opens(file.after.loadable.object))
            for name in gone.keys() & names:
                yield identity, gone[name]


def _targets(own: _Own) -> list[File]:
    return [target for _, target, _ in own.names]


def _soname(own: _Own | None) -> str | None:
    return own.loadable.object.soname if own is not None else None


def _says_where_it_is(loadable: Loadable) -> bool:
    """Whether what it finds may depend on the path by which it was opened."""
    return "$" in (loadable.object.runpath or "") or any("$" in name for _, name in loadable.wants)
