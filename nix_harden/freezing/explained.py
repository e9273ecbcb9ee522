"""A proven order of libraries, in words and for scripts; decides nothing."""

import os
from collections.abc import Iterator
from typing import Any

from nix_harden.freezing.ordering import Ordering
from nix_harden.saying.words import count


def summary(ordering: Ordering) -> str:
    """What the order gains, what was proven of it and what it changes, in a line."""
    return (
        f"symbol lookup passes {_less(ordering)} libraries, with the same answer to each of {ordering.bindings} lookups in both orders; "
        f"{_restarted(ordering)}; --explain-order says more"
    )


def text(ordering: Ordering) -> Iterator[str]:
    """What `summary` says at length: the gain, each library's place, what holds it there, and the constructors that change places."""
    size, answered = len(ordering.paths), sum(ordering.answered)
    yield f"{answered} lookups are answered, on average by object {ordering.before:.1f} of {size} in the loader's order, by object {ordering.after:.1f} in the proven one"
    yield f"{ordering.unanswered} lookups of weak symbols find nothing and pass all {size} in either order"
    yield f"in all, symbol lookup passes {_less(ordering)} libraries"
    yield f"{ordering.bindings} lookups were resolved in both orders and are bound to the same libraries"
    yield ""
    yield "place   before  answers  object"
    for place, number in enumerate((0, *ordering.order), 1):
        yield f"{place:5}  {number + 1:7}  {ordering.answered[number]:7}  {ordering.paths[number]}"
    yield ""
    yield f"{count(len(ordering.holds), 'pair', 'pairs')} of libraries had to keep their order:"
    for hold in ordering.holds:
        yield f"  {_name(ordering, hold.first)} before {_name(ordering, hold.second)}: {hold.why}"
    yield ""
    yield f"{_restarted(ordering)}{':' if ordering.restarted else ''}"
    for first in dict.fromkeys(first for first, _ in ordering.restarted):
        others = (_name(ordering, second) for one, second in ordering.restarted if one == first)
        yield f"  {_name(ordering, first)} now after {', '.join(others)}"


def as_json(ordering: Ordering) -> dict[str, Any]:
    """The same for scripts; libraries are named by their paths."""
    paths = ordering.paths
    return {
        "objects": [
            {"path": paths[number], "place_before": number + 1, "answers": ordering.answered[number]}
            for number in (0, *ordering.order)
        ],
        "lookups": ordering.bindings,
        "unanswered": ordering.unanswered,
        "mean_place_before": round(ordering.before, 2),
        "mean_place": round(ordering.after, 2),
        "passed": round(ordering.passed, 4),
        "kept": [
            {"first": paths[hold.first], "second": paths[hold.second], "why": hold.why} for hold in ordering.holds
        ],
        "constructors": [{"before": paths[first], "now_after": paths[second]} for first, second in ordering.restarted],
    }


def _less(ordering: Ordering) -> str:
    percent = round(100 * (1 - ordering.passed))
    return f"{percent} % fewer" if percent > 0 else "no fewer"


def _restarted(ordering: Ordering) -> str:
    if not ordering.restarted:
        return "all constructors run in the same order"
    pairs = count(len(ordering.restarted), "pair", "pairs")
    return f"the constructors of {pairs} of libraries run in the other order, those of dependencies first as before"


def _name(ordering: Ordering, number: int) -> str:
    return os.path.basename(ordering.paths[number])
