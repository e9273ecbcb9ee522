"""The program that starts another from its parts: what start.c was compiled to, and behind it a table and what the texts mean."""

import os
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import accumulate, groupby

from nix_harden.native import compiled
from nix_harden.native.bare import digest
from nix_harden.parts.mapping import OWN, Memory, NoMemory, lay_out
from nix_harden.parts.pieces import BARE, NEEDED, Piece
from nix_harden.process import privilege
from nix_harden.reading.image import (
    DF_1_PIE,
    DT_FLAGS_1,
    DT_VERNEED,
    ET_EXEC,
    PT_DYNAMIC,
    PT_GNU_STACK,
    PT_INTERP,
    PT_LOAD,
    Image,
)

TABLE = struct.Struct("<8s 3Q 2Q 2Q 2Q Q 3I I 4I 2I")
FILE, STEP, TEXT, RANGE = (struct.Struct(each) for each in ("<QII", "<3QII", "<QQII", "<II"))
ANY, NOWHERE = (1 << 64) - 1, (1 << 32) - 1
SECTION_FIELDS = ((40, 8), (58, 6))  # e_shoff; e_shentsize, e_shnum and e_shstrndx (Elf64_Ehdr)
WAY_OUT = {"EM_X86_64": 4, "EM_AARCH64": 8}  # bytes of the instructions that unmap what started
HASH = re.compile(rb"(?<=/)[0-9a-z]{32}(?=-)")  # of a store path, which Nix overwrites wherever it stands
ADDRESSES = 1 << 47  # of what the kernel gives a program on the machines of WAY_OUT


@dataclass(frozen=True, slots=True)
class Text:
    """By what a part that is text is known: its size, and the digest of these ranges of it."""

    part: str
    size: int
    digest: int
    ranges: tuple[tuple[int, int], ...]


class NoStart(Exception):
    """Why a program cannot start from its parts; of what is no program, nothing."""


class Starter:
    """What starts the program of an image from its parts. Raises NoStart, Broken."""

    def __init__(self, image: Image) -> None:
        self.image = image
        header = image.read(0, compiled.HEADER.size, "the file header")
        _, _, _, self.entry, self.headers, *_ = compiled.HEADER.unpack(header)
        self.interpreter = next((each for each in image.segments if each.type == PT_INTERP), None)
        self.dynamic = next((each for each in image.segments if each.type == PT_DYNAMIC), None)
        if not self._is_program():
            raise NoStart
        self.compiled = self._compiled()
        if (what := privilege(image.descriptor, os.fstat(image.descriptor))) is not None:
            raise NoStart(f"it is {what}, and its parts may be anybody's")
        aligned = [each.align for each in image.segments if each.type == PT_LOAD]
        self.align = max(aligned, default=0)
        self.granule = min([compiled.PAGES[image.machine], *aligned])
        if self.granule < min(compiled.PAGES.values()) or any(each & each - 1 for each in aligned):
            raise NoStart("its segments are not aligned to pages")

    def _is_program(self) -> bool:
        dynamic = self.image.dynamic
        is_pie = dynamic is not None and bool((dynamic.value(DT_FLAGS_1) or 0) & DF_1_PIE)
        return self.entry != 0 and (self.image.type == ET_EXEC or is_pie or self.interpreter is not None)

    def _compiled(self) -> bytes:
        machine = self.image.machine
        problem = f"nothing here starts programs of {machine.removeprefix('EM_')} from parts"
        if machine not in compiled.PAGES or self.image.bits != 64 or self.image.order != "<":
            raise NoStart(problem)
        if (found := compiled.read(machine, compiled.START)) is None:
            raise NoStart(f"{problem}; {compiled.advice(machine)}")
        return found

    def make(self, pieces: Sequence[Piece], directory: str, name: str) -> bytes:
        """The file that lies beside the parts and starts the program. Raises NoStart, Broken, OSError."""
        try:
            memory = lay_out(self.image.segments, pieces, self.granule)
        except NoMemory as error:
            raise NoStart(str(error)) from None
        if memory.high > ADDRESSES:
            raise NoStart("its segments lie where no address is")
        texts = list(_texts(pieces, memory, os.path.join(directory, name)))
        page = compiled.PAGES[self.image.machine]
        # what the texts mean begins on the page behind the table, which has to say where
        size = len(compiled.attach(self.compiled, self._table(memory, pieces, texts, 0), page=page))
        start = -(-size // page) * page
        whole = bytearray(compiled.attach(self.compiled, self._table(memory, pieces, texts, start), page=page))
        self._set_stack(whole)
        # what a section header table does not list, tools that go by it would drop; without one they leave the file alone
        for place, size in SECTION_FIELDS:
            whole[place : place + size] = bytes(size)
        whole += bytes(start + memory.size - len(whole))
        for each in memory.said:
            at, length = start + each.offset, each.end - each.start
            whole[at : at + length] = self.image.read(each.start, length, "what a text means")
        return bytes(whole)

    def _table(self, memory: Memory, pieces: Sequence[Piece], texts: Sequence[Text], start: int) -> bytes:
        """As struct table of start.c has it, with what texts mean from `start` on."""
        names = bytearray(b"\0")

        def called(text: bytes) -> int:
            names.extend(text + b"\0")
            return TABLE.size + len(names) - len(text) - 1

        interpreter = 0
        if (at := self.interpreter) is not None:
            interpreter = called(self.image.read(at.offset, at.size, "the interpreter").partition(b"\0")[0])
        sizes: Counter[str] = Counter()
        for piece in pieces:
            sizes[piece.part] += piece.lead + piece.size
        sizes[OWN] = start + memory.size
        files, steps = [], []
        for source, group in groupby(memory.steps, lambda each: each.source):
            taken = list(group)
            name = NOWHERE if source is None else called(f".{source}".encode() if source != OWN else b"")
            files.append(FILE.pack(ANY if source is None else sizes[source], name, len(taken)))
            move = start if source == OWN else 0
            steps += [
                STEP.pack(each.address, each.size, each.offset + move, each.kind, each.protection) for each in taken
            ]
        said, ranges = [], []
        for text in texts:
            said.append(TEXT.pack(text.size, text.digest, called(f".{text.part}".encode()), len(text.ranges)))
            ranges += [RANGE.pack(first, behind - first) for first, behind in text.ranges]
        names += bytes(-len(names) % 8)
        lists = [b"".join(each) for each in (files, steps, said, ranges)]
        places = list(accumulate(map(len, lists), initial=TABLE.size + len(names)))
        dynamic, needs = self.dynamic, self._needs(pieces)
        head = TABLE.pack(
            compiled.PARTED,
            *(memory.low, memory.high, self.align),
            *(self._address(self.headers), self.entry),
            *((dynamic.address, dynamic.size // 16) if dynamic is not None else (0, 0)),
            *needs,
            self._spare(memory),
            *(self.granule, self.image.type == ET_EXEC, len(self.image.segments), interpreter),
            *places[:4],
            *(len(files), len(said)),
        )
        return b"".join((head, names, *lists))

    def _address(self, offset: int) -> int:
        """Where bytes of the file lie in memory. Raises NoStart."""
        for each in self.image.segments:
            if each.type == PT_LOAD and each.offset <= offset < each.offset + each.size:
                return each.address + offset - each.offset
        raise NoStart("its program headers are not loaded")

    def _needs(self, pieces: Sequence[Piece]) -> tuple[int, int]:
        """Where the versions lie in memory that the program needs, and how many bytes they are at most."""
        dynamic = self.image.dynamic
        if dynamic is None or (address := dynamic.value(DT_VERNEED)) is None:
            return 0, 0
        offset = self.image.offset(address, "the version needs")
        piece = next((each for each in pieces if each.offset <= offset < each.end), None)
        if piece is None:
            raise NoStart("the versions that it needs are not in the file")
        return address, piece.end - offset

    def _spare(self, memory: Memory) -> int:
        """Where the instructions go that unmap what started; 0 where there is no room."""
        size = WAY_OUT[self.image.machine]
        end, room = memory.gap
        at = (end - size) & -size
        return at if at >= end - room and room else 0

    def _set_stack(self, file: bytearray) -> None:
        """The kernel makes a stack as the program wants it (PT_GNU_STACK)."""
        wanted = next((each.flags for each in self.image.segments if each.type == PT_GNU_STACK), None)
        for place, each in compiled.headers(bytes(file)):
            if each.type == PT_GNU_STACK:
                flags = each.flags if wanted is None else wanted
                compiled.SEGMENT.pack_into(file, place, *astuple(replace(each, flags=flags)))


def _texts(pieces: Sequence[Piece], memory: Memory, prefix: str) -> Iterator[Text]:
    """The parts that are text and whose bytes are in memory, that of NEEDED first."""
    used = {
        each.part
        for each in pieces
        if each.form not in BARE and any(said.start < each.end and each.offset < said.end for said in memory.said)
    }
    for part in (NEEDED, *sorted(used)):
        with open(f"{prefix}.{part}", "rb") as file:
            data = file.read()
        ranges = tuple(_without_hashes(data))
        found = 0
        for first, behind in ranges:
            found = digest(found, memoryview(data)[first:behind])
        yield Text(part, len(data), found, ranges)


def _without_hashes(data: bytes) -> Iterator[tuple[int, int]]:
    """What of a text is no hash of a store path: from where to where."""
    start = 0
    for each in HASH.finditer(data):
        yield start, each.start()
        start = each.end()
    yield start, len(data)
