"""The named checks of the audit: data, each a sentence and a pure function from a program's graph to findings.

It is long by the table of checks, each with what it finds and what to do.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nix_harden.errors import HardenError, UsageError
from nix_harden.loading.findings import Finding, Severity
from nix_harden.loading.graph import AUXILIARY, DLOPEN, SEEN, Edge, Family, Graph, How, Node
from nix_harden.loading.reasons import DRIVER_DIRECTORIES, reason_of, store_path
from nix_harden.model import ABSENT

PRELINKED = "prelinked"
BUILD_DIRECTORIES = ("/build/", "/tmp/nix-build-", "/private/tmp/nix-build-", "/nix/var/nix/builds/", "/nix/build/")


@dataclass(frozen=True)
class Check:
    """One row: the name that options and reports use, what it says, what to do about it, its worst severity, and what finds it."""

    name: str
    sentence: str
    advice: str
    severity: Severity
    find: Callable[[Graph, str], Iterator[Finding]]


def _finding(
    graph: Graph,
    row: tuple[str, Severity],
    node: Node,
    subject: str,
    message: str,
    *,
    reason: str = "",
    alone: bool = False,
) -> Finding:
    check, severity = row
    return Finding(check, severity, node.real, subject, message, graph.root, reason, alone and not graph.is_program)


def _bare(graph: Graph, store: str) -> Iterator[Finding]:
    for edge in graph.edges:
        if "/" in edge.name or edge.how is How.MISSING:
            continue
        reason = reason_of(graph, edge, store)
        how = f"{edge.how.value}: {edge.via}" if edge.via else edge.how.value
        message = f"{edge.name} is bare ({reason.name}); found by {how}"
        yield _finding(
            graph, ("bare-name", reason.severity), graph.nodes[edge.source], edge.name, message, reason=reason.name
        )


def _severity_of_miss(graph: Graph, edge: Edge) -> Severity:
    """An error in a program; a library alone may be opened by a program that has loaded what it lacks."""
    if edge.tag == AUXILIARY:
        return Severity.NOTE
    return Severity.ERROR if graph.is_program else Severity.WARNING


def _missing(graph: Graph, _: str) -> Iterator[Finding]:
    for edge in graph.edges:
        if edge.how is How.MISSING and not edge.foreign:
            tried = "; ".join(at.path if at.why == ABSENT else f"{at.path} ({at.why})" for at in edge.tried)
            severity = _severity_of_miss(graph, edge)
            message = f"{edge.name} is not found; tried: {tried or 'no directory at all'}"
            yield _finding(
                graph, ("missing-target", severity), graph.nodes[edge.source], edge.name, message, alone=True
            )


def _foreign(graph: Graph, _: str) -> Iterator[Finding]:
    for edge in graph.edges:
        if edge.how is How.MISSING and edge.foreign:
            tried = "; ".join(f"{at.path} ({at.why})" for at in edge.tried if at.why.startswith("for "))
            message = f"{edge.name} leads to a file for another machine: {tried}"
            yield _finding(
                graph, ("foreign-target", Severity.ERROR), graph.nodes[edge.source], edge.name, message, alone=True
            )


def _refused(graph: Graph, _: str) -> Iterator[Finding]:
    if graph.refusal is not None:
        message = f"the loader stops: {graph.refusal}"
        yield _finding(graph, ("loader-stops", Severity.ERROR), graph.nodes[0], graph.refusal, message, alone=False)


def _twice(graph: Graph, _: str) -> Iterator[Finding]:
    """The diamond: files are compared by path, since the loader has already merged equal inodes.

    A library that is given to a loader and named by path in what it needs is mapped once more, and only then: no program starts with it.
    """
    bearers: dict[str, list[Node]] = {}
    for node in {each.real: each for each in reversed(graph.nodes)}.values():
        if name := os.path.basename(node.object.soname or ""):
            bearers.setdefault(name, []).insert(0, node)
    for name, nodes in bearers.items():
        if len(nodes) > 1:
            who = " and ".join(f"{node.path} (for {_asker(graph, node)})" for node in nodes)
            message = f"two different files are loaded for {name}: {who}; symbols come from the first"
            yield _finding(graph, ("soname-twice", Severity.ERROR), graph.nodes[0], name, message)


def _asker(graph: Graph, node: Node) -> str:
    return graph.nodes[node.by].path if node.by is not None else "the program"


def _libc(graph: Graph, store: str) -> Iterator[Finding]:
    if graph.loader.family is Family.MUSL or not graph.is_program or not graph.loader.real:
        return
    for node in graph.nodes:
        if os.path.basename(node.object.soname or "") == "libc.so.6":
            mine, other = store_path(node.real, store), store_path(graph.loader.real, store)
            if mine != other:
                message = f"libc comes from {node.real}, but the interpreter from {graph.loader.real}: they share private symbols"
                yield _finding(graph, ("libc-and-interpreter", Severity.ERROR), graph.nodes[0], node.real, message)


def _versions(graph: Graph, _: str) -> Iterator[Finding]:
    aborts = set(graph.unmatched)
    for index, node in enumerate(graph.nodes):
        for name in dict.fromkeys(node.object.version_files):
            if (index, name) in aborts:
                message = f"the versions that it needs of {name} match no loaded object: glibc aborts here"
                yield _finding(graph, ("version-name", Severity.ERROR), node, name, message)
            elif name not in node.object.needed:
                message = f"the versions that it needs of {name} match no NEEDED: glibc aborts where no other object asked for that name"
                yield _finding(graph, ("version-name", Severity.WARNING), node, name, message)


def _soname_elsewhere(graph: Graph, store: str) -> Iterator[Finding]:
    for node in graph.nodes:
        soname = node.object.soname
        if soname is None or "/" not in soname or store_path(soname, store) == store_path(node.real, store):
            continue
        message = f"its SONAME is {soname}, in another place: whatever links to this file will load that one"
        yield _finding(graph, ("soname-elsewhere", Severity.WARNING), node, soname, message)


def _relative(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        for entry in node.search:
            if entry.directory and not entry.directory.startswith("/"):
                message = (
                    f"search path entry {entry.text!r} is relative: it means what the current directory makes of it"
                )
                yield _finding(graph, ("runpath-relative", Severity.ERROR), node, entry.text, message)


def _relative_needed(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        for name in node.object.needed:
            if "/" in name and not name.startswith(("/", "$ORIGIN/", "${ORIGIN}/")):
                message = f"NEEDED {name!r} is a relative path: it means what the current directory makes of it"
                yield _finding(graph, ("needed-relative", Severity.ERROR), node, name, message)


def _empty(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        if any(not entry.directory for entry in node.search):
            message = "its search path has an empty entry: libraries are looked for in the current directory"
            yield _finding(graph, ("runpath-empty", Severity.ERROR), node, "", message)


def _absent(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        for entry in node.search:
            if not entry.directory.startswith("/") or entry.exists or _in_build(entry.directory):
                continue
            driver = (os.path.normpath(entry.directory) + "/").startswith(DRIVER_DIRECTORIES)
            what = "is the system's, and not on this machine" if driver else "is not there"
            message = f"search path entry {entry.text} {what}"
            severity = Severity.NOTE if driver else Severity.WARNING
            yield _finding(graph, ("runpath-missing", severity), node, entry.text, message)


def _writable(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        for entry in node.search:
            if entry.directory.startswith("/") and entry.writable_at is not None:
                message = f"anybody may put libraries into search path entry {entry.text}: {entry.writable_at} is writable by everybody"
                yield _finding(graph, ("runpath-writable", Severity.ERROR), node, entry.text, message)


def _in_build(path: str) -> bool:
    return (os.path.normpath(path) + "/").startswith(BUILD_DIRECTORIES)


def _build_directory(graph: Graph, _: str) -> Iterator[Finding]:
    for node in graph.nodes:
        for entry in node.search:
            if _in_build(entry.directory):
                message = f"search path entry {entry.text} is in a build directory"
                yield _finding(graph, ("build-directory", Severity.ERROR), node, entry.text, message)
        for name in node.object.needed:
            if name.startswith("/") and _in_build(name):
                message = f"NEEDED {name} is in a build directory"
                yield _finding(graph, ("build-directory", Severity.ERROR), node, name, message)


def _dlopen(graph: Graph, _: str) -> Iterator[Finding]:
    """One finding a note: the first of its SONAMEs that is found counts."""
    assert all(edge.tag == DLOPEN for edge in graph.opened)
    groups: dict[tuple[int, int], list[Edge]] = {}
    for edge in graph.opened:
        groups.setdefault((edge.source, id(edge.note)), []).append(edge)
    for edges in groups.values():
        found = next((edge for edge in edges if edge.how is not How.MISSING), None)
        note = edges[0].note
        assert note is not None
        names = " or ".join(edge.name for edge in edges)
        what = f"opens {names}" + (f" for {note.feature}" if note.feature else "") + f" ({note.priority})"
        node = graph.nodes[edges[0].source]
        if found is not None and note.priority == SEEN:
            continue
        if found is not None:
            how = f"{found.how.value}: {found.via}" if found.via else found.how.value
            yield _finding(graph, ("dlopen-note", Severity.NOTE), node, names, f"{what}: {found.path}, found by {how}")
        else:
            severity = Severity.WARNING if note.priority in ("required", SEEN) else Severity.NOTE
            yield _finding(graph, ("dlopen-note", severity), node, names, f"{what}: not found", alone=True)


def _prelinked(graph: Graph, _: str) -> Iterator[Finding]:
    """What is to be said of a program that names an audit module: nothing of one that is not this project's, unless it is not there."""
    obj = graph.nodes[0].object
    if not graph.is_program or not obj.filters:
        return
    from nix_harden.prelinking.checked import differences
    from nix_harden.prelinking.named import named

    place = ", ".join(obj.filters)
    try:
        if (module := named(obj)) is None:
            return
        differs = differences(graph, module)
    except HardenError as error:
        said = f"its module cannot be compared: {error}"
        yield Finding(PRELINKED, Severity.WARNING, graph.root, place, said, graph.root)
        return
    for difference in differs:
        said = f"{difference}, so that its module {place} does nothing: prelink it again"
        yield Finding(PRELINKED, Severity.WARNING, graph.root, f"{place}: {difference}", said, graph.root)
    if not differs:
        said = f"its module {place} knows its names and addresses"
        yield Finding(PRELINKED, Severity.NOTE, graph.root, place, said, graph.root)


def _reported_apart(_: Graph, __: str) -> Iterator[Finding]:
    """What the run finds where there is no graph, or beside it."""
    return iter(())


CHECKS = (
    Check(
        "bare-name",
        "A NEEDED that is left bare, with the reason",
        "harden what needs it, or freeze the program",
        Severity.WARNING,
        _bare,
    ),
    Check(
        "missing-target",
        "A name that leads to no file",
        "give the build the library (buildInputs), or say where it is (hardenNeededBind)",
        Severity.ERROR,
        _missing,
    ),
    Check(
        "foreign-target",
        "A name that leads to files of another architecture only",
        "give the build the library for this machine",
        Severity.ERROR,
        _foreign,
    ),
    Check(
        "loader-stops",
        "A file in the loader's way at which it gives up",
        "take the file out of the search path, or put a library there",
        Severity.ERROR,
        _refused,
    ),
    Check(
        "interpreter",
        "A program whose interpreter is not there or for another machine",
        "patchelf --set-interpreter, or autoPatchelfHook for what others have linked",
        Severity.ERROR,
        _reported_apart,
    ),
    Check(
        "in-parts",
        "A program that starts from its parts, which are not looked at",
        "audit what nix-harden join makes of it",
        Severity.WARNING,
        _reported_apart,
    ),
    Check(
        "malformed",
        "A file that begins as ELF and breaks the format",
        "build it again",
        Severity.ERROR,
        _reported_apart,
    ),
    Check(
        "soname-twice",
        "Two different files for one SONAME in one program",
        "give all of it one build of the library, by an overlay or by hardenNeededBind",
        Severity.ERROR,
        _twice,
    ),
    Check(
        "libc-and-interpreter",
        "libc and the interpreter from different store paths",
        "patchelf --set-interpreter to the loader of that libc, or build it again",
        Severity.ERROR,
        _libc,
    ),
    Check(
        "version-name",
        "Version needs of a file that no NEEDED names",
        "name the file in NEEDED as the versions do: build it again, or unharden it",
        Severity.ERROR,
        _versions,
    ),
    Check(
        "soname-elsewhere",
        "An absolute SONAME that names another store path",
        "build it again where it lies, or unharden it",
        Severity.WARNING,
        _soname_elsewhere,
    ),
    Check(
        "runpath-relative",
        "A search path entry that is relative",
        "patchelf --set-rpath with paths, or $ORIGIN",
        Severity.ERROR,
        _relative,
    ),
    Check(
        "needed-relative",
        "A NEEDED that is a relative path",
        "patchelf --replace-needed with a name or a path",
        Severity.ERROR,
        _relative_needed,
    ),
    Check(
        "runpath-empty",
        "An empty search path entry",
        "patchelf --set-rpath without it: it is the current directory",
        Severity.ERROR,
        _empty,
    ),
    Check(
        "runpath-missing",
        "A search path entry that is no directory",
        "patchelf --shrink-rpath",
        Severity.WARNING,
        _absent,
    ),
    Check(
        "runpath-writable",
        "A search path entry into which anybody may write",
        "take the directory out, or away from others",
        Severity.ERROR,
        _writable,
    ),
    Check(
        "build-directory",
        "A search path entry or NEEDED in a build directory",
        "patchelf --shrink-rpath, and look why the build left it",
        Severity.ERROR,
        _build_directory,
    ),
    Check(
        "dlopen-note",
        "A library that a dlopen note names, and where it is found",
        "give the program the library (a wrapper, or its search path), or ignore it",
        Severity.WARNING,
        _dlopen,
    ),
    Check(
        PRELINKED, "A program whose module was made for other files", "prelink it again", Severity.WARNING, _prelinked
    ),
    Check(
        "loader-disagrees",
        "The real loader maps other files than these rules say",
        "please report it: these rules, or the loader, are wrong",
        Severity.ERROR,
        _reported_apart,
    ),
)


def parse_fail_on(words: Sequence[str] | None) -> dict[str, Severity] | None:
    """From `CHECK` and `CHECK:note` to the least severity that counts for each check; None where nothing was said.

    Raises UsageError for a name that no check has.
    """
    if words is None:
        return None
    known = [check.name for check in CHECKS]
    chosen = {}
    for word in filter(None, (word.strip() for word in words)):
        name, _, level = word.partition(":")
        if name not in known or level not in ("", "note"):
            raise UsageError("--fail-on", f"{word!r} is no check; the checks are {', '.join(known)}")
        chosen[name] = Severity.NOTE if level else Severity.WARNING
    return chosen


def fails(findings: Iterable[Finding], chosen: Mapping[str, Severity] | None) -> bool:
    """Whether the findings make an audit fail: those of the chosen checks, or without a choice any warning and error."""
    if chosen is None:
        return any(finding.severity > Severity.NOTE for finding in findings)
    return any(finding.check in chosen and finding.severity >= chosen[finding.check] for finding in findings)
