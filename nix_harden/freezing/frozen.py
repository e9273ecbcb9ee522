"""What came of freezing a program, and its words."""

import enum
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.freezing import explained
from nix_harden.freezing.ordering import Ordering
from nix_harden.saying.words import count


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
class Opened:
    """A library that the program opens as it runs: by which name and object, how that is known, and how it is found.

    `path` is None where it is not found, or not all that it needs, which `problem` tells, as it does where the loader's rules alone do
    not lead there; `copy` is None where it has no copy.
    """

    name: str
    by: str
    evidence: str
    how: str
    path: str | None
    copy: str | None
    problem: str


@dataclass(frozen=True, slots=True)
class Closure:
    """The copies of a program's libraries: pairs of what was copied and the copy, and the libraries that stay where they are.

    `size` is in bytes. `openers` are the objects that open libraries, where the loader compares no SONAMEs. `unanswered` are names that
    originals answered and no copy does, with these originals.
    """

    directory: str
    relative: bool
    copies: tuple[tuple[str, str], ...]
    stay: tuple[str, ...]
    size: int
    openers: tuple[str, ...]
    unanswered: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Searched:
    """A name for which the loader of a lifted program still searches, who needs it, and the library to which it leads."""

    name: str
    by: str
    path: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen program.

    `program` is what was asked for and `source` the file that was frozen, which differ for a wrapper; `libraries` are what `path`
    names, in its order, which `ordering` explains where it is proven; `size` is that of `path` in bytes. `opened` are the libraries
    that it is known to open as it runs; `searched` is what is searched for before it begins, and `searched_later` how many names what
    it opens goes on searching for.
    """

    program: str
    source: str
    path: str
    order: Order
    libraries: tuple[str, ...]
    variants: tuple[str, ...]
    size: int
    compared: Compared
    opened: tuple[Opened, ...] = ()
    closure: Closure | None = None
    ordering: Ordering | None = None
    searched: tuple[Searched, ...] = ()
    searched_later: int = 0


def text(frozen: Frozen) -> Iterator[str]:
    """What people want to know, a sentence a line."""
    if frozen.source not in (os.path.realpath(frozen.program), frozen.path):
        yield (
            f"{frozen.program} is a wrapper; what was frozen is {frozen.source}, which it starts: {frozen.path} has none of the "
            "variables and arguments that the wrapper sets"
        )
    for path in frozen.variants:
        yield f"warning: {path} is for processors like this machine's; where there is another, {frozen.path} may not run"
    for each in frozen.opened:
        yield _opened(each)
    if frozen.closure is not None:
        yield from _closure(frozen, frozen.closure)
        return
    for name in frozen.searched:
        yield (
            f"{name.by} goes on searching for {name.name}, which is not the SONAME of {name.path}; --closure DIR binds it"
        )
    if frozen.searched_later:
        names = count(frozen.searched_later, "name", "names")
        yield f"what {frozen.path} opens goes on searching for {names} by itself"
    order = "the loader's order" if frozen.order is Order.LOADER else "a proven order"
    yield f"{frozen.path}: {len(frozen.libraries)} libraries by path in {order}, {frozen.size} bytes; {_compared(frozen.compared)}"
    if frozen.ordering is not None:
        yield f"{frozen.path}: {explained.summary(frozen.ordering)}"


def _opened(opened: Opened) -> str:
    words = f"{opened.by} opens {opened.name} ({opened.evidence}): "
    if opened.path is None:
        return f"{words}{opened.problem}"
    found = f"{opened.path} ({opened.problem or opened.how})"
    return f"{words}{found}, copied to {opened.copy}" if opened.copy is not None else f"{words}{found}"


def _closure(frozen: Frozen, closure: Closure) -> Iterator[str]:
    for path in closure.openers:
        yield (
            f"warning: {path} opens libraries, and musl compares no SONAMEs: what it opens by a path and needs a copied library by its "
            "bare name loads the original beside the copy; --also copies it as well"
        )
    for name, path in closure.unanswered:
        if "/" in name:
            yield f"warning: {name} may be opened by that path, and no copy answers it: the original is loaded beside its copy then"
            continue
        yield (
            f"warning: no copy answers the name {name} of {path}: what is opened by its path and needs that name loads the original "
            "beside the copy; --also copies it as well"
        )
    if closure.relative:
        yield f"{frozen.path} needs at their places, wherever it lies: its loader, {', '.join(closure.stay)}"
    how = "by their place relative to each other" if closure.relative else "by path"
    yield (
        f"{frozen.path}: {len(closure.copies)} libraries copied to {closure.directory} and bound {how}, {closure.size} bytes and "
        f"{frozen.size} of its own; {_compared(frozen.compared)}"
    )


def _compared(compared: Compared) -> str:
    if compared.why_not is not None:
        return f"not compared by the loader itself ({compared.why_not})"
    if not compared.bindings:
        return "the loader lists the same files"
    return f"the loader lists the same files and binds the same {compared.bindings} symbols"


def as_json(frozen: Frozen) -> dict[str, Any]:
    """The same for scripts, as schemas/freeze.json says."""
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
        "opened": [asdict(each) for each in frozen.opened],
        "closure": _closure_as_json(frozen.closure) if frozen.closure is not None else None,
        "searched": [asdict(each) for each in frozen.searched],
        "searched_later": frozen.searched_later,
    }


def _closure_as_json(closure: Closure) -> dict[str, Any]:
    return {
        "directory": closure.directory,
        "relative": closure.relative,
        "copies": [{"path": old, "copy": new} for old, new in closure.copies],
        "stay": list(closure.stay),
        "size": closure.size,
        "unanswered": [{"name": name, "path": path} for name, path in closure.unanswered],
    }
