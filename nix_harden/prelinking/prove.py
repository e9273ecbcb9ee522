"""Have a program's own loader do everything itself, and once more with the module at work, and compare what lies in memory then.

Both starts end before any code of the program runs but the resolvers of IFUNCs, when ld.so has relocated all (LA_ACT_CONSISTENT).
"""

import operator
import os
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nix_harden.errors import NotPrelinked
from nix_harden.prelinking.slots import Mapped
from nix_harden.prelinking.table import Table, Use
from nix_harden.process import Output, collect

DT_PLTGOT = 3
ABOUT = struct.Struct("<4Q")
SECONDS = 120.0
DIFFERS = 3  # how module.c ends a process where not all is as the table has it
Attach = Callable[[bytes], bytes]
REPORT = "please report it, with the program"


@dataclass(frozen=True, slots=True)
class Region:
    """What one object has mapped to be written: its place among the objects, its base, and where this begins.

    Of the loader, and of the stack, whose place is behind all objects, there is the base alone.
    """

    object: int
    base: int
    start: int
    data: bytes


def prove(command: Sequence[str], table: Table, objects: Sequence[Mapped], attach: Attach, scratch: str) -> int:
    """How many words were compared of the program that `command` starts; `attach` makes a module of a table, `scratch` is where.

    Raises NotPrelinked where a word differs, and ToolError.
    """
    starts = []
    for name, use in (("apart", Use.PROOF | Use.APART), ("bound", Use.PROOF)):
        path = os.path.join(scratch, f"{name}.so")
        with open(path, "wb") as file:
            file.write(attach(table.encode(use)))
        starts.append(_regions(command, path))
    alone, worked = starts
    if differences := compare(alone, worked, table, objects):
        number, address = differences[0]
        problem = f"{len(differences)} words would differ, such as that at {address:#x} of {table.paths[number]}"
        raise NotPrelinked(command[-1], problem, REPORT)
    return sum(len(each.data) for each in alone) // 8


def start(command: Sequence[str], module: str) -> Output:
    """What a program writes that starts with a module whose table is for Use.PROOF: nothing of its own."""
    return collect(command, {"LD_AUDIT": module, "LD_BIND_NOW": "1"}, SECONDS)


def _regions(command: Sequence[str], module: str) -> list[Region]:
    """The memory of a program whose loader has relocated it."""
    program = command[-1]
    done = start(command, module)
    if done.status == DIFFERS:
        problem = "its loader does not map the files that were found for it, or not in their order"
        raise NotPrelinked(program, problem, "see what nix-harden audit says of it")
    if done.status:
        said = (os.fsdecode(done.err).strip().splitlines() or [f"status {done.status}"])[-1]
        raise NotPrelinked(program, f"its loader does not start it with all symbols bound: {said}", "leave it as it is")
    regions, at = [], 0
    while at < len(done.out):
        number, base, begin, size = ABOUT.unpack_from(done.out, at)
        at += ABOUT.size
        regions.append(Region(number, base, begin, done.out[at : at + size]))
        at += size
    return regions


def compare(
    one: Sequence[Region], other: Sequence[Region], table: Table, objects: Sequence[Mapped]
) -> list[tuple[int, int]]:
    """The words that differ by more than where objects were mapped: the object of each, and its address before relocation.

    `one` is what ld.so left with all symbols bound: the functions that are otherwise found as they are called hold nothing there.
    """
    moved = {0} | {(a.base - b.base) for a, b in zip(one, other, strict=True)}
    found = []
    for a, b in zip(one, other, strict=True):
        skipped = -a.start % 8
        size = (len(a.data) - skipped) // 8 * 8
        words, others = (array("Q", each.data[skipped : skipped + size]) for each in (a, b))
        if set(map(operator.sub, words, others)) <= moved:
            continue
        own, later = _own(objects[a.object]), table.parts[a.object].later
        for place, (word, its) in enumerate(zip(words, others, strict=True)):
            address = a.start + skipped + 8 * place - a.base
            if word - its in moved or address in own or (address in later and not word):
                continue
            found.append((a.object, address))
    return found


def _own(mapped: Mapped) -> frozenset[int]:
    """The words that are not the program's: what ld.so keeps behind DT_PLTGOT."""
    got = dict(mapped.tags).get(DT_PLTGOT)
    return frozenset((got + 8, got + 16) if got else ())
