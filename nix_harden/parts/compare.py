"""Two builds of one file, part by part: which parts are the same, which differ by addresses alone, which really changed.

from nix_harden.parts.compare import compare
rows = compare("./before/lib/libz.so.1", "./after/lib/libz.so.1")
"""

import bisect
import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.parts.forms import COMMENT, Kind, relocations
from nix_harden.parts.instructions import available, placeless
from nix_harden.parts.manifest import load
from nix_harden.parts.pieces import MANIFEST, RELOCATIONS, Piece
from nix_harden.parts.split import Split, split
from nix_harden.reading.image import SHF_EXECINSTR, Broken, Image, Section
from nix_harden.saying.progress import Progress, quietly
from nix_harden.saying.words import count

SAME, ADDRESSES, CHANGED, FIRST, SECOND = "same", "addresses", "changed", "only in the first", "only in the second"
# Columns that say where something lies and not what it is.
WHERE = ("offset", "address", "physical", "value", "addend")
# Tags of the dynamic section whose value is an address.
PLACED = frozenset(
    "INIT FINI INIT_ARRAY FINI_ARRAY PREINIT_ARRAY HASH GNU_HASH STRTAB SYMTAB RELA REL RELR JMPREL PLTGOT VERSYM VERNEED VERDEF".split()
)


@dataclass(frozen=True, slots=True)
class Row:
    """A part of one or both files: what became of it, its size in each, None where it is not there, and how many lines or bytes of the first are gone or others."""

    part: str
    verdict: str
    first: int | None
    second: int | None
    differs: int
    is_text: bool


def compare(first: str, second: str, *, progress: Progress = quietly) -> tuple[Row, ...]:
    """Every part of two files, in byte order of their names. Raises as `split`."""
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        one, two = (Side(path, os.path.join(scratch, name), progress) for path, name in ((first, "1"), (second, "2")))
        names = sorted(one.parts.keys() | two.parts.keys(), key=os.fsencode)
        return tuple(_row(name, one, two) for name in names)


class Side:
    """One of the two files, and its parts by what follows its name in theirs."""

    def __init__(self, path: str, directory: str, progress: Progress = quietly) -> None:
        done: Split = split(path, directory, startable=False, progress=progress)
        prefix = os.path.join(directory, f"{os.path.basename(done.file)}.")
        self.parts = {each.path.removeprefix(prefix): each for each in done.parts}
        with open(prefix + MANIFEST, encoding="utf-8") as file:
            manifest = load(file.read())
        self.pieces: dict[str, list[Piece]] = {}
        for piece in manifest.pieces:
            self.pieces.setdefault(piece.part, []).append(piece)
        self.written: dict[str, set[int]] = {}
        self.code: dict[int, Section] = {}
        if manifest.kind is None:
            return
        self.kind = manifest.kind
        with open(done.file, "rb") as elf, contextlib.suppress(Broken):
            image = Image(elf.fileno())
            self.written = _written(image, self.kind, manifest.pieces)
            self.code = {each.offset: each for each in image.sections if each.flags & SHF_EXECINSTR}

    def read(self, part: str) -> bytes:
        with open(self.parts[part].path, "rb") as file:
            return file.read()

    def is_text(self, part: str) -> bool:
        return self.parts[part].form != "bytes"

    def placeless(self, part: str) -> bytes:
        """A part without what says where something lies."""
        data, form = self.read(part), self.parts[part].form
        if self.is_text(part):
            return "\n".join(_placeless(data.decode(errors="surrogateescape").split("\n"), form)).encode(
                errors="surrogateescape"
            )
        found, start = bytearray(data), 0
        for piece in self.pieces.get(part, []):
            width = self.kind.bits // 8 if self.written else 0
            section = self.code.get(piece.offset)
            if section is not None and available(self.kind.machine):
                instructions = data[start : start + piece.size]
                found[start : start + piece.size] = placeless(self.kind.machine, instructions, section.address)
            for place in self.written.get(piece.title, ()):
                if place + width <= piece.size:
                    found[start + place : start + place + width] = bytes(width)
            start += piece.size
        return bytes(found)


def _written(image: Image, kind: Kind, pieces: Iterable[Piece]) -> dict[str, set[int]]:
    """By section, the places in it that relocations write an address to."""
    by_offset = {(section.offset, section.size): section for section in image.sections}
    named = sorted(
        (section.address, section.size, piece.title)
        for piece in pieces
        if (section := by_offset.get((piece.offset, piece.size))) is not None and section.address
    )
    starts = [start for start, *_ in named]
    found: dict[str, set[int]] = {}
    for piece in pieces if named else ():
        if piece.part != RELOCATIONS:
            continue
        row, _ = relocations(kind, piece.form == "rela")
        data = image.read(piece.offset, piece.size - piece.size % row.size, "the relocations")
        for address, *_ in row.iter_unpack(data):
            start, size, title = named[max(0, bisect.bisect_right(starts, address) - 1)]
            if start <= address < start + size:
                found.setdefault(title, set()).add(address - start)
    return found


def _placeless(lines: Iterable[str], form: str) -> Iterator[str]:
    """Lines without the columns that say where, by the line that names the columns."""
    where: set[int] = set()
    for line in lines:
        words = line.partition(COMMENT)[0].split(" ")
        if form == "dynamic" and words[0] in PLACED:
            yield words[0]
        elif form == "header":
            yield "" if words[0] in ("entry", "segments_at", "sections_at") else line
        elif line.startswith("# "):
            where = {place for place, name in enumerate(words[1:]) if name in WHERE and form != "dynamic"}
        elif where and not line.startswith("["):
            yield " ".join(word for place, word in enumerate(words) if place not in where)
        else:
            yield line


def _row(part: str, one: Side, two: Side) -> Row:
    first, second = one.parts.get(part), two.parts.get(part)
    if first is None or second is None:
        side, there = (one, FIRST) if second is None else (two, SECOND)
        sizes = first.size if first else None, second.size if second else None
        return Row(part, there, *sizes, 0, side.is_text(part))
    is_text = one.is_text(part) and two.is_text(part)
    was, now = one.read(part), two.read(part)
    if was == now:
        return Row(part, SAME, first.size, second.size, 0, is_text)
    was, now = one.placeless(part), two.placeless(part)
    verdict = ADDRESSES if was == now else CHANGED
    differs = 0 if was == now else _differs(was, now, is_text=is_text)
    return Row(part, verdict, first.size, second.size, differs, is_text)


def _differs(was: bytes, now: bytes, *, is_text: bool) -> int:
    """How many lines of the first the second has not, or how many bytes are others at their places."""
    if is_text:
        return max(1, (Counter(was.split(b"\n")) - Counter(now.split(b"\n"))).total())
    return sum(a != b for a, b in zip(was, now, strict=False)) + abs(len(was) - len(now))


def text(rows: Iterable[Row]) -> Iterator[str]:
    """A line a part, what changed first."""
    order = [CHANGED, FIRST, SECOND, ADDRESSES, SAME]
    for row in sorted(rows, key=lambda row: order.index(row.verdict)):
        sizes = " → ".join("-" if size is None else str(size) for size in (row.first, row.second))
        what = count(row.differs, "line", "lines") if row.is_text else count(row.differs, "byte", "bytes")
        yield f"{row.verdict:18} {row.part:24} {sizes:>20}" + (f"  {what}" if row.differs else "")


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """The same for scripts, as schemas/diff.json says."""
    return {"parts": [asdict(row) for row in rows]}
