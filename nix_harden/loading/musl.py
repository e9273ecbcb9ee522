"""How ld-musl of 1.2 finds the libraries of a program (ldso/dynlink.c, `load_library`); pure over a reader."""

import errno
import os
import re
from collections.abc import Sequence

from nix_harden.loading.glibc import PASSED_OVER
from nix_harden.loading.graph import DLOPEN, NEEDED, Found, Graph, How, Loader, Reader, Seen, Unopened
from nix_harden.loading.walking import Hit, Map, Trail, Walk
from nix_harden.model import Kind

MUSL_PASSES_OVER = (*PASSED_OVER, errno.ENAMETOOLONG)
MUSL_RESERVED = re.compile(r"lib(?:c|pthread|rt|m|dl|util|xnet)\.")
MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")


class Musl(Walk):
    """ld-musl: no SONAME is compared, every file is loaded once, and the first file of a name is taken whatever it is."""

    def __init__(self, root: str, found: Found, loader: Loader, reader: Reader) -> None:
        super().__init__(root, found, loader, reader)
        seen = reader.open(loader.real)
        self.libc = Map(loader.path, [loader.path], seen if isinstance(seen, Found) else None, None, None, None)
        self.chain = [self.main]
        self.lines: list[tuple[str, str | None]] = []
        self.reported: set[str] = set()

    def walk(self, opens: Sequence[tuple[int, str]]) -> Graph:
        self.load_from(0)
        for loaded in self.chain:
            for note in loaded.found.loadable.object.notes if loaded.found is not None else ():
                for name in note.sonames:
                    tried = Trail()
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

    def load(self, loaded: Map, tag: str, name: str) -> None:
        tried = Trail()
        hit = self.locate(loaded, name, tried)
        target: Map | None = None
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
                target = Map(hit.path, [], hit.found, loaded, None, hit.found.identity)
                self.chain.append(target)
                self.lines.append((name, hit.path))
            if "/" not in name and not target.names:
                target.names.append(os.path.basename(target.path))
        else:
            self.lines.append((name, None))
        if target is not None:
            self.add(target, name)
        self.edge(loaded, (tag, name), hit, target, tried)

    def locate(self, asker: Map, name: str, tried: Trail) -> Hit | None:
        if MUSL_RESERVED.match(name) or name == self.loader.path:
            return Hit(How.LIBC, self.loader.path, self.libc)
        if "/" in name:
            return self.take(self.reader.open(name), name, How.PATH, "", tried)
        for each in self.chain[1:]:
            if name in each.names:
                return Hit(How.NAME, each.path, each)
        ancestor: Map | None = asker
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

    def musl_path(self, loaded: Map, text: str) -> list[str]:
        """A search path's entries: only $ORIGIN is known, and any other `$` makes the whole of it void (`fixup_rpath`)."""
        if re.search(r"\$(?!ORIGIN|\{ORIGIN\})", text):
            return []
        text = text.replace("${ORIGIN}", loaded.origin).replace("$ORIGIN", loaded.origin)
        return [entry for entry in re.split(r"[:\n]+", text) if entry]

    def take(self, seen: Seen, path: str, how: How, via: str, tried: Trail) -> Hit | None:
        """A file that was opened is taken or fails; nothing further is tried."""
        if isinstance(seen, Found):
            abi = seen.loadable.object.abi
            if seen.real == self.loader.real:
                return Hit(how, via, self.libc)
            if abi == self.loader.abi and seen.loadable.object.kind is not Kind.OTHER:
                return Hit(how, via, None, path, seen)
            tried.add(path, f"for {abi}, not {self.loader.abi}", foreign=abi != self.loader.abi)
        else:
            tried.add(path, seen.why)
        return None
