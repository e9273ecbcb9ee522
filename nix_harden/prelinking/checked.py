"""Whether the table of a prelinked program still fits: against the files that are there, and by its own loader."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.errors import NotPrelinked, ReadError
from nix_harden.freezing.freeze import closure, follow
from nix_harden.loading.disk import DiskReader
from nix_harden.loading.loader import Graph
from nix_harden.prelinking import module, table
from nix_harden.prelinking.prelink import as_prelinked, command_for, read
from nix_harden.prelinking.prove import DIFFERS, start
from nix_harden.prelinking.table import Use


@dataclass(frozen=True, slots=True)
class Checked:
    """A prelinked program: its module, what differs from that module's table, and whether it is at work in a plain environment.

    `at_work` is None where the loader is not asked, which `why_not` explains.
    """

    program: str
    module: str
    differences: tuple[str, ...]
    at_work: bool | None
    why_not: str | None

    @property
    def fits(self) -> bool:
        return not self.differences and self.at_work is not False


@dataclass(frozen=True, slots=True)
class Module:
    """The module that a program names, and its bytes; `differences` are what is not as its table has it, a sentence each."""

    path: str
    data: bytes
    table: bytes
    differences: tuple[str, ...]


def look(graph: Graph) -> Module | None:
    """Compare the table of a program's module with the files that are there, as far as no loader is needed for it.

    None where the program names no module of this project, or one whose table is not whole. Raises ReadError where it is not there.
    """
    place = next(iter(graph.nodes[0].object.filters), "")
    if not place:
        return None
    try:
        with open(place, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ReadError(place, error.strerror or str(error)) from error
    found = module.detach(data)
    if found is None or not table.is_whole(found):
        return None
    return Module(place, data, found, tuple(_differences(graph, table.decode(found))))


def _differences(graph: Graph, known: table.Known) -> Iterator[str]:
    now = {node.path: node for node in graph.nodes[1:]}
    was = dict(zip(known.paths[1:], known.identities[1:], strict=True))
    yield from (f"{path} is loaded, and the table does not know it" for path in now if path not in was)
    yield from (f"{path} is not loaded any longer" for path in was if path not in now)
    if now.keys() == was.keys() and tuple(now) != tuple(was):
        yield "the libraries are loaded in another order"
    for path, node in now.items():
        if path in was and table.identity(read(graph, node.real)) != was[path]:
            yield f"{path} is not the file that the table was made for"
    if table.identity(read(graph, graph.root)) != known.identities[0]:
        yield f"{graph.root} was changed since the table was made"


def check(program: str) -> Checked:
    """Compare the table of the program at a path, or that its wrapper starts, with what its loader maps.

    Raises NotPrelinked where it names no module of this project.
    """
    with as_prelinked():
        source = follow(program)
        graph = closure(source, DiskReader())
    if not graph.nodes[0].object.filters:
        raise NotPrelinked(source, "it names no module", "prelink it")
    try:
        seen = look(graph)
    except ReadError as error:
        raise NotPrelinked(source, f"its module {error}", "prelink it again") from error
    if seen is None:
        place = graph.nodes[0].object.filters[0]
        raise NotPrelinked(source, f"its module {place} has no whole table of this version", "prelink it again")
    command, why_not = command_for(graph, source)
    if why_not is not None:
        return Checked(program, seen.path, seen.differences, None, why_not)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        path = os.path.join(scratch, "check.so")
        with open(path, "wb") as file:
            file.write(module.exchange(seen.data, table.with_use(seen.table, Use.PROOF)))
        status = start(command, path).status
    if status not in (0, DIFFERS):
        return Checked(program, seen.path, seen.differences, None, f"it ended with status {status}")
    return Checked(program, seen.path, seen.differences, status == 0, None)


def text(done: Checked) -> Iterator[str]:
    """What people want to know, a sentence a line."""
    yield from done.differences
    if done.at_work is None:
        yield f"{done.program}: whether {done.module} is at work is not known ({done.why_not})"
    elif done.at_work:
        yield f"{done.program}: {done.module} fits, and is at work"
    else:
        yield f"{done.program}: {done.module} does not fit, so that ld.so does all by itself; prelink it again"


def as_json(done: Checked) -> dict[str, Any]:
    """The same for scripts, as schemas/prelink.json says."""
    return asdict(done) | {"fits": done.fits}
