"""The bytes of an ELF file as its headers describe them: segments, sections, the dynamic section and its string table.

What the loader uses is found as the loader finds it, through segments (gABI, "Program Header" and "Dynamic Section").
Section headers say only what no segment says: where the file ends, and whether the dynamic section holds bytes. Everything is
read in bulk and in bounded pieces: never past the end of the file, never past an advertised size.

It is long, as an image and its dynamic section read each other.
"""

import functools
import itertools
import mmap
import os
import re
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from nix_harden.model import Abi
from nix_harden.reading.layout import LAYOUTS

MAGIC = b"\x7fELF"
PN_XNUM = 0xFFFF
PATH_MAX = 4096
# The piece of a file's beginning that is read at once: it holds the headers of nearly every file.
WINDOW, SMALL = 4096, 256
# No string that names a file, nor a search path, is longer in any file that works.
LONGEST = 1 << 17
# What all versions of one file may take at most; libc.so.6 has less than a hundred.
MOST_VERSIONS = 1 << 16
OSABI_GNU = 3  # ELFOSABI_LINUX: glibc loads it beside System V's 0 (VALID_ELF_OSABI in sysdeps/gnu/ldsodefs.h)
ABI_VERSIONS = 4  # LIBC_ABI_MAX of glibc 2.36 (abi-versions.h); those below it are known
# A library's name as a string of the program text: what a call of dlopen may hold.
LIBRARY_NAME = re.compile(rb"lib[\w.+-]{1,100}?\.so(?:\.\d+)*\0")
LIBRARY_PATH = re.compile(rb"/[\x21-\x7e]{1,400}?\.so(?:\.\w+)*\0")
IN_NAME = (b"_", b"-", b"+", b".", b"/")

ET_EXEC, ET_DYN = 2, 3
PT_GNU_STACK, PT_GNU_RELRO = 0x6474E551, 0x6474E552
DF_1_NODEFLIB, DF_1_PIE = 0x800, 0x08000000
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
SHF_EXECINSTR = 4
SHT_NULL, SHT_STRTAB, SHT_NOBITS, SHT_DYNSYM = 0, 3, 8, 11
MACHINES = {  # e_machine, as <elf.h> names it
    2: "EM_SPARC",
    3: "EM_386",
    4: "EM_68K",
    8: "EM_MIPS",
    15: "EM_PARISC",
    18: "EM_SPARC32PLUS",
    20: "EM_PPC",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    42: "EM_SH",
    43: "EM_SPARCV9",
    50: "EM_IA_64",
    62: "EM_X86_64",
    92: "EM_OPENRISC",
    93: "EM_ARC_COMPACT",
    94: "EM_XTENSA",
    164: "EM_QDSP6",
    183: "EM_AARCH64",
    189: "EM_MICROBLAZE",
    190: "EM_CUDA",
    195: "EM_ARC_COMPACT2",
    224: "EM_AMDGPU",
    243: "EM_RISCV",
    247: "EM_BPF",
    252: "EM_CSKY",
    258: "EM_LOONGARCH",
}

DT_NULL, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_STRSZ = 0, 1, 4, 5, 6, 7, 10
DT_INIT, DT_FINI, DT_SONAME, DT_RPATH, DT_REL, DT_JMPREL, DT_INIT_ARRAY, DT_FINI_ARRAY = 12, 13, 14, 15, 17, 23, 25, 26
DT_RUNPATH, DT_FLAGS, DT_RELR = 29, 30, 36
DT_GNU_HASH, DT_DEPAUDIT, DT_AUDIT, DT_VERSYM, DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFEFB, 0x6FFFFEFC, 0x6FFFFFF0, 0x6FFFFFFB
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
DT_AUXILIARY, DT_FILTER = 0x7FFFFFFD, 0x7FFFFFFF
# Tags of the gABI and of GNU whose value is no string; any other may be one.
NO_STRINGS = frozenset(
    (*range(2, 14), *range(16, 29), DT_FLAGS, *range(32, 38), 0x6FFFFEF6, 0x6FFFFEF7, DT_GNU_HASH)
) | frozenset((DT_VERSYM, 0x6FFFFFF9, 0x6FFFFFFA, DT_FLAGS_1, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM))
# Tags whose strings this project edits.
EDITABLE = frozenset((DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH, DT_AUDIT))
# Tags whose value is where a table begins.
TABLES = frozenset(
    (DT_STRTAB, DT_HASH, DT_GNU_HASH, DT_VERSYM, DT_VERNEED, DT_VERDEF, DT_RELA, DT_REL, DT_JMPREL, DT_RELR)
) | frozenset((DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY))


class Broken(Exception):
    """A breach of the format; becomes MalformedElf once the path is known."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header: p_type, p_offset, p_vaddr, p_filesz, p_flags, p_align and p_memsz."""

    type: int
    offset: int
    address: int
    size: int
    flags: int
    align: int
    memory: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header: sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size and sh_link."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class Image:
    """An open ELF file. Raises Broken where it is none, or not whole."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._window, self._window_start = os.pread(descriptor, WINDOW, 0), 0
        ident = self.read(0, 16, "the identification")
        bits, order = {1: 32, 2: 64}.get(ident[4]), {1: "<", 2: ">"}.get(ident[5])
        if bits is None or order is None:
            raise Broken(f"class {ident[4]} and byte order {ident[5]} mean nothing")
        self.bits, self.order = bits, order
        self.osabi, self.abi_version, self.padded = ident[7], ident[8], any(ident[9:])
        self.layout = layout = LAYOUTS[bits, order]
        header = layout.header.unpack(self.read(16, layout.header.size, "the file header"))
        self.type, machine, self._phoff, self._shoff, self._ehsize, self._phentsize, self._phnum = header[:7]
        self._shentsize, self._shnum, self.names_section = header[7:]
        self.machine = MACHINES.get(machine, f"machine {machine}")
        self.abi = Abi(bits, order == "<", self.machine, 0 if ident[7] == OSABI_GNU else ident[7])
        self.sections = self._sections()
        self.segments = self._segments()

    def read(self, offset: int, size: int, what: str) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Broken(f"{what} at {offset:#x}, {size} bytes, reaches past the end of the file at {self.size:#x}")
        within = offset - self._window_start
        if within >= 0 and within + size <= len(self._window):
            return self._window[within : within + size]
        if size <= SMALL:  # what follows is often asked for next
            self._window, self._window_start = os.pread(self.descriptor, WINDOW, offset), offset
            data = self._window[:size]
        else:
            data = os.pread(self.descriptor, size, offset)
        if len(data) != size:
            raise Broken(f"{what} at {offset:#x} ended after {len(data)} of {size} bytes")
        return data

    def text(self, offset: int, size: int, what: str) -> str:
        """A path that ends at the first zero byte, or where no path could go on."""
        return os.fsdecode(self.read(offset, min(size, PATH_MAX), what).partition(b"\0")[0])

    def _segments(self) -> tuple[Segment, ...]:
        if self._phnum == PN_XNUM:
            raise Broken("the count of program headers lies in a section header (PN_XNUM), which no loader reads")
        if not self._phoff:
            return ()
        entry, stride = self.layout.segment, self._phentsize
        if self._phnum and stride < entry.size:
            raise Broken(f"the program header table has entries of {stride} bytes, {entry.size} are needed")
        data = self.read(self._phoff, self._phnum * stride, "the program header table")
        rows = (entry.unpack_from(data, at) for at in range(0, self._phnum * stride, stride or 1))
        fields = (
            itemgetter(0, 2, 3, 4, 1, 6, 5) if self.bits == 64 else itemgetter(0, 1, 2, 3, 5, 6, 4)
        )  # where p_flags stands
        return tuple(Segment(*fields(row)) for row in rows)

    def _sections(self) -> tuple[Section, ...]:
        """The section headers, or none where the table is stripped or does not fit: the loader never looks."""
        entry = self.layout.section
        if not self._shoff or not self._shnum or self._shentsize != entry.size:
            return ()
        try:
            table = self.read(self._shoff, self._shnum * entry.size, "the section header table")
        except Broken:
            return ()
        return tuple(itertools.starmap(Section, entry.iter_unpack(table)))

    def offset(self, address: int, what: str) -> int:
        """The file offset that the loader maps to an address (gABI, PT_LOAD)."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.address <= address < segment.address + segment.size:
                return segment.offset + address - segment.address
        raise Broken(f"{what} at address {address:#x} lies in no loaded segment")

    @property
    def header_size(self) -> int:
        return int(self._ehsize)

    @property
    def segment_table(self) -> tuple[int, int]:
        """Offset and size of the program header table."""
        return self._phoff, self._phnum * self._phentsize

    @property
    def section_table(self) -> tuple[int, int]:
        """Offset and size of the section header table, where `sections` has what is in it."""
        return self._shoff, len(self.sections) * self.layout.section.size

    def end(self) -> int:
        """The first byte that no header describes."""
        ends = [
            self._ehsize,
            self._phoff + self._phnum * self._phentsize,
            self._shoff + self._shnum * self._shentsize,
            *(segment.offset + segment.size for segment in self.segments),
            *(section.offset + section.size for section in self.sections if section.type not in (SHT_NOBITS, SHT_NULL)),
        ]
        return int(max(ends))

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
        """Every string in the loaded data that reads like the bare name of a shared library, once, sorted."""
        found = set()
        with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as data:
            for start, end in self._data():
                for match in LIBRARY_NAME.finditer(data, start, end):
                    before = data[match.start() - 1 : match.start()]
                    if not (before.isalnum() or before in IN_NAME):
                        found.add(os.fsdecode(match[0][:-1]))
        return tuple(sorted(found))

    def library_paths(self) -> tuple[str, ...]:
        """Every string in the loaded data that reads like the absolute path of a shared library, once, sorted."""
        with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as data:
            found = {match[0][:-1] for area in self._data() for match in LIBRARY_PATH.finditer(data, *area)}
        return tuple(sorted(map(os.fsdecode, found)))

    @property
    def unopenable(self) -> str | None:
        """Why glibc opens no library with this identification, which the kernel does not look at (elf/dl-load.c, `open_verify`)."""
        if self.abi_version and (self.osabi != OSABI_GNU or self.abi_version >= ABI_VERSIONS):
            return "ELF file ABI version invalid"
        return "nonzero padding in e_ident" if self.padded else None

    def holds(self, text: bytes) -> bool:
        """Whether a string of the loaded data is this one, or ends as it: linkers merge the two."""
        with mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) as data:
            return any(data.find(text + b"\0", start, end) >= 0 for start, end in self._data())

    def _data(self) -> Iterator[tuple[int, int]]:
        """Where the loaded data lie in the file, without the dynamic string table: a name there is that of a tag, a symbol or a version,
        or of none any more, and no string that code gives to a call. Instructions are left out where sections say which they are; linkers
        and patchelf put data into their segment, too.
        """
        apart = [
            (section.offset, section.offset + section.size)
            for section in self.sections
            if section.flags & SHF_EXECINSTR and section.type != SHT_NOBITS
        ]
        if self.dynamic is not None and self.dynamic.strings:
            apart.append((self.dynamic.strings_offset, self.dynamic.strings_offset + len(self.dynamic.strings)))
        apart.sort()
        for segment in self.segments:
            if segment.type != PT_LOAD:
                continue
            start, end = min(segment.offset, self.size), min(segment.offset + segment.size, self.size)
            for first, last in apart:
                if start < last and first < end:
                    if start < first:
                        yield start, first
                    start = min(last, end)
            if start < end:
                yield start, end

    @functools.cached_property
    def dynamic(self) -> "Dynamic | None":
        """The dynamic section, or None for what has none; empty where only its header was kept."""
        for segment in self.segments:
            if segment.type == PT_DYNAMIC:
                return Dynamic(self, segment)
        return None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object: its number in the version table (vna_other or vd_ndx), its hash, and the offset of its name."""

    index: int
    hash: int
    name: int


@dataclass(frozen=True, slots=True)
class VersionNeed:
    """One Elfxx_Verneed: where it lies in the file, the vn_file offset, and the versions below it."""

    position: int
    file: int
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class VersionDefinition:
    """One Elfxx_Verdef: its vd_flags, its version, and the vda_name offsets below it, of which the first is the version's."""

    flags: int
    version: Version
    names: tuple[int, ...]


class Dynamic:
    """The dynamic section of an image and the string table that it names. `tags` are (d_tag, d_val), before DT_NULL.

    `data` is the whole section, as it lies in the file.
    """

    def __init__(self, image: Image, segment: Segment) -> None:
        self.image, self.segment = image, segment
        nobits = any(section.type == SHT_NOBITS and section.address == segment.address for section in image.sections)
        self.empty = nobits or segment.size == 0
        self.data = b""
        self.tags: list[tuple[int, int]] = []
        self.strings = b""
        self.strings_offset = 0
        if self.empty:
            return
        entry = image.layout.tag
        self.data = image.read(segment.offset, segment.size - segment.size % entry.size, "the dynamic section")
        self.tags = list(itertools.takewhile(lambda row: row[0] != DT_NULL, entry.iter_unpack(self.data)))
        table, length = self.value(DT_STRTAB), self.value(DT_STRSZ)
        if table is not None and length is not None:
            self.strings_offset = image.offset(table, "the string table")
            self.strings = image.read(self.strings_offset, length, "the string table")

    def value(self, tag: int) -> int | None:
        return next((value for name, value in self.tags if name == tag), None)

    def string(self, offset: int, what: str) -> str:
        end = self.strings.find(b"\0", offset) if offset < len(self.strings) else -1
        if end < 0:
            raise Broken(f"{what} at {offset:#x} is not in the string table of {len(self.strings):#x} bytes")
        if end - offset > LONGEST:
            raise Broken(f"{what} at {offset:#x} is {end - offset} bytes long, which no path is")
        return sys.intern(os.fsdecode(self.strings[offset:end]))  # thousands of objects say the same

    def all_strings(self, tag: int, what: str) -> tuple[str, ...]:
        return tuple(self.string(value, what) for name, value in self.tags if name == tag)

    def last_string(self, tag: int, what: str) -> str | None:
        found = self.all_strings(tag, what)
        return found[-1] if found else None

    def filters(self) -> tuple[str, ...]:
        """What is searched for beside NEEDED: DT_FILTER, DT_AUXILIARY, and the lists of DT_AUDIT and DT_DEPAUDIT."""
        audits = self.all_strings(DT_AUDIT, "DT_AUDIT") + self.all_strings(DT_DEPAUDIT, "DT_DEPAUDIT")
        names = tuple(name for text in audits for name in text.split(":") if name)
        return self.all_strings(DT_FILTER, "DT_FILTER") + self.all_strings(DT_AUXILIARY, "DT_AUXILIARY") + names

    @functools.cached_property
    def version_needs(self) -> tuple[VersionNeed, ...]:
        """The version needs, in their order (GNU symbol versioning, Elfxx_Verneed)."""
        return tuple(self._version_needs())

    def _version_needs(self) -> Iterator[VersionNeed]:
        address, count = self.value(DT_VERNEED), self.value(DT_VERNEEDNUM)
        if address is None or count is None:
            return
        layout, position = self.image.layout, self.image.offset(address, "the version needs")
        left = MOST_VERSIONS
        for _ in range(count):
            versions, file, auxiliary, following = self._entry(layout.need, position, "a version need")
            left -= versions
            if left < 0:
                raise Broken(f"the version needs count more than {MOST_VERSIONS} versions")
            entries = self._chain(layout.need_version, position + auxiliary, versions, "a needed version")
            yield VersionNeed(position, file, tuple(Version(index, hash_, name) for hash_, index, name in entries))
            if not following:
                return
            position += following

    @functools.cached_property
    def version_definitions(self) -> tuple[VersionDefinition, ...]:
        """The version definitions, in their order (GNU symbol versioning, Elfxx_Verdef)."""
        return tuple(self._version_definitions())

    def _version_definitions(self) -> Iterator[VersionDefinition]:
        address, count = self.value(DT_VERDEF), self.value(DT_VERDEFNUM)
        if address is None or count is None:
            return
        layout, position = self.image.layout, self.image.offset(address, "the version definitions")
        left = MOST_VERSIONS
        for _ in range(count):
            flags, index, versions, hash_, auxiliary, following = self._entry(
                layout.definition, position, "a version definition"
            )
            left -= versions
            if left < 0:
                raise Broken(f"the version definitions count more than {MOST_VERSIONS} versions")
            entries = self._chain(layout.definition_name, position + auxiliary, versions, "a version's name")
            names = tuple(name for (name,) in entries)
            yield VersionDefinition(flags, Version(index, hash_, names[0] if names else 0), names)
            if not following:
                return
            position += following

    @property
    def version_names(self) -> Iterator[int]:
        """The offset of the name of each version, needed and defined."""
        for need in self.version_needs:
            yield from (version.name for version in need.versions)
        for definition in self.version_definitions:
            yield from definition.names

    def _chain(self, entry: struct.Struct, position: int, count: int, what: str) -> Iterator[tuple[int, ...]]:
        """The fields of a list of entries that end with the distance to the next."""
        for _ in range(count):
            *fields, following = self._entry(entry, position, what)
            yield tuple(fields)
            if not following:
                return
            position += following

    def _entry(self, entry: struct.Struct, position: int, what: str) -> tuple[int, ...]:
        return entry.unpack(self.image.read(position, entry.size, what))

    def references(self) -> set[int]:
        """Every offset in the string table that something refers to."""
        found = set(self.fixed_references)
        found.update(value for tag, value in self.tags if tag in EDITABLE)
        found.update(need.file for need in self.version_needs)
        return found

    @functools.cached_property
    def fixed_references(self) -> frozenset[int]:
        """Those of the references that name no file and no search path; a tag that is not known is taken for one."""
        tags = (value for tag, value in self.tags if tag not in NO_STRINGS and tag not in EDITABLE)
        return frozenset(self.symbols).union(tags, self.version_names)

    @functools.cached_property
    def symbols(self) -> Sequence[int]:
        """The st_name of each dynamic symbol.

        No tag holds their number: .dynsym's header does where there are sections; else the table ends, at the latest,
        where the next table that the dynamic section names begins.
        """
        image, address = self.image, self.value(DT_SYMTAB)
        if address is None:
            return ()
        start = image.offset(address, "the symbol table")
        for section in image.sections:
            if section.type == SHT_DYNSYM and section.address == address:
                size = section.size
                break
        else:
            addresses = [segment.address + segment.size for segment in image.segments if segment.type == PT_LOAD]
            addresses += [value for tag, value in self.tags if tag in TABLES]
            size = min(value for value in addresses if value > address) - address
        entry = image.layout.symbol
        words = array("I", image.read(start, size - size % entry, "the symbol table"))
        if (image.order == "<") != (sys.byteorder == "little"):
            words.byteswap()
        return words[:: entry // 4]
