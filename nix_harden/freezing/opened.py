"""Which libraries a program opens while it runs: those it is told of, those that dlopen notes name, those that a run of it showed.

What glibc's loader says of a run is read from LD_DEBUG=files,libs (ld.so(8)): who called dlopen(3), with which name, and which file
was opened for it.
"""

import enum
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nix_harden.errors import NotFrozen
from nix_harden.loading.graph import DLOPEN, SEEN, Graph, How, Reader
from nix_harden.loading.loader import walk

TRACE = {"LD_DEBUG": "files,libs"}
SAID = re.compile(r"^ *\d+:\t", re.MULTILINE)
NEEDED_BY = re.compile(r"^file=(.+) \[0\];  needed by (.+) \[0\]$", re.MULTILINE)
STARTED = re.compile(r"^transferring control: (.+)$", re.MULTILINE)
STEP = re.compile(
    r"^file=(?P<name>.+) \[0\];  dynamically loaded by (?P<caller>.+) \[0\]$"
    r"|^  trying file=(?P<trying>.+)$"
    r"|^file=(?P<linked>.+) \[0\];  generating link map$",
    re.MULTILINE,
)


class Evidence(enum.Enum):
    """How it is known that a library is opened; the words are those that are printed."""

    ALSO = "asked for"
    NOTE = "named in a dlopen note"
    OBSERVED = "seen in a run"


@dataclass(frozen=True, slots=True)
class Call:
    """A dlopen(3): the place in Graph.nodes of the object that calls, the name, how that is known, and where it leads.

    `path` is the file, opened by `how`; None where none is found, or not all that it needs in its turn, which `problem` tells.
    `seen` is a file that a run showed where the loader's rules alone lead elsewhere.
    """

    caller: int
    name: str
    evidence: Evidence
    how: How = How.MISSING
    path: str | None = None
    problem: str = ""
    seen: str | None = None

    @property
    def opens(self) -> str:
        """The name by which the loader's rules lead to the file."""
        return self.seen or self.name


@dataclass(frozen=True, slots=True)
class Observed:
    """A dlopen(3) of a run that opened a file: who called, as the loader names it, the name, and the file."""

    caller: str
    name: str
    path: str


def parse_log(text: str, needed: Iterable[str]) -> tuple[Observed, ...] | None:
    """The calls in what the loader said of one process, the program's own with "" for the caller; None where it said nothing of it.

    A process may be several programs, one after the other, as a wrapper is before what it starts: the one that counts asks for the
    libraries `needed`, and for no others.
    """
    text = SAID.sub("", text)
    starts = list(STARTED.finditer(text))
    found: list[Observed] = []
    mine = False
    for place, start in enumerate(starts):
        begin = starts[place - 1].end() if place else 0
        asked = {name for name, by in NEEDED_BY.findall(text, begin, start.start()) if by == start[1]}
        if asked != set(needed):
            continue
        mine = True
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        found += _calls(text[start.end() : end], start[1])
    return tuple(found) if mine else None


def _calls(text: str, program: str) -> Iterator[Observed]:
    name = caller = tried = ""
    for match in STEP.finditer(text):
        if match["name"]:
            name, caller, tried = match["name"], match["caller"], match["name"]
        elif match["trying"]:
            tried = match["trying"]
        elif name and match["linked"] == name:
            yield Observed("" if caller == program else caller, name, tried)
            name = ""


def collect(
    graph: Graph, also: Sequence[str], observed: Sequence[Observed], reader: Reader
) -> tuple[Graph, tuple[Call, ...]]:
    """The graph of a program with all that its calls load behind what it starts with, and the calls, in the order in which they are made.

    Each library once, however often it is known. Raises NotFrozen where what was asked for is not found.
    """
    calls: list[Call] = []
    for name in also:
        graph, call = _asked(graph, name, calls, reader)
        calls.append(call)
    for each in observed:
        graph, found = _made(graph, _as_call(graph, each), calls, reader, each.path)
        calls += found
    for call in _noted(graph):
        graph, found = _made(graph, call, calls, reader, None)
        calls += found
    return graph, tuple(calls)


def opens(calls: Iterable[Call]) -> tuple[tuple[int, str], ...]:
    """What `loader.walk` is told of the calls that lead to a file."""
    return tuple((call.caller, call.opens) for call in calls if call.path is not None)


def _walk(graph: Graph, calls: Sequence[Call], call: Call, reader: Reader) -> tuple[Graph, Call]:
    """The graph with one call more, and where that leads."""
    after = walk(graph.root, graph.loader, reader, (*opens(calls), (call.caller, call.opens)))
    assert after is not None
    if after.refusal:
        return graph, replace(call, problem=after.refusal)
    edge = [edge for edge in after.edges if edge.tag == DLOPEN][-1]
    if edge.target is None:
        tried = dict.fromkeys(os.path.dirname(each.path) or "." for each in edge.tried)
        return graph, replace(call, problem=f"not found; tried: {', '.join(tried) or 'no directory'}")
    for each in after.edges[len(graph.edges) :]:
        if each.how is How.MISSING:
            tried = dict.fromkeys(os.path.dirname(step.path) or "." for step in each.tried)
            problem = f"{each.name}, which {after.nodes[each.source].path} needs, is not found"
            return graph, replace(call, problem=f"{problem}; tried: {', '.join(tried) or 'no directory'}")
    if len(after.unmatched) > len(graph.unmatched):
        index, name = after.unmatched[-1]
        return graph, replace(
            call, problem=f"a version of {name} in {after.nodes[index].path} matches no loaded library"
        )
    return after, replace(call, how=edge.how, path=after.nodes[edge.target].path)


def _asked(graph: Graph, name: str, calls: Sequence[Call], reader: Reader) -> tuple[Graph, Call]:
    """A path, or a name as the first object of the program finds it that opens libraries."""
    callers = [index for index, node in enumerate(graph.nodes) if index and node.object.opens_libraries]
    first = None
    for caller in [0] if "/" in name else [0, *callers]:
        called = os.path.abspath(name) if "/" in name else name
        after, call = _walk(graph, calls, Call(caller, called, Evidence.ALSO), reader)
        if call.path is not None:
            return after, call
        first = first or call
    assert first is not None
    raise NotFrozen(graph.root, f"--also {name}: {first.problem}", "say the path of a library that is there")


def _made(
    graph: Graph, call: Call, calls: Sequence[Call], reader: Reader, path: str | None
) -> tuple[Graph, tuple[Call, ...]]:
    """A call that a note or a run tells of; none where another is known to load the same file. A run tells the file, too."""
    after, made = _walk(graph, calls, call, reader)
    if path is not None and (made.path is None or not _same(after, made.path, path)):
        after, made = _walk(graph, calls, replace(call, seen=path), reader)
        made = replace(made, problem=made.problem or "as its environment led there")
    if made.path is not None and any(each.path == made.path for each in calls):
        return graph, ()
    return after, (made,)


def _same(graph: Graph, one: str, other: str) -> bool:
    return os.path.realpath(next(node.real for node in graph.nodes if node.path == one)) == os.path.realpath(other)


def _as_call(graph: Graph, observed: Observed) -> Call:
    real = os.path.realpath(observed.caller) if observed.caller else graph.root
    caller = next((index for index, node in enumerate(graph.nodes) if node.real == real), 0)
    return Call(caller, observed.name, Evidence.OBSERVED)


def _noted(graph: Graph) -> Iterator[Call]:
    """One call for each dlopen note: of its names the first that is found."""
    notes: dict[tuple[int, object], list[Call]] = {}
    for edge in graph.opened:
        if edge.note is not None and edge.note.priority != SEEN:
            problem = "not found" if edge.how is How.MISSING else ""
            call = Call(edge.source, edge.name, Evidence.NOTE, edge.how, edge.path, problem)
            notes.setdefault((edge.source, edge.note), []).append(call)
    for calls in notes.values():
        yield next((call for call in calls if call.path is not None), calls[0])
