"""Whether the table of a prelinked program still fits: against the files that are there, and by its own loader."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.errors import NotPrelinked
from nix_harden.freezing.freeze import closure, follow
from nix_harden.loading.disk import DiskReader
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


def check(program: str) -> Checked:
    """Compare the table of the program at a path, or that its wrapper starts, with what its loader maps.

    Raises NotPrelinked where it names no module of this project.
    """
    with as_prelinked():
        source = follow(program)
        reader = DiskReader()
        graph = closure(source, reader)
    place = next(iter(graph.nodes[0].object.filters), "")
    if not place:
        raise NotPrelinked(source, "it names no module", "prelink it")
    try:
        with open(place, "rb") as file:
            data = file.read()
    except OSError as error:
        raise NotPrelinked(
            source, f"its module {place} cannot be read: {error.strerror}", "prelink it again"
        ) from error
    found = module.detach(data)
    if found is None or not table.is_whole(found):
        raise NotPrelinked(source, f"its module {place} has no whole table of this version", "prelink it again")
    known = table.decode(found)
    differences = []
    now = {node.path: node for node in graph.nodes[1:]}
    was = dict(zip(known.paths[1:], known.identities[1:], strict=True))
    differences += [f"{path} is loaded, and the table does not know it" for path in now if path not in was]
    differences += [f"{path} is not loaded any longer" for path in was if path not in now]
    if not differences and tuple(now) != tuple(was):
        differences.append("the libraries are loaded in another order")
    mapped = {path: table.identity(read(graph, now[path].real)) for path in now if path in was}
    differences += [
        f"{path} is not the file that the table was made for" for path in mapped if mapped[path] != was[path]
    ]
    if table.identity(read(graph, source)) != known.identities[0]:
        differences.append(f"{source} was changed since the table was made")
    command, why_not = command_for(graph, source)
    if why_not is not None:
        return Checked(program, place, tuple(differences), None, why_not)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        path = os.path.join(scratch, "check.so")
        with open(path, "wb") as file:
            file.write(module.exchange(data, table.with_use(found, Use.PROOF)))
        status = start(command, path).status
    if status not in (0, DIFFERS):
        return Checked(program, place, tuple(differences), None, f"it ended with status {status}")
    return Checked(program, place, tuple(differences), status == 0, None)


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
