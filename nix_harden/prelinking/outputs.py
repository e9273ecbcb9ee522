"""Prelink the programs of a derivation's outputs, or of finished store paths, each in its place.

    from nix_harden.prelinking.outputs import prelink_outputs
    done = prelink_outputs(settings)

Modules lie in DIRECTORY of the output, under the program's own place there: what merges packages into one tree (buildEnv) leaves
`nix-support` out, and no linker, shell or loader looks into it.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nix_harden.errors import HardenError, WriteError
from nix_harden.fixup import policy, references
from nix_harden.fixup.outputs import read_outputs
from nix_harden.fixup.report import NAME
from nix_harden.fixup.workers import share
from nix_harden.loading.disk import DiskReader
from nix_harden.loading.graph import Graph
from nix_harden.model import COPY, File, Kind
from nix_harden.prelinking import prelink, prelinked, rules
from nix_harden.prelinking.prelinked import Prelinked
from nix_harden.prelinking.slots import Mapped
from nix_harden.saying.words import count
from nix_harden.settings import Settings

DIRECTORY = "nix-support/prelink"


@dataclass(frozen=True, slots=True)
class Left:
    """Why a program stays as it is: the rule, with its detail, or what could not be done."""

    rule: str
    detail: str
    error: HardenError | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}" if self.detail else self.rule


@dataclass(frozen=True, slots=True)
class Done:
    """A program of an output, and what became of it: one of `result` and `left` is there."""

    file: File
    result: Prelinked | None
    left: Left | None


def prelink_outputs(settings: Settings) -> tuple[Done, ...]:
    """Prelink each program of the outputs that no rule keeps as it is, in byte order of the paths. Raises ReadError, UsageError.

    A program that cannot be prelinked is as it was, and says why.
    """
    found = read_outputs(settings.outputs)
    programs = [
        file
        for file in found.files
        if file.object.kind is Kind.PROGRAM or found.loadables[file.paths[0]].type == "ET_EXEC"
    ]
    limits = references.from_environ(os.environ, settings)
    worker = _Worker(settings, limits)
    return tuple(share(worker.prelink, programs, settings.jobs))


class _Worker:
    """Prelinks one program after the other; what it has read of a library it keeps for the next."""

    def __init__(self, settings: Settings, limits: Sequence[references.Limit]) -> None:
        self.settings, self.limits = settings, limits
        self.tops = {output.name: output.path for output in settings.outputs}
        self.reader = DiskReader()
        self.libraries: dict[str, Mapped] = {}

    def prelink(self, file: File) -> Done:
        try:
            found = self._prelink(file)
        except HardenError as error:
            return Done(file, None, Left("cannot be prelinked", "", error))
        return Done(file, None, found) if isinstance(found, Left) else Done(file, found, None)

    def _prelink(self, file: File) -> Prelinked | Left:
        top, path = self.tops[file.output], file.paths[0]
        if kept := policy.first(rules.FILE_RULES, rules.FileCase(file, top), self.settings):
            return Left(kept[0].name, kept[1])
        graph = prelink.loaded(os.path.realpath(path), self.reader)
        objects = self._objects(graph)
        limits = [each for each in self.limits if each.output == file.output]
        case = rules.Case(top, graph, limits, sum(each.lookups for each in objects))
        if stays := policy.first(rules.RULES, case, self.settings):
            return Left(stays[0].name, stays[1])
        if self.settings.dry_run:
            return Left("dry run", f"{case.lookups} lookups")
        place = os.path.join(os.path.realpath(top), DIRECTORY, os.path.relpath(path, top) + ".so")
        done = prelink.write(path, graph, objects, graph.root, place, settings=self.settings)
        for other in file.paths[1:]:
            _link(path, other)
        return done

    def _objects(self, graph: Graph) -> list[Mapped]:
        for node in graph.nodes[1:]:
            if node.real not in self.libraries:
                self.libraries[node.real] = prelink.read(graph, node.real)
        return [prelink.read(graph, graph.root), *(self.libraries[node.real] for node in graph.nodes[1:])]


def _link(path: str, other: str) -> None:
    """Have another name of what was at `path` before lead to what is there now."""
    try:
        with tempfile.TemporaryDirectory(prefix=COPY, dir=os.path.dirname(other)) as aside:
            copy = os.path.join(aside, os.path.basename(other))
            os.link(path, copy)
            os.replace(copy, other)
    except OSError as error:
        raise WriteError(other, error.strerror or str(error)) from error


def text(done: Sequence[Done], settings: Settings) -> Iterator[str]:
    """A sentence for each program that was prelinked or could not be, and one an output for those that rules keep."""
    for each in done:
        if each.result is not None:
            yield from (f"{NAME}: {line}" for line in prelinked.text(each.result))
        elif each.left is not None and each.left.error is not None:
            yield f"{NAME}: warning: {each.left.error}"
    for output in settings.outputs:
        mine = [each for each in done if each.file.output == output.name]
        kept = [(os.path.relpath(each.file.paths[0], output.path), each.left) for each in mine if each.left is not None]
        told = ", ".join(f"{path} ({left})" for path, left in kept)
        if any(left.rule == rules.TOO_LITTLE for _, left in kept):
            told += f"; hardenNeededPrelinkFrom is {settings.prelink_from}"
        number = len(mine) - len(kept)
        if mine:
            yield f"{NAME}: {output.name}: {count(number, 'program', 'programs')} prelinked" + (
                f", {len(kept)} left as {'it is' if len(kept) == 1 else 'they are'}: {told}" if kept else ""
            )
    if not done:
        yield f"{NAME}: no programs to prelink in {', '.join(output.name for output in settings.outputs)}"


def failures(done: Sequence[Done]) -> int:
    """How many programs could not be prelinked although no rule keeps them."""
    return sum(each.left is not None and each.left.error is not None for each in done)


def as_json(done: Sequence[Done]) -> dict[str, Any]:
    """The same for scripts, as schemas/modules.json says."""
    return {
        "version": 1,
        "programs": [
            {
                "path": each.file.paths[0],
                "links": list(each.file.paths[1:]),
                "output": each.file.output,
                "module": each.result and each.result.module,
                "lookups": each.result and each.result.gain.lookups,
                "rest": each.result and each.result.gain.rest,
                "proof": each.result and asdict(each.result.proof),
                "left": each.left and each.left.rule,
                "detail": each.left and (str(each.left.error) if each.left.error else each.left.detail),
            }
            for each in done
        ],
    }
