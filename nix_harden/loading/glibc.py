"""How ld.so of glibc 2.36 finds the libraries of a program; pure over a reader.

elf/dl-load.c (`_dl_map_object`, `open_path`, `open_verify`), elf/dl-deps.c (`_dl_map_object_deps`), elf/dl-cache.c and elf/rtld.c.
"""

import errno
import os
from collections.abc import Iterator, Sequence

from nix_harden.loading.cache import CACHE_FLAGS, cache_key
from nix_harden.loading.graph import (
    DLOPEN,
    NEEDED,
    SEEN,
    Found,
    Graph,
    How,
    Loader,
    Reader,
    Seen,
    Unloadable,
    Unopened,
)
from nix_harden.loading.walking import Hit, Map, Refusal, Trail, Walk
from nix_harden.model import DlopenNote, Kind
from nix_harden.reading.image import DF_1_NODEFLIB, DF_1_PIE

PASSED_OVER = (errno.ENOENT, errno.EACCES, errno.ENOTDIR)  # open_path() goes on to the next directory after these
PLATFORM_BITS = 0xF << 48  # _DL_HWCAP_PLATFORM
TLS_BIT = 1 << 63


class Glibc(Walk):
    """ld.so of glibc."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        super().__init__(root, found, loader, reader)
        # The loader knows itself by its path, by what the root calls its interpreter, and by its SONAME alone: no file identity is
        # kept for it (rtld.c), so that another path to the same file is loaded as a second copy.
        seen = reader.open(loader.real)
        names = [found.loadable.object.interpreter or loader.path, *([loader.soname] if loader.soname else [])]
        self.rtld = Map(loader.path, names, seen if isinstance(seen, Found) else None, None, loader.soname, None)
        self.chain = [self.main, self.rtld]
        # for each name the first of the chain that bears it, unless this was `moved` since; for each file what is loaded of it
        self.bearers: dict[str, Map] = {}
        self.moved = False
        self.files: dict[tuple[int, int] | None, Map] = {}
        self.bear(self.main)
        self.bear(self.rtld)
        self.followed: set[Map] = set()
        self._directories: dict[tuple[int, str], tuple[str, ...]] = {}

    def walk(self, opens: Sequence[tuple[int, str]]) -> Graph:
        refusal = None
        listed: list[Map] = []
        try:
            listed = self.load_all(self.main)
        except Refusal as error:
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
            except Refusal as error:
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

    def load_all(self, first: Map) -> list[Map]:
        """Load breadth first, as `_dl_map_object_deps` does: filters go before the object that names them, NEEDED to the end."""
        known, have = [first], {first}
        done: set[Map] = set()
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

    def load(self, loaded: Map, tag: str, name: str) -> Map:
        """The object that a name leads to (`_dl_map_object` while tracing: a miss is an entry of its own)."""
        tried = Trail()
        hit = self.locate(loaded, name, tried)
        target: Map
        if hit is None:
            target = Map(name, [name], None, loaded, None, None)
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
                target = Map(hit.path, [name], hit.found, loaded, obj.soname, hit.found.identity)
                self.chain.append(target)
                self.bear(target)
        self.add(target, name)
        self.edge(loaded, (tag, name), hit, target, tried)
        return target

    def check_kind(self, found: Found, name: str) -> None:
        """Refuse what `_dl_map_object_from_fd` refuses."""
        if found.loadable.type == "ET_EXEC" or found.loadable.flags & DF_1_PIE:
            kind = "executable" if found.loadable.type == "ET_EXEC" else "position-independent executable"
            raise Refusal(f"{name}: cannot dynamically load {kind}")
        if found.loadable.object.kind is Kind.OTHER:
            raise Refusal(f"{name}: object file has no dynamic section")

    def match(self, name: str) -> Hit | None:
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
            return Hit(How.LIBC if bearer is self.rtld else How.NAME, bearer.path or bearer.real, bearer)
        bearer.names.append(name)
        return Hit(How.SONAME, bearer.path or bearer.real, bearer)

    def bear(self, loaded: Map) -> None:
        """Have the names of an object that comes to the end of the chain lead to it, unless another bears them."""
        for name in (*loaded.names, loaded.path, loaded.soname):
            if name:
                self.bearers.setdefault(name, loaded)
        if loaded.identity is not None:
            self.files.setdefault(loaded.identity, loaded)

    def locate(self, asker: Map, name: str, tried: Trail) -> Hit | None:
        """Where a name leads, in the loader's order; None where nowhere. Raises Refusal."""
        assert asker.found is not None
        if (hit := self.match(name)) is not None:
            return hit
        if "/" in name:
            found = self.verify(name, tried)
            return Hit(How.PATH, "", None, name, found) if isinstance(found, Found) else None
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
                return Hit(How.CACHE, self.loader.cache_path or "", None, cached, found)
        return None if bare else self.search(self.loader.directories, name, How.DEFAULT, "", tried)

    def ancestors(self, asker: Map) -> Iterator[Map]:
        """The object and the chain of those that had each other loaded."""
        each: Map | None = asker
        while each is not None:
            yield each
            each = each.asked_by

    def directories(self, loaded: Map, text: str) -> tuple[str, ...]:
        """A search path's directories with the slash at their end, each once; "" is the current one (`fillin_rpath`)."""
        key = (id(loaded), text)
        if key not in self._directories:
            self._directories[key] = tuple(dict.fromkeys(self._fill_in(loaded, text)))
        return self._directories[key]

    def _fill_in(self, loaded: Map, text: str) -> Iterator[str]:
        for entry in text.split(":") if text else ():
            directory = self.expanded(entry, loaded)
            if not entry:
                yield ""
            elif directory:
                yield directory.rstrip("/") + "/"

    def search(self, directories: Sequence[str], name: str, how: How, via: str, tried: Trail) -> Hit | None:
        """Look into each directory, its variants first (`open_path`)."""
        for directory in directories:
            last: Seen | None = None
            for variant in (*self.loader.variants, ""):
                place = directory + variant + "/" if variant else directory
                if variant and not self.reader.is_directory(place):
                    continue
                last = self.verify(place + name, tried)
                if isinstance(last, Found):
                    return Hit(how, via or place, None, place + name, last)
            if isinstance(last, Unopened) and last.errno not in PASSED_OVER and self.reader.is_directory(directory):
                break
        return None

    def verify(self, path: str, tried: Trail) -> Seen:
        """Open a file and pass over what is for another machine; what is wrong in another way ends it all (`open_verify`)."""
        seen = self.reader.open(path)
        match seen:
            case Unopened():
                tried.add(path, seen.why)
            case Unloadable(why):
                raise Refusal(f"{path}: {why}")
            case Found(loadable=loadable):
                abi, mine = loadable.object.abi, self.loader.abi
                if abi.bits != mine.bits:
                    tried.add(path, f"for {abi}, not {mine}", foreign=True)
                    return Unopened(errno.ENOENT)
                if abi.little_endian != mine.little_endian or abi.osabi:
                    raise Refusal(f"{path}: for {abi}, not {mine}")
                if abi.machine != mine.machine:
                    tried.add(path, f"for {abi}, not {mine}", foreign=True)
                    return Unopened(errno.ENOENT)
                if loadable.unopenable is not None:
                    raise Refusal(f"{path}: {loadable.unopenable}")
                if loadable.type not in ("ET_DYN", "ET_EXEC"):
                    raise Refusal(f"{path}: only ET_DYN and ET_EXEC can be loaded")
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

    def place_rtld(self, listed: list[Map]) -> None:
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

    def follow_notes(self, loaded: Map) -> None:
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
                tried = Trail()
                try:
                    hit = self.locate(loaded, name, tried)
                except Refusal as error:
                    tried.add("", str(error))
                    hit = None
                self.open_later(loaded, note, name, hit, tried)
