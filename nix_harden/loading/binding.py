"""Which object answers each lookup of a program's closure, in any order of loading; pure.

glibc: `_dl_lookup_symbol_x` and `do_lookup_x` in elf/dl-lookup.c, `resolve_map` in elf/dl-reloc.c. Objects are numbers, their places in
the program's own order of loading, the program itself 0. An order is those numbers in the order of lookup, the program first.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence

from nix_harden.loading.symbols import PLT, STB_GNU_UNIQUE, Lookup, Symbols

# For each asker, in the order of their numbers, the object that answers each of its lookups.
Bindings = tuple[Mapping[Lookup, int | None], ...]


class Binder:
    """The objects of a program, of which each may answer what the others look up."""

    def __init__(self, objects: Sequence[Symbols]) -> None:
        self.objects = objects
        self._answers: dict[Lookup, tuple[int, ...]] = {}

    @functools.cached_property
    def shared(self) -> Mapping[bytes, tuple[int, ...]]:
        """The names that several objects define, with those objects."""
        seen: set[bytes] = set()
        several: set[bytes] = set()
        for each in self.objects:
            several.update(seen.intersection(each.places))
            seen.update(each.places)
        found: dict[bytes, list[int]] = {name: [] for name in several}
        for number, each in enumerate(self.objects):
            for name in several.intersection(each.places):
                found[name].append(number)
        return {name: tuple(numbers) for name, numbers in found.items()}

    @functools.cached_property
    def _alone(self) -> Mapping[bytes, int]:
        """For each name an object that defines it."""
        found: dict[bytes, int] = {}
        for number, each in enumerate(self.objects):
            found.update(dict.fromkeys(each.places, number))
        return found

    def definers(self, name: bytes) -> tuple[int, ...]:
        """The objects that define a name, of whichever version."""
        if (several := self.shared.get(name)) is not None:
            return several
        return (self._alone[name],) if name in self._alone else ()

    def answers(self, lookup: Lookup) -> tuple[int, ...]:
        """The objects that answer a lookup, if it comes to them."""
        found = self._answers.get(lookup)
        if found is None:
            found = tuple(
                number
                for number in self.definers(lookup.name)
                if not (lookup.kind.copy and number == 0) and self.objects[number].find(lookup) is not None
            )
            self._answers[lookup] = found
        return found

    def bindings(self, order: Sequence[int]) -> Bindings:
        """What every lookup of every object is bound to, in an order; None where nothing answers.

        That the first STB_GNU_UNIQUE symbol of a name is that of the whole process is left out of account.
        """
        rank = {number: place for place, number in enumerate(order)}.__getitem__
        wanted = set[Lookup]().union(*(each.lookups for each in self.objects))
        wanted.update(lookup._replace(kind=PLT) for each in self.objects for lookup in each.protected)
        first: dict[Lookup, int | None] = {}
        for lookup in wanted:
            answers = self.answers(lookup)
            first[lookup] = (answers[0] if len(answers) == 1 else min(answers, key=rank)) if answers else None
        return tuple(self._own(number, first) for number in range(len(self.objects)))

    def _own(self, asker: int, first: Mapping[Lookup, int | None]) -> Mapping[Lookup, int | None]:
        """What the lookups of one object are bound to, where `first` are the answers in the global scope."""
        mine = self.objects[asker]
        found = {lookup: first[lookup] for lookup in mine.lookups}
        for lookup in mine.protected:
            # its own symbol, unless a pointer to it has to equal the one that the program took
            if lookup.kind.plt or first[lookup._replace(kind=PLT)] not in (None, asker):
                found[lookup] = asker
        if mine.symbolic and asker:
            found.update((lookup, asker) for lookup in mine.lookups if asker in self.answers(lookup))
        return found


def rivals(binder: Binder, bindings: Bindings) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Each STB_GNU_UNIQUE name of which lookups find several definitions, with who finds which.

    The first that is found becomes that of the whole process (`do_lookup_unique`), so that it depends on who is relocated first.
    """
    unique: dict[bytes, list[tuple[int, int]]] = {
        name: []
        for name, numbers in binder.shared.items()
        if any((each := binder.objects[number]).binding(each.places[name]) == STB_GNU_UNIQUE for number in numbers)
    }
    if not unique:
        return
    for asker, found in enumerate(bindings):
        for lookup, answer in found.items():
            if answer is not None and lookup.name in unique and not lookup.kind.copy:
                each = binder.objects[answer]
                place = each.find(lookup)
                if place is not None and each.binding(place) == STB_GNU_UNIQUE:
                    unique[lookup.name].append((asker, answer))
    for name, pairs in sorted(unique.items()):
        if len({answer for _, answer in pairs}) > 1:
            yield os.fsdecode(name), pairs
