"""What came of freezing a program, and its words."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nix_harden import explained
from nix_harden.ordering import Ordering


class Order(enum.Enum):
    """The order in which a lifted program names its libraries."""

    LOADER = "loader"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True)
class Compared:
    """What the program's own loader said of the program and of its frozen copy: equal in all but what was asked for.

    `bindings` counts the symbol bindings that were compared; `why_not` says why the loader was not asked, and None where it was.
    """

    bindings: int = 0
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen program.

    `program` is what was asked for and `source` the file that was frozen, which differ for a wrapper; `libraries` are what `path`
    names, in its order, which `ordering` explains where it is proven; `size` is in bytes.
    """

    program: str
    source: str
    path: str
    order: Order
    libraries: tuple[str, ...]
    variants: tuple[str, ...]
    size: int
    compared: Compared
    ordering: Ordering | None = None


def text(frozen: Frozen) -> Iterator[str]:
    """What people want to know, a sentence a line."""
    if frozen.source not in (frozen.program, frozen.path):
        yield (
            f"{frozen.program} is a wrapper; what was frozen is {frozen.source}, which it starts: {frozen.path} has none of the "
            "variables and arguments that the wrapper sets"
        )
    for path in frozen.variants:
        yield f"warning: {path} is for processors like this machine's; where there is another, {frozen.path} may not run"
    order = "the loader's order" if frozen.order is Order.LOADER else "a proven order"
    yield f"{frozen.path}: {len(frozen.libraries)} libraries by path in {order}, {frozen.size} bytes; {_compared(frozen.compared)}"
    if frozen.ordering is not None:
        yield f"{frozen.path}: {explained.summary(frozen.ordering)}"


def _compared(compared: Compared) -> str:
    if compared.why_not is not None:
        return f"not compared by the loader itself ({compared.why_not})"
    return f"the loader lists the same files and binds the same {compared.bindings} symbols"


def as_json(frozen: Frozen) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "program": frozen.program,
        "source": frozen.source,
        "path": frozen.path,
        "order": frozen.order.value,
        "libraries": list(frozen.libraries),
        "size": frozen.size,
        "bindings_compared": frozen.compared.bindings,
        "why_not_compared": frozen.compared.why_not,
        "ordering": None if frozen.ordering is None else explained.as_json(frozen.ordering),
    }
