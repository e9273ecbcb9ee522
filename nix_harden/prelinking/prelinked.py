"""What came of prelinking a program, and its words."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.saying.words import count

MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Whole:
    """An object whose relocations all stay with ld.so, and why."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} is relocated by ld.so as ever: {self.why}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the program's own loader said: how many words of memory were equal; `why_not` says why it was not asked, and None where it was."""

    words: int
    why_not: str | None


@dataclass(frozen=True, slots=True)
class Asker:
    """An object, and how many symbols ld.so would look up for it that a module would know."""

    path: str
    lookups: int


@dataclass(frozen=True, slots=True)
class Gain:
    """What a program gains by a module.

    `program` is what was asked for and `source` the file that was read, which differ for a wrapper. `objects` are the program, its
    libraries and its loader; `names` are the searches that the module answers. Of the relocations `slots` are in the table, of
    `table_size` bytes, `lookups` of which ld.so would look up, as `askers` have it by object, and `rest` stay with ld.so, beside those of
    objects that are left `whole`.
    """

    program: str
    source: str
    objects: int
    names: int
    lookups: int
    rest: int
    slots: int
    table_size: int
    askers: tuple[Asker, ...]
    whole: tuple[Whole, ...]


@dataclass(frozen=True, slots=True)
class Prelinked:
    """A prelinked program: `module` is what `path` names, and both sizes are in bytes."""

    gain: Gain
    path: str
    module: str
    size: int
    module_size: int
    proof: Proof


def explained(seen: Gain) -> Iterator[str]:
    """What people want to know of it, a line each: the sum, who asks for most, and what stays with ld.so."""
    share = f"{seen.table_size / seen.slots:.1f} bytes each" if seen.slots else "none"
    yield f"symbols that ld.so looks up at start  {seen.lookups + seen.rest:9}"
    yield f"  with a module                       {seen.rest:9}"
    yield f"names that ld.so searches for         {seen.names:9}, and none with a module"
    yield f"addresses in the table                {seen.slots:9}, {seen.table_size} bytes, {share}"
    for each in sorted(seen.askers, key=lambda each: -each.lookups)[:MOST_SHOWN]:
        if each.lookups:
            yield f"{each.lookups:9} for {each.path}"
    yield from map(str, seen.whole)


def text(done: Prelinked) -> Iterator[str]:
    """What people want to know, a sentence a line."""
    gain = done.gain
    if gain.source not in (os.path.realpath(gain.program), done.path):
        yield (
            f"{gain.program} is a wrapper; what was prelinked is {gain.source}, which it starts: {done.path} has none of the "
            "variables and arguments that the wrapper sets"
        )
    yield from map(str, gain.whole)
    yield (
        f"{done.path}: {count(gain.slots, 'address', 'addresses')} of {count(gain.objects, 'object', 'objects')} in {done.module}, "
        f"{done.module_size} bytes; ld.so looks up {gain.rest} symbols instead of {gain.rest + gain.lookups}, and searches for "
        f"{count(gain.names, 'name', 'names')} less; {_proof(done.proof)}"
    )


def _proof(proof: Proof) -> str:
    if proof.why_not is not None:
        return f"not proved by the loader itself ({proof.why_not})"
    return f"proved: {proof.words} words of memory are what the loader alone would have left"


def as_json(done: Prelinked | Gain) -> dict[str, Any]:
    """The same for scripts, as schemas/prelink.json says."""
    if isinstance(done, Gain):
        return asdict(done)
    figures = asdict(done)
    return {**figures.pop("gain"), **figures}
