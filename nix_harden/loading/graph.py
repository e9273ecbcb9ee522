"""What a loader maps for a program, as values: the files that it sees, what each name leads to, and what is compiled into the loader; no I/O."""

import enum
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nix_harden.loading.cache import CacheEntry
from nix_harden.model import Abi, DlopenNote, Kind, Loadable, Object, Tried

# The priority of what no note names, but a string in an object that calls dlopen.
SEEN = "a string in it"
CURRENT_DIRECTORY = "/"
NEEDED, FILTER, AUXILIARY, DLOPEN = "DT_NEEDED", "DT_FILTER", "DT_AUXILIARY", "dlopen"


class Family(enum.Enum):
    """Whose rules a loader follows."""

    GLIBC = "glibc"
    MUSL = "musl"


class How(enum.Enum):
    """How a name led to a file; the words are those that the audit prints."""

    PATH = "path"
    NAME = "already loaded under this name"
    SONAME = "SONAME of a loaded library"
    LIBC = "the loader itself"
    RPATH = "RPATH"
    RUNPATH = "RUNPATH"
    CACHE = "ld.so.cache"
    DEFAULT = "default directory"
    MISSING = "not found"

    @property
    def is_search(self) -> bool:
        return self in (How.RPATH, How.RUNPATH, How.CACHE, How.DEFAULT, How.MISSING)


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that was opened: the device and inode that name it, its real path and what is in it."""

    identity: tuple[int, int]
    real: str
    loadable: Loadable


@dataclass(frozen=True, slots=True)
class Unopened:
    """A path that open(2) refuses, with its errno."""

    errno: int

    @property
    def why(self) -> str:
        return "not there" if self.errno == errno.ENOENT else os.strerror(self.errno)


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A path that opens and holds nothing that a loader understands: not ELF, malformed, a directory."""

    why: str


Seen = Found | Unopened | Unloadable


class Reader(Protocol):
    """What the walk asks of a file system. Relative paths begin at CURRENT_DIRECTORY."""

    def open(self, path: str) -> Seen:
        """What opening `path` gives."""

    def is_directory(self, path: str) -> bool:
        """Whether stat(2) says that `path` is a directory."""

    def writable_at(self, path: str) -> str | None:
        """The directory, `path` itself or above it, in which anybody may put what is then found at `path`; None if nobody."""


@dataclass(frozen=True, slots=True)
class Loader:
    """A program interpreter and what is compiled into it.

    `variants` are the subdirectories that it tries before each directory itself, for the processor at hand;
    `cache` maps `cache_key` of a name to entries in their order; `platform` is None where it is not known. `asks_for_relr` says that it
    refuses DT_RELR without its version, as glibc does since 2.36.
    """

    path: str
    real: str
    abi: Abi
    family: Family = Family.GLIBC
    soname: str | None = None
    directories: tuple[str, ...] = ()
    cache_path: str | None = None
    cache: Mapping[str, tuple[CacheEntry, ...]] = field(default_factory=dict)
    lib: str = "lib"
    platform: str | None = None
    variants: tuple[str, ...] = ()
    hwcap: int = 0
    platform_bit: int = 0
    asks_for_relr: bool = False


@dataclass(frozen=True, slots=True)
class SearchEntry:
    """One entry of an object's own search path: as written, expanded, and what is there."""

    text: str
    directory: str
    exists: bool
    writable_at: str | None


@dataclass(frozen=True, slots=True)
class Node:
    """One object of a program: the name that first asked for it, the path under which it was opened, and its real path.

    `by` is the place in Graph.nodes of the object that asked first; None for the program and what it starts with.
    """

    name: str
    path: str
    real: str
    loadable: Loadable
    by: int | None
    search: tuple[SearchEntry, ...] = ()

    @property
    def object(self) -> Object:
        return self.loadable.object


@dataclass(frozen=True, slots=True)
class Edge:
    """What one string of one object leads to.

    `source` and `target` are places in Graph.nodes; `target` is None for a miss, and for what a dlopen would load in addition,
    whose `path` says it. `via` is the directory, the object whose RPATH it was, or the cache; `tried` is the trail of refusals.
    """

    source: int
    tag: str
    name: str
    how: How
    target: int | None = None
    path: str | None = None
    via: str = ""
    tried: tuple[Tried, ...] = ()
    note: DlopenNote | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """A program or library with all that its loader maps for it.

    `nodes` are in the order of loading, the root first. `listing` is what the loader prints when it is asked: (name, path or None
    where not found), in its order, the kernel's own library left out. `refusal` says why the loader would give up.
    `unmatched` pairs nodes with the vn_file strings that no loaded object bears, at which glibc aborts.
    """

    root: str
    loader: Loader
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    listing: tuple[tuple[str, str | None], ...]
    refusal: str | None = None
    unmatched: tuple[tuple[int, str], ...] = ()
    opened: tuple[Edge, ...] = ()

    @property
    def is_program(self) -> bool:
        return self.nodes[0].object.interpreter is not None and self.nodes[0].object.kind is Kind.PROGRAM
