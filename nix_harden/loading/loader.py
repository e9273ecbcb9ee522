"""What happens at run time: the rules by which glibc's and musl's loaders find a whole program's libraries; pure over a reader.

glibc: elf/dl-load.c (`_dl_map_object`, `open_path`, `open_verify`), elf/dl-deps.c (`_dl_map_object_deps`), elf/dl-cache.c and
elf/rtld.c of 2.36; musl: ldso/dynlink.c (`load_library`) of 1.2. The environment is taken to be empty, and the current
directory to be `/`. Nothing here knows how this project chooses what to bind: the audit compares the two.
"""

import enum
import errno
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nix_harden.loading.search import TOKEN, expand
from nix_harden.model import Abi, DlopenNote, Kind, Loadable, Object, Tried

# The priority of what no note names, but a string in an object that calls dlopen.
SEEN = "a string in it"

CURRENT_DIRECTORY = "/"
DF_1_NODEFLIB, DF_1_PIE = 0x800, 0x08000000
NEEDED, FILTER, AUXILIARY, DLOPEN = "DT_NEEDED", "DT_FILTER", "DT_AUXILIARY", "dlopen"
PASSED_OVER = (errno.ENOENT, errno.EACCES, errno.ENOTDIR)  # open_path() goes on to the next directory after these
MUSL_PASSES_OVER = (*PASSED_OVER, errno.ENAMETOOLONG)
MUSL_RESERVED = re.compile(r"lib(?:c|pthread|rt|m|dl|util|xnet)\.")
MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")

CACHE_MAGIC_OLD, CACHE_MAGIC = b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1"
CACHE_EXTENSION_MAGIC = 0xEAA42174
CACHE_NAMED_HWCAP = 1 << 62
CACHE_FLAGS = {  # flags of an entry that this machine's loader takes: ELF_LIBC6 and the machine's own (dl-cache.h, ldconfig.h)
    ("EM_X86_64", 64): (0x0303,),
    ("EM_X86_64", 32): (0x0803,),
    ("EM_S390", 64): (0x0403,),
    ("EM_PPC64", 64): (0x0503,),
    ("EM_AARCH64", 64): (0x0A03,),
    ("EM_ARM", 32): (0x0903, 0x0B03, 3),
    ("EM_RISCV", 64): (0x1003, 0x0F03),
    ("EM_LOONGARCH", 64): (0x1203, 0x1103),
}
PLATFORM_BITS = 0xF << 48  # _DL_HWCAP_PLATFORM
TLS_BIT = 1 << 63


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
class CacheEntry:
    """A file that ld.so.cache knows: `subdirectory` is that of glibc-hwcaps, `hwcap` the bits of the older scheme."""

    path: str
    flags: int
    subdirectory: str | None = None
    hwcap: int = 0


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


class _Refusal(Exception):
    """The loader stops with an error, as it does for a file in its way that is not what it should be."""


@dataclass(eq=False)
class _Map:
    """A link_map: what the loader remembers of an object. Without `found` it stands for a library that was not found."""

    path: str
    names: list[str]
    found: Found | None
    asked_by: "_Map | None"
    soname: str | None
    identity: tuple[int, int] | None
    real: str = ""
    index: int = -1

    @property
    def origin(self) -> str:
        return os.path.dirname(os.path.join(CURRENT_DIRECTORY, self.path or self.real))


@dataclass(frozen=True)
class _Hit:
    """Where a search ended: a loaded object, or a file that was opened."""

    how: How
    via: str = ""
    loaded: _Map | None = None
    path: str = ""
    found: Found | None = None


def cache_key(name: str) -> str:
    """A name under which all that ld.so.cache holds equal are equal: numbers are compared by value (`_dl_cache_libcmp`)."""
    return re.sub(r"[0-9]+", lambda digits: str(int(digits[0])), name)


def parse_cache(data: bytes, little_endian: bool) -> dict[str, tuple[CacheEntry, ...]]:
    """The entries of an ld.so.cache in the format of glibc 2.2 and newer, alone or behind the older one (dl-cache.h); none where it is neither."""
    order = "<" if little_endian else ">"
    if data.startswith(CACHE_MAGIC_OLD):
        (count,) = struct.unpack_from(order + "I", data, 12)
        data = data[(16 + count * 12 + 7) & ~7 :]
    header, entry = struct.Struct(order + "20sIIB3xI12x"), struct.Struct(order + "iIIIQ")
    if not data.startswith(CACHE_MAGIC) or len(data) < header.size:
        return {}
    _, count, _, _, extensions = header.unpack_from(data)
    if header.size + count * entry.size > len(data):
        return {}
    subdirectories = _cache_subdirectories(data, extensions, order)
    found: dict[str, list[CacheEntry]] = {}
    for row in range(count):
        flags, key, value, _, hwcap = entry.unpack_from(data, header.size + row * entry.size)
        subdirectory = None
        if hwcap & CACHE_NAMED_HWCAP:
            index = hwcap & 0xFFFFFFFF
            subdirectory = subdirectories[index] if index < len(subdirectories) else "?"
        path = os.fsdecode(_string(data, value))
        found.setdefault(cache_key(os.fsdecode(_string(data, key))), []).append(
            CacheEntry(path, flags, subdirectory, 0 if subdirectory else hwcap)
        )
    return {name: tuple(entries) for name, entries in found.items()}


def _string(data: bytes, offset: int) -> bytes:
    end = data.find(b"\0", offset)
    return data[offset:end] if end >= 0 else b""


def _cache_subdirectories(data: bytes, offset: int, order: str) -> list[str]:
    """The names of glibc-hwcaps subdirectories that entries refer to by number."""
    if not offset or offset + 8 > len(data):
        return []
    magic, count = struct.unpack_from(order + "II", data, offset)
    if magic != CACHE_EXTENSION_MAGIC or offset + 8 + count * 16 > len(data):
        return []
    for row in range(count):
        tag, _, start, size = struct.unpack_from(order + "IIII", data, offset + 8 + row * 16)
        if tag == 1 and start + size <= len(data):
            return [
                os.fsdecode(_string(data, at))
                for (at,) in struct.iter_unpack(order + "I", data[start : start + size // 4 * 4])
            ]
    return []


def walk(root: str, loader: Loader, reader: Reader, opens: Sequence[tuple[int, str]] = ()) -> Graph | None:
    """The graph of the program or library at the real path `root` under `loader`; None where nothing can be loaded there.

    `opens` are calls of dlopen(3) that are made, one after the other, once it is loaded: the place in Graph.nodes of the object that
    calls, and the name. What they load has its nodes behind all others and is not in the listing.
    """
    found = reader.open(root)
    if not isinstance(found, Found) or found.loadable.object.kind is Kind.OTHER:
        return None
    rules = _Musl if loader.family is Family.MUSL else _Glibc
    return rules(root, found, loader, reader).walk(opens)


class _Walk:
    """What both families share: the objects in the order of loading, and the edges."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        self.root, self.loader, self.reader = root, loader, reader
        self.main = _Map("", [], found, None, found.loadable.object.soname, None, root)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.opened: list[Edge] = []
        self.add(self.main, root)

    def add(self, loaded: _Map, name: str) -> None:
        """Give an object its place among the nodes."""
        if loaded.found is None or loaded.index >= 0:
            return
        loaded.index = len(self.nodes)
        by = loaded.asked_by.index if loaded.asked_by is not None else None
        path = loaded.path or loaded.real
        search = tuple(self.search_entries(loaded))
        self.nodes.append(Node(name, path, loaded.found.real, loaded.found.loadable, by, search))

    def search_entries(self, loaded: _Map) -> Iterator[SearchEntry]:
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

    def expanded(self, text: str, loaded: _Map) -> str | None:
        """`text` with its tokens replaced, or None where one has no value."""
        if "$" not in text:
            return text
        platform = self.loader.platform
        if platform is None and any("PLATFORM" in match.groups() for match in TOKEN.finditer(text)):
            return None
        return expand(text, loaded.origin, self.loader.lib, platform or "")

    def edge(self, source: _Map, want: tuple[str, str], hit: _Hit | None, target: _Map | None, tried: "_Trail") -> None:
        tag, name = want
        how, via = (hit.how, hit.via) if hit is not None else (How.MISSING, "")
        index = target.index if target is not None and target.index >= 0 else None
        path = (target.path or target.real) if target is not None and target.found is not None else None
        misses = tuple(tried.steps) if hit is None else ()
        self.edges.append(
            Edge(source.index, tag, name, how, index, path, via, misses, None, hit is None and tried.foreign)
        )

    def open_later(self, source: _Map, note: DlopenNote, name: str, hit: _Hit | None, tried: "_Trail") -> None:
        """Record where a dlopen of a note's name would lead once everything is loaded."""
        if hit is None:
            self.opened.append(Edge(source.index, DLOPEN, name, How.MISSING, None, None, "", tuple(tried.steps), note))
            return
        target = hit.loaded.index if hit.loaded is not None and hit.loaded.index >= 0 else None
        path = hit.path if hit.loaded is None else hit.loaded.path or hit.loaded.real
        self.opened.append(Edge(source.index, DLOPEN, name, hit.how, target, path, hit.via, (), note))


class _Trail:
    """What a search tried in vain."""

    def __init__(self) -> None:
        self.steps: list[Tried] = []
        self.foreign = False

    def add(self, path: str, why: str, foreign: bool = False) -> None:
        self.steps.append(Tried(path, why))
        self.foreign = self.foreign or foreign


class _Glibc(_Walk):
    """ld.so of glibc."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        super().__init__(root, found, loader, reader)
        # The loader knows itself by its path, by what the root calls its interpreter, and by its SONAME alone: no file identity is
        # kept for it (rtld.c), so that another path to the same file is loaded as a second copy.
        seen = reader.open(loader.real)
        names = [found.loadable.object.interpreter or loader.path, *([loader.soname] if loader.soname else [])]
        self.rtld = _Map(loader.path, names, seen if isinstance(seen, Found) else None, None, loader.soname, None)
        self.chain = [self.main, self.rtld]
        # for each name the first of the chain that bears it, unless this was `moved` since; for each file what is loaded of it
        self.bearers: dict[str, _Map] = {}
        self.moved = False
        self.files: dict[tuple[int, int] | None, _Map] = {}
        self.bear(self.main)
        self.bear(self.rtld)
        self.followed: set[_Map] = set()
        self._directories: dict[tuple[int, str], tuple[str, ...]] = {}

    def walk(self, opens: Sequence[tuple[int, str]]) -> Graph:
        refusal = None
        listed: list[_Map] = []
        try:
            listed = self.load_all(self.main)
        except _Refusal as error:
            refusal = str(error)
        else:
            self.place_rtld(listed)
            for loaded in [each for each in self.chain if each.found is not None and each.index >= 0]:
                self.follow_notes(loaded)
        listing = tuple(
            (each.names[0], each.path if each.found is not None else None)
            for each in self.chain[self.chain.index(self.main) + 1 :]
        )
        if not self.nodes[0].object.needed:
            listing = ()
        refusal = refusal or self.relr_refused()
        if refusal is None:
            try:
                self.open_all(opens)
            except _Refusal as error:
                refusal = str(error)
        unmatched = () if refusal else tuple(self.unmatched())
        return Graph(
            self.root,
            self.loader,
            tuple(self.nodes),
            tuple(self.edges),
            listing,
            refusal,
            unmatched,
            tuple(self.opened),
        )

    def open_all(self, opens: Sequence[tuple[int, str]]) -> None:
        """Load what a dlopen maps: the library, breadth first, and what is not there yet of what it needs (`dl_open_worker_begin`)."""
        for caller, name in opens:
            asker = next((each for each in (*self.chain, self.rtld) if each.index == caller), self.main)
            expanded = self.expanded(name, asker) if "/" in name else name
            target = self.load(asker, DLOPEN, expanded or name)
            if target.found is not None:
                self.load_all(target)

    def load_all(self, first: _Map) -> list[_Map]:
        """Load breadth first, as `_dl_map_object_deps` does: filters go before the object that names them, NEEDED to the end."""
        known, have = [first], {first}
        done: set[_Map] = set()
        position = 0
        while position < len(known):
            loaded = known[position]
            done.add(loaded)
            here = position  # of the object itself, while its filters are put before it
            wants = loaded.found.loadable.wants if loaded.found is not None and loaded not in self.followed else ()
            self.followed.add(loaded)
            for tag, text in wants:
                name = self.expanded(text, loaded)
                if not name:
                    continue
                target = self.load(loaded, tag, name)
                if tag == NEEDED:
                    if target not in have:
                        known.append(target)
                        have.add(target)
                    continue
                if target in have:
                    if known.index(target) <= here:
                        continue
                    known.remove(target)
                known.insert(here, target)
                have.add(target)
                self.chain.remove(target)
                self.chain.insert(self.chain.index(loaded), target)
                self.moved = True
                here += 1
            while position < len(known) and known[position] in done:
                position += 1
        return known

    def load(self, loaded: _Map, tag: str, name: str) -> _Map:
        """The object that a name leads to (`_dl_map_object` while tracing: a miss is an entry of its own)."""
        tried = _Trail()
        hit = self.locate(loaded, name, tried)
        target: _Map
        if hit is None:
            target = _Map(name, [name], None, loaded, None, None)
            self.chain.append(target)
        elif hit.loaded is not None:
            target = hit.loaded
        else:
            assert hit.found is not None
            same = self.files.get(hit.found.identity)
            if same is not None:
                target = same
                if name not in same.names:
                    same.names.append(name)
                    self.bearers.setdefault(name, same)
            else:
                self.check_kind(hit.found, name)
                obj = hit.found.loadable.object
                target = _Map(hit.path, [name], hit.found, loaded, obj.soname, hit.found.identity)
                self.chain.append(target)
                self.bear(target)
        self.add(target, name)
        self.edge(loaded, (tag, name), hit, target, tried)
        return target

    def check_kind(self, found: Found, name: str) -> None:
        """Refuse what `_dl_map_object_from_fd` refuses."""
        if found.loadable.type == "ET_EXEC" or found.loadable.flags & DF_1_PIE:
            kind = "executable" if found.loadable.type == "ET_EXEC" else "position-independent executable"
            raise _Refusal(f"{name}: cannot dynamically load {kind}")
        if found.loadable.object.kind is Kind.OTHER:
            raise _Refusal(f"{name}: object file has no dynamic section")

    def match(self, name: str) -> _Hit | None:
        """A loaded object that bears the name, or whose DT_SONAME it is (`_dl_lookup_map`)."""
        if self.moved:
            self.moved = False
            self.bearers.clear()
            for each in self.chain:
                if each.found is not None or each is self.rtld:
                    self.bear(each)
        bearer = self.bearers.get(name)
        if bearer is None:
            return None
        if name in bearer.names or (name == bearer.path and bearer.path):
            return _Hit(How.LIBC if bearer is self.rtld else How.NAME, bearer.path or bearer.real, bearer)
        bearer.names.append(name)
        return _Hit(How.SONAME, bearer.path or bearer.real, bearer)

    def bear(self, loaded: _Map) -> None:
        """Have the names of an object that comes to the end of the chain lead to it, unless another bears them."""
        for name in (*loaded.names, loaded.path, loaded.soname):
            if name:
                self.bearers.setdefault(name, loaded)
        if loaded.identity is not None:
            self.files.setdefault(loaded.identity, loaded)

    def locate(self, asker: _Map, name: str, tried: _Trail) -> _Hit | None:
        """Where a name leads, in the loader's order; None where nowhere. Raises _Refusal."""
        assert asker.found is not None
        if (hit := self.match(name)) is not None:
            return hit
        if "/" in name:
            found = self.verify(name, tried)
            return _Hit(How.PATH, "", None, name, found) if isinstance(found, Found) else None
        obj = asker.found.loadable.object
        if obj.runpath is None:
            ancestors = list(self.ancestors(asker))
            for each in ancestors if self.main in ancestors else [*ancestors, self.main]:
                if each.found is None or (path := each.found.loadable.object).runpath is not None or path.rpath is None:
                    continue
                if hit := self.search(
                    self.directories(each, path.rpath), name, How.RPATH, each.path or each.real, tried
                ):
                    return hit
        elif hit := self.search(self.directories(asker, obj.runpath), name, How.RUNPATH, "", tried):
            return hit
        bare = bool(asker.found.loadable.flags & DF_1_NODEFLIB)
        cached = self.cached(name)
        if cached is not None and not (bare and cached.startswith(self.loader.directories)):
            found = self.verify(cached, tried)
            if isinstance(found, Found):
                return _Hit(How.CACHE, self.loader.cache_path or "", None, cached, found)
        return None if bare else self.search(self.loader.directories, name, How.DEFAULT, "", tried)

    def ancestors(self, asker: _Map) -> Iterator[_Map]:
        """The object and the chain of those that had each other loaded."""
        each: _Map | None = asker
        while each is not None:
            yield each
            each = each.asked_by

    def directories(self, loaded: _Map, text: str) -> tuple[str, ...]:
        """A search path's directories with the slash at their end, each once; "" is the current one (`fillin_rpath`)."""
        key = (id(loaded), text)
        if key not in self._directories:
            self._directories[key] = tuple(dict.fromkeys(self._fill_in(loaded, text)))
        return self._directories[key]

    def _fill_in(self, loaded: _Map, text: str) -> Iterator[str]:
        for entry in text.split(":") if text else ():
            directory = self.expanded(entry, loaded)
            if not entry:
                yield ""
            elif directory:
                yield directory.rstrip("/") + "/"

    def search(self, directories: Sequence[str], name: str, how: How, via: str, tried: _Trail) -> _Hit | None:
        """Look into each directory, its variants first (`open_path`)."""
        for directory in directories:
            last: Seen | None = None
            for variant in (*self.loader.variants, ""):
                place = directory + variant + "/" if variant else directory
                if variant and not self.reader.is_directory(place):
                    continue
                last = self.verify(place + name, tried)
                if isinstance(last, Found):
                    return _Hit(how, via or place, None, place + name, last)
            if isinstance(last, Unopened) and last.errno not in PASSED_OVER and self.reader.is_directory(directory):
                break
        return None

    def verify(self, path: str, tried: _Trail) -> Seen:
        """Open a file and pass over what is for another machine; what is wrong in another way ends it all (`open_verify`)."""
        seen = self.reader.open(path)
        match seen:
            case Unopened():
                tried.add(path, seen.why)
            case Unloadable(why):
                raise _Refusal(f"{path}: {why}")
            case Found(loadable=loadable):
                abi, mine = loadable.object.abi, self.loader.abi
                if abi.bits != mine.bits:
                    tried.add(path, f"for {abi}, not {mine}", foreign=True)
                    return Unopened(errno.ENOENT)
                if abi.little_endian != mine.little_endian or abi.osabi:
                    raise _Refusal(f"{path}: for {abi}, not {mine}")
                if abi.machine != mine.machine:
                    tried.add(path, f"for {abi}, not {mine}", foreign=True)
                    return Unopened(errno.ENOENT)
                if loadable.unopenable is not None:
                    raise _Refusal(f"{path}: {loadable.unopenable}")
                if loadable.type not in ("ET_DYN", "ET_EXEC"):
                    raise _Refusal(f"{path}: only ET_DYN and ET_EXEC can be loaded")
        return seen

    def cached(self, name: str) -> str | None:
        """The path that ld.so.cache has for a name (`_dl_load_cache_lookup`): the best named variant, else the first plain entry."""
        abi = self.loader.abi
        accepted = CACHE_FLAGS.get((abi.machine, abi.bits), (1, 3))
        prefix = "glibc-hwcaps/"
        active = [variant.removeprefix(prefix) for variant in self.loader.variants if variant.startswith(prefix)]
        entries = [entry for entry in self.loader.cache.get(cache_key(name), ()) if entry.flags in accepted]
        named = [entry for entry in entries if entry.subdirectory in active]
        if named:
            return min(named, key=lambda entry: active.index(entry.subdirectory or "")).path
        allowed = self.loader.hwcap | PLATFORM_BITS | TLS_BIT
        for entry in entries:
            platform = entry.hwcap & PLATFORM_BITS
            if entry.subdirectory is None and not entry.hwcap & ~allowed and platform in (0, self.loader.platform_bit):
                return entry.path
        return None

    def place_rtld(self, listed: list[_Map]) -> None:
        """Move the loader behind what comes before it in the search order, or out of the list where nobody asked for it."""
        self.chain.remove(self.rtld)
        present = [each for each in listed if each.found is not None or each is self.rtld]
        if self.rtld in present:
            self.chain.insert(self.chain.index(present[present.index(self.rtld) - 1]) + 1, self.rtld)
        self.moved = True

    def relr_refused(self) -> str | None:
        """What the loader says of an object with DT_RELR that does not need the version for it."""
        for each in self.chain if self.loader.asks_for_relr else ():
            if each.found is not None and each.found.loadable.relative_unversioned:
                return f"{each.path or each.real}: DT_RELR without GLIBC_ABI_DT_RELR dependency"
        return None

    def unmatched(self) -> Iterator[tuple[int, str]]:
        """The needed versions' files that no object was loaded under: SONAMEs do not count (`find_needed` in dl-version.c)."""
        names = {name for each in (*self.chain, self.rtld) for name in (*each.names, each.path)}
        for each in self.chain:
            if each.found is not None and each.index >= 0:
                for name in each.found.loadable.object.version_files:
                    if name not in names:
                        yield each.index, name

    def follow_notes(self, loaded: _Map) -> None:
        """Where dlopen would find what the object's dlopen notes name: its own search path counts, and that of the program.

        A string in an object that calls dlopen counts too where it is the bare name of a loaded library whose SONAME is a path.
        """
        assert loaded.found is not None
        obj, mentions = loaded.found.loadable.object, loaded.found.loadable.mentions
        if not obj.notes and not mentions:
            return
        sonames = (each.found.loadable.object.soname or "" for each in self.chain if each.found is not None)
        hardened = {os.path.basename(soname) for soname in sonames if os.path.isabs(soname)} if mentions else set()
        seen = (DlopenNote((name,), priority=SEEN) for name in mentions if name in hardened)
        for note in (*obj.notes, *seen):
            for name in note.sonames:
                tried = _Trail()
                try:
                    hit = self.locate(loaded, name, tried)
                except _Refusal as error:
                    tried.add("", str(error))
                    hit = None
                self.open_later(loaded, note, name, hit, tried)


class _Musl(_Walk):
    """ld-musl: no SONAME is compared, every file is loaded once, and the first file of a name is taken whatever it is."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        super().__init__(root, found, loader, reader)
        seen = reader.open(loader.real)
        self.libc = _Map(loader.path, [loader.path], seen if isinstance(seen, Found) else None, None, None, None)
        self.chain = [self.main]
        self.lines: list[tuple[str, str | None]] = []
        self.reported: set[str] = set()

    def walk(self, opens: Sequence[tuple[int, str]]) -> Graph:
        self.load_from(0)
        for loaded in self.chain:
            for note in loaded.found.loadable.object.notes if loaded.found is not None else ():
                for name in note.sonames:
                    tried = _Trail()
                    self.open_later(loaded, note, name, self.locate(loaded, name, tried), tried)
        lines = tuple(self.lines)
        for _, name in opens:  # musl's dlopen searches for the program, whoever calls it
            position = len(self.chain)
            self.load(self.main, DLOPEN, name)
            self.load_from(position)
        return Graph(self.root, self.loader, tuple(self.nodes), tuple(self.edges), lines, None, (), tuple(self.opened))

    def load_from(self, position: int) -> None:
        """Load what the objects need that were loaded from a place on (`load_deps`)."""
        while position < len(self.chain):
            loaded = self.chain[position]
            for tag, name in loaded.found.loadable.wants if loaded.found is not None else ():
                if tag == NEEDED:
                    self.load(loaded, tag, name)
            position += 1

    def load(self, loaded: _Map, tag: str, name: str) -> None:
        tried = _Trail()
        hit = self.locate(loaded, name, tried)
        target: _Map | None = None
        if hit is not None and hit.loaded is not None:
            target = hit.loaded
            if target is self.libc:
                # a path that leads to libc is taken for its name (load_library)
                asked = name if hit.how is How.LIBC else "libc.so"
                if (reserved := MUSL_RESERVED.match(asked)) and reserved[0] not in self.reported:
                    self.reported.add(reserved[0])
                    self.lines.append((asked, self.loader.path))
                if target not in self.chain:
                    self.chain.append(target)
        elif hit is not None:
            assert hit.found is not None
            target = next((each for each in self.chain if each.identity == hit.found.identity), None)
            if target is None:
                target = _Map(hit.path, [], hit.found, loaded, None, hit.found.identity)
                self.chain.append(target)
                self.lines.append((name, hit.path))
            if "/" not in name and not target.names:
                target.names.append(os.path.basename(target.path))
        else:
            self.lines.append((name, None))
        if target is not None:
            self.add(target, name)
        self.edge(loaded, (tag, name), hit, target, tried)

    def locate(self, asker: _Map, name: str, tried: _Trail) -> _Hit | None:
        if MUSL_RESERVED.match(name) or name == self.loader.path:
            return _Hit(How.LIBC, self.loader.path, self.libc)
        if "/" in name:
            return self.take(self.reader.open(name), name, How.PATH, "", tried)
        for each in self.chain[1:]:
            if name in each.names:
                return _Hit(How.NAME, each.path, each)
        ancestor: _Map | None = asker
        while ancestor is not None and ancestor.found is not None:
            obj = ancestor.found.loadable.object
            text = obj.runpath if obj.runpath is not None else obj.rpath
            how = How.RUNPATH if obj.runpath is not None else How.RPATH
            entries = self.musl_path(ancestor, text or "")
            for entry in entries:
                seen = self.reader.open(f"{entry}/{name}")
                if isinstance(seen, Unopened) and seen.errno in MUSL_PASSES_OVER:
                    tried.add(f"{entry}/{name}", seen.why)
                    continue
                return self.take(seen, f"{entry}/{name}", how, ancestor.path or ancestor.real, tried)
            ancestor = ancestor.asked_by
        for entry in self.loader.directories:
            seen = self.reader.open(f"{entry}/{name}")
            if isinstance(seen, Unopened) and seen.errno in MUSL_PASSES_OVER:
                tried.add(f"{entry}/{name}", seen.why)
                continue
            return self.take(seen, f"{entry}/{name}", How.DEFAULT, entry, tried)
        return None

    def musl_path(self, loaded: _Map, text: str) -> list[str]:
        """A search path's entries: only $ORIGIN is known, and any other `$` makes the whole of it void (`fixup_rpath`)."""
        if re.search(r"\$(?!ORIGIN|\{ORIGIN\})", text):
            return []
        text = text.replace("${ORIGIN}", loaded.origin).replace("$ORIGIN", loaded.origin)
        return [entry for entry in re.split(r"[:\n]+", text) if entry]

    def take(self, seen: Seen, path: str, how: How, via: str, tried: _Trail) -> _Hit | None:
        """A file that was opened is taken or fails; nothing further is tried."""
        if isinstance(seen, Found):
            abi = seen.loadable.object.abi
            if seen.real == self.loader.real:
                return _Hit(how, via, self.libc)
            if abi == self.loader.abi and seen.loadable.object.kind is not Kind.OTHER:
                return _Hit(how, via, None, path, seen)
            tried.add(path, f"for {abi}, not {self.loader.abi}", foreign=abi != self.loader.abi)
        else:
            tried.add(path, seen.why)
        return None
