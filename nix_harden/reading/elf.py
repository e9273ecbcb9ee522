"""Read ELF files: from a path to an `Object`, or None where the file is not ELF."""

import json
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from nix_harden.errors import MalformedElf, ReadError
from nix_harden.model import DlopenNote, Kind, Loadable, Object, StringTable, Write
from nix_harden.names import DISPATCHERS
from nix_harden.reading import image as elf
from nix_harden.reading.image import Broken, Dynamic, Image
from nix_harden.reading.room import FIXED, empty_last, stale, table
from nix_harden.saying.files import contents

if TYPE_CHECKING:
    from nix_harden.loading.symbols import Symbols
    from nix_harden.prelinking.slots import Mapped

T = TypeVar("T")

RELR_VERSION = "GLIBC_ABI_DT_RELR"
DLOPEN = (b"dlopen", b"dlmopen", b"__libc_dlopen_mode")
DLSYM = (b"dlsym", b"dlvsym")
DLOPEN_NOTE = (b"FDO", 0x407C0C0A)  # https://systemd.io/ELF_DLOPEN_METADATA
TYPES = {0: "ET_NONE", 1: "ET_REL", elf.ET_EXEC: "ET_EXEC", elf.ET_DYN: "ET_DYN", 4: "ET_CORE"}
WANTS = {elf.DT_NEEDED: "DT_NEEDED", elf.DT_FILTER: "DT_FILTER", elf.DT_AUXILIARY: "DT_AUXILIARY"}

PIECE = 4096  # bytes of a string table that are compared at once


def read_object(path: str) -> Object | None:
    """Read the regular file at `path`.

    None where it is not ELF. Raises MalformedElf where it begins as ELF and breaks the format, ReadError where the
    system refuses. Nothing is read past an advertised size, and the file is closed again.
    """
    return _with_image(path, lambda image: _object(path, image))


def read_loadable(path: str) -> Loadable | None:
    """Read what a loader that is given the file at `path` sees; answers and raises as `read_object`."""
    return _with_image(path, lambda image: _loadable(path, image))


def read_wants(path: str) -> Loadable | None:
    """The same without the strings that read like names of libraries, for which the whole file is read."""
    return _with_image(path, lambda image: _loadable(path, image, mentions=False))


def read_symbols(path: str) -> "Symbols | None":
    """What the object at `path` defines and looks up; answers and raises as `read_object`, and for a machine that is not in symbols.KINDS."""
    from nix_harden.loading import symbols

    return _with_image(path, symbols.read)


def read_mapped(path: str) -> "Mapped | None":
    """The object at `path` as a table of addresses needs it; answers and raises as `read_symbols`."""
    from nix_harden.prelinking import slots

    return _with_image(path, slots.read)


def read_mentions(path: str) -> tuple[str, ...]:
    """Every string in the file at `path` that reads like the bare name of a shared library; raises as `read_object`."""
    return _with_image(path, Image.library_names) or ()


def read_stale(path: str, store: str) -> tuple[tuple[int, int], ...]:
    """File offset and length of each piece of the dynamic string table that holds a path of `store` and is no string any more.

    A string is what a reference leads to: a symbol's name, a dynamic tag, a version. Linkers merge a string with the end of
    another, so of a string that only its end is used of, the beginning is stale. Raises as `read_object`.
    """
    return _with_image(path, lambda image: stale(image, os.fsencode(store) + b"/")) or ()


def read_empty_last(path: str) -> tuple[Write, ...]:
    """The write that puts program headers of no bytes behind all others, but for PT_LOAD; none where they are there.

    patchelf sorts headers by address, so that PT_GNU_STACK comes first; Go's reader of build information, which takes the first one
    that holds an address, then takes it for the one that holds every address (golang/go#54947). Raises as `read_object`.
    """
    return _with_image(path, empty_last) or ()


@dataclass(frozen=True)
class Contents:
    """What no edit of this project may change in a file: the names of its symbols and versions, and every other tag.

    `symbols` and `versions` are the offsets of their names in `strings`, `names` those of every name that no edit may change: a
    tag that is not known may be one, or an address that patchelf moves. `loaded` are the segments that a loader maps.
    """

    symbols: Sequence[int]
    versions: tuple[int, ...]
    names: frozenset[int]
    strings: bytes
    tags: tuple[tuple[int, int], ...]
    loaded: tuple[elf.Segment, ...]

    @property
    def version_names(self) -> tuple[str, ...]:
        return tuple(os.fsdecode(self.strings[at : self.strings.index(b"\0", at)]) for at in self.versions)

    def spoilt(self, after: "Contents") -> bool:
        """Whether an edit that led from these contents to others changed what it may not."""
        mine, theirs = ((each.symbols, each.versions, each.tags) for each in (self, after))
        size = min(len(self.strings), len(after.strings))
        if mine != theirs or max((*self.symbols, *self.versions), default=0) >= size > 0:
            return True
        seen = 0
        for start, end in differences(self.strings[:size], after.strings[:size]):
            begin = max(self.strings.rfind(b"\0", 0, start) + 1, seen)
            if not self.names.isdisjoint(range(begin, end)):
                return True
            seen = end
        return False


def differences(one: bytes, other: bytes) -> Iterator[tuple[int, int]]:
    """The first position and the one behind the last of each run in which two byte strings of one length differ.

    A run ends at a multiple of PIECE, too: most pieces are equal, and passed over.
    """
    for at in range(0, len(one), PIECE):
        mine, theirs = one[at : at + PIECE], other[at : at + PIECE]
        if mine != theirs:
            both = int.from_bytes(mine, "little") ^ int.from_bytes(theirs, "little")
            for match in re.finditer(rb"[^\0]+", both.to_bytes(len(mine), "little")):
                yield at + match.start(), at + match.end()


def read_table(path: str) -> StringTable | None:
    """The string table of the file at `path`, or None where its strings cannot be edited in place; raises as `read_object`.

    They cannot where something else may refer to the table than what the dynamic section names, or lies in the same bytes.
    """
    return _with_image(path, table)


def read_library_paths(path: str) -> tuple[str, ...]:
    """Every string in the file at `path` that reads like the absolute path of a shared library; raises as `read_object`."""
    return _with_image(path, Image.library_paths) or ()


def is_dispatcher(name: str, path: str) -> bool:
    """Whether the file of a driver's name is what looks for drivers: known by a string that it holds, never by name alone."""
    mark = DISPATCHERS.get(name)
    return mark is not None and contents(path).find(mark) >= 0


def read_contents(path: str) -> Contents | None:
    """What must be the same before and after an edit of the file at `path`; None where there is no dynamic section.

    Raises as `read_object`.
    """
    return _with_image(path, _contents)


def read_unedited(path: str) -> tuple[StringTable | None, Contents | None] | None:
    """What `read_table` and `read_contents` see, in one reading; raises as they do."""
    return _with_image(path, lambda image: (table(image), _contents(image)))


def read_edited(path: str) -> tuple[Object, Contents | None] | None:
    """What `read_object` and `read_contents` see, in one reading; raises as they do."""
    return _with_image(path, lambda image: (_object(path, image), _contents(image)))


def _with_image(path: str, use: Callable[[Image], T]) -> T | None:
    """Open `path` once, give it to `use` where it is ELF, close it, and name the path in whatever went wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.pread(descriptor, len(elf.MAGIC), 0) != elf.MAGIC:
            return None
        return use(Image(descriptor))
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    except (Broken, struct.error) as error:
        raise MalformedElf(path, str(error)) from error
    finally:
        os.close(descriptor)


def _object(path: str, image: Image) -> Object:
    dynamic = image.dynamic
    interpreter = None
    for segment in image.segments:
        if segment.type == elf.PT_INTERP and segment.size:
            interpreter = image.text(segment.offset, segment.size, "the interpreter")
    common: dict[str, Any] = {
        "path": path,
        "abi": image.abi,
        "interpreter": interpreter,
        "sections": bool(image.sections),
    }
    if image.type not in (elf.ET_EXEC, elf.ET_DYN) or dynamic is None:
        return Object(kind=Kind.OTHER, **common)
    if dynamic.empty:
        return Object(kind=Kind.OTHER, debug_only=True, **common)
    soname = dynamic.last_string(elf.DT_SONAME, "DT_SONAME")
    flags = dynamic.value(elf.DT_FLAGS_1) or 0
    if image.type == elf.ET_EXEC or flags & elf.DF_1_PIE or (interpreter is not None and soname is None):
        kind = Kind.PROGRAM
    else:
        kind = Kind.LIBRARY if soname is not None else Kind.PLUGIN
    return Object(
        kind=kind,
        soname=soname,
        needed=dynamic.all_strings(elf.DT_NEEDED, "DT_NEEDED"),
        rpath=dynamic.last_string(elf.DT_RPATH, "DT_RPATH"),
        runpath=dynamic.last_string(elf.DT_RUNPATH, "DT_RUNPATH"),
        filters=dynamic.filters(),
        version_files=tuple(dynamic.string(need.file, "a version's file") for need in dynamic.version_needs),
        opens_libraries=_opens_libraries(dynamic),
        notes=tuple(_dlopen_notes(image)),
        no_default_directories=bool(flags & elf.DF_1_NODEFLIB),
        payload=image.payload(),
        alignment=max((segment.align for segment in image.segments if segment.type == elf.PT_LOAD), default=0),
        **common,
    )


def _opens_libraries(dynamic: Dynamic) -> bool:
    """Whether a dlopen is among the symbols, or can be had by name: a dlsym is, and the string.

    It calls dlopen(3) then, or is the C library, which opens libgcc_s.so.1 and NSS.
    """
    if any(_has_symbol(dynamic, name) for name in DLOPEN):
        return True
    return any(_has_symbol(dynamic, name) for name in DLSYM) and any(map(dynamic.image.holds, DLOPEN))


def _has_symbol(dynamic: Dynamic, name: bytes) -> bool:
    places = set[int]()
    at = dynamic.strings.find(name + b"\0")
    while at >= 0:
        places.add(at)
        at = dynamic.strings.find(name + b"\0", at + 1)
    return bool(places) and not places.isdisjoint(dynamic.symbols)


def _loadable(path: str, image: Image, *, mentions: bool = True) -> Loadable:
    dynamic = image.dynamic
    tags = dynamic.tags if dynamic is not None else []
    wants = tuple(
        (WANTS[tag], dynamic.string(value, WANTS[tag])) for tag, value in tags if dynamic is not None and tag in WANTS
    )
    flags = (dynamic.value(elf.DT_FLAGS_1) if dynamic is not None else 0) or 0
    obj = _object(path, image)
    found = image.library_names() if mentions and obj.opens_libraries else ()
    kind = TYPES.get(image.type, f"type {image.type:#x}")
    return Loadable(obj, kind, flags, wants, found, image.unopenable, _is_relative_unversioned(dynamic))


def _is_relative_unversioned(dynamic: Dynamic | None) -> bool:
    """Whether there are DT_RELR and versions of libc.so, and neither a need of GLIBC_ABI_DT_RELR nor glibc's own (elf/dl-version.c)."""
    if dynamic is None or dynamic.value(elf.DT_RELR) is None:
        return False
    files = {dynamic.string(need.file, "a version's file") for need in dynamic.version_needs}
    if not any(os.path.basename(file).startswith("libc.so.") for file in files):
        return False
    needed = {dynamic.string(version.name, "a version") for need in dynamic.version_needs for version in need.versions}
    defined = {dynamic.string(each.names[0], "a version") for each in dynamic.version_definitions if each.names}
    return RELR_VERSION not in needed and "GLIBC_PRIVATE" not in defined


def _dlopen_notes(image: Image) -> Iterator[DlopenNote]:
    """The entries of every dlopen note in a PT_NOTE segment; a note that is not the JSON it should be says nothing."""
    header = struct.Struct(image.order + "III")
    for segment in image.segments:
        if segment.type != elf.PT_NOTE:
            continue
        data = image.read(segment.offset, segment.size, "the notes")
        position = 0
        while position + header.size <= len(data):
            name_size, size, kind = header.unpack_from(data, position)
            start = position + header.size
            end = start + _aligned(name_size) + size
            if end > len(data):
                break
            if (data[start : start + name_size].rstrip(b"\0"), kind) == DLOPEN_NOTE:
                yield from _dlopen_entries(data[end - size : end])
            position = _aligned(end)


def _aligned(size: int) -> int:
    return size + 3 & ~3


def _dlopen_entries(text: bytes) -> Iterator[DlopenNote]:
    try:
        entries = json.loads(text.rstrip(b"\0"))
    except (ValueError, RecursionError):
        return
    for entry in entries if isinstance(entries, list) else []:
        sonames = entry.get("soname") if isinstance(entry, dict) else None
        if isinstance(sonames, list) and sonames and all(isinstance(soname, str) for soname in sonames):
            feature, description, priority = (str(entry.get(key, "")) for key in ("feature", "description", "priority"))
            yield DlopenNote(tuple(sonames), feature, description, priority or "recommended")


def _contents(image: Image) -> Contents | None:
    dynamic = image.dynamic
    if dynamic is None or dynamic.empty:
        return None
    return Contents(
        symbols=dynamic.symbols,
        versions=tuple(dynamic.version_names),
        names=dynamic.fixed_references,
        strings=dynamic.strings,
        tags=tuple(row for row in dynamic.tags if row[0] in FIXED),
        loaded=tuple(segment for segment in image.segments if segment.type == elf.PT_LOAD),
    )
