"""How the tables of an ELF file read as text, one thing a line, and back; pure.

Each form is a pair of functions, from bytes to lines and from lines to bytes, that undo each other, or it is not used for these bytes
(`fits`). Numbers, names and their order are those of the gABI and <elf.h>. A line that begins with `#` says what the columns
are, and what follows ` # ` in one is for people alone: neither means anything.

It is long, as each table has a pair of functions.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from elftools.elf import enums

COMMENT = " # "
ZERO = b"\0"
ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
AT = re.compile(r"@(0x[0-9a-f]+)$")
PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b"\\@#[")
# Tags whose value is an offset in the string table, but for NEEDED, whose names are a part of their own.
TEXTS = ("SONAME", "RPATH", "RUNPATH", "AUXILIARY", "FILTER", "AUDIT", "DEPAUDIT", "CONFIG")
NEEDED = "NEEDED"


class Unread(Exception):
    """A line that means nothing: its number in its part, from 1, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line, self.why = line, why


def _named(table: Mapping[str, object], prefix: str) -> dict[int, str]:
    """Values by their names in <elf.h>, without what all begin with."""
    found: dict[int, str] = {}
    for name, value in table.items():
        if isinstance(value, int):
            found.setdefault(value, name.removeprefix(prefix))
    return found


TYPES = _named(enums.ENUM_E_TYPE, "ET_")
MACHINES = _named(enums.ENUM_E_MACHINE, "EM_")
SEGMENTS = _named(enums.ENUM_P_TYPE_BASE, "PT_")
SECTIONS = _named(enums.ENUM_SH_TYPE_BASE, "SHT_")
TAGS = _named(enums.ENUM_D_TAG_COMMON, "DT_")
SYMBOLS = _named(enums.ENUM_ST_INFO_TYPE, "STT_")
BINDINGS = _named(enums.ENUM_ST_INFO_BIND, "STB_")
PLACES = {0: "UNDEF", 0xFFF1: "ABS", 0xFFF2: "COMMON"}
VISIBILITIES = {0: "DEFAULT", 1: "INTERNAL", 2: "HIDDEN", 3: "PROTECTED"}
RELOCATIONS = {
    "X86_64": _named(enums.ENUM_RELOC_TYPE_x64, ""),
    "AARCH64": _named(enums.ENUM_RELOC_TYPE_AARCH64, ""),
    "386": _named(enums.ENUM_RELOC_TYPE_i386, ""),
    "ARM": _named(enums.ENUM_RELOC_TYPE_ARM, ""),
    "PPC64": _named(enums.ENUM_RELOC_TYPE_PPC64, ""),
    "S390": _named(enums.ENUM_RELOC_TYPE_S390X, ""),
}


SHIFT = {64: 32, 32: 8}  # of the symbol in r_info, by bits (ELF64_R_SYM)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the form of all tables of a file depends on: bits, the sign of the byte order for struct, and the machine by its name."""

    bits: int
    order: str
    machine: str

    def rows(self, wide: str, narrow: str) -> struct.Struct:
        return struct.Struct(self.order + (wide if self.bits == 64 else narrow))


@dataclass(frozen=True, slots=True)
class Strings:
    """A string table, and where in it each whole string stands first."""

    data: bytes
    places: Mapping[bytes, int]

    @classmethod
    def of(cls, data: bytes) -> "Strings":
        places: dict[bytes, int] = {}
        start = 0
        for each in data.split(b"\0")[:-1]:
            places.setdefault(each, start)
            start += len(each) + 1
        return cls(data, places)

    def say(self, offset: int) -> str:
        """The string at an offset, and the offset too where that does not follow from it."""
        end = self.data.find(b"\0", offset) if offset < len(self.data) else -1
        if end < 0:
            return f"@{offset:#x}"
        text = self.data[offset:end]
        return escape(text) + ("" if self.places.get(text) == offset else f"@{offset:#x}")

    def find(self, word: str) -> int:
        """The offset that `say` has said. Raises ValueError."""
        if (explicit := AT.search(word)) is not None:
            return int(explicit[1], 16)
        text = unescape(word)
        if text not in self.places:
            raise ValueError(f"{word!r} is in no string table of the file")
        return self.places[text]


def escape(text: bytes) -> str:
    """Bytes as printable ASCII without spaces; `-` stands for none."""
    return "".join(chr(each) if each in PLAIN else f"\\x{each:02x}" for each in text) or "\\"


def unescape(word: str) -> bytes:
    if word == "\\":
        return b""
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)), word).encode("latin-1")


def meant(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that means something, with its number from 1."""
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and (words := line.partition(COMMENT)[0].split()):
            yield number, words


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a row: what it is called, and how it is said and read."""

    name: str
    say: Callable[[int], str]
    read: Callable[[str], int]


def plain(name: str) -> Column:
    return Column(name, hex, lambda word: int(word, 16))


def count(name: str) -> Column:
    return Column(name, str, int)


def named(name: str, names: Mapping[int, str]) -> Column:
    values = {name: value for value, name in names.items()}
    return Column(
        name,
        lambda value: names.get(value, hex(value)),
        lambda word: int(word, 16) if word.startswith("0x") else values[word],
    )


def letters(name: str, flags: str) -> Column:
    """Flags as letters, from the lowest bit; bits without a letter are said as a number behind them."""

    def say(value: int) -> str:
        known = "".join(letter for bit, letter in enumerate(flags) if value >> bit & 1 and letter != " ")
        rest = value & ~sum(1 << bit for bit, letter in enumerate(flags) if letter != " ")
        return (known or "-") + (f"+{rest:#x}" if rest else "")

    def read(word: str) -> int:
        known, _, rest = word.partition("+")
        return sum(1 << flags.index(letter) for letter in known.strip("-")) | (int(rest, 16) if rest else 0)

    return Column(name, say, read)


def table(row: struct.Struct, columns: Sequence[Column], data: bytes, notes: Iterable[str] = ()) -> list[str]:
    """A line a row, below one that names the columns; `notes` say more of each row to people."""
    lines = ["# " + " ".join(each.name for each in columns)]
    remarks = iter(notes)
    for values in row.iter_unpack(data):
        words = " ".join(each.say(value) for each, value in zip(columns, values, strict=True))
        note = next(remarks, "")
        lines.append(f"{words}{COMMENT}{note}" if note else words)
    return lines


def untable(row: struct.Struct, columns: Sequence[Column], lines: Iterable[str]) -> bytes:
    """The bytes of such lines. Raises Unread."""
    found = bytearray()
    for number, words in meant(lines):
        if len(words) != len(columns):
            raise Unread(number, f"it has {len(words)} words, and {len(columns)} are wanted")
        found += _packed(number, row, columns, words)
    return bytes(found)


def _packed(number: int, row: struct.Struct, columns: Sequence[Column], words: Sequence[str]) -> bytes:
    values = []
    for column, word in zip(columns, words, strict=True):
        try:
            values.append(column.read(word))
        except (KeyError, ValueError) as error:
            why = error.args[0] if isinstance(error, ValueError) and " " in str(error.args[0]) else f"{word!r} is none"
            raise Unread(number, f"{column.name}: {why}") from None
    try:
        return row.pack(*values)
    except struct.error as error:
        raise Unread(number, f"a number does not fit its place: {error}") from None


def header(kind: Kind) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Ehdr and Elf32_Ehdr, e_ident as two numbers."""
    columns = (
        *(plain("ident_low"), plain("ident_high"), named("type", TYPES), named("machine", MACHINES), plain("version")),
        *(plain("entry"), count("segments_at"), count("sections_at"), plain("flags"), count("header_size")),
        *(count("segment_size"), count("segments"), count("section_size"), count("sections"), count("names")),
    )
    return kind.rows("QQHHIQQQIHHHHHH", "QQHHIIIIIHHHHHH"), columns


def unheader(row: struct.Struct, columns: Sequence[Column], lines: Iterable[str]) -> bytes:
    """The bytes of a header that has a field a line. Raises Unread."""
    found = list(meant(lines))
    names = [words[0] for _, words in found]
    wanted = [each.name for each in columns]
    if names != wanted or any(len(words) != 2 for _, words in found):
        number = next((number for number, words in found if len(words) != 2 or words[0] not in wanted), len(found))
        raise Unread(number, f"the fields are {', '.join(wanted)}, each with a value")
    return _packed(found[0][0], row, columns, [words[1] for _, words in found])


def segments(kind: Kind) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Phdr and Elf32_Phdr."""
    type_, flags = named("type", SEGMENTS), letters("flags", "XWR")
    numbers = [plain(name) for name in ("offset", "address", "physical", "size", "memory")]
    if kind.bits == 64:
        return kind.rows("IIQQQQQQ", ""), (type_, flags, *numbers, plain("align"))
    return kind.rows("", "IIIIIIII"), (type_, *numbers, flags, plain("align"))


def sections(kind: Kind, names: Strings) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Shdr and Elf32_Shdr."""
    columns = (
        *(Column("name", names.say, names.find), named("type", SECTIONS), letters("flags", "WAX MSILOGT")),
        *(plain(name) for name in ("address", "offset", "size")),
        *(count("link"), count("info"), plain("align"), plain("entry_size")),
    )
    return kind.rows("IIQQQQIIQQ", "IIIIIIIIII"), columns


def symbols(kind: Kind, names: Strings) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Sym and Elf32_Sym."""
    name = Column("name", names.say, names.find)
    binding, type_ = named("binding", BINDINGS), named("type", SYMBOLS)
    info = Column(
        "binding:type",
        lambda value: f"{binding.say(value >> 4)}:{type_.say(value & 15)}",
        lambda word: binding.read(word.partition(":")[0]) << 4 | type_.read(word.partition(":")[2]),
    )
    other, place = named("visibility", VISIBILITIES), named("section", PLACES)
    value, size = plain("value"), plain("size")
    if kind.bits == 64:
        return kind.rows("IBBHQQ", ""), (name, info, other, place, value, size)
    return kind.rows("", "IIIBBH"), (name, value, size, info, other, place)


def relocations(kind: Kind, addends: bool) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Rela, Elf64_Rel and those of 32 bits: the type in r_info, and the symbol by its place."""
    type_, shift = named("type", RELOCATIONS.get(kind.machine, {})), SHIFT[kind.bits]
    mask = (1 << shift) - 1
    info = Column(
        "type:symbol",
        lambda value: f"{type_.say(value & mask)}:{value >> shift}",
        lambda word: int(word.rpartition(":")[2]) << shift | type_.read(word.rpartition(":")[0]),
    )
    columns = (plain("offset"), info, *([Column("addend", hex, lambda word: int(word, 16))] if addends else []))
    return kind.rows("QQq" if addends else "QQ", "IIi" if addends else "II"), columns


def versions(kind: Kind) -> tuple[struct.Struct, tuple[Column, ...]]:
    """Elf64_Half of each symbol (GNU symbol versioning)."""
    return kind.rows("H", "H"), (count("version"),)


def needs(kind: Kind, names: Strings, data: bytes) -> list[str]:
    """The version needs (Elfxx_Verneed): a file a line, and below it a version a line."""
    need, version = kind.rows("HHIII", "HHIII"), kind.rows("IHHII", "IHHII")
    lines, at = ["# file NAME, version NAME number hash flags"], 0
    while at < len(data):
        _, number, file, _, _ = need.unpack_from(data, at)
        lines.append(f"file {names.say(file)}")
        at += need.size
        for _ in range(number):
            hash_, flags, other, name, _ = version.unpack_from(data, at)
            lines.append(f"version {names.say(name)} {other} {hash_:#x} {flags:#x}")
            at += version.size
    return lines


def unneeds(kind: Kind, names: Strings, lines: Iterable[str]) -> bytes:
    """The bytes of these, each behind what it belongs to. Raises Unread."""
    name, number = Column("name", names.say, names.find), count("number")
    files: list[tuple[bytes, list[bytes]]] = []
    for line, words in meant(lines):
        if words[0] == "file" and len(words) == 2:
            files.append((_packed(line, kind.rows("I", "I"), [name], words[1:]), []))
        elif words[0] == "version" and len(words) == 5 and files:
            columns = [plain("hash"), plain("flags"), number, name]
            row = kind.rows("IHHI", "IHHI")
            files[-1][1].append(_packed(line, row, columns, [words[3], words[4], words[2], words[1]]))
        else:
            raise Unread(line, "a file and its name are wanted, or a version and its name, number, hash and flags")
    found, word, heads = b"", kind.rows("I", "I"), kind.rows("HH", "HH")
    for place, (file, versions_) in enumerate(files):
        size = 16 * (1 + len(versions_))
        found += heads.pack(1, len(versions_)) + file + word.pack(16) + word.pack(size if place < len(files) - 1 else 0)
        for index, each in enumerate(versions_):
            found += each + word.pack(16 if index < len(versions_) - 1 else 0)
    return found


def definitions(kind: Kind, names: Strings, data: bytes) -> list[str]:
    """The version definitions (Elfxx_Verdef): a version a line, and below it its name and those that it follows."""
    definition, aux = kind.rows("HHHHIII", "HHHHIII"), kind.rows("II", "II")
    lines, at = ["# version number hash flags, name NAME"], 0
    while at < len(data):
        _, flags, number, names_, hash_, _, _ = definition.unpack_from(data, at)
        lines.append(f"version {number} {hash_:#x} {flags:#x}")
        at += definition.size
        for _ in range(names_):
            lines.append(f"name {names.say(aux.unpack_from(data, at)[0])}")
            at += aux.size
    return lines


def undefinitions(kind: Kind, names: Strings, lines: Iterable[str]) -> bytes:
    """The bytes of these, each behind what it belongs to. Raises Unread."""
    name = Column("name", names.say, names.find)
    found: list[tuple[list[bytes], list[bytes]]] = []
    for line, words in meant(lines):
        if words[0] == "version" and len(words) == 4:
            half, word = kind.rows("H", "H"), kind.rows("I", "I")
            fields = [
                _packed(line, half, [plain("flags")], [words[3]]),
                _packed(line, half, [count("number")], [words[1]]),
                _packed(line, word, [plain("hash")], [words[2]]),
            ]
            found.append((fields, []))
        elif words[0] == "name" and len(words) == 2 and found:
            found[-1][1].append(_packed(line, kind.rows("I", "I"), [name], words[1:]))
        else:
            raise Unread(line, "a version and its number, hash and flags are wanted, or a name")
    data, word, half = b"", kind.rows("I", "I"), kind.rows("H", "H")
    for place, ((flags, number, hash_), names_) in enumerate(found):
        size = 20 + 8 * len(names_)
        data += half.pack(1) + flags + number + half.pack(len(names_)) + hash_ + word.pack(20)
        data += word.pack(size if place < len(found) - 1 else 0)
        for index, each in enumerate(names_):
            data += each + word.pack(8 if index < len(names_) - 1 else 0)
    return data


def notes(kind: Kind, align: int, data: bytes) -> list[str]:
    """Notes (gABI, "Note Section"), a note a line: its owner, its type and what it says, as hexadecimal digits."""
    lines, at, row = ["# owner type description"], 0, kind.rows("III", "III")
    while at < len(data):
        owner, said, type_ = row.unpack_from(data, at)
        at += row.size
        name = data[at : at + owner]
        at += -(-owner // 4) * 4
        lines.append(f"{escape(name.removesuffix(ZERO))} {type_:#x} {data[at : at + said].hex() or '-'}")
        at += -(-said // align) * align
    return lines


def unnotes(kind: Kind, align: int, lines: Iterable[str]) -> bytes:
    """The bytes of these. Raises Unread."""
    found, row = b"", kind.rows("III", "III")
    for line, words in meant(lines):
        if len(words) != 3:
            raise Unread(line, f"it has {len(words)} words, and 3 are wanted")
        try:
            owner, said = unescape(words[0]) + ZERO, bytes.fromhex(words[2].strip("-"))
            found += row.pack(len(owner), len(said), int(words[1], 16))
        except (ValueError, struct.error):
            raise Unread(line, "an owner, a type and hexadecimal digits are wanted") from None
        found += owner.ljust(-(-len(owner) // 4) * 4, ZERO) + said.ljust(-(-len(said) // align) * align, ZERO)
    return found


def strings(data: bytes) -> list[str]:
    """A string table, a string a line."""
    return [escape(each) for each in data.split(b"\0")[:-1]]


def unstrings(lines: Iterable[str]) -> bytes:
    return b"".join(unescape(words[0]) + b"\0" for _, words in meant(lines))


def path(data: bytes) -> list[str]:
    """A path, and zero bytes behind it."""
    return [escape(data.rstrip(b"\0"))]


def unpath(lines: Sequence[str], size: int) -> bytes:
    """The same in so many bytes, or in more where it is longer."""
    return (unescape(lines[0] if lines else "\\") + b"\0").ljust(size, b"\0")


def dynamic(kind: Kind, names: Strings, data: bytes) -> tuple[list[str], list[str]]:
    """The dynamic section, a tag a line, and the names of NEEDED, a name a line."""
    lines, needed, tags = ["# tag value"], [], named("tag", TAGS)
    for tag, value in kind.rows("QQ", "II").iter_unpack(data):
        word = tags.say(tag)
        if word == NEEDED:
            said = names.say(value)
            text, at, _ = said.partition("@")
            needed.append(text or escape(b""))
            lines.append(word + (f" {said[len(text) :]}" if at else ""))
        elif word in TEXTS:
            lines.append(f"{word} {names.say(value)}")
        else:
            lines.append(f"{word} {value:#x}")
    return lines, needed


def undynamic(kind: Kind, names: Strings, lines: Iterable[str], needed: Sequence[str]) -> bytes:
    """The bytes of these. Raises Unread, of the lines of tags."""
    found, row = bytearray(), kind.rows("QQ", "II")
    left = iter(needed)
    columns = [named("tag", TAGS), plain("value")]
    for number, words in meant(lines):
        tag, value = words[0], words[-1]
        if tag == NEEDED:
            name = next(left, None)
            if name is None:
                raise Unread(number, "there is no name for it in the list of needed names")
            value = name + (words[1] if len(words) > 1 else "")
        elif len(words) != 2:
            raise Unread(number, f"it has {len(words)} words, and 2 are wanted")
        if tag == NEEDED or tag in TEXTS:
            columns = [columns[0], Column(tag, names.say, names.find)]
        else:
            columns = [columns[0], plain(tag)]
        found += _packed(number, row, columns, [tag, value])
    return bytes(found)
