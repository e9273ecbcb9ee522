"""What a report says of programs, as plain values that `--json` prints and the page holds; pure.

Objects are told by their place in `objects`. schemas/report.schema.json describes the whole.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nix_harden import __version__
from nix_harden.fixup.policy import (
    FILE_RULES,
    SONAME_RULES,
    UNMOVABLE_RULES,
    FileCase,
    SonameCase,
    first,
    leaves_alone,
)
from nix_harden.graphing.picture import HASH, vertex_id
from nix_harden.loading.findings import Finding, Severity
from nix_harden.loading.graph import Edge, Graph, How, Node
from nix_harden.loading.reasons import REASONS, reason_of, store_path
from nix_harden.loading.render import LEVELS
from nix_harden.model import ABSENT, File, Kind, Object
from nix_harden.reporting.values import Observed, Survey
from nix_harden.saying.words import count, printable
from nix_harden.settings import Settings

VERSION = 1
BOUND, BARE, MISSING = "bound", "bare", "missing"
NOT_BOUND = REASONS[-1].name
BARE_NAME = "bare-name"
SONAME_NOT_BOUND = "not bound"


@dataclass
class _Object:
    """An object of some graphs: the files that its names lead to, and the roots that map it."""

    node: Node
    place: int
    targets: dict[int, None] = field(default_factory=dict)
    askers: dict[int, None] = field(default_factory=dict)
    roots: int = 0


@dataclass
class _Name:
    """A name of an object in all graphs: the worst that is true of it in one of them, and how many have it."""

    source: int
    tag: str
    name: str
    state: str
    why: str
    severity: Severity
    edge: Edge
    targets: dict[int, None] = field(default_factory=dict)
    roots: int = 0


def page(survey: Survey, settings: Settings) -> dict[str, Any]:
    """The report's values. `settings` are those that the rules for files and SONAMEs are asked with.

    Findings are those of the audit but for bare names, of which `names` says more.
    """
    union = _Union(survey, settings)
    objects, names = list(union.objects.values()), list(union.names.values())
    roots = [_root(graph, survey, union) for graph in survey.graphs]
    duplicates = list(_duplicates(survey, union))
    findings = [finding for finding in survey.audit.findings if finding.check != BARE_NAME]
    told = {graph.root for graph in survey.graphs}
    return {
        "version": VERSION,
        "nix_harden": __version__,
        "store": survey.store,
        "paths": list(survey.paths),
        "summary": _summary(survey, union, roots, findings, duplicates),
        "roots": roots,
        "unread": [{"path": root.path, "why": root.why_not} for root in survey.audit.roots if root.path not in told],
        "reasons": list(_reasons(names, settings, union)),
        "names": [_name(name) for name in names],
        "findings": [_finding(finding, union) for finding in findings],
        "duplicates": duplicates,
        "objects": list(_objects(objects, survey, union)),
        "store_paths": list(_store_paths(survey, union)),
    }


class _Union:
    """The objects and names of all graphs, each once, in the order of the graphs and of loading."""

    def __init__(self, survey: Survey, settings: Settings) -> None:
        self.store, self.settings = survey.store, settings
        self.objects: dict[str, _Object] = {}
        self.names: dict[tuple[int, str, str], _Name] = {}
        self.left: dict[int, str] = {}  # the rule that keeps an object as it is, where one does
        for graph in survey.graphs:
            self._add(graph)

    def place(self, path: str) -> int | None:
        found = self.objects.get(path)
        return found.place if found is not None else None

    def _add(self, graph: Graph) -> None:
        places = [self._object(node) for node in graph.nodes]
        counted: set[tuple[int, str, str]] = set()
        for edge in graph.edges:
            source = places[edge.source]
            target = places[edge.target] if edge.target is not None else None
            if target is not None:
                source.targets[target.place] = None
                target.askers[source.place] = None
            key = (source.place, edge.tag, edge.name)
            name = self._merge(key, graph, edge)
            if target is not None:
                name.targets[target.place] = None
            name.roots += key not in counted
            counted.add(key)
        for found in places:
            found.roots += 1

    def _object(self, node: Node) -> _Object:
        found = self.objects.get(node.real)
        if found is None:
            found = self.objects[node.real] = _Object(node, len(self.objects))
            fired = leaves_alone(FileCase(_file(node)), self.settings)
            if fired is not None:
                self.left[found.place] = fired[0].name
        return found

    def _merge(self, key: tuple[int, str, str], graph: Graph, edge: Edge) -> _Name:
        state, why, severity = self._verdict(key[0], graph, edge)
        known = self.names.get(key)
        if known is None:
            known = self.names[key] = _Name(*key, state, why, severity, edge)
        elif known.state == MISSING or (state != MISSING and severity > known.severity):
            # what a library lacks alone, a program may bring along
            known.state, known.why, known.severity, known.edge = state, why, severity, edge
        return known

    def _verdict(self, source: int, graph: Graph, edge: Edge) -> tuple[str, str, Severity]:
        if edge.how is How.MISSING:
            return MISSING, "for another machine" if edge.foreign else How.MISSING.value, Severity.ERROR
        if "/" in edge.name:
            return BOUND, "", Severity.NOTE
        reason = reason_of(graph, edge, self.store)
        if reason.severity > Severity.NOTE and source in self.left:
            return BARE, self.left[source], Severity.NOTE
        return BARE, reason.name, reason.severity


def _file(node: Node) -> File:
    return File("", (node.real,), node.object)


def _summary(
    survey: Survey,
    union: _Union,
    roots: Sequence[dict[str, Any]],
    findings: Sequence[Finding],
    duplicates: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    severities = Counter(finding.severity for finding in findings)
    names = list(union.names.values())
    expected = sum(name.state == BARE and name.severity is Severity.NOTE for name in names)
    states = Counter(name.state for name in names)
    return {
        "programs": sum(root["kind"] == Kind.PROGRAM.value for root in roots),
        "roots": len(roots),
        "objects": len(union.objects),
        "bytes": sum(survey.sizes.get(path, 0) for path in union.objects),
        "store_paths": len({store_path(path, survey.store) for path in union.objects}),
        "names": len(names),
        "bound": states[BOUND],
        "bare": states[BARE],
        "bare_expected": expected,
        "missing": states[MISSING],
        "duplicates": len(duplicates),
        **{LEVELS[severity]: severities[severity] for severity in Severity},
        "lookups_now": sum(each.now for each in survey.lookups.values()),
        "lookups_bare": sum(each.bare for each in survey.lookups.values()),
    }


def _root(graph: Graph, survey: Survey, union: _Union) -> dict[str, Any]:
    told = next(root for root in survey.audit.roots if root.path == graph.root)
    states = Counter(
        MISSING if edge.how is How.MISSING else BOUND if "/" in edge.name else BARE for edge in graph.edges
    )
    lookups, observed = survey.lookups.get(graph.root), survey.observed.get(graph.root, Observed(None, "not asked for"))
    return {
        "object": union.place(graph.nodes[0].real),
        "path": graph.root,
        "kind": graph.nodes[0].object.kind.value if not graph.is_program else Kind.PROGRAM.value,
        "loader": graph.loader.path or None,
        "libraries": len(graph.nodes) - 1,
        "bytes": sum(survey.sizes.get(node.real, 0) for node in graph.nodes),
        "bound": states[BOUND],
        "bare": states[BARE],
        "missing": states[MISSING],
        "searches": sum(edge.how.is_search for edge in graph.edges),
        "lookups_now": lookups.now if lookups else None,
        "lookups_bare": lookups.bare if lookups else None,
        "observed": observed.failed,
        "observed_why_not": observed.why_not or None,
        "prelinked": told.prelinked,
        "compared": told.compared,
        "compared_why_not": told.why_not or None,
    }


def _reasons(names: Iterable[_Name], settings: Settings, union: _Union) -> Iterator[dict[str, Any]]:
    """Why names are bare, the most frequent first, what may be bound before what is as it should be."""
    sentences = {rule.name: rule.sentence for rule in (*FILE_RULES, *UNMOVABLE_RULES)} | {
        reason.name: reason.sentence for reason in REASONS
    }
    counts = Counter((name.severity, name.why) for name in names if name.state == BARE)
    for (severity, why), number in sorted(counts.items(), key=lambda item: (-item[0][0], -item[1], item[0][1])):
        yield {"name": why, "sentence": sentences[why], "expected": severity is Severity.NOTE, "names": number}


def _name(name: _Name) -> dict[str, Any]:
    edge = name.edge
    return {
        "object": name.source,
        "tag": name.tag,
        "name": name.name,
        "state": name.state,
        "why": name.why or None,
        "expected": name.state == BOUND or (name.state == BARE and name.severity is Severity.NOTE),
        "found_by": edge.how.value,
        "via": edge.via or None,
        "targets": list(name.targets),
        "roots": name.roots,
        "tried": [at.path if at.why == ABSENT else f"{at.path} ({at.why})" for at in edge.tried],
    }


def _finding(finding: Finding, union: _Union) -> dict[str, Any]:
    return {
        "severity": LEVELS[finding.severity],
        "check": finding.check,
        "path": finding.path,
        "object": union.place(finding.path),
        "subject": finding.subject,
        "reason": finding.reason or None,
        "message": finding.message,
        "program": finding.program,
    }


def _duplicates(survey: Survey, union: _Union) -> Iterator[dict[str, Any]]:
    """Different files of one SONAME; `together` are roots that map two of them at once. The most bytes too many come first."""
    bearers: dict[str, list[_Object]] = {}
    for found in union.objects.values():
        if found.node.object.kind is Kind.LIBRARY and found.node.object.soname:
            bearers.setdefault(os.path.basename(found.node.object.soname), []).append(found)
    together: dict[str, list[str]] = {}
    for graph in survey.graphs:
        sonames = Counter(os.path.basename(node.object.soname or "") for node in graph.nodes)
        for name, number in sonames.items():
            if number > 1:
                together.setdefault(name, []).append(graph.root)
    rows: list[dict[str, Any]] = []
    for name, several in bearers.items():
        if len(several) > 1:
            sizes = [survey.sizes.get(each.node.real, 0) for each in several]
            rows.append(
                {
                    "name": name,
                    "objects": [each.place for each in several],
                    "together": together.get(name, []),
                    "extra_bytes": sum(sizes) - max(sizes),
                }
            )
    yield from sorted(rows, key=lambda row: (not row["together"], -row["extra_bytes"], row["name"]))


def _objects(objects: Sequence[_Object], survey: Survey, union: _Union) -> Iterator[dict[str, Any]]:
    sizes = [survey.sizes.get(each.node.real, 0) for each in objects]
    closures = {vertex.id: vertex.closure for vertex in survey.picture.vertices}
    for each, size in zip(objects, sizes, strict=True):
        obj = each.node.object
        state, why = _soname(obj, each.node, union.settings)
        yield {
            "id": vertex_id(each.node.real),
            "path": each.node.real,
            "store_path": store_path(each.node.real, survey.store),
            "kind": obj.kind.value,
            "abi": str(obj.abi),
            "bytes": size,
            "closure_bytes": closures[vertex_id(each.node.real)],
            "needs": list(each.targets),
            "needed_by": list(each.askers),
            "roots": each.roots,
            "soname": obj.soname,
            "soname_state": state,
            "soname_why": why,
            "left_alone": union.left.get(each.place),
            "search_path": obj.runpath if obj.runpath is not None else obj.rpath,
            "search_path_tag": "RUNPATH" if obj.runpath is not None else "RPATH" if obj.rpath is not None else None,
        }


def _soname(obj: Object, node: Node, settings: Settings) -> tuple[str | None, str | None]:
    """Whether a SONAME is bound, and the rule that leaves it bare as far as the object alone decides."""
    if obj.soname is None:
        return None, None
    if os.path.isabs(obj.soname):
        return BOUND, None
    for fired in (
        leaves_alone(FileCase(_file(node)), settings),
        first(SONAME_RULES, SonameCase(_file(node), node.real, False), settings),
    ):
        if fired is not None:
            return BARE, fired[0].name
    return BARE, SONAME_NOT_BOUND


def _store_paths(survey: Survey, union: _Union) -> Iterator[dict[str, Any]]:
    held: dict[str, list[_Object]] = {}
    for each in union.objects.values():
        held.setdefault(store_path(each.node.real, survey.store), []).append(each)
    for path, objects in sorted(held.items(), key=lambda item: os.fsencode(item[0])):
        yield {
            "path": path,
            "objects": [each.place for each in objects],
            "bytes": sum(survey.sizes.get(each.node.real, 0) for each in objects),
        }


# Words


def heading(page: Mapping[str, Any]) -> str:
    """What a page is about, in a few words."""
    names = (os.path.basename(path.rstrip("/")) or path for path in page["paths"])
    paths = [printable(HASH.sub("", name, count=1)) for name in names]
    if len(paths) > 2:
        return f"{paths[0]} and {len(paths) - 1} more"
    return " and ".join(paths)


def contents(page: Mapping[str, Any]) -> str:
    """How much was asked for, and how many programs and libraries of it were walked."""
    inside = all(os.path.dirname(path) == page["store"] for path in page["paths"])
    asked = count(len(page["paths"]), *(("store path", "store paths") if inside else ("path", "paths")))
    programs = page["summary"]["programs"]
    walked = count(programs, "program", "programs"), count(len(page["roots"]) - programs, "library", "libraries")
    return f"{asked}: {' and '.join(walked)} walked"


def verdict(page: Mapping[str, Any]) -> str:
    """What matters most, in sentences."""
    found = page["summary"]
    if not found["names"]:
        return "Nothing here needs a library that a loader would look for."
    possible = found["bare"] - found["bare_expected"]
    if not found["bound"]:
        words = [
            f"None of {count(found['names'], 'name', 'names')} is bound by path{f'; {possible:,} could be' if possible else ''}."
        ]
    elif possible:
        words = [
            f"{found['bound']:,} of {count(found['names'], 'name', 'names')} are bound by path; {possible:,} more could be."
        ]
    elif found["bare"]:
        words = [f"Every name is bound by path but for {found['bare']:,}, which had better stay bare."]
    else:
        words = ["Every name is bound by path."]
    if found["missing"]:
        words.append(f"{count(found['missing'], 'name leads', 'names lead')} to no file.")
    if found["programs"]:
        now, bare = found["lookups_now"], found["lookups_bare"]
        who = "its start the loader looks" if found["programs"] == 1 else "the start of all of them the loaders look"
        if now < bare:
            words.append(f"At {who} {now:,} times for a file in vain, instead of {bare:,} times with bare names.")
        else:
            words.append(f"At {who} {now:,} times for a file in vain." if now else f"At {who} for nothing in vain.")
    return " ".join(words)
