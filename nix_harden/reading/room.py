"""Where in a file names have room: its string table, what refers to it, and what is out of use."""

import re

from nix_harden.model import Field, StringTable, Use, Write
from nix_harden.reading import image as elf
from nix_harden.reading.image import Dynamic, Image

USES = {
    elf.DT_NEEDED: Use.NEEDED,
    elf.DT_SONAME: Use.SONAME,
    elf.DT_RPATH: Use.RPATH,
    elf.DT_RUNPATH: Use.RUNPATH,
    elf.DT_AUDIT: Use.AUDIT,
}
# Kinds of sections whose strings the dynamic section leads to as well: SHT_DYNAMIC, SHT_DYNSYM, SHT_GNU_verdef and SHT_GNU_verneed.
LINKED = (6, elf.SHT_DYNSYM, 0x6FFFFFFD, 0x6FFFFFFE)
PRELINKED = (0x6FFFFEF8, 0x6FFFFEF9)  # DT_GNU_CONFLICT and DT_GNU_LIBLIST, whose table has strings of its own
# Tags whose value holds no address or size that patchelf's moves change, by number (gABI, "Dynamic Section").
FIXED = frozenset((2, 8, elf.DT_INIT, elf.DT_FINI, 18, 27, 28, elf.DT_FLAGS, elf.DT_FLAGS_1))
# Segments that say something of bytes which another describes.
WITHOUT_BYTES = (elf.PT_LOAD, elf.PT_GNU_STACK, elf.PT_GNU_RELRO)
# The tags that say how large a table is: DT_RELASZ, DT_RELSZ, DT_PLTRELSZ, DT_RELRSZ, DT_INIT_ARRAYSZ, DT_FINI_ARRAYSZ.
SIZES = {
    elf.DT_RELA: 8,
    elf.DT_REL: 18,
    elf.DT_JMPREL: 2,
    elf.DT_RELR: 35,
    elf.DT_INIT_ARRAY: 27,
    elf.DT_FINI_ARRAY: 28,
}


def table(image: Image) -> StringTable | None:
    dynamic = image.dynamic
    if dynamic is None or dynamic.empty or not dynamic.strings.startswith(b"\0") or not dynamic.strings.endswith(b"\0"):
        return None
    segment, start, end = dynamic.segment, dynamic.strings_offset, dynamic.strings_offset + len(dynamic.strings)
    alone = _is_alone_by_sections if image.sections else _is_alone_by_segments
    if image.offset(segment.address, "the dynamic section") != segment.offset or not alone(image, dynamic):
        return None
    tag, width = image.layout.tag.size, image.layout.tag.size // 2
    fields = [
        Field(USES[name], segment.offset + index * tag + width, width, value)
        for index, (name, value) in enumerate(dynamic.tags)
        if name in USES
    ]
    # vn_file follows vn_version and vn_cnt
    fields += [Field(Use.VERSION, need.position + 4, 4, need.file) for need in dynamic.version_needs]
    if any(start <= field.position < end or field.value >= len(dynamic.strings) for field in fields):
        return None
    fixed = dynamic.fixed_references
    if not image.sections:  # nothing vouches for bytes that no tag refers to
        starts = {match.end() for match in re.finditer(rb"\0", dynamic.strings)}
        fixed |= starts.difference(field.value for field in fields)
    after = len(dynamic.tags) * tag
    follow = dynamic.data[after : after + 2 * tag]
    spare = (segment.offset + after, width) if len(follow) == 2 * tag and not any(follow) else None
    tags = Write(segment.offset, dynamic.data[:after])
    return StringTable(start, dynamic.strings, image.order == "<", fixed, tuple(fields), spare, tags)


def _is_alone_by_sections(image: Image, dynamic: Dynamic) -> bool:
    """Whether the string table is one section, to which no section of an unknown kind belongs, and no other lies in its bytes."""
    start, end = dynamic.strings_offset, dynamic.strings_offset + len(dynamic.strings)
    if any(tag in PRELINKED for tag, _ in dynamic.tags):
        return False
    mine = None
    for index, section in enumerate(image.sections):
        if section.type in (elf.SHT_NULL, elf.SHT_NOBITS) or not section.size:
            continue
        if (section.type, section.offset, section.offset + section.size) == (elf.SHT_STRTAB, start, end):
            mine = index
        elif section.offset < end and start < section.offset + section.size:
            return False
    return (
        mine is not None
        and mine != image.names_section
        and all(section.type in LINKED for section in image.sections if section.link == mine)
    )


def _is_alone_by_segments(image: Image, dynamic: Dynamic) -> bool:
    """The same where there are no sections: no segment with a meaning of its own, and no table that a tag names, lies in its bytes.

    Each symbol that may be one counts: where the table of symbols has no end but the next table's beginning, what lies between is
    taken for symbols, and the strings are left alone where that can be none.
    """
    start, end = dynamic.strings_offset, dynamic.strings_offset + len(dynamic.strings)
    if any(tag in PRELINKED for tag, _ in dynamic.tags) or max(dynamic.symbols, default=0) >= len(dynamic.strings):
        return False
    maps = [each for each in image.segments if each.type == elf.PT_LOAD]
    if not any(each.offset <= start and end <= each.offset + each.size for each in maps):
        return False
    taken = [(each.offset, each.size) for each in image.segments if each.type not in WITHOUT_BYTES]
    taken += [(0, image.header_size), image.segment_table]
    address = dynamic.value(elf.DT_STRTAB) or 0
    values = dict(reversed(dynamic.tags))
    sizes = {tag: values.get(size, 1) for tag, size in SIZES.items()}
    sizes[elf.DT_SYMTAB] = len(dynamic.symbols) * image.layout.symbol
    sizes[elf.DT_VERSYM] = len(dynamic.symbols) * 2
    tables = [
        (values[tag], sizes.get(tag, 1)) for tag in (elf.TABLES | {elf.DT_SYMTAB}) - {elf.DT_STRTAB} if tag in values
    ]
    return not any(at < end and start < at + size for at, size in taken) and not any(
        at < address + len(dynamic.strings) and address < at + size for at, size in tables
    )


def empty_last(image: Image) -> tuple[Write, ...]:
    offset, size = image.segment_table
    if not image.segments:
        return ()
    table, stride = image.read(offset, size, "the program header table"), size // len(image.segments)
    rows = [(segment, table[index * stride :][:stride]) for index, segment in enumerate(image.segments)]
    rows.sort(key=lambda row: not row[0].size and row[0].type != elf.PT_LOAD)
    sorted_table = b"".join(data for _, data in rows)
    return (Write(offset, sorted_table),) if sorted_table != table else ()


def stale(image: Image, store: bytes) -> tuple[tuple[int, int], ...]:
    dynamic = image.dynamic
    if dynamic is None or dynamic.empty or store not in dynamic.strings:
        return ()
    strings, start, used = dynamic.strings, dynamic.strings_offset, dynamic.references()
    found = []
    at = strings.find(store)
    while at >= 0:
        begin, end = strings.rfind(b"\0", 0, at) + 1, strings.find(b"\0", at)
        kept = min(used.intersection(range(begin, end)), default=end)
        if kept > at:
            found.append((start + begin, kept - begin))
        at = strings.find(store, end) if end >= 0 else -1
    return tuple(found)
