"""How the memory of a program is made of its parts: what is mapped from which file, and what is read; pure.

A page is mapped from a part where nothing else lies in it and the part has it at such a place; else its bytes are read, from the parts
and from what the texts mean. Addresses are those that the file says, before any base is added (gABI, "Program Loading").
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from nix_harden.parts.pieces import Piece
from nix_harden.reading.image import PT_LOAD, Segment

OWN = ""  # the part that is none: what the texts mean lies in the program that starts
READABLE, WRITABLE, RUNNABLE = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4


class Kind(IntEnum):
    """What a step does: as enum in start.c."""

    SPACE = 0  # zeros
    MAPPED = 1
    COPIED = 2
    PROTECTED = 3


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes of memory, where in `source` they come from, and what may be done with them; None is no file."""

    kind: Kind
    source: str | None
    address: int
    size: int
    offset: int = 0
    protection: int = READABLE | WRITABLE


@dataclass(frozen=True, slots=True)
class Said:
    """What texts mean, to be put where the program that starts has it: bytes [start, end) of the file are at `offset` there."""

    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A program's memory: its range in whole granules, its steps in an order that may be kept, what they take of texts and how much
    that is, and the end of a gap in its code that no byte of the file lies in, with its size."""

    low: int
    high: int
    steps: tuple[Step, ...]
    said: tuple[Said, ...]
    size: int
    gap: tuple[int, int]


class NoMemory(Exception):
    """Why a program's memory cannot be made of parts."""


@dataclass(frozen=True, slots=True)
class _Share:
    """What a piece has of a segment: [start, end) in memory, and where in its source it begins."""

    start: int
    end: int
    source: str
    offset: int
    file: int  # where it is in the file that was split
    alone: bool  # nothing else is in its part, and all of it is in the segment


def led(pieces: Sequence[Piece], segments: Iterable[Segment], granule: int) -> tuple[Piece, ...]:
    """The same pieces, those of whole pages with zeros before them in their part, so that it can be mapped as the file was."""
    parts = Counter(each.part for each in pieces)
    loaded = [each for each in segments if each.type == PT_LOAD]

    def lead(piece: Piece) -> int:
        is_large = piece.form == "bytes" and piece.size >= granule and parts[piece.part] == 1
        return piece.offset % granule if is_large and any(_holds(each, piece) for each in loaded) else 0

    return tuple(replace(each, lead=lead(each)) for each in pieces)


def _holds(segment: Segment, piece: Piece) -> bool:
    return segment.offset <= piece.offset and piece.end <= segment.offset + segment.size


def lay_out(segments: Iterable[Segment], pieces: Sequence[Piece], granule: int) -> Memory:
    """The memory of a program. Raises NoMemory."""
    loaded = [each for each in segments if each.type == PT_LOAD and each.memory]
    if not loaded:
        raise NoMemory("it loads nothing")
    places = _places(pieces)
    steps: list[Step] = []
    said: list[Said] = []
    gap, size, end = (0, 0), 0, -1
    for segment in loaded:
        low, high = _down(segment.address, granule), _up(segment.address + segment.memory, granule)
        if low < end:
            raise NoMemory("two of its segments share a page")
        if (segment.address - segment.offset) % granule:
            raise NoMemory("a segment lies elsewhere in a page than in the file")
        end = high
        shares = list(_shares(segment, places))
        own = _Own(size)
        mapped = list(_mapped(shares, granule))
        protection = sum(
            bit for flag, bit in ((PF_R, READABLE), (PF_W, WRITABLE), (PF_X, RUNNABLE)) if segment.flags & flag
        )
        for first, behind, share in mapped:
            offset = share.offset - (share.start - first)
            if share.source == OWN:
                offset = own.pages(shares, first, behind, granule)
            steps.append(Step(Kind.MAPPED, share.source, first, behind - first, offset, protection))
        for first, behind in _rest(low, high, [(first, behind) for first, behind, _ in mapped]):
            copies = list(_copies(shares, first, behind, own))
            plain = protection == READABLE | WRITABLE or not copies
            steps.append(Step(Kind.SPACE, None, first, behind - first, 0, protection if plain else READABLE | WRITABLE))
            steps += copies
            if not plain:
                steps.append(Step(Kind.PROTECTED, None, first, behind - first, 0, protection))
            if protection & RUNNABLE and copies:
                gap = max(gap, *_gaps(shares, first, behind), key=lambda each: (min(each[1], 8), each[0]))
        said += own.said
        size = own.size
    order = {Kind.SPACE: 0, Kind.MAPPED: 1, Kind.COPIED: 1, Kind.PROTECTED: 2}
    steps.sort(key=lambda each: (order[each.kind], each.source or "", each.address))
    return Memory(_down(loaded[0].address, granule), end, tuple(steps), tuple(said), size, gap)


def _places(pieces: Iterable[Piece]) -> list[tuple[Piece, int, bool]]:
    """Each piece with where its part has it, and whether it has nothing else."""
    known = list(pieces)
    parts = Counter(each.part for each in known)
    used: Counter[str] = Counter()
    found = []
    for each in known:
        used[each.part] += each.lead
        found.append((each, used[each.part], parts[each.part] == 1))
        used[each.part] += each.size
    return found


def _shares(segment: Segment, places: Iterable[tuple[Piece, int, bool]]) -> Iterator[_Share]:
    for piece, place, alone in places:
        start, end = max(piece.offset, segment.offset), min(piece.end, segment.offset + segment.size)
        if start >= end or piece.form == "zero":
            continue
        move = segment.address - segment.offset
        is_bytes = piece.form == "bytes"
        yield _Share(
            start + move,
            end + move,
            piece.part if is_bytes else OWN,
            place + start - piece.offset if is_bytes else 0,
            start,
            alone and (start, end) == (piece.offset, piece.end),
        )


def _mapped(shares: Sequence[_Share], granule: int) -> Iterator[tuple[int, int, _Share]]:
    """The pages that can be mapped, as ranges, each with what is mapped there."""
    number = 0
    while number < len(shares):
        first = last = shares[number]
        before = shares[number - 1].end if number else 0
        while first.source == OWN and number + 1 < len(shares) and shares[number + 1].source == OWN:
            number += 1
            last = shares[number]
        number += 1
        behind = shares[number].start if number < len(shares) else 1 << 64
        start, end = _down(first.start, granule), _up(last.end, granule)
        whole = first.source == OWN or (first.alone and first.offset >= first.start - start)
        if not whole or before > start:
            start = _up(first.start, granule)
        if not whole or behind < end:
            end = _down(last.end, granule)
        if start < end and (first.source == OWN or (first.offset - first.start) % granule == 0):
            yield start, end, first


def _rest(low: int, high: int, taken: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in taken:
        if low < start:
            yield low, start
        low = end
    if low < high:
        yield low, high


class _Own:
    """What lies in the program that starts, from an offset on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.said: list[Said] = []

    def pages(self, shares: Iterable[_Share], first: int, behind: int, granule: int) -> int:
        """Have the texts of these pages where they can be mapped, and answer where."""
        at = _up(self.size, granule)
        for start, end, file in _within(shares, first, behind):
            self.said.append(Said(file, file + end - start, at + start - first))
        self.size = at + behind - first
        return at

    def bytes(self, start: int, size: int) -> int:
        at = self.size
        self.said.append(Said(start, start + size, at))
        self.size += size
        return at


def _within(shares: Iterable[_Share], first: int, behind: int) -> Iterator[tuple[int, int, int]]:
    """What of the shares is in a range: start and end in memory, and place in the file."""
    for each in shares:
        start, end = max(each.start, first), min(each.end, behind)
        if start < end:
            yield start, end, each.file + start - each.start


def _copies(shares: Iterable[_Share], first: int, behind: int, own: _Own) -> Iterator[Step]:
    for each in shares:
        for start, end, file in _within([each], first, behind):
            offset = own.bytes(file, end - start) if each.source == OWN else each.offset + start - each.start
            yield Step(Kind.COPIED, each.source, start, end - start, offset)


def _gaps(shares: Iterable[_Share], first: int, behind: int) -> Iterator[tuple[int, int]]:
    """The bytes of a range that no share has: where they end, and how many they are."""
    at = first
    for start, end, _ in _within(shares, first, behind):
        yield start, start - at
        at = end
    yield behind, behind - at


def _down(value: int, granule: int) -> int:
    return value - value % granule


def _up(value: int, granule: int) -> int:
    return -(-value // granule) * granule
