"""Sort the libraries of a lifted program so that symbol lookup passes fewer of them, and prove that nothing binds differently; pure.

glibc looks every symbol up in the objects of a program in the order of loading (elf/dl-lookup.c), so that the libraries which answer
most belong first. Two libraries that could answer the same question keep their order: then every question is answered by the same
one, also those of code that is loaded later. That is not only argued: each lookup of the closure is resolved in both orders.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nix_harden.errors import NotFrozen
from nix_harden.loading.binding import Binder, Bindings, rivals
from nix_harden.loading.graph import NEEDED, Graph, How
from nix_harden.loading.symbols import Symbols

INSTEAD = "freeze it with --order loader"
# They look whether they are the first library of a process, or take the place of what comes behind them.
FIRST = re.compile(r"lib(?:asan|hwasan|lsan|tsan|ubsan)\.so")
# For each object, those that it needs, in the order of its NEEDED.
Needs = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Hold:
    """Two objects that keep their order, and why."""

    first: int
    second: int
    why: str


@dataclass(frozen=True, slots=True)
class Ordering:
    """The libraries of a program in a proven order; numbers are places in Graph.nodes, of which 0 is the program.

    `answered` counts, for each object, the lookups that it answers, `unanswered` those of weak symbols that nothing answers.
    `before` and `after` are how many objects are looked into for one that is answered, on average. `bindings` counts the lookups
    that were resolved in both orders. `restarted` pairs libraries with constructors of their own that start in the other order.
    """

    order: tuple[int, ...]
    paths: tuple[str, ...]
    holds: tuple[Hold, ...]
    answered: tuple[int, ...]
    unanswered: int
    before: float
    after: float
    bindings: int
    restarted: tuple[tuple[int, int], ...]

    @property
    def passed(self) -> float:
        """What is left of the objects that lookups pass: the share of them in the new order."""
        answered, size = sum(self.answered), len(self.paths)
        then, now = (answered * mean + self.unanswered * size for mean in (self.before, self.after))
        return now / then if then else 1.0


def sort(graph: Graph, objects: Sequence[Symbols]) -> Ordering:
    """The proven order of a program's libraries; `objects` are the symbols of the graph's nodes. Raises NotFrozen where the proof fails."""
    binder = Binder(objects)
    loaded = tuple(range(len(objects)))
    bindings = binder.bindings(loaded)
    answered = Counter(
        answer
        for asker, found in enumerate(bindings)
        for answer in found.values()
        if answer is not None and not (objects[asker].symbolic and asker == answer)
    )
    weights = [answered[number] for number in loaded]
    holds = tuple(find_holds(graph, binder))
    order = (0, *(number for number in arrange(weights, [(hold.first, hold.second) for hold in holds]) if number))
    prove(graph, binder, bindings, order, holds)
    needs = needs_of(graph)
    starts = started(loaded, needs), started(order, needs)
    return Ordering(
        order[1:],
        tuple(node.path for node in graph.nodes),
        holds,
        tuple(weights),
        sum(answer is None for found in bindings for answer in found.values()),
        _mean_place(weights, loaded),
        _mean_place(weights, order),
        sum(map(len, bindings)),
        tuple(_swapped([number for number in loaded if objects[number].constructors > 1], *starts)),
    )


def _mean_place(weights: Sequence[int], order: Sequence[int]) -> float:
    return sum(weights[number] * place for place, number in enumerate(order, 1)) / (sum(weights) or 1)


def find_holds(graph: Graph, binder: Binder) -> Iterator[Hold]:
    """The pairs of libraries that keep their order, each once."""
    names: dict[tuple[int, int], list[bytes]] = {}
    for name, numbers in binder.shared.items():
        for pair in pairwise(numbers):
            names.setdefault(pair, []).append(name)
    reasons = {pair: _both("define", defined) for pair, defined in names.items()}
    for pair, why in _named(graph, binder):
        reasons.setdefault(pair, why)
    for (first, second), why in sorted(reasons.items()):
        if first:
            yield Hold(first, second, why)


def _both(do: str, names: Sequence[bytes]) -> str:
    example = os.fsdecode(min(names))
    return f"both {do} {example}" if len(names) == 1 else f"both {do} {example} and {len(names) - 1} more"


def _named(graph: Graph, binder: Binder) -> Iterator[tuple[tuple[int, int], str]]:
    """The pairs whose order something else than symbol lookup goes by."""
    objects = binder.objects
    sonames: dict[str, list[int]] = {}
    for number, node in enumerate(graph.nodes[1:], 1):
        if node.object.soname is not None:
            sonames.setdefault(node.object.soname, []).append(number)
        if FIRST.match(os.path.basename(node.object.soname or node.path)):
            yield from (((number, other), "the first may have to be it") for other in range(number + 1, len(objects)))
            yield from (((other, number), "the first may have to be it") for other in range(1, number))
    for soname, numbers in sonames.items():
        # a bare name that is opened later is answered by the first that bears it
        yield from ((pair, f"both bear the SONAME {soname}") for pair in pairwise(numbers))
    # the constructors of the last of them run first of all
    yield from (
        (pair, "both are DF_1_INITFIRST") for pair in pairwise(n for n, each in enumerate(objects) if each.first)
    )
    for number, each in enumerate(objects[1:], 1):
        for name in each.strings:
            definers = binder.definers(name)
            if number not in definers:
                # what it finds there is to stay there, or nothing, and nothing else is to come between
                why = f"the one may ask for {os.fsdecode(name)} behind itself by RTLD_NEXT"
                yield from (((number, other), why) for other in [other for other in definers if other > number][:1])
                yield from (((other, number), why) for other in definers if other < number)


def arrange(weights: Sequence[int], pairs: Iterable[tuple[int, int]]) -> list[int]:
    """An order in which the sum of weight times place is small and the first of each pair, the lower number, comes first.

    Of all numbers, with those that have to come before, the lot of the highest weight on average is taken next, until none is
    left. That is what is best for pairs in the form of trees that join (Horn 1972), and near it elsewhere; equals keep their order.
    """
    above: list[set[int]] = [{number} for number in range(len(weights))]
    direct: list[set[int]] = [set() for _ in weights]
    for first, second in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        direct[second].add(first)
        above[second] |= above[first]
    below: list[list[int]] = [[] for _ in weights]
    for number, all_before in enumerate(above):
        for first in all_before:
            below[first].append(number)
    sums = [sum(weights[first] for first in all_before) for all_before in above]
    left = set(range(len(weights)))
    order: list[int] = []
    while left:
        best = max(left, key=lambda number: (sums[number] / len(above[number]), -number))
        lot = set(above[best])
        while lot:
            ready = (number for number in lot if not direct[number] & lot)
            taken = max(ready, key=lambda number: (weights[number], -number))
            order.append(taken)
            lot.discard(taken)
            left.discard(taken)
            for number in below[taken]:
                above[number].discard(taken)
                sums[number] -= weights[taken]
    return order


def prove(graph: Graph, binder: Binder, bindings: Bindings, order: Sequence[int], holds: Sequence[Hold]) -> None:
    """Raise NotFrozen unless all that is known of the program binds in an order as in that of loading, to which `bindings` belong."""
    rank = {number: place for place, number in enumerate(order)}
    if sorted(order) != list(range(len(graph.nodes))) or any(rank[hold.first] > rank[hold.second] for hold in holds):
        raise NotFrozen(
            graph.root, "the order that was found breaks its own rules", "please report it, with the program"
        )
    for asker, (old, new) in enumerate(zip(bindings, binder.bindings(order), strict=True)):
        if old != new:
            name = min(lookup.name for lookup in old if old[lookup] != new[lookup])
            problem = f"{os.fsdecode(name)} of {graph.nodes[asker].path} would bind to another library"
            raise NotFrozen(graph.root, problem, "please report it, with the program")
    needs = needs_of(graph)
    calls, found = list(_unsettled(graph, needs, resolvers(binder, bindings))), list(rivals(binder, bindings))
    before = tuple(range(len(order)))
    for way in (started, started_originally) if calls or found else ():
        was, now = ({number: place for place, number in enumerate(way(each, needs))} for each in (before, order))
        for asker, answer, function in calls:
            if was[answer] < was[asker] and now[answer] > now[asker]:
                path, other = graph.nodes[asker].path, graph.nodes[answer].path
                problem = f"{path} calls the resolver of {function} in {other}, on which it does not depend, and would do so before that library is relocated"
                raise NotFrozen(graph.root, problem, INSTEAD)
        for symbol, pairs in found:
            then, later = (min(pairs, key=lambda pair: place[pair[0]])[1] for place in (was, now))
            if then != later:
                problem = f"the unique symbol {symbol} of {graph.nodes[later].path} would become that of the whole process, instead of the one of {graph.nodes[then].path}"
                raise NotFrozen(graph.root, problem, INSTEAD)


def _unsettled(graph: Graph, needs: Needs, calls: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Those of the calls of resolvers for which not any way of sorting relocates first what is called, because it is needed."""
    # the program is relocated last, and the loader when all others are
    last = {0, *(edge.target for edge in graph.edges if edge.how is How.LIBC)}
    users: list[list[int]] = [[] for _ in needs]
    for user, needed in enumerate(needs):
        for number in needed:
            users[number].append(user)
    known: dict[int, set[int]] = {}
    for asker, answer, function in calls:
        for number in (asker, answer):
            if number not in known:
                known[number] = _reached(number, users)
        if asker not in last and (asker not in known[answer] or answer in known[asker]):
            yield asker, answer, function


def _reached(number: int, edges: Sequence[Sequence[int]]) -> set[int]:
    """All that edges lead to from a number, in any number of steps."""
    found: set[int] = set()
    left = [number]
    while left:
        for other in edges[left.pop()]:
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def resolvers(binder: Binder, bindings: Bindings) -> Iterator[tuple[int, int, str]]:
    """Each object with each other whose IFUNC resolver it calls as it is relocated, and the name of one."""
    functions = [each.ifuncs for each in binder.objects]
    seen: set[tuple[int, int]] = set()
    for asker, found in enumerate(bindings):
        for lookup, answer in found.items():
            if answer is None or answer == asker or (asker, answer) in seen or lookup.name not in functions[answer]:
                continue
            seen.add((asker, answer))
            yield asker, answer, os.fsdecode(lookup.name)


def needs_of(graph: Graph) -> Needs:
    """What each object needs; of the program nothing, since its own list is not there yet when objects are sorted."""
    found: list[list[int]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        if edge.tag == NEEDED and edge.source and edge.target is not None:
            found[edge.source].append(edge.target)
    return found


def started(order: Sequence[int], needs: Needs) -> list[int]:
    """The objects as they are relocated and their constructors run, dependencies first (`_dl_sort_maps_dfs`, glibc 2.35 and newer)."""
    done: list[int] = []
    seen = {0}
    for root in reversed(order[1:]):
        if root in seen:
            continue
        seen.add(root)
        path: list[tuple[int, Iterator[int]]] = [(root, iter(needs[root]))]
        while path:
            number, rest = path[-1]
            following = next((other for other in rest if other not in seen), None)
            if following is None:
                done.append(number)
                path.pop()
            else:
                seen.add(following)
                path.append((following, iter(needs[following])))
    return [*done, 0]


def started_originally(order: Sequence[int], needs: Needs) -> list[int]:
    """The same by the algorithm of older ones, and of GLIBC_TUNABLES=glibc.rtld.dynamic_sort=1 (`_dl_sort_maps_original`)."""
    maps = list(order[1:])
    users: dict[int, set[int]] = {number: set() for number in order}
    for user, needed in enumerate(needs):
        for number in needed:
            users[number].add(user)
    size = len(maps)
    seen = [0] * (size + 1)
    at = 0
    while at < size:
        seen[at] += 1
        this = maps[at]
        last = next((place for place in range(size - 1, at, -1) if maps[place] in users[this]), None)
        if last is not None:
            maps[at : last + 1] = [*maps[at + 1 : last + 1], this]
            if seen[at + 1] <= size - at:
                seen[at : last + 1] = [*seen[at + 1 : last + 1], seen[at]]
                continue
        at += 1
        seen[at:size] = [0] * (size - at)
    return [*reversed(maps), 0]


def _swapped(numbers: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The pairs of numbers that stand in one order before and in the other after, as they stood before."""
    chosen = set(numbers)
    was = [number for number in before if number in chosen]
    place = {number: index for index, number in enumerate(after)}
    for index, first in enumerate(was):
        yield from ((first, second) for second in was[index + 1 :] if place[second] < place[first])
