"""Whether the table of a prelinked program still fits: against the files that are there, and by its own loader."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.errors import NotPrelinked, ReadError
from nix_harden.freezing.freeze import closure, follow
from nix_harden.loading.disk import DiskReader
from nix_harden.loading.graph import Graph
from nix_harden.prelinking import module, table
from nix_harden.prelinking.named import Named, named
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


def differences(graph: Graph, module: Named) -> tuple[str, ...]:
    """What is not as the table of a program's module has it, a sentence each, as far as no loader is needed to see it.

    Raises ReadError and MalformedElf where a file of the graph cannot be read any longer.
    """
    if not table.is_whole(module.table):
        return ("its table is damaged, or of another version",)
    return tuple(_differences(graph, table.decode(module.table)))


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
    names = graph.nodes[0].object.filters
    if not names:
        raise NotPrelinked(source, "it names no module", "prelink it")
    try:
        seen = named(graph.nodes[0].object)
    except ReadError as error:
        raise NotPrelinked(source, f"its module {error}", "prelink it again") from error
    if seen is None or not table.is_whole(seen.table):
        problem = f"its module {', '.join(names)} has no whole table of this version"
        raise NotPrelinked(source, problem, "prelink it again")
    differs = differences(graph, seen)
    command, why_not = command_for(graph, source)
    if why_not is not None:
        return Checked(program, seen.path, differs, None, why_not)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        path = os.path.join(scratch, "check.so")
        with open(path, "wb") as file:
            file.write(module.exchange(seen.data, table.with_use(seen.table, Use.PROOF)))
        status = start(command, path).status
    if status not in (0, DIFFERS):
        return Checked(program, seen.path, differs, None, f"it ended with status {status}")
    return Checked(program, seen.path, differs, status == 0, None)


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
