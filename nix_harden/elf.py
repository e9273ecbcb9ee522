"""Read ELF files: from a path to an `Object`, or None where the file is not ELF; the only importer of elftools.

What the loader uses is found as the loader finds it, through segments (gABI, "Program Header" and "Dynamic Section").
Section headers say only what no segment says: where the file ends, and whether the dynamic section holds bytes.
"""

import bisect
import functools
import io
import json
import mmap
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.structs import ELFStructs

from nix_harden.errors import MalformedElf, ReadError
from nix_harden.model import Abi, DlopenNote, Kind, Loadable, Object

T = TypeVar("T")

MAGIC = b"\x7fELF"
DF_1_NODEFLIB = 0x00000800
DF_1_PIE = 0x08000000
MAX_HEADERS = 0xFFFF
PATH_MAX = 4096
# No string that names a file, nor a search path, is longer in any file that works.
LONGEST = 1 << 17
# What all versions of one file may take at most; libc.so.6 has less than a hundred.
MOST_VERSIONS = 1 << 16
OSABI_GNU = 3  # ELFOSABI_LINUX: glibc loads it beside System V's 0 (VALID_ELF_OSABI in sysdeps/gnu/ldsodefs.h)
# A library's name as a string of the program text: what a call of dlopen may hold.
LIBRARY_NAME = re.compile(rb"lib[\w.+-]{1,100}?\.so(?:\.\d+)*\0")
DLOPEN = (b"dlopen", b"dlmopen", b"__libc_dlopen_mode")
DLOPEN_NOTE = (b"FDO", 0x407C0C0A)  # https://systemd.io/ELF_DLOPEN_METADATA
SYMBOL = {32: "I12x", 64: "I20x"}  # the st_name of Elf32_Sym and Elf64_Sym
# sh_type, sh_addr, sh_offset and sh_size of Elf32_Shdr and Elf64_Shdr; there are many, and pyelftools takes its time for each.
SECTION = {32: "4xI4xIII16x", 64: "4xI8xQQQ24x"}
SHT_NULL, SHT_NOBITS, SHT_DYNSYM = 0, 8, 11


_IN_NAME = (b"_", b"-", b"+", b".", b"/")


class _Broken(Exception):
    """A breach of the format; becomes MalformedElf once the path is known."""


@dataclass(frozen=True)
class _Segment:
    type: object
    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class _Section:
    type: int
    address: int
    offset: int
    size: int


@functools.lru_cache(maxsize=16)
def _structs(bits: int, little_endian: bool, kind: str, machine: str, osabi: str) -> ELFStructs:
    structs = ELFStructs(little_endian=little_endian, elfclass=bits)
    structs.create_basic_structs()
    structs.create_advanced_structs(kind, machine, osabi)
    return structs


class _Image:
    """An open ELF file, read in bounded pieces: never past its end, never past an advertised size."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        ident = self.read(0, 16, "the identification")
        bits = {1: 32, 2: 64}.get(ident[4])
        if bits is None or ident[5] not in (1, 2):
            raise _Broken(f"class {ident[4]} and byte order {ident[5]} mean nothing")
        self.bits, self.little_endian = bits, ident[5] == 1
        header = _structs(bits, self.little_endian, "ET_NONE", "EM_NONE", "ELFOSABI_SYSV")
        self.header = struct_parse(
            header.Elf_Ehdr, io.BytesIO(self.read(0, header.Elf_Ehdr.sizeof(), "the file header"))
        )
        self.machine = str(self.header["e_machine"])
        self.structs = _structs(
            bits, self.little_endian, str(self.header["e_type"]), self.machine, str(self.header["e_ident"]["EI_OSABI"])
        )
        self.abi = Abi(bits, self.little_endian, self.machine, 0 if ident[7] == OSABI_GNU else ident[7])
        self.sections = self._sections()
        self.segments = self._segments()

    def read(self, offset: int, size: int, what: str) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _Broken(f"{what} at {offset:#x}, {size} bytes, reaches past the end of the file at {self.size:#x}")
        data = os.pread(self.descriptor, size, offset)
        if len(data) != size:
            raise _Broken(f"{what} at {offset:#x} ended after {len(data)} of {size} bytes")
        return data

    def text(self, offset: int, size: int, what: str) -> str:
        """A path that ends at the first zero byte, or where no path could go on."""
        return os.fsdecode(self.read(offset, min(size, PATH_MAX), what).partition(b"\0")[0])

    def table(self, offset: int, count: int, entry_size: int, entry: Any, what: str) -> list[Any]:
        if count and entry_size < entry.sizeof():
            raise _Broken(f"{what} has entries of {entry_size} bytes, {entry.sizeof()} are needed")
        stream = io.BytesIO(self.read(offset, count * entry_size, what))
        return [struct_parse(entry, stream, i * entry_size) for i in range(count)]

    def _segments(self) -> tuple[_Segment, ...]:
        count = self.header["e_phnum"]
        if count == MAX_HEADERS:
            raise _Broken("the count of program headers lies in a section header (PN_XNUM), which no loader reads")
        if not self.header["e_phoff"]:
            return ()
        rows = self.table(
            self.header["e_phoff"], count, self.header["e_phentsize"], self.structs.Elf_Phdr, "the program header table"
        )
        return tuple(_Segment(row["p_type"], row["p_offset"], row["p_vaddr"], row["p_filesz"]) for row in rows)

    def _sections(self) -> tuple[_Section, ...]:
        """The section headers, or none where the table is stripped or does not fit: the loader never looks."""
        header = self.header
        if not header["e_shoff"] or not header["e_shnum"]:
            return ()
        layout = struct.Struct(("<" if self.little_endian else ">") + SECTION[self.bits])
        if header["e_shentsize"] != layout.size:
            return ()
        try:
            table = self.read(header["e_shoff"], header["e_shnum"] * layout.size, "the section header table")
        except _Broken:
            return ()
        return tuple(_Section(*row) for row in layout.iter_unpack(table))

    def offset(self, address: int, what: str) -> int:
        """The file offset that the loader maps to an address (gABI, PT_LOAD)."""
        for segment in self.segments:
            if segment.type == "PT_LOAD" and segment.address <= address < segment.address + segment.size:
                return segment.offset + address - segment.address
        raise _Broken(f"{what} at address {address:#x} lies in no loaded segment")

    def end(self) -> int:
        """The first byte that no header describes."""
        header = self.header
        ends = [
            header["e_ehsize"],
            header["e_phoff"] + header["e_phnum"] * header["e_phentsize"],
            header["e_shoff"] + header["e_shnum"] * header["e_shentsize"],
            *(segment.offset + segment.size for segment in self.segments),
            *(section.offset + section.size for section in self.sections if section.type not in (SHT_NOBITS, SHT_NULL)),
        ]
        return int(max(end for end in ends))

    def payload(self) -> int:
        """How many bytes follow `end`, without the zeros that tools pad with."""
        end = self.end()
        if end >= self.size:
            return 0
        position, last = end, 0
        while piece := os.pread(self.descriptor, 1 << 20, position):
            if kept := len(piece.rstrip(b"\0")):
                last = position + kept - end
            position += len(piece)
        return last

    def library_names(self) -> tuple[str, ...]:
        """Every string in the loaded segments that reads like the bare name of a shared library, once, sorted."""
        found = set()
        with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as data:
            for match in LIBRARY_NAME.finditer(data):
                before = data[match.start() - 1 : match.start()]
                if not (before.isalnum() or before in _IN_NAME):
                    found.add(os.fsdecode(match[0][:-1]))
        return tuple(sorted(found))

    def dynamic(self) -> "_Dynamic | None":
        """The dynamic section, or None for what has none; empty where only its header was kept."""
        for segment in self.segments:
            if segment.type == "PT_DYNAMIC":
                return _Dynamic(self, segment)
        return None


class _Dynamic:
    """The dynamic section of an image and the string table that it names."""

    def __init__(self, image: _Image, segment: _Segment) -> None:
        self.image = image
        nobits = any(section.type == SHT_NOBITS and section.address == segment.address for section in image.sections)
        self.empty = nobits or segment.size == 0
        self.tags: list[tuple[object, int]] = []
        self.strings = b""
        if self.empty:
            return
        size = image.structs.Elf_Dyn.sizeof()
        for row in image.table(
            segment.offset, segment.size // size, size, image.structs.Elf_Dyn, "the dynamic section"
        ):
            if row["d_tag"] == "DT_NULL":
                break
            self.tags.append((row["d_tag"], row["d_val"]))
        table, length = self.value("DT_STRTAB"), self.value("DT_STRSZ")
        if table is not None and length is not None:
            self.strings = image.read(image.offset(table, "the string table"), length, "the string table")

    def value(self, tag: str) -> int | None:
        return next((value for name, value in self.tags if name == tag), None)

    def string(self, offset: int, what: str) -> str:
        return os.fsdecode(self.bytes_at(offset, what))

    def bytes_at(self, offset: int, what: str) -> bytes:
        end = self.strings.find(b"\0", offset) if offset < len(self.strings) else -1
        if end < 0:
            raise _Broken(f"{what} at {offset:#x} is not in the string table of {len(self.strings):#x} bytes")
        if end - offset > LONGEST:
            raise _Broken(f"{what} at {offset:#x} is {end - offset} bytes long, which no path is")
        return self.strings[offset:end]

    def all_strings(self, tag: str) -> tuple[str, ...]:
        return tuple(self.string(value, tag) for name, value in self.tags if name == tag)

    def last_string(self, tag: str) -> str | None:
        found = self.all_strings(tag)
        return found[-1] if found else None

    def filters(self) -> tuple[str, ...]:
        """What is searched for beside NEEDED: DT_FILTER, DT_AUXILIARY, and the lists of DT_AUDIT and DT_DEPAUDIT."""
        audits = self.all_strings("DT_AUDIT") + self.all_strings("DT_DEPAUDIT")
        names = tuple(name for text in audits for name in text.split(":") if name)
        return self.all_strings("DT_FILTER") + self.all_strings("DT_AUXILIARY") + names

    def version_needs(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Each vn_file offset with the vna_name offsets below it (GNU symbol versioning, Elfxx_Verneed)."""
        address, count = self.value("DT_VERNEED"), self.value("DT_VERNEEDNUM")
        if address is None or count is None:
            return
        structs, position = self.image.structs, self.image.offset(address, "the version needs")
        left = MOST_VERSIONS
        for _ in range(count):
            need = self._entry(structs.Elf_Verneed, position, "a version need")
            names, auxiliary = [], position + need["vn_aux"]
            left -= need["vn_cnt"]
            if left < 0:
                raise _Broken(f"the version needs count more than {MOST_VERSIONS} versions")
            for _ in range(need["vn_cnt"]):
                version = self._entry(structs.Elf_Vernaux, auxiliary, "a needed version")
                names.append(int(version["vna_name"]))
                if not version["vna_next"]:
                    break
                auxiliary += version["vna_next"]
            yield int(need["vn_file"]), tuple(names)
            if not need["vn_next"]:
                return
            position += need["vn_next"]

    def version_definitions(self) -> Iterator[int]:
        """Each vda_name offset (GNU symbol versioning, Elfxx_Verdaux)."""
        address, count = self.value("DT_VERDEF"), self.value("DT_VERDEFNUM")
        if address is None or count is None:
            return
        structs, position = self.image.structs, self.image.offset(address, "the version definitions")
        left = MOST_VERSIONS
        for _ in range(count):
            definition = self._entry(structs.Elf_Verdef, position, "a version definition")
            auxiliary = position + definition["vd_aux"]
            left -= definition["vd_cnt"]
            if left < 0:
                raise _Broken(f"the version definitions count more than {MOST_VERSIONS} versions")
            for _ in range(definition["vd_cnt"]):
                name = self._entry(structs.Elf_Verdaux, auxiliary, "a version's name")
                yield int(name["vda_name"])
                if not name["vda_next"]:
                    break
                auxiliary += name["vda_next"]
            if not definition["vd_next"]:
                return
            position += definition["vd_next"]

    def _entry(self, entry: Any, position: int, what: str) -> Any:
        return struct_parse(entry, io.BytesIO(self.image.read(position, entry.sizeof(), what)))

    def references(self) -> Iterator[int]:
        """Every offset in the string table that something refers to; a tag that is not known is taken for a reference."""
        yield from self.symbols()
        yield from (value for tag, value in self.tags if tag not in _NO_STRINGS)
        for file, names in self.version_needs():
            yield file
            yield from names
        yield from self.version_definitions()

    def symbols(self) -> Iterator[int]:
        """The st_name of each dynamic symbol.

        No tag holds their number: .dynsym's header does where there are sections; else the table ends, at the latest,
        where the next table that the dynamic section names begins.
        """
        address = self.value("DT_SYMTAB")
        if address is None:
            return
        layout = struct.Struct(("<" if self.image.little_endian else ">") + SYMBOL[self.image.bits])
        start = self.image.offset(address, "the symbol table")
        for section in self.image.sections:
            if section.type == SHT_DYNSYM and section.address == address:
                size = section.size
                break
        else:
            addresses = [segment.address + segment.size for segment in self.image.segments if segment.type == "PT_LOAD"]
            addresses += [value for name, value in self.tags if name in _TABLES]
            size = min(value for value in addresses if value > address) - address
        size -= size % layout.size
        for row in layout.iter_unpack(self.image.read(start, size, "the symbol table")):
            yield row[0]

    def opens_libraries(self) -> bool:
        """Whether a dlopen is among the symbols: it calls dlopen(3), or is the C library, which opens libgcc_s.so.1 and NSS."""
        if not any(name + b"\0" in self.strings for name in DLOPEN):
            return False
        return any(self.strings.startswith(wanted + b"\0", name) for name in self.symbols() for wanted in DLOPEN)


_TABLES = frozenset(
    "DT_" + name
    for name in "STRTAB HASH GNU_HASH VERSYM VERNEED VERDEF RELA REL JMPREL RELR INIT FINI INIT_ARRAY FINI_ARRAY".split()
)

# Tags of the gABI and of GNU whose value is no string.
_NO_STRINGS = frozenset(
    "DT_" + name
    for name in (
        "PLTRELSZ PLTGOT HASH STRTAB SYMTAB RELA RELASZ RELAENT STRSZ SYMENT INIT FINI SYMBOLIC REL RELSZ RELENT PLTREL DEBUG "
        "TEXTREL JMPREL BIND_NOW INIT_ARRAY FINI_ARRAY INIT_ARRAYSZ FINI_ARRAYSZ FLAGS PREINIT_ARRAY PREINIT_ARRAYSZ RELRSZ RELR "
        "RELRENT GNU_HASH VERSYM RELACOUNT RELCOUNT FLAGS_1 VERDEF VERDEFNUM VERNEED VERNEEDNUM TLSDESC_PLT TLSDESC_GOT"
    ).split()
)

# Tags whose value holds no address or size that patchelf's moves change.
_FIXED = frozenset(
    "DT_" + name for name in "FLAGS FLAGS_1 INIT FINI PLTRELSZ RELASZ RELSZ INIT_ARRAYSZ FINI_ARRAYSZ".split()
)


def read_object(path: str) -> Object | None:
    """Read the regular file at `path`.

    None where it is not ELF. Raises MalformedElf where it begins as ELF and breaks the format, ReadError where the
    system refuses. Nothing is read past an advertised size, and the file is closed again.
    """
    return _with_image(path, lambda image: _object(path, image))


def read_loadable(path: str) -> Loadable | None:
    """Read what a loader that is given the file at `path` sees; answers and raises as `read_object`."""
    return _with_image(path, lambda image: _loadable(path, image))


def read_mentions(path: str) -> tuple[str, ...]:
    """Every string in the file at `path` that reads like the bare name of a shared library; raises as `read_object`."""
    return _with_image(path, _Image.library_names) or ()


def read_stale(path: str, store: str) -> tuple[tuple[int, int], ...]:
    """File offset and length of each piece of the dynamic string table that holds a path of `store` and is no string any more.

    A string is what a reference leads to: a symbol's name, a dynamic tag, a version. Linkers merge a string with the end of
    another, so of a string that only its end is used of, the beginning is stale. Raises as `read_object`.
    """
    return _with_image(path, lambda image: _stale(image, os.fsencode(store) + b"/")) or ()


@dataclass(frozen=True)
class Contents:
    """What no edit of this project may change in a file: its symbols' names, its versions', and every other tag.

    A name is held as its length and both ends: strings may overlap, and all of them together be many times the file.
    """

    symbols: tuple[bytes, ...]
    versions: tuple[tuple[bytes, ...], ...]
    definitions: tuple[bytes, ...]
    tags: tuple[tuple[str, int], ...]
    filters: tuple[str, ...]


def read_contents(path: str) -> Contents | None:
    """What must be the same before and after an edit of the file at `path`; None where there is no dynamic section.

    Raises as `read_object`.
    """
    return _with_image(path, _contents)


def _with_image(path: str, use: Callable[[_Image], T]) -> T | None:
    """Open `path` once, give it to `use` where it is ELF, close it, and name the path in whatever went wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or os.pread(descriptor, len(MAGIC), 0) != MAGIC:
            return None
        return use(_Image(descriptor))
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    except (_Broken, ELFError, ConstructError) as error:
        raise MalformedElf(path, str(error)) from error
    finally:
        os.close(descriptor)


def _object(path: str, image: _Image) -> Object:
    dynamic = image.dynamic()
    interpreter = None
    for segment in image.segments:
        if segment.type == "PT_INTERP" and segment.size:
            interpreter = image.text(segment.offset, segment.size, "the interpreter")
    common: dict[str, Any] = {
        "path": path,
        "abi": image.abi,
        "interpreter": interpreter,
        "sections": bool(image.sections),
    }
    if image.header["e_type"] not in ("ET_EXEC", "ET_DYN") or dynamic is None:
        return Object(kind=Kind.OTHER, **common)
    if dynamic.empty:
        return Object(kind=Kind.OTHER, debug_only=True, **common)
    soname = dynamic.last_string("DT_SONAME")
    flags = dynamic.value("DT_FLAGS_1") or 0
    if image.header["e_type"] == "ET_EXEC" or flags & DF_1_PIE or (interpreter is not None and soname is None):
        kind = Kind.PROGRAM
    else:
        kind = Kind.LIBRARY if soname is not None else Kind.PLUGIN
    return Object(
        kind=kind,
        soname=soname,
        needed=dynamic.all_strings("DT_NEEDED"),
        rpath=dynamic.last_string("DT_RPATH"),
        runpath=dynamic.last_string("DT_RUNPATH"),
        filters=dynamic.filters(),
        version_files=tuple(dynamic.string(offset, "a version's file") for offset, _ in dynamic.version_needs()),
        opens_libraries=dynamic.opens_libraries(),
        notes=tuple(_dlopen_notes(image)),
        no_default_directories=bool(flags & DF_1_NODEFLIB),
        payload=image.payload(),
        **common,
    )


def _loadable(path: str, image: _Image) -> Loadable:
    dynamic = image.dynamic()
    tags = dynamic.tags if dynamic is not None else []
    wants = tuple(
        (str(tag), dynamic.string(value, str(tag)))
        for tag, value in tags
        if dynamic is not None and tag in ("DT_NEEDED", "DT_FILTER", "DT_AUXILIARY")
    )
    flags = (dynamic.value("DT_FLAGS_1") if dynamic is not None else 0) or 0
    obj = _object(path, image)
    mentions = image.library_names() if obj.opens_libraries else ()
    return Loadable(obj, str(image.header["e_type"]), flags, wants, mentions)


def _dlopen_notes(image: _Image) -> Iterator[DlopenNote]:
    """The entries of every dlopen note in a PT_NOTE segment; a note that is not the JSON it should be says nothing."""
    header = struct.Struct(("<" if image.little_endian else ">") + "III")
    for segment in image.segments:
        if segment.type != "PT_NOTE":
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


def _contents(image: _Image) -> Contents | None:
    dynamic = image.dynamic()
    if dynamic is None or dynamic.empty:
        return None
    strings = dynamic.strings

    def at(offset: int) -> bytes:
        end = strings.find(b"\0", offset)
        return b"%d" % (end - offset) + strings[offset : min(end, offset + 256)] + strings[max(offset, end - 256) : end]

    return Contents(
        symbols=tuple(at(name) for name in dynamic.symbols()),
        versions=tuple(tuple(at(name) for name in names) for _, names in dynamic.version_needs()),
        definitions=tuple(at(name) for name in dynamic.version_definitions()),
        tags=tuple((str(tag), value) for tag, value in dynamic.tags if tag in _FIXED),
        filters=dynamic.filters(),
    )


def _stale(image: _Image, store: bytes) -> tuple[tuple[int, int], ...]:
    dynamic = image.dynamic()
    if dynamic is None or dynamic.empty or store not in dynamic.strings:
        return ()
    strings, start = dynamic.strings, image.offset(dynamic.value("DT_STRTAB") or 0, "the string table")
    used = sorted(set(dynamic.references()))
    found = []
    at = strings.find(store)
    while at >= 0:
        begin, end = strings.rfind(b"\0", 0, at) + 1, strings.find(b"\0", at)
        first = bisect.bisect_left(used, begin)
        kept = used[first] if first < len(used) and used[first] < end else end
        if kept > at:
            found.append((start + begin, kept - begin))
        at = strings.find(store, end) if end >= 0 else -1
    return tuple(found)
