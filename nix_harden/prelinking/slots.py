"""What relocations write: the words of one object that hold addresses, what each is to hold, and what only ld.so can fill in; pure.

elf/do-rel.h and sysdeps/*/dl-machine.h (`elf_machine_rela`) of glibc, for machines of 64 bits whose relocations have addends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nix_harden.loading import symbols as reading
from nix_harden.loading.symbols import (
    DT_PLTRELSZ,
    DT_RELACOUNT,
    DT_RELASZ,
    KINDS,
    Lookup,
    Symbols,
    TableReader,
)
from nix_harden.reading import image as elf
from nix_harden.reading.image import Broken, Image

DT_TEXTREL, DT_BIND_NOW, DF_TEXTREL, DF_BIND_NOW, DF_1_NOW = 22, 24, 0x4, 0x8, 0x1
PT_TLS, PF_W = 7, 2
NT_GNU_BUILD_ID, GNU = 3, b"GNU\0"
NOTE_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Types:
    """The relocation types of a machine that this project writes: `word` is symbol and addend, `got` and `plt` are a symbol alone.

    `static_tls` is the offset of a thread-local variable from the thread pointer.
    """

    word: int
    got: int
    plt: int
    relative: int
    static_tls: int


TYPES: Mapping[str, Types] = {"EM_X86_64": Types(1, 6, 7, 8, 18), "EM_AARCH64": Types(257, 1025, 1026, 1027, 1030)}


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes as they are mapped: the address before relocation, and the bytes."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Relocations:
    """The relocations that are not counted as relative, in columns: r_offset, r_info and r_addend."""

    offsets: Sequence[int]
    infos: Sequence[int]
    addends: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """One object as the table needs it: its symbols, its relocations, and what tells it from any other build.

    `values` is st_value by symbol, and `asked` what a symbol and a relocation type have ld.so look up; what is not there is its own, and
    bound to it at once (RESOLVE_MAP in elf/dl-reloc.c). `tags` are its dynamic section, `writable` what is mapped to be written, address
    and bytes. `whole` says why ld.so has to relocate it as ever, or nothing; `relocations` is None then. `tls` is the size of its
    thread-local variables, in bytes.
    """

    symbols: Symbols
    values: Sequence[int]
    asked: Mapping[tuple[int, int], Lookup]
    relocations: Relocations | None
    ranges: tuple[Range, ...]
    tags: tuple[tuple[int, int], ...]
    writable: tuple[tuple[int, bytes], ...]
    whole: str
    machine: str
    tls: int

    @property
    def binds_now(self) -> bool:
        """Whether ld.so resolves its functions at start, not as they are called (elf/get-dynamic-info.h)."""
        tags = dict(self.tags)
        now = tags.get(elf.DT_FLAGS, 0) & DF_BIND_NOW or tags.get(elf.DT_FLAGS_1, 0) & DF_1_NOW
        return bool(now) or DT_BIND_NOW in tags

    @property
    def lookups(self) -> int:
        """How many of its relocations have ld.so look a symbol up, where all is bound at start."""
        if self.relocations is None:
            return 0
        return sum(info >> 32 != 0 for info in self.relocations.infos)

    def can_write(self, offsets: Sequence[int]) -> bool:
        """Whether words at these addresses may be written before anything is relocated."""
        return all(
            any(start <= offset and offset + 8 <= start + len(data) for start, data in self.writable)
            for offset in offsets
        )

    def word(self, offset: int) -> int:
        """The word in the file that is mapped at an address which can be written."""
        start, data = next(each for each in self.writable if each[0] <= offset < each[0] + len(each[1]))
        return int.from_bytes(data[offset - start : offset - start + 8], "little")


def read(image: Image) -> Mapped:
    """An object of a machine in TYPES. Raises Broken."""
    dynamic = image.dynamic
    if dynamic is None or dynamic.empty:
        raise Broken("it has no dynamic section")
    if image.machine not in KINDS:
        raise Broken(f"what relocations of {image.machine} look up is not known")
    reader = TableReader(dynamic)
    symbols = reader.symbols()
    value = dynamic.value
    tables = [
        (reader.numbers("Q", reader.table(tag, value(size) or 0, "the relocations")), counted or 0)
        for tag, size, counted in (
            (elf.DT_RELA, DT_RELASZ, value(DT_RELACOUNT)),
            (elf.DT_JMPREL, DT_PLTRELSZ, 0),
        )
    ]
    offsets, infos, addends = (
        [each for words, count in tables for each in words[column + 3 * count :: 3]] for column in range(3)
    )
    whole = _whole(image)
    return Mapped(
        symbols,
        reader.values,
        reader.asked,
        None if whole else Relocations(offsets, infos, addends),
        tuple(_ranges(image, reader.symbol_table)),
        tuple(dynamic.tags),
        tuple(
            (each.address, image.read(each.offset, each.size, "a segment"))
            for each in image.segments
            if each.type == elf.PT_LOAD and each.flags & PF_W
        ),
        whole,
        image.machine,
        next((each.memory for each in image.segments if each.type == PT_TLS), 0),
    )


def _whole(image: Image) -> str:
    """Why an object is left to ld.so as it is, or nothing."""
    dynamic = image.dynamic
    assert dynamic is not None
    if not dynamic.segment.flags & PF_W:
        return "its dynamic section is read-only"
    if dynamic.value(elf.DT_REL) is not None or dynamic.value(reading.DT_PLTREL) not in (None, elf.DT_RELA):
        return "its relocations have no addends"
    if dynamic.value(DT_TEXTREL) is not None or (dynamic.value(elf.DT_FLAGS) or 0) & DF_TEXTREL:
        return "it has relocations in its text"
    return ""


def _ranges(image: Image, symbols: bytes) -> list[Range]:
    """The file header, the program headers, and the build id or, where there is none, the symbol table, as they are mapped."""
    place, size = image.segment_table
    found = [Range(_mapped(image, 0, 64), image.read(0, 64, "the file header"))]
    found.append(Range(_mapped(image, place, size), image.read(place, size, "the program headers")))
    for segment in image.segments:
        if segment.type == elf.PT_NOTE and segment.size <= NOTE_PIECE:
            data = image.read(segment.offset, segment.size, "a note")
            at = 0
            while at + 16 <= len(data):
                names, description, kind = memoryview(data)[at : at + 12].cast("I")
                end = at + 12 + (names + 3 & ~3) + description
                if kind == NT_GNU_BUILD_ID and data[at + 12 : at + 16] == GNU:
                    return [*found, Range(segment.address + at, data[at:end])]
                at = end + 3 & ~3
    assert image.dynamic is not None
    return [*found, Range(image.dynamic.value(elf.DT_SYMTAB) or 0, symbols)]


def _mapped(image: Image, offset: int, size: int) -> int:
    for each in image.segments:
        if each.type == elf.PT_LOAD and each.offset <= offset and offset + size <= each.offset + each.size:
            return each.address + offset - each.offset
    raise Broken("its headers are not mapped")
