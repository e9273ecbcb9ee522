"""What lies on disk: the files of the outputs, the libraries of the inputs, and the file behind a candidate's path."""

import contextlib
import glob
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nix_harden.errors import HardenError, MalformedElf, ReadError
from nix_harden.fixup.outputs import Read, walk
from nix_harden.fixup.place import place
from nix_harden.loading.search import LIB_TOKEN, TOKEN, expand, own_text
from nix_harden.model import ABSENT, Abi, Candidate, Edit, Kind, Loadable, Object, Output, Tried
from nix_harden.names import LOADERS
from nix_harden.reading.elf import is_dispatcher, read_mentions, read_table, read_wants
from nix_harden.saying.files import contents
from nix_harden.settings import Settings

if TYPE_CHECKING:
    from nix_harden.prelinking.named import Named

LIB_DIRECTORIES = ("lib", "lib64", "lib32")
PROPAGATED = ("nix-support/propagated-build-inputs", "nix-support/propagated-host-host-deps")
HWCAPS = "glibc-hwcaps"
POWER_VARIANTS = "altivec dfp power4 power5 power5+ power6 power6x power7 power8 power9 power10 ppc970 ppc-cell-be"
# Directories of glibc before 2.37, one below the other (_dl_important_hwcaps): HWCAP_IMPORTANT and what AT_PLATFORM may say.
LEGACY_VARIANTS = {
    "EM_X86_64": "haswell xeon_phi avx512_1 x86_64",
    "EM_386": "i686 i586 i486 i386 sse2",
    "EM_AARCH64": "aarch64 atomics",
    "EM_ARM": "vfp neon v4l v5l v6l v7l v8l",
    "EM_PPC": POWER_VARIANTS,
    "EM_PPC64": POWER_VARIANTS,
    "EM_S390": "zarch ldisp eimm dfp te vx vxd vxe vxe2 z900 z990 z9-109 z10 z196 zEC12 z13 z14 z15 z16",
}


class Catalog:
    """Answers which file a path or a name means; every file is read at most once."""

    def __init__(self, settings: Settings, read: Read) -> None:
        self.settings = settings
        self._store = os.path.realpath(settings.store)
        self._real: dict[str, str] = {}
        self._entries: dict[str, frozenset[str] | None] = {}
        self._absent: dict[str, Tried] = {}
        self._looked: dict[tuple[str, Abi], Candidate | Tried] = {}
        self._read: dict[str, Loadable | HardenError | None] = {}
        self._by_name: dict[str, list[str]] = {}
        self._links: dict[str, list[str]] = {}
        self._references: dict[str, set[str]] | None = None
        self._interpreters: dict[Abi, str] = {}
        self._variants: dict[tuple[str, str], tuple[str, ...]] = {}
        self._input_places: tuple[str, ...] | None = None
        self._input_entries: dict[str, list[str]] | None = None
        self._lib_tokens: dict[str, str] = {"": ""}
        self._input_loaders: dict[Abi, str] = {}
        self._mentions: dict[str, tuple[str, ...]] = {}
        for file in read.files:
            for path in file.paths:
                self._read[self.real(path)] = read.loadables[file.paths[0]]
            if file.object.interpreter:
                self._interpreters.setdefault(file.object.abi, file.object.interpreter)
        for path, regular in read.entries:
            self._by_name.setdefault(os.path.basename(path), []).append(path)
            if not regular and os.path.isfile(path):
                self._links.setdefault(self.real(path), []).append(os.path.dirname(path))

    def real(self, path: str) -> str:
        """`path` with every link followed, but for one that leads to the store itself."""
        if path not in self._real:
            real = os.path.realpath(path)
            inside = real.startswith(self._store + "/")
            self._real[path] = self.settings.store + real.removeprefix(self._store) if inside else real
        return self._real[path]

    def plain(self, directory: str) -> str:
        """A directory without `..`: behind a link it is the directory above what the link leads to, as the kernel opens it."""
        if ".." not in directory.split("/"):
            return directory
        plain = os.path.normpath(directory)
        return plain if self.real(plain) == self.real(directory) else self.real(directory)

    def object(self, path: str) -> Object | None:
        """The object at a path, or None where none can be read."""
        try:
            found = self.loadable(self.real(path))
        except HardenError:
            return None
        return found.object if found is not None else None

    def has_room(self, edit: Edit) -> bool:
        """Whether an edit can be made in the file as it lies, so that nothing in it moves."""
        try:
            table = read_table(edit.paths[0])
        except (MalformedElf, ReadError):
            return False
        return table is not None and place(table, edit) is not None

    def look(self, path: str, abi: Abi) -> Candidate | Tried:
        """The candidate at `path` for an object of `abi`, or why the loader would pass it over."""
        directory, name = os.path.split(path)
        if not self._holds(directory, name):
            return self._absent.setdefault(directory, Tried(directory, ABSENT))
        key = path, abi
        if key not in self._looked:
            self._looked[key] = self._look(path, directory, abi)
        return self._looked[key]

    def _holds(self, directory: str, name: str) -> bool:
        """Whether a directory has an entry of that name; most that are asked for are not there, so it is listed once."""
        names = self._names(directory)
        return os.path.lexists(os.path.join(directory, name)) if names is None else name in names

    def clash(self, one: str, other: str, abi: Abi) -> bool:
        """Whether a search may find something else where two directories change places: both hold a name, or one has builds for processors."""
        mine, theirs = self._names(one), self._names(other)
        if mine is None or theirs is None or not {HWCAPS, *_legacy_names(abi)}.isdisjoint(mine | theirs):
            return True
        return not all(os.path.isdir(os.path.join(place, name)) for name in mine & theirs for place in (one, other))

    def _names(self, directory: str) -> frozenset[str] | None:
        """The names in a directory, none where it is not there; None where it may not be listed."""
        if directory not in self._entries:
            try:
                self._entries[directory] = frozenset(os.listdir(directory))
            except PermissionError:  # which does not say that nothing is found in it
                self._entries[directory] = None
            except OSError:
                self._entries[directory] = frozenset()
        return self._entries[directory]

    def _look(self, path: str, directory: str, abi: Abi) -> Candidate | Tried:
        if not os.path.exists(path):
            return Tried(directory, "a dangling link")
        real = self.real(path)
        try:
            loadable = self.loadable(real)
        except HardenError as error:
            return Tried(directory, str(error))
        if loadable is None:
            return Tried(directory, "not an ELF file")
        found = loadable.object
        if found.abi != abi:
            return Tried(directory, f"for {found.abi}, not {abi}")
        if found.kind in (Kind.PROGRAM, Kind.OTHER):
            return Tried(directory, "not a shared library")
        return Candidate(
            path,
            real,
            self._bound(path, real, found),
            found.abi,
            found.soname,
            stub=self._is_stub(path, real, found),
            dispatcher=is_dispatcher(os.path.basename(path), real),
        )

    def link_directories(self, path: str) -> tuple[str, ...]:
        """The directories of the outputs' symbolic links to the file at `path`: its $ORIGIN may be any of them."""
        return tuple(dict.fromkeys(self._links.get(self.real(path), ())))

    def closes_cycle(self, source: str, target: str) -> bool:
        """Whether a new reference from output `source` to output `target`, by name, closes a cycle, which Nix refuses.

        References are what Nix will find: the hash part of one output's path in the files and links of another. The new
        one is noted where it closes none.
        """
        if self._references is None:
            self._references = _references(self.settings.outputs)
        reached, queue = {target}, [target]
        while queue:
            queue.extend(self._references[queue.pop()] - reached)
            reached.update(queue)
        if source in reached:
            return True
        self._references[source].add(target)
        return False

    def module(self, obj: Object) -> "Named | None":
        """The loader module of this project that a program names, if it is there."""
        if not obj.filters:
            return None
        from nix_harden.prelinking.named import module_of

        return module_of(obj)

    def mentions(self, obj: Object) -> tuple[str, ...]:
        """The strings in an object that calls dlopen which read like names of libraries: of others they mean nothing."""
        if obj.path not in self._mentions:
            self._mentions[obj.path] = read_mentions(obj.path) if obj.opens_libraries else ()
        return self._mentions[obj.path]

    def interpreter(self, abi: Abi) -> str | None:
        """The interpreter of the outputs' programs for an ABI."""
        return self._interpreters.get(abi)

    def is_variant(self, path: str, abi: Abi) -> bool:
        """Whether the file at `path` is a build for some processors: one of its directories is a capability directory."""
        parts = path.removeprefix(self.settings.store).split("/")[:-1]
        return HWCAPS in parts or not _legacy_names(abi).isdisjoint(parts)

    def has_variants(self, directory: str, name: str, abi: Abi) -> bool:
        """Whether a capability directory below `directory` holds `name` (ld.so(8), "glibc-hwcaps"), so that the processor decides."""
        key = (directory, abi.machine)
        if key not in self._variants:
            hwcaps = glob.glob(os.path.join(glob.escape(directory), HWCAPS, "*"))
            self._variants[key] = (*hwcaps, *_legacy_variants(directory, _legacy_names(abi)))
        return any(os.path.lexists(os.path.join(variant, name)) for variant in self._variants[key])

    def output_paths(self, name: str) -> tuple[str, ...]:
        """Every entry of the outputs that bears `name`, in byte order."""
        return tuple(self._by_name.get(name, ()))

    def input_paths(self, name: str) -> tuple[str, ...]:
        """`name` in each lib directory of the inputs' closure: the inputs, what they propagate, what their libraries name."""
        return tuple(os.path.join(place, name) for place in self._input_directories())

    def input_paths_elsewhere(self, name: str, abi: Abi) -> tuple[str, ...]:
        """Every entry of the inputs' closure that bears `name`, in byte order, but for those of lib directories and of builds for some processors."""
        if self._input_entries is None:
            from nix_harden.loading.reasons import store_path

            self._input_entries = {}
            places = (*self._input_directories(), *map(self.real, self.settings.inputs))
            packages = {store_path(each, self.settings.store) for each in places if self.settings.in_store(each)}
            for package in sorted(packages, key=os.fsencode):
                with contextlib.suppress(ReadError):  # which is nobody's to read here
                    for path, _ in walk(package):
                        if ".so" in path:
                            self._input_entries.setdefault(os.path.basename(path), []).append(path)
        return tuple(path for path in self._input_entries.get(name, ()) if not self.is_variant(path, abi))

    def _input_directories(self) -> tuple[str, ...]:
        if self._input_places is None:
            self._input_places = tuple(self._walk_inputs())
        return self._input_places

    def loader_directory(self, obj: Object) -> str | None:
        """The directory of the C library that belongs to the object's interpreter, or to that of the outputs' programs."""
        interpreter = obj.interpreter or self._interpreters.get(obj.abi)
        if interpreter is None or not os.path.exists(interpreter):
            return None
        for directory in (os.path.dirname(interpreter), os.path.dirname(self.real(interpreter))):
            if os.path.exists(os.path.join(directory, "libc.so.6")):
                return directory
        return os.path.dirname(self.real(interpreter))

    def interpreter_of_elsewhere(self, obj: Object) -> str | None:
        """The interpreter of the object, or of the outputs' programs, where another machine has it: that one has its C library, too."""
        interpreter = obj.interpreter or self._interpreters.get(obj.abi)
        return interpreter if interpreter and not os.path.exists(interpreter) else None

    def lib_token(self, obj: Object, text: str) -> str:
        """What $LIB in `text` means to the object's loader, which has it compiled in; "" where that is not known, or does not matter.

        Where the outputs have no program it is what the one loader of the inputs says.
        """
        if not any("LIB" in match.groups() for match in TOKEN.finditer(text)):
            return ""
        interpreter = obj.interpreter or self._interpreters.get(obj.abi) or self._input_loader(obj.abi)
        if interpreter not in self._lib_tokens:
            found = LIB_TOKEN.search(contents(interpreter))
            self._lib_tokens[interpreter] = os.fsdecode(found[1] or found[2]) if found else ""
        return self._lib_tokens[interpreter]

    def _input_loader(self, abi: Abi) -> str:
        """The loader in the lib directories of the inputs' closure, "" where there is none or several."""
        if abi not in self._input_loaders:
            paths = (os.path.join(glob.escape(place), name) for place in self._input_directories() for name in LOADERS)
            found = {self.real(path) for pattern in paths for path in glob.glob(pattern)}
            loaders = [path for path in found if (obj := self.object(path)) is not None and obj.abi == abi]
            self._input_loaders[abi] = loaders[0] if len(loaders) == 1 else ""
        return self._input_loaders[abi]

    def loadable(self, real: str) -> Loadable | None:
        """What a loader sees of the file at a real path; answers and raises as `elf.read_object`, and reads it once."""
        if real not in self._read:
            try:
                self._read[real] = read_wants(real)
            except HardenError as error:
                self._read[real] = error
        found = self._read[real]
        if isinstance(found, HardenError):
            raise found
        return found

    def _bound(self, path: str, real: str, found: Object) -> str:
        """The name to bind: in the file's own directory, so that it equals its SONAME and keeps no second store path alive.

        A library whose search path says $ORIGIN keeps the directory by which it was found, since the loader takes its
        origin from there.
        """
        directory, name = os.path.split(path)
        beside = os.path.join(os.path.dirname(real), name)
        text, _ = own_text(found)
        if "ORIGIN" not in text and self.real(beside) == real:
            return beside
        return os.path.join(os.path.normpath(directory), name)

    def _is_stub(self, path: str, real: str, found: Object) -> bool:
        if found.soname is None:
            return False
        soname = os.path.basename(found.soname)
        return not any(self._holds(os.path.dirname(each), soname) for each in (path, real))

    def _walk_inputs(self) -> Iterator[str]:
        seen: set[str] = set()
        queue: list[str] = []
        roots = list(self.settings.inputs)
        for root in roots:
            for propagated in PROPAGATED:
                roots.extend(path for path in _words(os.path.join(root, propagated)) if path not in roots)
            queue.extend(os.path.join(root, part) for part in LIB_DIRECTORIES)
        for each in queue:
            directory = self.real(each)
            if directory in seen or not os.path.isdir(directory) or not self.settings.in_store(directory):
                continue
            seen.add(directory)
            yield directory
            for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*.so*"))):
                queue.extend(self._named_by(self.real(path)))

    def _named_by(self, real: str) -> Iterator[str]:
        """The directories that a library names, in its search path and in absolute NEEDED."""
        found = self.object(real) if os.path.isfile(real) else None
        if found is None:
            return
        text, _ = own_text(found)
        for entry in expand(text, found.directory, "lib", "").split(":"):
            if entry.startswith("/"):
                yield entry
        for name in found.needed:
            if name.startswith("/"):
                yield os.path.dirname(name)


def _references(outputs: Sequence[Output]) -> dict[str, set[str]]:
    """Which other outputs each output names, by the hash parts of their paths."""
    hashes = {output.name: os.fsencode(os.path.basename(output.path)[:32]) for output in outputs}
    found: dict[str, set[str]] = {output.name: set() for output in outputs}
    for output in outputs:
        for path, regular in walk(output.path):
            text: bytes | mmap.mmap = b""
            if regular:
                text = contents(path)
            elif os.path.islink(path):
                text = os.fsencode(os.readlink(path))
            found[output.name] |= {
                name for name, part in hashes.items() if name != output.name and text.find(part) >= 0
            }
    return found


def _legacy_names(abi: Abi) -> frozenset[str]:
    return frozenset(("tls", *LEGACY_VARIANTS.get(abi.machine, "").split()))


def _legacy_variants(directory: str, names: frozenset[str]) -> Iterator[str]:
    for part in sorted(names):
        below = os.path.join(directory, part)
        if os.path.isdir(below):
            yield below
            yield from _legacy_variants(below, names)


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [os.path.normpath(word) for word in file.read().split() if os.path.isabs(word)]
    except OSError:
        return []
