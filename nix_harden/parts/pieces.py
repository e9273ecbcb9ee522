"""Which bytes of an ELF file belong to which part, and how a part says them: every byte belongs to one, once."""

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nix_harden.parts.forms import Kind
from nix_harden.reading.image import PT_DYNAMIC, PT_INTERP, SHT_NOBITS, SHT_NULL, SHT_STRTAB, Broken, Image, Section

SHT_SYMTAB, SHT_RELA, SHT_DYNAMIC, SHT_NOTE, SHT_REL, SHT_DYNSYM = 2, 4, 6, 7, 9, 11
SHT_VERDEF, SHT_VERNEED, SHT_VERSYM = 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
PROPERTY = ".note.gnu.property"  # of 64 bits it is aligned by eight bytes, as no other (its psABI)
HEADER = {64: 64, 32: 52}
SEGMENT = {64: 56, 32: 32}
ODD = re.compile(r"[^\w.+-]", re.ASCII)
LONGEST = 120  # characters of a part's name
MANIFEST, NEEDED, REST, APPENDED, RELOCATIONS, NOTES, INTERPRETER, DYNAMIC = (
    "parts needed rest appended relocations notes interpreter dynamic".split()
)
BARE = ("bytes", "zero")  # the forms that are no text
TITLED = (RELOCATIONS, NOTES)  # parts of several pieces, each below its name
# Sections that have a name of their own among the parts, by type, and what form they have.
TYPED = {
    SHT_SYMTAB: ("symtab", "symbols"),
    SHT_DYNSYM: ("dynsym", "symbols"),
    SHT_RELA: (RELOCATIONS, "rela"),
    SHT_REL: (RELOCATIONS, "rel"),
    SHT_DYNAMIC: (DYNAMIC, "dynamic"),
    SHT_VERSYM: ("versions", "versions"),
    SHT_VERNEED: ("version-needs", "needs"),
    SHT_VERDEF: ("version-definitions", "definitions"),
    SHT_NOTE: (NOTES, "notes"),
}
STRINGS = {".dynstr": "strings", ".strtab": "strtab", ".shstrtab": "shstrtab"}
TAKEN = frozenset(
    (MANIFEST, NEEDED, REST, APPENDED, INTERPRETER, "header", "segments", "sections", *STRINGS.values())
).union(part for part, _ in TYPED.values())


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the file that lie together: `title` tells pieces of one part apart, `names` is the part with the strings that they refer to.

    Of the form `zero` they are all 0, and no part has them; of the form `bytes` the part has them as they are, behind `lead` zeros.
    """

    offset: int
    size: int
    part: str
    form: str
    title: str = ""
    names: str = ""
    lead: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.size


def kind_of(image: Image) -> Kind:
    return Kind(image.bits, image.order, image.machine.removeprefix("EM_"))


def cut(image: Image) -> tuple[Piece, ...]:
    """The pieces of a file in their order: what its headers describe, and what is between; none of these may be zero or text yet."""
    found = _Claims(image.size)
    found.claim(Piece(0, HEADER[image.bits], "header", "header"))
    start, size = image.segment_table
    whole = image.segments and size == len(image.segments) * SEGMENT[image.bits]
    found.claim(Piece(start, size, "segments", "segments" if whole else "bytes"))
    names = _section_names(image)
    if image.sections:
        strings = _strings_part(names, image.names_section)
        found.claim(Piece(*image.section_table, "sections", "sections", "", strings))
    for piece in () if image.sections else _by_segments(image):
        found.claim(piece)
    for index, section in enumerate(image.sections):
        if section.type not in (SHT_NULL, SHT_NOBITS):
            found.claim(_of_section(section, names[index], names, image.bits))
    return tuple(_filled(found.pieces, image.size))


def _by_segments(image: Image) -> Iterator[Piece]:
    """What a loader finds by segments and tags, in a file without section headers."""
    for segment in image.segments:
        if segment.type == PT_INTERP:
            yield Piece(segment.offset, segment.size, INTERPRETER, "path", ".interp")
        if segment.type == PT_DYNAMIC:
            yield Piece(segment.offset, segment.size, DYNAMIC, "dynamic", ".dynamic", "strings")
    try:
        dynamic = image.dynamic
    except Broken:
        return
    if dynamic is not None and dynamic.strings:
        yield Piece(dynamic.strings_offset, len(dynamic.strings), "strings", "strings", ".dynstr")


def _of_section(section: Section, name: str, names: list[str], bits: int) -> Piece:
    where = section.offset, section.size
    if section.type in TYPED:
        part, form = TYPED[section.type]
        if name == PROPERTY and bits == 64:
            form = "notes8"
        return Piece(*where, part, form, name, _strings_part(names, section.link))
    if section.type == SHT_STRTAB and name in STRINGS:
        return Piece(*where, STRINGS[name], "strings", name)
    if name == ".interp":
        return Piece(*where, INTERPRETER, "path", name)
    part = ODD.sub("_", name.removeprefix("."))[:LONGEST] or "section"
    return Piece(*where, f"section-{part}" if part in TAKEN else part, "bytes", name)


def _strings_part(names: list[str], link: int) -> str:
    return STRINGS.get(names[link], "") if link < len(names) else ""


def _section_names(image: Image) -> list[str]:
    """The names of the sections; "" where the table says none."""
    index = image.names_section
    try:
        table = image.sections[index] if index < len(image.sections) else None
        data = image.read(table.offset, table.size, "the names of sections") if table is not None else b""
    except Broken:
        data = b""
    return [data[each.name :].partition(b"\0")[0].decode("latin-1") for each in image.sections]


class _Claims:
    """Pieces that do not overlap: of two the first that is claimed stays; a part that is text has one piece, but for TITLED."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pieces: list[Piece] = []
        self._texts: set[str] = set()

    def claim(self, piece: Piece) -> None:
        at = bisect.bisect_left(self.pieces, piece.offset, key=lambda each: each.offset)
        before, behind = self.pieces[at - 1 : at], self.pieces[at : at + 1]
        if piece.size <= 0 or piece.end > self.size or (before and before[0].end > piece.offset):
            return
        if behind and behind[0].offset < piece.end:
            return
        if piece.form != "bytes" and piece.part not in TITLED:
            if piece.part in self._texts:
                piece = Piece(piece.offset, piece.size, f"section-{piece.part}", "bytes", piece.title)
            self._texts.add(piece.part)
        self.pieces.insert(at, piece)


def _filled(pieces: list[Piece], size: int) -> Iterator[Piece]:
    """The same with what lies between them, and behind the last."""
    end = 0
    for each in pieces:
        if end < each.offset:
            yield Piece(end, each.offset - end, REST, "bytes")
        yield each
        end = each.end
    if end < size:
        yield Piece(end, size - end, APPENDED, "bytes")
