"""The table of a program: which file each name means and which address each symbol has, in the bytes that module.c reads; pure.

All numbers are little-endian. Behind the header (HEADER) come a record an object (OBJECT), in the order of loading, the names that each
asks for, the relocations that stay with ld.so, the streams of slots, and strings, of which paths come last: in them Nix may overwrite
the hashes of store paths, as it does in every file.

A slot is a word that holds an address: how many words it lies behind the last one, as a number of seven bits a byte, and its value
in the object that answers, 32 bits. Slots of one answer are together, so that this is said once.

It is long, as what makes the format, reads it and changes it stays beside what describes it.
"""

import os
import re
import struct
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import NamedTuple

from nix_harden.loading.binding import Binder, Bindings, rivals
from nix_harden.loading.graph import NEEDED, Graph
from nix_harden.loading.symbols import SHN_ABS, SHN_UNDEF, STB_GNU_UNIQUE, STB_WEAK, STT_TLS
from nix_harden.names import LIBC
from nix_harden.native.bare import digest
from nix_harden.prelinking.slots import TYPES, Mapped
from nix_harden.reading import image as elf
from nix_harden.settings import matches

MAGIC = b"nixpre01"
HEADER = struct.Struct("<8sQQ8I")
OBJECT = struct.Struct("<Q2I6I3I2I2II")
NAME = struct.Struct("<2I")
RELA = struct.Struct("<3Q")
WRITTEN = 1
ABSOLUTE = 0
MOST = 4096  # objects, for which module.c has room
STORE_PATH = re.compile(rb"(?:/[^/]+)*?/([0-9a-z]{32})-")
HASH = 32
STACK_END = b"__libc_stack_end"
DT_DEBUG = 21


class Use(Flag):
    """What a module does with its table beside its work: as enum in module.c."""

    WORK = 0
    PROOF = auto()
    APART = auto()
    LATE = auto()


class Unanswered(Exception):
    """Nothing defines what a relocation asks for, which ld.so would say at start, or when it is called."""


class Slot(NamedTuple):
    """What a relocation writes: the address of `value` in the object `target`, of ABSOLUTE none, or what the function there answers."""

    target: int
    value: int
    called: bool


LATER = Slot(-1, 0, False)


@dataclass(frozen=True, slots=True)
class Part:
    """What the table holds of one object: its slots by their answer, those that functions answer, and what stays with ld.so.

    `slots` are offsets and values by target; `calls` offsets by target and function; `rest` are relocations. `later` are the slots of
    functions that nothing defines at start, and which stay to be found as they are called. `whole` says why all relocations stay
    with ld.so, or nothing; `lookups` counts what ld.so would look up of what is written.
    """

    slots: Mapping[int, Sequence[tuple[int, int]]]
    calls: Mapping[int, Mapping[int, Sequence[int]]]
    rest: Sequence[tuple[int, int, int]]
    whole: str = ""
    lookups: int = 0
    later: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Table:
    """A table, by what module.c makes of it; `names` pairs, for each object, bare names with the objects that they mean.

    `static_tls` is the size of the thread-local variables of libraries that have to lie at a fixed distance from the thread pointer.
    """

    paths: tuple[str, ...]
    identities: tuple[int, ...]
    ranges: tuple[tuple[tuple[int, int], ...], ...]
    parts: tuple[Part, ...]
    names: tuple[tuple[tuple[str, int], ...], ...]
    loader: int
    stack_end: int
    late: bool
    static_tls: int

    @property
    def slots(self) -> int:
        """How many words it writes."""
        plain = sum(len(each) for part in self.parts for each in part.slots.values())
        called = sum(len(each) for part in self.parts for calls in part.calls.values() for each in calls.values())
        return plain + called

    @property
    def lookups(self) -> int:
        """How many symbols ld.so would look up for what is written."""
        return sum(part.lookups for part in self.parts)

    @property
    def rest(self) -> int:
        """How many relocations stay with ld.so, without those of objects that stay whole."""
        return sum(len(part.rest) for part in self.parts)

    def encode(self, use: Use = Use.WORK) -> bytes:
        """The bytes of the table, a multiple of eight."""
        if self.late:
            use |= Use.LATE
        count = len(self.paths)
        strings = bytearray(b"\0")
        places: dict[str, int] = {}

        def string(text: str) -> int:
            if text not in places:
                places[text] = len(strings)
                strings.extend(os.fsencode(text) + b"\0")
            return places[text]

        objects_at = HEADER.size
        names_at = objects_at + count * OBJECT.size
        body = bytearray()
        named = []
        for each in self.names:
            named.append(names_at + len(body))
            body += b"".join(NAME.pack(string(name), target) for name, target in each)
        rests = []
        for part in self.parts:
            rests.append(names_at + len(body))
            body += b"".join(RELA.pack(*each) for each in part.rest)
        streams = []
        for part in self.parts:
            start = names_at + len(body)
            _slots(body, part.slots)
            middle = names_at + len(body)
            _calls(body, part.calls)
            streams.append((start, middle, names_at + len(body)))
        strings_at = names_at + len(body)
        # nothing is behind the paths: no byte of a table may change unseen
        strings += bytes(-(strings_at + len(strings) + sum(len(os.fsencode(path)) + 1 for path in self.paths[1:])) % 8)
        paths_at = strings_at + len(strings)
        objects = b"".join(
            OBJECT.pack(
                self.identities[number],
                string(path) if number else 0,
                0 if self.parts[number].whole else WRITTEN,
                *(figure for pair in self.ranges[number] for figure in pair),
                *streams[number],
                rests[number],
                len(self.parts[number].rest),
                named[number],
                len(self.names[number]),
                _hash_in(path) if number not in (0, self.loader) else 0,
            )
            for number, path in enumerate(self.paths)
        )
        size = strings_at + len(strings)
        figures = (size, use.value, count, self.loader, self.stack_end, objects_at, strings_at, paths_at)
        header = HEADER.pack(MAGIC, 0, 0, *figures)
        return _sealed(header + objects + body + strings)


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _slots(body: bytearray, groups: Mapping[int, Sequence[tuple[int, int]]]) -> None:
    for target, pairs in sorted(groups.items()):
        body += _number(target) + _number(len(pairs))
        last = 0
        for offset, value in sorted(pairs):
            step, last = offset - last >> 3, offset
            if step < 128:
                body.append(step)
            else:
                body += _number(step)
            body += value.to_bytes(4, "little")


def _calls(body: bytearray, groups: Mapping[int, Mapping[int, Sequence[int]]]) -> None:
    for target, functions in sorted(groups.items()):
        body += _number(target) + _number(len(functions))
        for value, offsets in sorted(functions.items()):
            body += value.to_bytes(4, "little") + _number(len(offsets))
            last = 0
            for offset in sorted(offsets):
                body += _number(offset - last >> 3)
                last = offset


@dataclass(frozen=True, slots=True)
class Known:
    """The objects that a table was made for: their paths, and what tells each from any other build."""

    paths: tuple[str, ...]
    identities: tuple[int, ...]


def is_whole(data: bytes) -> bool:
    """Whether `data` is a table of this version, and undamaged, as module.c sees it."""
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        return False
    _, checksum, of_paths, size, *_, paths = HEADER.unpack_from(data)
    if not HEADER.size <= paths <= size <= len(data) or data[size - 1] or digest(0, data[16:paths]) != checksum:
        return False
    return _of_paths(data) == int(of_paths)


def _sealed(data: bytes) -> bytes:
    """A table with its checksums."""
    *_, paths = HEADER.unpack_from(data)
    behind = struct.pack("<Q", _of_paths(data)) + data[24:]
    return MAGIC + struct.pack("<Q", digest(0, behind[: paths - 16])) + behind


def _of_paths(data: bytes) -> int:
    """The checksum of the paths in a table, without the hashes that Nix overwrites where it gives a store path another name."""
    found = 0
    for row in _rows(data):
        path, start = _path(data, row), row[-1]
        if start:
            if len(path) < start + HASH:
                return -1
            found = digest(found, path[:start])
            path = path[start + HASH :]
        found = digest(found, path)
    return found


def _hash_in(path: str) -> int:
    """Where the hash of a store path begins in a path, 0 where it is in none."""
    found = STORE_PATH.match(os.fsencode(path))
    return found.start(1) if found else 0


def _rows(data: bytes) -> list[tuple[int, ...]]:
    """The record of each object."""
    _, _, _, _, _, count, _, _, objects, *_ = HEADER.unpack_from(data)
    return [OBJECT.unpack_from(data, objects + number * OBJECT.size) for number in range(count)]


def _path(data: bytes, row: tuple[int, ...]) -> bytes:
    """The path of the object of a record."""
    *_, strings, _ = HEADER.unpack_from(data)
    start = strings + row[1]
    return data[start : data.index(b"\0", start)]


def decode(data: bytes) -> Known:
    """What a whole table was made for."""
    rows = _rows(data)
    return Known(tuple(os.fsdecode(_path(data, row)) for row in rows), tuple(row[0] for row in rows))


def with_use(data: bytes, use: Use) -> bytes:
    """A whole table for another use."""
    (flags,) = struct.unpack_from("<I", data, 28)
    return _sealed(data[:28] + struct.pack("<I", flags | use.value) + data[32:])


def identity(mapped: Mapped) -> int:
    """`identity` of module.c."""
    found = 0
    for each in mapped.ranges:
        found = digest(found, each.data)
    for tag, value in mapped.tags:
        if tag != DT_DEBUG:
            found = digest(found, struct.pack("<QQ", tag, value))
    return found


def make(graph: Graph, objects: Sequence[Mapped], answerable: Container[int]) -> Table:
    """The table of a program that starts; `objects` are those of the graph's nodes, of which one is the loader.

    Names are answered that lead to one of `answerable`; others ld.so goes on searching for.
    """
    binder = Binder([each.symbols for each in objects])
    bindings = binder.bindings(range(len(objects)))
    loader = loader_of(graph)
    names: list[dict[str, int]] = [{} for _ in objects]
    for edge in graph.edges:
        if edge.how.is_search and edge.target is not None and edge.target in answerable and "/" not in edge.name:
            names[edge.source].setdefault(edge.name, edge.target)
    stack_end = objects[loader].symbols.places[STACK_END]
    resolver = _Resolver(graph, objects, binder, bindings)
    return Table(
        tuple(node.path for node in graph.nodes),
        tuple(map(identity, objects)),
        tuple(tuple((each.address, len(each.data)) for each in mapped.ranges) for mapped in objects),
        tuple(
            _left("it is the loader itself" if number == loader else each.whole)
            if number == loader or each.whole
            else resolver.part(number)
            for number, each in enumerate(objects)
        ),
        tuple(tuple(each.items()) for each in names),
        loader,
        objects[loader].values[stack_end],
        _late(graph, loader),
        sum(objects[number].tls for number in resolver.static if number not in (0, loader)),
    )


def _left(why: str) -> Part:
    """What the table holds of an object that ld.so relocates as ever."""
    return Part({}, {}, (), why)


def loader_of(graph: Graph) -> int:
    """The place of the program's loader among its nodes."""
    return next(number for number, node in enumerate(graph.nodes) if node.real == graph.loader.real)


def _late(graph: Graph, loader: int) -> bool:
    """Whether a name is searched for once all objects are mapped, so that another search path could bring one more."""
    loaded: set[int | None] = {0, loader}
    waiting = False
    for edge in graph.edges:
        if edge.tag == NEEDED and edge.target not in loaded:
            loaded.add(edge.target)
            waiting = False
        else:
            waiting = waiting or edge.how.is_search
    return waiting


class _Resolver:
    """Answers what the relocations of each object write."""

    def __init__(self, graph: Graph, objects: Sequence[Mapped], binder: Binder, bindings: Bindings) -> None:
        self.objects, self.bindings = objects, bindings
        self.types = TYPES[objects[0].machine]
        self.rivals = frozenset(os.fsencode(name) for name, _ in rivals(binder, bindings))
        # ld.so is to look up each unique symbol once, so that it is that of the whole process for what is opened later, too
        self.registered: set[bytes] = set()
        self.static: set[int] = set()
        directory = os.path.dirname(graph.loader.real)
        self.trusted = frozenset(
            number
            for number, node in enumerate(graph.nodes)
            if os.path.dirname(node.real) == directory and matches(LIBC, os.path.basename(node.path))
        )

    def part(self, asker: int) -> Part:
        """What is written into one object."""
        mapped = self.objects[asker]
        relocations = mapped.relocations
        assert relocations is not None
        slots: dict[int, list[tuple[int, int]]] = defaultdict(list)
        calls: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        rest: list[tuple[int, int, int]] = []
        later: list[int] = []
        lookups = 0
        known: dict[int, Slot | None] = {}
        types = self.types
        for offset, info, addend in dict.fromkeys(
            zip(relocations.offsets, relocations.infos, relocations.addends, strict=True)
        ):
            kind = info & 0xFFFFFFFF
            if kind == types.relative and not info >> 32:
                slot: Slot | None = Slot(asker + 1, 0, False)
            elif kind == types.static_tls:
                self._fix(asker, info >> 32, kind)
                slot = None
            elif kind not in (types.word, types.got, types.plt) or not info >> 32:
                slot = None
            elif info in known:
                slot = known[info]
            else:
                try:
                    slot = known[info] = self._slot(asker, info >> 32, kind)
                except Unanswered as error:
                    return _left(f"nothing defines {error}")
            if slot is LATER:
                # as ld.so leaves a function that it is to look up when it is called (elf_machine_lazy_rel)
                slot = Slot(asker + 1, mapped.word(offset), False)
                later.append(offset)
            if slot is not None and kind in (types.got, types.plt) and addend:
                slot = None
            if slot is not None:
                value = slot.value + (addend - (1 << 64) if addend >> 63 else addend)
                if 0 <= value < 1 << 32 and not offset & 7 and offset < 1 << 40:
                    if not slot.called:
                        slots[slot.target].append((offset, value))
                        lookups += (info >> 32, kind) in mapped.asked
                        continue
                    if not addend:
                        calls[slot.target][value].append(offset)
                        lookups += 1
                        continue
            rest.append((offset, info, addend))
        if rest and dict(mapped.tags).get(elf.DT_RELA) is None:
            return _left("it has no table for what would stay with ld.so")
        written = [offset for pairs in slots.values() for offset, _ in pairs]
        written += [offset for functions in calls.values() for offsets in functions.values() for offset in offsets]
        if not mapped.can_write(written):
            return _left("it has relocations where nothing can be written")
        return Part(slots, calls, rest, "", lookups, frozenset(later))

    def _fix(self, asker: int, symbol: int, kind: int) -> None:
        """Take down whose thread-local variables have to be static (CHECK_STATIC_TLS in elf/dl-reloc.c)."""
        lookup = self.objects[asker].asked.get((symbol, kind))
        found = asker if lookup is None else self.bindings[asker][lookup]
        if found is not None:
            self.static.add(found)

    def _slot(self, asker: int, symbol: int, kind: int) -> Slot | None:
        mapped = self.objects[asker]
        lookup = mapped.asked.get((symbol, kind))
        if lookup is None:
            answer, place = asker, symbol
        else:
            found = self.bindings[asker][lookup]
            if found is None:
                if mapped.symbols.binding(symbol) != STB_WEAK:
                    raise Unanswered(os.fsdecode(lookup.name))
                if kind == self.types.plt and not mapped.binds_now:
                    return LATER
                return Slot(ABSOLUTE, 0, False)
            if lookup.name in self.rivals:
                return None
            at = self.objects[found].symbols.find(lookup)
            if at is None and found != asker:
                return None
            answer, place = found, symbol if at is None else at
            if self.objects[answer].symbols.binding(place) == STB_GNU_UNIQUE and lookup.name not in self.registered:
                self.registered.add(lookup.name)
                return None
        theirs = self.objects[answer]
        section = theirs.symbols.sections[place]
        if theirs.symbols.info[place] & 15 == STT_TLS or (section == SHN_UNDEF and answer == asker and asker):
            return None
        called = theirs.symbols.is_ifunc(place)
        if called and (answer not in self.trusted or mapped.machine != "EM_X86_64"):
            return None
        return Slot(ABSOLUTE if section == SHN_ABS else answer + 1, theirs.values[place], called)
