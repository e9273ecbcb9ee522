"""Walk the object closure of files and store paths: read the disk, follow the loaders' rules, and ask the real loaders too."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from nix_harden.errors import ToolError
from nix_harden.loading.asking import ask_loader, parse_listing
from nix_harden.loading.checks import CHECKS, PRELINKED
from nix_harden.loading.disk import DiskReader, Loaders, distrust, elf_files
from nix_harden.loading.findings import Finding, Severity, disagreement, in_parts, malformed, missing_interpreter
from nix_harden.loading.graph import NEEDED, Family, Found, Graph, Loader, Reader, Unloadable
from nix_harden.loading.loader import walk
from nix_harden.loading.lookups import Lookups, count
from nix_harden.model import Kind
from nix_harden.native.compiled import is_start
from nix_harden.process import Answer
from nix_harden.saying.progress import Progress


def compare(graph: Graph, answer: Answer) -> str | None:
    """Where the loader's own answer differs from the graph; None where they agree in names, files and order."""
    refused = graph.refusal or next(
        (
            f"a version of {name} in {graph.nodes[index].path} matches no loaded object"
            for index, name in graph.unmatched
        ),
        None,
    )
    said = answer.err.strip().splitlines()
    if answer.status:
        # musl goes on after a miss, and then fails
        if refused is None and not (
            graph.loader.family is Family.MUSL and any(path is None for _, path in graph.listing)
        ):
            return f"the loader fails ({said[-1] if said else f'status {answer.status}'}), the model does not"
        return None if graph.loader.family is Family.GLIBC else _first_difference(graph, answer)
    if refused is not None:
        return f"the loader succeeds, the model says: {refused}"
    return _first_difference(graph, answer)


def _first_difference(graph: Graph, answer: Answer) -> str | None:
    mine, theirs = graph.listing, parse_listing(answer.out)
    if graph.loader.family is Family.MUSL:  # its own line comes first, and misses are told on the other stream
        mine = tuple(row for row in mine if row[1] is not None)
        theirs = theirs[1:]
    for place in range(max(len(mine), len(theirs))):
        ours = mine[place] if place < len(mine) else None
        other = theirs[place] if place < len(theirs) else None
        if ours != other:
            return f"at place {place + 1} the loader has {_row(other)}, the model {_row(ours)}"
    return None


def _row(row: tuple[str, str | None] | None) -> str:
    if row is None:
        return "nothing more"
    return f"{row[0]} => {row[1] or 'not found'}"


@dataclass(frozen=True, slots=True)
class Root:
    """One file that was walked: its loader, how many objects it maps, and what became of the comparison.

    `prelinked` says whether its module fits, None where it has none. `lookups` are those of a program's start that fail, None of what
    is none or has no loader here; `symbols` are lookups of symbols there that prelinking would spare, where that was asked for.
    """

    path: str
    loader: str | None
    objects: int
    compared: bool
    why_not: str = ""
    prelinked: bool | None = None
    lookups: Lookups | None = None
    symbols: int | None = None


@dataclass(frozen=True)
class Audit:
    """All that an audit found."""

    roots: tuple[Root, ...]
    findings: tuple[Finding, ...]

    @property
    def compared(self) -> int:
        return sum(root.compared for root in self.roots)


@dataclass
class _Run:
    """The findings of a run, each once, and the names that some program answers although a library alone cannot."""

    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    answered: set[tuple[str, str]] = field(default_factory=set)

    def add(self, finding: Finding) -> None:
        key = (finding.check, finding.path, finding.subject)
        if key not in self.findings or self.findings[key].severity < finding.severity:
            self.findings[key] = finding


def audit(
    paths: Sequence[str],
    *,
    store: str,
    loader: str | None,
    compare_real: bool,
    jobs: int,
    progress: Progress,
    reader: DiskReader | None = None,
    symbols: bool = False,
    each: Callable[[Graph], None] = lambda graph: None,
) -> Audit:
    """Walk every ELF file at and below the paths, check each graph, and compare it with the real loader's answer.

    `progress` is told how many roots are done, of how many, and which is next; `each` is given every graph, programs' first; with `symbols` the lookups that prelinking would spare are counted.
    """
    reader = reader or DiskReader()
    loaders = Loaders(reader, loader)
    run = _Run()
    roots: list[Root] = []
    answers: list[tuple[Graph, Future[Answer]]] = []
    files: list[str] = []
    for path in elf_files(paths):
        progress(0, len(files), path)
        reader.open(path)
        files.append(path)
    files.sort(key=lambda path: _is_library(path, reader))
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for number, path in enumerate(files):
            progress(number, len(files), path)
            root, graph = _walk_root(path, reader, loaders, run, store)
            if root is None:
                continue
            if not compare_real:
                root = replace(root, compared=False, why_not=root.why_not or "not asked for")
            if graph is not None:
                each(graph)
                if graph.is_program and symbols:
                    from nix_harden.prelinking.prelink import saved

                    root = replace(root, symbols=saved(path))
            roots.append(root)
            if root.compared and graph is not None:
                answers.append((graph, pool.submit(ask_loader, graph)))
            while len(answers) > 4 * jobs:
                _settle(*answers.pop(0), run)
        for graph, future in answers:
            _settle(graph, future, run)
        progress(len(files), len(files), "")
    findings = tuple(
        sorted(
            (each for each in run.findings.values() if not _is_answered(each, run)),
            key=lambda each: (-each.severity, os.fsencode(each.path), each.check, each.subject),
        )
    )
    return Audit(tuple(sorted(roots, key=lambda root: os.fsencode(root.path))), findings)


def _is_answered(finding: Finding, run: _Run) -> bool:
    return finding.alone and (finding.path, finding.subject) in run.answered


def _is_library(path: str, reader: Reader) -> bool:
    """Programs come first: what they bring along settles which loader and which library a library alone would lack."""
    seen = reader.open(path)
    return not (isinstance(seen, Found) and seen.loadable.object.kind is Kind.PROGRAM)


def _walk_root(
    path: str, reader: DiskReader, loaders: Loaders, run: _Run, store: str
) -> tuple[Root | None, Graph | None]:
    seen = reader.open(path)
    if isinstance(seen, Unloadable):
        run.add(malformed(path, seen.why))
        return Root(path, None, 0, False, "malformed"), None
    if not isinstance(seen, Found):
        return Root(path, None, 0, False, seen.why), None
    obj = seen.loadable.object
    if obj.kind is Kind.PROGRAM and obj.interpreter is None and is_start(path):
        run.add(in_parts(path))
    if obj.kind is Kind.OTHER or (obj.kind is Kind.PROGRAM and obj.interpreter is None):
        return None, None  # nothing dynamic, or a program that starts without a loader
    loader = loaders.of(obj)
    if loader is None or loader.abi.machine != obj.abi.machine or loader.abi.bits != obj.abi.bits:
        if obj.kind is Kind.PROGRAM:
            run.add(missing_interpreter(path, obj.interpreter or "", loader is not None))
        loader = loaders.at("") or Loader(obj.interpreter or "", "", obj.abi)
    elif obj.kind is Kind.PROGRAM:
        loaders.preferred.setdefault(obj.abi, loader.path)
    graph = walk(path, loader, reader)
    if graph is None:
        return None, None
    found = [finding for check in CHECKS for finding in check.find(graph, store)]
    for finding in found:
        run.add(finding)
    if graph.is_program:
        run.answered.update(
            (graph.nodes[edge.source].real, edge.name) for edge in graph.edges if edge.target is not None
        )
    why_not = None if loader.real else "no loader"
    if obj.filters:
        why_not = "it names an audit module, which may answer names by paths that the loader then lists"
    if any(tag != NEEDED for tag, _ in seen.loadable.wants):
        why_not = "a filter itself, of which glibc prints no proper list"
    if seen.loadable.unopenable is not None:
        why_not = "started by the kernel alone: its loader opens no file of this identification"
    why_not = why_not or distrust(path, obj.abi) or distrust(loader.real, loader.abi)
    fits = next((finding.severity is Severity.NOTE for finding in found if finding.check == PRELINKED), None)
    lookups = count(graph, reader, prelinked=bool(fits)) if graph.is_program and loader.real else None
    return Root(path, loader.path or None, len(graph.nodes), why_not is None, why_not or "", fits, lookups), graph


def _settle(graph: Graph, future: "Future[Answer]", run: _Run) -> None:
    try:
        difference = compare(graph, future.result())
    except ToolError as error:
        difference = str(error)
    if difference is not None:
        run.add(disagreement(graph, difference))
