"""What the rules of both families share: the objects of a program in the order of loading, and what each name led to; pure over a reader."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from nix_harden.loading.graph import (
    CURRENT_DIRECTORY,
    DLOPEN,
    Edge,
    Found,
    How,
    Loader,
    Node,
    Reader,
    SearchEntry,
)
from nix_harden.loading.search import TOKEN, expand
from nix_harden.model import DlopenNote, Tried


class Refusal(Exception):
    """The loader stops with an error, as it does for a file in its way that is not what it should be."""


@dataclass(eq=False)
class Map:
    """A link_map: what the loader remembers of an object. Without `found` it stands for a library that was not found."""

    path: str
    names: list[str]
    found: Found | None
    asked_by: "Map | None"
    soname: str | None
    identity: tuple[int, int] | None
    real: str = ""
    index: int = -1

    @property
    def origin(self) -> str:
        return os.path.dirname(os.path.join(CURRENT_DIRECTORY, self.path or self.real))


@dataclass(frozen=True)
class Hit:
    """Where a search ended: a loaded object, or a file that was opened."""

    how: How
    via: str = ""
    loaded: Map | None = None
    path: str = ""
    found: Found | None = None


class Walk:
    """What both families share: the objects in the order of loading, and the edges."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        self.root, self.loader, self.reader = root, loader, reader
        self.main = Map("", [], found, None, found.loadable.object.soname, None, root)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.opened: list[Edge] = []
        self.add(self.main, root)

    def add(self, loaded: Map, name: str) -> None:
        """Give an object its place among the nodes."""
        if loaded.found is None or loaded.index >= 0:
            return
        loaded.index = len(self.nodes)
        by = loaded.asked_by.index if loaded.asked_by is not None else None
        path = loaded.path or loaded.real
        search = tuple(self.search_entries(loaded))
        self.nodes.append(Node(name, path, loaded.found.real, loaded.found.loadable, by, search))

    def search_entries(self, loaded: Map) -> Iterator[SearchEntry]:
        """Every entry of the object's own search path, in which checks find what is wrong."""
        assert loaded.found is not None
        obj = loaded.found.loadable.object
        text = obj.runpath if obj.runpath is not None else obj.rpath
        for entry in text.split(":") if text else ():
            directory = self.expanded(entry, loaded)
            if directory is None:
                continue
            at = os.path.join(CURRENT_DIRECTORY, directory)
            yield SearchEntry(entry, directory, self.reader.is_directory(at), self.reader.writable_at(at))

    def expanded(self, text: str, loaded: Map) -> str | None:
        """`text` with its tokens replaced, or None where one has no value."""
        if "$" not in text:
            return text
        platform = self.loader.platform
        if platform is None and any("PLATFORM" in match.groups() for match in TOKEN.finditer(text)):
            return None
        return expand(text, loaded.origin, self.loader.lib, platform or "")

    def edge(self, source: Map, want: tuple[str, str], hit: Hit | None, target: Map | None, tried: "Trail") -> None:
        tag, name = want
        how, via = (hit.how, hit.via) if hit is not None else (How.MISSING, "")
        index = target.index if target is not None and target.index >= 0 else None
        path = (target.path or target.real) if target is not None and target.found is not None else None
        misses = tuple(tried.steps) if hit is None else ()
        self.edges.append(
            Edge(source.index, tag, name, how, index, path, via, misses, None, hit is None and tried.foreign)
        )

    def open_later(self, source: Map, note: DlopenNote, name: str, hit: Hit | None, tried: "Trail") -> None:
        """Record where a dlopen of a note's name would lead once everything is loaded."""
        if hit is None:
            self.opened.append(Edge(source.index, DLOPEN, name, How.MISSING, None, None, "", tuple(tried.steps), note))
            return
        target = hit.loaded.index if hit.loaded is not None and hit.loaded.index >= 0 else None
        path = hit.path if hit.loaded is None else hit.loaded.path or hit.loaded.real
        self.opened.append(Edge(source.index, DLOPEN, name, hit.how, target, path, hit.via, (), note))


class Trail:
    """What a search tried in vain."""

    def __init__(self) -> None:
        self.steps: list[Tried] = []
        self.foreign = False

    def add(self, path: str, why: str, foreign: bool = False) -> None:
        self.steps.append(Tried(path, why))
        self.foreign = self.foreign or foreign
