"""What an object defines for others and looks up itself: its dynamic symbols, versions and relocations, read in bulk.

Columns of bytes and numbers are taken out of the tables by slices, and Python sees a symbol alone only where it is asked for: a
library may have 100,000 of them. What is read is what glibc uses: elf/dl-lookup.c (`_dl_setup_hash`, `check_match`), elf/dl-version.c
(`_dl_check_map_versions`), elf/do-rel.h, and `elf_machine_type_class` of each sysdeps/*/dl-machine.h.
"""

import itertools
import mmap
import operator
import re
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nix_harden.reading import image as elf
from nix_harden.reading.image import Broken, Dynamic, Image

DT_PLTRELSZ, DT_RELASZ, DT_SYMBOLIC, DT_RELSZ, DT_PLTREL, DT_INIT_ARRAYSZ = 2, 8, 16, 18, 20, 27
DT_RELACOUNT, DT_RELCOUNT = 0x6FFFFFF9, 0x6FFFFFFA
DF_SYMBOLIC, DF_1_INITFIRST = 0x2, 0x20
VER_FLG_BASE = 0x1
STB_LOCAL, STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE = 0, 1, 2, 10
STT_TLS, STT_GNU_IFUNC = 6, 10
STV_INTERNAL, STV_HIDDEN, STV_PROTECTED = 1, 2, 3
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
WIDE_HASH = ("EM_S390", "EM_ALPHA")  # DT_HASH of their 64-bit objects holds 64-bit numbers (bits/elfclass.h)
# What calls one of them may look up by RTLD_NEXT what it holds the name of.
FINDERS = frozenset((b"dlsym", b"dlvsym"))
IDENTIFIER = re.compile(rb"(?<=\0)[A-Za-z_][A-Za-z0-9_]*(?=\0)")
CHAIN_PIECE = 64  # entries of a hash chain that are read at once

# By st_info: NOTYPE, OBJECT, FUNC, COMMON, TLS and GNU_IFUNC (ALLOWED_STT in check_match); TLS alone.
IS_CODE_OR_DATA = bytes(info & 15 in (0, 1, 2, 5, STT_TLS, STT_GNU_IFUNC) for info in range(256))
TYPE = bytes(info & 15 for info in range(256))
IS_TLS = bytes(info & 15 == STT_TLS for info in range(256))


class Kind(NamedTuple):
    """What a relocation asks for: ELF_RTYPE_CLASS_PLT takes no undefined symbol with a value, ELF_RTYPE_CLASS_COPY none of the program's."""

    plt: bool
    copy: bool


PLAIN, PLT, COPY = Kind(False, False), Kind(True, False), Kind(False, True)


def _kinds(copy: int, *plt: int) -> Mapping[int, Kind]:
    return {copy: COPY, **dict.fromkeys(plt, PLT)}


# By e_machine, the types of relocations that are not PLAIN (elf_machine_type_class).
KINDS: Mapping[str, Mapping[int, Kind]] = {
    "EM_X86_64": _kinds(5, 7, 16, 17, 18, 36),
    "EM_386": _kinds(5, 7, 14, 35, 36, 37, 41),
    "EM_AARCH64": _kinds(1024, 1026, 1028, 1029, 1030, 1031),
    "EM_ARM": _kinds(20, 13, 17, 18, 19, 22),
    "EM_RISCV": _kinds(4, *range(5, 12)),
    "EM_LOONGARCH": _kinds(4, 5),
    "EM_S390": _kinds(9, 11, 54, 55, 56),
    "EM_PPC64": _kinds(19, 2, 21, *range(67, 107), *range(112, 116)),
}


class Version(NamedTuple):
    """A version as lookups see it: its hash, its name, and whether a reference to it takes no default instead (r_found_version)."""

    hash: int
    name: bytes
    hidden: bool


NO_VERSION = Version(0, b"", False)


class Lookup(NamedTuple):
    """What a relocation has the loader look up."""

    name: bytes
    version: Version | None
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """The symbols of one object.

    `places` gives the number of each symbol that lookups may find, by its name, and `several` those of a name that more than one bears.
    `info`, `other`, `sections` and `numbers` are columns over all symbols: st_info, st_other, st_shndx, and the number of the version,
    which is None where lookups see no versions; `versions` are those by their index. `lookups` are what the object has looked up,
    each once, and `protected` those of them whose own symbol is protected. `symbolic` is DF_SYMBOLIC, `first` DF_1_INITFIRST;
    `constructors` counts the entries of DT_INIT_ARRAY. `strings` are the identifiers among the strings of an object that calls dlsym(3).
    """

    places: Mapping[bytes, int] = field(default_factory=dict)
    several: Mapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    info: bytes = b""
    other: bytes = b""
    sections: Sequence[int] = ()
    numbers: Sequence[int] | None = None
    versions: Mapping[int, Version] = field(default_factory=dict)
    lookups: frozenset[Lookup] = frozenset()
    protected: frozenset[Lookup] = frozenset()
    symbolic: bool = False
    first: bool = False
    constructors: int = 0
    strings: frozenset[bytes] = frozenset()

    @property
    def ifuncs(self) -> frozenset[bytes]:
        """The names whose address a resolver of the object tells."""
        if STT_GNU_IFUNC not in self.info.translate(TYPE):
            return frozenset()
        return frozenset(name for name, place in self.places.items() if self.is_ifunc(place))

    def find(self, lookup: Lookup) -> int | None:
        """The number of the symbol that answers a lookup in this object, or None (`check_match`, `do_lookup_x`)."""
        place = self.places.get(lookup.name)
        if place is None:
            return None
        found = self._match(self.several.get(lookup.name, (place,)), lookup)
        if found is None or self.other[found] & 3 in (STV_INTERNAL, STV_HIDDEN):
            return None
        return found if self.binding(found) in (STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE) else None

    def _match(self, places: Sequence[int], lookup: Lookup) -> int | None:
        wanted = lookup.version
        default: list[int] = []
        for place in places:
            if lookup.kind.plt and self.sections[place] == SHN_UNDEF:
                continue
            if self.numbers is None:
                return place
            hidden, index = self.numbers[place] & 0x8000, self.numbers[place] & 0x7FFF
            if wanted is None:
                if index < 3:
                    return place
                if not hidden:
                    default.append(place)
            else:
                mine = self.versions.get(index, NO_VERSION)
                if (mine.hash, mine.name) == (wanted.hash, wanted.name):
                    return place
                if not (wanted.hidden or mine.name or hidden):
                    default.append(place)
        return default[0] if len(default) == 1 else None

    def binding(self, place: int) -> int:
        """STB_* of a symbol."""
        return self.info[place] >> 4

    def is_ifunc(self, place: int) -> bool:
        """Whether the loader calls a function to learn the address of a symbol."""
        return self.info[place] & 15 == STT_GNU_IFUNC and self.sections[place] != SHN_UNDEF


def read(image: Image) -> Symbols:
    """The symbols of an image; none where it has no dynamic section. Raises Broken, also for a machine that is not in KINDS."""
    if image.machine not in KINDS:
        raise Broken(f"what relocations of {image.machine} look up is not known")
    dynamic = image.dynamic
    return Symbols() if dynamic is None or dynamic.empty else TableReader(dynamic).symbols()


class TableReader:
    """The tables of a dynamic section, in columns.

    Once `symbols` is asked, `symbol_table` holds the bytes of that and `values` its column st_value; `asked` is what each pair of a
    symbol and a relocation type has looked up, where anything is.
    """

    def __init__(self, dynamic: Dynamic) -> None:
        self.dynamic, self.image = dynamic, dynamic.image
        self.wide = self.image.bits == 64
        self.word = "Q" if self.wide else "I"
        pieces = dynamic.strings.split(b"\0")[:-1]
        starts = itertools.accumulate(map((1).__add__, map(len, pieces)), initial=0)
        self.strings = dict(zip(starts, pieces, strict=False))
        self.symbol_table = b""
        self.values: Sequence[int] = ()
        self.asked: Mapping[tuple[int, int], Lookup] = {}

    def symbols(self) -> Symbols:
        first, end = self.hashed()
        shift, mask = (32, 0xFFFFFFFF) if self.wide else (8, 0xFF)
        asked = [(info >> shift, info & mask) for info in self.relocations() if info >> shift and info & mask]
        count = max(end, 1 + max((symbol for symbol, _ in asked), default=-1))
        table = self.table(elf.DT_SYMTAB, count * self.image.layout.symbol, "the symbol table")
        if count and not table:
            raise Broken("there are relocations or a hash table, and no symbols")
        words, halves = self.numbers("I", table), self.numbers("H", table)
        if self.wide:
            names, info, other, sections = words[0::6], table[4::24], table[5::24], halves[3::12]
            values = self.numbers("Q", table)[1::3]
        else:
            names, info, other, sections, values = words[0::4], table[12::16], table[13::16], halves[7::8], words[1::4]
        self.symbol_table, self.values = table, values
        versions = self.versions()
        table = self.table(elf.DT_VERSYM, 2 * count, "the version table") if versions else b""
        numbers = self.numbers("H", table) if table else None

        valued = map(operator.or_, map(bool, values[first:end]), map(SHN_ABS.__eq__, sections[first:end]))
        valued = map(operator.or_, valued, info[first:end].translate(IS_TLS))
        usable = map(operator.and_, valued, info[first:end].translate(IS_CODE_OR_DATA))
        found = list(itertools.compress(range(first, end), usable))
        found_names = self.names([names[place] for place in found])
        places = dict(zip(found_names, found, strict=True))
        several: dict[bytes, tuple[int, ...]] = {}
        if len(places) < len(found):
            twice = {name for name, place in zip(found_names, found, strict=True) if places[name] != place}
            for name, place in zip(found_names, found, strict=True):
                if name in twice:
                    several[name] = (*several.get(name, ()), place)

        kinds = KINDS[self.image.machine]
        asked = [
            (symbol, type_)
            for symbol, type_ in asked
            if info[symbol] >> 4 != STB_LOCAL and other[symbol] & 3 not in (STV_INTERNAL, STV_HIDDEN)
        ]
        wanted = {index: version if version.hash else None for index, version in versions.items()}
        self.asked = {
            (symbol, type_): Lookup(
                name, wanted.get(numbers[symbol] & 0x7FFF) if numbers else None, kinds.get(type_, PLAIN)
            )
            for name, (symbol, type_) in zip(self.names([names[symbol] for symbol, _ in asked]), asked, strict=True)
        }
        lookups = {lookup: symbol for (symbol, _), lookup in self.asked.items()}
        finds = not FINDERS.isdisjoint(lookup.name for lookup in lookups)
        flags, flags_1 = self.dynamic.value(elf.DT_FLAGS) or 0, self.dynamic.value(elf.DT_FLAGS_1) or 0
        return Symbols(
            places,
            several,
            info,
            other,
            sections,
            numbers,
            versions,
            frozenset(lookups),
            frozenset(lookup for lookup, symbol in lookups.items() if other[symbol] & 3 == STV_PROTECTED),
            bool(flags & DF_SYMBOLIC) or self.dynamic.value(DT_SYMBOLIC) is not None,
            bool(flags_1 & DF_1_INITFIRST),
            (self.dynamic.value(DT_INIT_ARRAYSZ) or 0) // (self.image.bits // 8),
            frozenset(self.identifiers()) if finds else frozenset(),
        )

    def identifiers(self) -> Iterator[bytes]:
        """Every whole string in what is loaded, outside the string table of symbols, that could be the name of one."""
        start, end = self.dynamic.strings_offset, self.dynamic.strings_offset + len(self.dynamic.strings)
        with mmap.mmap(self.image.descriptor, 0, prot=mmap.PROT_READ) as data:
            for segment in self.image.segments:
                if segment.type == elf.PT_LOAD and segment.offset < len(data):
                    last = min(segment.offset + segment.size, len(data))
                    yield from IDENTIFIER.findall(data, segment.offset, max(segment.offset, min(start, last)))
                    yield from IDENTIFIER.findall(data, max(segment.offset, end), last)

    def table(self, tag: int, size: int, what: str) -> bytes:
        """The first `size` bytes of the table whose address a tag holds; none where there is no such tag."""
        address = self.dynamic.value(tag)
        if not address or not size:
            return b""
        return self.image.read(self.image.offset(address, what), size, what)

    def numbers(self, code: str, data: bytes) -> "array[int]":
        found = array(code, data)
        if (self.image.order == "<") != (sys.byteorder == "little"):
            found.byteswap()
        return found

    def names(self, offsets: Sequence[int]) -> list[bytes]:
        """The strings at offsets; linkers merge a string with the end of another, so that not every one begins behind a zero."""
        for offset in set(offsets).difference(self.strings):
            self.dynamic.string(offset, "the name of a symbol")
            self.strings[offset] = self.dynamic.strings[offset : self.dynamic.strings.index(b"\0", offset)]
        return list(map(self.strings.__getitem__, offsets))

    def hashed(self) -> tuple[int, int]:
        """The first symbol that lookups find, and the one behind the last (`_dl_setup_hash`)."""
        if (address := self.dynamic.value(elf.DT_GNU_HASH)) is not None:
            start = self.image.offset(address, "the hash table")
            buckets, first, words, _ = self.numbers("I", self.image.read(start, 16, "the hash table"))
            at = start + 16 + words * self.image.bits // 8
            top = max(self.numbers("I", self.image.read(at, buckets * 4, "the hash table")), default=0)
            if top < first or not top:
                return first, first
            at += buckets * 4 + (top - first) * 4
            while True:
                size = min(CHAIN_PIECE * 4, max(4, (self.image.size - at) // 4 * 4))
                chain = self.numbers("I", self.image.read(at, size, "a hash chain"))
                last = next((place for place, value in enumerate(chain) if value & 1), None)
                if last is not None:
                    return first, top + last + 1
                top, at = top + len(chain), at + size
        if (address := self.dynamic.value(elf.DT_HASH)) is not None:
            code = "Q" if self.wide and self.image.machine in WIDE_HASH else "I"
            size = 2 * array(code).itemsize
            data = self.image.read(self.image.offset(address, "the hash table"), size, "the hash table")
            buckets, symbols = self.numbers(code, data)
            return (1, symbols) if buckets else (0, 0)
        return 0, 0

    def versions(self) -> dict[int, Version]:
        """The versions by index; a base definition has none (`_dl_check_map_versions`)."""
        found: dict[int, Version] = {}
        for need in self.dynamic.version_needs:
            for each in need.versions:
                (name,) = self.names([each.name])
                found[each.index & 0x7FFF] = Version(each.hash, name, bool(each.index & 0x8000))
        for definition in self.dynamic.version_definitions:
            index, each = definition.version.index & 0x7FFF, definition.version
            if definition.flags & VER_FLG_BASE:
                found.setdefault(index, NO_VERSION)
            else:
                (name,) = self.names([each.name])
                found[index] = Version(each.hash, name, found.get(index, NO_VERSION).hidden)
        return found

    def relocations(self) -> set[int]:
        """The r_info of every relocation that is not counted as relative, each once (elf_dynamic_do_Rel)."""
        value = self.dynamic.value
        found: set[int] = set()
        for tag, size, count, width in (
            (elf.DT_RELA, value(DT_RELASZ), value(DT_RELACOUNT), 3),
            (elf.DT_REL, value(DT_RELSZ), value(DT_RELCOUNT), 2),
            (elf.DT_JMPREL, value(DT_PLTRELSZ), 0, 3 if value(DT_PLTREL) == elf.DT_RELA else 2),
        ):
            data = self.table(tag, size or 0, "the relocations")
            words = self.numbers(
                self.word, data[: len(data) // (width * self.image.bits // 8) * (width * self.image.bits // 8)]
            )
            found.update(words[1 + width * (count or 0) :: width])
        return found
