"""Why a program loads a library: every chain of names from the one to the other, and their words; pure."""

import heapq
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from nix_harden.graphing.draw import how
from nix_harden.graphing.picture import bearers, leading_to
from nix_harden.graphing.values import Arrow, Picture, Role, Vertex
from nix_harden.loading.graph import NEEDED
from nix_harden.saying.words import count, printable


@dataclass(frozen=True, slots=True)
class Why:
    """The first chains from a program to each of the vertices that a name means, the shortest first.

    A chain is a row of arrows, each from where the one before it leads. `total` counts all chains; None where objects that need each other make that
    no matter of counting paths, and there are more than `chains` holds.
    """

    program: Vertex
    targets: tuple[Vertex, ...]
    chains: tuple[tuple[Arrow, ...], ...]
    total: int | None


def explain(whole: Picture, program: Vertex, library: str, limit: int) -> Why | None:
    """Why a program loads what `library` means (see `bearers`), at most `limit` chains; None where it does not load it."""
    targets = tuple(each for each in bearers(whole, library) if each.id != program.id)
    goals = frozenset(each.id for each in targets)
    steps = _steps(leading_to(whole, targets))
    found = list(islice(_chains(program.id, goals, steps), limit + 1))
    if not found:
        return None
    total = len(found) if len(found) <= limit else _number(program.id, goals, steps)
    reached = {chain[-1].target for chain in found} | goals
    return Why(program, tuple(each for each in targets if each.id in reached), tuple(found[:limit]), total)


Steps = Mapping[str, Mapping[str, Arrow]]


def _steps(part: Picture) -> Steps:
    """From each vertex to each neighbour the arrow that says most: what is loaded at start before what dlopen would."""
    found: dict[str, dict[str, Arrow]] = {}
    for arrow in sorted(part.arrows, key=lambda arrow: arrow.tag != NEEDED):
        found.setdefault(arrow.source, {}).setdefault(arrow.target, arrow)
    return found


def _chains(start: str, goals: frozenset[str], steps: Steps) -> Iterator[tuple[Arrow, ...]]:
    """Every chain that meets no vertex twice and a goal at its end alone, the shortest first, and of equal ones by their order in the picture."""
    distance = _distances(goals, steps)
    if start not in distance:
        return
    order = {each: number for number, each in enumerate(distance)}
    waiting: list[tuple[int, tuple[int, ...], tuple[str, ...]]] = [(distance[start], (), (start,))]
    while waiting:
        _, ranks, chain = heapq.heappop(waiting)
        if chain[-1] in goals:
            yield tuple(steps[source][target] for source, target in pairwise(chain))
            continue
        for other in steps.get(chain[-1], {}):
            if other not in chain and other in distance:
                length = len(chain) + distance[other]
                heapq.heappush(waiting, (length, (*ranks, order[other]), (*chain, other)))


def _distances(goals: frozenset[str], steps: Steps) -> dict[str, int]:
    """How many arrows it is from each vertex to the nearest goal."""
    before: dict[str, list[str]] = {}
    for source, targets in steps.items():
        for target in targets:
            before.setdefault(target, []).append(source)
    found = dict.fromkeys(sorted(goals), 0)
    queue = list(found)
    for each in queue:
        for other in before.get(each, ()):
            if other not in found:
                found[other] = found[each] + 1
                queue.append(other)
    return found


def _number(start: str, goals: frozenset[str], steps: Steps) -> int | None:
    """How many chains there are; None where there is a cycle on the way, in which counting them takes as long as walking them."""
    done: dict[str, int] = dict.fromkeys(goals, 1)
    open_: set[str] = set()
    stack = [start]
    while stack:
        each = stack[-1]
        if each in done:
            stack.pop()
            continue
        rest = [other for other in steps.get(each, {}) if other not in done]
        if not rest:
            done[each] = sum(done[other] for other in steps.get(each, {}))
            open_.discard(each)
            stack.pop()
            continue
        open_.add(each)
        if any(other in open_ for other in rest):
            return None
        stack += rest
    return done[start]


def text(why: Why, whole: Picture) -> Iterator[str]:
    """A line that says what is loaded, a line a chain, and how many more there are."""
    labels = {vertex.id: vertex.label for vertex in whole.vertices}
    for target in why.targets:
        if target.role is Role.MISSING:
            yield f"{printable(target.path)} is not found"
        else:
            yield printable(target.path)
    for chain in why.chains:
        words = [labels[why.program.id]]
        words += (f"{labels[arrow.target]} ({_step(arrow)})" for arrow in chain)
        yield "  " + " → ".join(map(printable, words))
    if why.total is None:
        yield "  and more chains; --limit N shows as many as you like"
    elif why.total > len(why.chains):
        yield f"  and {count(why.total - len(why.chains), 'more chain', 'more chains')}; --limit N shows as many as you like"


def _step(arrow: Arrow) -> str:
    return f"{how(arrow)} of {os.path.basename(arrow.via)}" if arrow.how == "RPATH" and arrow.via else how(arrow)


def as_json(why: Why, whole: Picture) -> dict[str, Any]:
    """The same for scripts, as schemas/why.json says."""
    by_id = {vertex.id: vertex for vertex in whole.vertices}
    return {
        "version": 1,
        "program": why.program.path,
        "libraries": [_library(each) for each in why.targets],
        "chains": [[_json_step(by_id, arrow) for arrow in chain] for chain in why.chains],
        "total": why.total,
    }


def _library(vertex: Vertex) -> dict[str, Any]:
    return {
        "path": None if vertex.role is Role.MISSING else vertex.path,
        "name": vertex.label,
        "soname": vertex.soname,
    }


def _json_step(by_id: Mapping[str, Vertex], arrow: Arrow) -> dict[str, Any]:
    source, target = by_id[arrow.source], by_id[arrow.target]
    return {
        "from": source.path,
        "tag": arrow.tag,
        "names": list(arrow.names),
        "found_by": arrow.how,
        "via": arrow.via or None,
        "to": None if target.role is Role.MISSING else target.path,
    }
