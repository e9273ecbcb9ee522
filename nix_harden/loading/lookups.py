"""How many files a loader looks for in vain at the start of a program, as it is and with bare names; pure over a reader.

Counted by the rules of `loader`, so that it works for any machine, and for a program that was never built without absolute names.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from nix_harden.loading.graph import Family, Found, Graph, How, Loader, Reader, Seen, Unopened
from nix_harden.loading.loader import walk
from nix_harden.model import Loadable


@dataclass(frozen=True, slots=True)
class Lookups:
    """A loader's calls of open(2) and stat(2) that fail until everything is mapped: with the names that are there, and with bare ones.

    What the module of a prelinked program answers is not looked for now.
    Of another machine's loader it is not known which subdirectories it tries for its processor, so that it may look more often.
    """

    now: int
    bare: int

    @property
    def saved(self) -> int:
        return self.bare - self.now


def count(graph: Graph, reader: Reader, *, prelinked: bool) -> Lookups:
    """The lookups of the program or library of a graph; `prelinked` says that it has a module, which fits."""
    now = _answered(graph) if prelinked else _at_start
    failing = _failing(graph.root, graph.loader, reader, now)
    objects = [node.object for node in graph.nodes]
    if not prelinked and not any(os.path.isabs(name) for each in objects for name in (*each.needed, each.soname or "")):
        return Lookups(failing, failing)  # every name is bare already
    return Lookups(failing, _failing(graph.root, graph.loader, reader, unbound))


def _failing(root: str, loader: Loader, reader: Reader, change: Callable[[Loadable], Loadable]) -> int:
    counting = _Counting(reader, loader, change)
    graph = walk(root, loader, counting)
    edges = graph.edges if graph is not None else ()
    # what no search path answers is looked for in the cache, which is opened once
    cached = any(edge.how in (How.DEFAULT, How.MISSING) and "/" not in edge.name for edge in edges)
    no_cache = loader.cache_path is not None and isinstance(reader.open(loader.cache_path), Unopened)
    return counting.failing + (cached and no_cache)


def _at_start(loadable: Loadable) -> Loadable:
    """Without what would be opened later: a walk follows that too."""
    return replace(loadable, object=replace(loadable.object, notes=()), mentions=())


def _answered(graph: Graph) -> Callable[[Loadable], Loadable]:
    """With the path of what it leads to for each bare name, as `la_objsearch` of the module has it."""
    paths = {
        (graph.nodes[edge.source].object.path, edge.name): graph.nodes[edge.target].path
        for edge in graph.edges
        if edge.target is not None and "/" not in edge.name
    }

    def change(loadable: Loadable) -> Loadable:
        wants = tuple((tag, paths.get((loadable.object.path, name), name)) for tag, name in loadable.wants)
        return _at_start(replace(loadable, wants=wants))

    return change


def unbound(loadable: Loadable) -> Loadable:
    """The same with bare names, and their directories behind its own search path, as a build without hardening leaves them."""
    obj = loadable.object
    named = [name for name in obj.needed if os.path.isabs(name)]
    rpath, runpath = obj.rpath, obj.runpath
    if named and rpath is not None and runpath is None:
        rpath = _joined(rpath, named)
    elif named:
        runpath = _joined(runpath or "", named)
    bare = replace(
        obj,
        soname=os.path.basename(obj.soname) if obj.soname is not None else None,
        needed=tuple(_bare(name, named) for name in obj.needed),
        version_files=tuple(_bare(name, named) for name in obj.version_files),
        rpath=rpath,
        runpath=runpath,
    )
    wants = tuple((tag, _bare(name, named)) for tag, name in loadable.wants)
    return _at_start(replace(loadable, object=bare, wants=wants))


def _joined(path: str, named: Collection[str]) -> str:
    return ":".join(dict.fromkeys([*(path.split(":") if path else ()), *map(os.path.dirname, named)]))


def _bare(name: str, named: Collection[str]) -> str:
    return os.path.basename(name) if name in named else name


class _Counting:
    """A reader that shows each object changed, and counts the lookups that fail.

    glibc (`open_path`) learns whether a directory is there when the first name of all fails in it, by a stat(2), and asks no more where
    it is not; that holds for each subdirectory for processors as well. musl learns nothing.
    """

    def __init__(self, reader: Reader, loader: Loader, change: Callable[[Loadable], Loadable]) -> None:
        self._reader, self._change = reader, change
        self._learns = loader.family is Family.GLIBC
        self._variants = Counter(f"/{variant}/" for variant in loader.variants)
        self._absent: dict[str, int] = {}
        self._changed: dict[tuple[int, int], Loadable] = {}
        self._failed = 0

    @property
    def failing(self) -> int:
        return self._failed + 2 * sum(self._absent.values())

    def open(self, path: str) -> Seen:
        seen = self._reader.open(path)
        if isinstance(seen, Unopened):
            directory = os.path.dirname(path) + "/"
            if self._learns and not self._reader.is_directory(directory):
                self._absent.setdefault(directory, 1)
            else:
                self._failed += 1
        if not isinstance(seen, Found):
            return seen
        if seen.identity not in self._changed:
            self._changed[seen.identity] = self._change(seen.loadable)
        return replace(seen, loadable=self._changed[seen.identity])

    def is_directory(self, path: str) -> bool:
        there = self._reader.is_directory(path)
        # "x86_64" is the end of "tls/x86_64" too
        variant = max(filter(f"/{path}".endswith, self._variants), key=len, default=None)
        if not there and variant is not None:
            self._absent.setdefault(path, self._variants[variant])
        return there

    def writable_at(self, path: str) -> str | None:
        return self._reader.writable_at(path)
