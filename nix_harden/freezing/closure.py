"""Copy the libraries of a program's closure, each bound to the copies: from the program's graph to edits; pure.

Nothing is left to a search or to a SONAME: each copy names each library that it needs by path, so that this works under any loader,
and where two files bear one name. glibc compares the file of a version with the names by which libraries were asked for (elf/dl-version.c), and
expands `$ORIGIN` in NEEDED but not there: bound by `$ORIGIN`, an object asks for a library whose versions it needs a second time, by the
SONAME, which what is loaded answers. musl expands `$ORIGIN` in search paths alone, and those it gets.

The C library and its loader stay where they are: each works with the other of its own build only, and the kernel takes the loader's path as it is.
Whether all this holds is walked by the loader's rules before anything is written.
"""

import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nix_harden.errors import NotFrozen
from nix_harden.freezing.answers import Answer, answers_of, literal_paths, mentioned_names
from nix_harden.freezing.lift import With, answered, check_editable, opens_others
from nix_harden.freezing.opened import Call, Evidence
from nix_harden.loading.graph import DLOPEN, NEEDED, Family, Found, Graph, How, Node, Reader
from nix_harden.loading.loader import walk
from nix_harden.loading.search import DRIVER_DIRECTORIES, TOKEN, own_text
from nix_harden.model import Edit, Kind, Loadable, PathAction
from nix_harden.names import LIBC, LOADERS
from nix_harden.settings import matches

ORIGIN = "$ORIGIN"
FROM_PATH = "leave out --relative"


@dataclass(frozen=True, slots=True)
class Copy:
    """One object of the closure: its place in Graph.nodes, the edit that binds it, the path where it goes, and what it then reads as.

    `targets` maps each NEEDED string to the place of what it is to lead to.
    """

    index: int
    edit: Edit
    path: str
    loadable: Loadable
    targets: Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """The program's copy, the libraries' copies, and the libraries that stay where they are.

    `opens` are the calls of dlopen(3) as `loader.walk` takes them, by the names by which they find copies; `reached` are these
    copies, by the places of the calls. `links` are symbolic links beside the copies, each with the copy to which it leads.
    `beside` are paths, with their files, that what opens libraries holds as strings and that no copy answers.
    """

    program: Copy
    libraries: tuple[Copy, ...]
    stay: tuple[Node, ...]
    opens: tuple[tuple[int, str], ...]
    reached: Mapping[int, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[tuple[str, str], ...] = ()


def stays(graph: Graph, node: Node) -> bool:
    """Whether a library is no copy's to replace: the C library, which belongs to the loader, and the system's own drivers."""
    directory = os.path.dirname(node.real)
    if directory in _homes(graph) and matches((*LIBC, *LOADERS), os.path.basename(node.path)):
        return True
    return node.real == graph.loader.real or os.path.dirname(node.path) in DRIVER_DIRECTORIES


def _homes(graph: Graph) -> set[str]:
    """The directories of the loader and the C library."""
    libc = (each.real for each in graph.nodes if os.path.basename(each.path) == "libc.so.6")
    return {os.path.dirname(real) for real in (graph.loader.real, *libc)}


def make_plan(
    graph: Graph, calls: Sequence[Call], target: str, directory: str, *, relative: bool, reader: Reader
) -> Plan:
    """The plan for the program to lie at `target` and the libraries in `directory`, both real paths.

    `graph` holds what `calls` load as well. Raises NotFrozen.
    """
    reached = _reached(graph, calls)
    where = {0: target} | _names(graph, _copied(graph, reached), directory)
    _place_beside(graph, calls, reached, where, directory)
    callers = frozenset(calls[place].caller for place in reached)
    mentioned = mentioned_names(graph, where, reader) if graph.loader.family is Family.GLIBC else {}
    literal = literal_paths(graph, where, reader)
    more = {index: [*mentioned.get(index, ()), *literal.get(index, ())] for index in where}
    answers = answers_of(graph, where, directory, bool(calls), more)
    layout = _Layout(graph, where, directory, relative, callers, answers)
    copies = [layout.copy(index) for index in where]
    opens = tuple(
        (call.caller, os.path.basename(call.name) if place in reached and not _beside(call) else call.opens)
        for place, call in enumerate(calls)
        if call.path is not None
    )
    there = {edge.target for edge in graph.edges if edge.target is not None}
    stay = tuple(node for index, node in enumerate(graph.nodes) if index in there and index not in where)
    made = {place: where[reached[place]] for place in reached}
    answered_by = {index: answer.soname for index, answer in answers.items()}
    beside = tuple(
        (path, graph.nodes[index].real)
        for index, paths in literal.items()
        for path in paths
        if path not in (graph.nodes[index].object.soname, answered_by.get(index))
    )
    return Plan(copies[0], tuple(copies[1:]), stay, opens, made, layout.links, beside)


def _target(graph: Graph, call: Call) -> int:
    return next(index for index, node in enumerate(graph.nodes) if node.path == call.path)


def _reached(graph: Graph, calls: Sequence[Call]) -> dict[int, int]:
    """Which calls lead to a copy, by their place, and to which node: those by name, from objects that are copied, and what was asked for.

    Who opens a library by its path goes on doing so, and what is no copy finds no copies.
    """
    found: dict[int, int] = {}
    for place, call in enumerate(calls):
        if call.path is None or stays(graph, graph.nodes[_target(graph, call)]):
            continue
        copied = _copied(graph, found)
        by_name = ("/" not in call.name or _beside(call)) and call.caller in (0, *copied)
        if call.evidence is Evidence.ALSO or by_name:
            found[place] = _target(graph, call)
    return found


def _beside(call: Call) -> bool:
    """Whether a call names a library by its place beside the object that calls: glibc's dlopen(3) expands `$ORIGIN`."""
    return "/" in call.name and TOKEN.match(call.name) is not None


def _place_beside(
    graph: Graph, calls: Sequence[Call], reached: Mapping[int, int], where: dict[int, str], directory: str
) -> None:
    """Put what is named by its place beside a copy to that place, which has to be among the copies. Raises NotFrozen."""
    for place, index in reached.items():
        call = calls[place]
        if not _beside(call):
            continue
        origin = os.path.dirname(where[call.caller])
        path = os.path.normpath(_without_origin(call.name, origin))
        if not path.startswith(f"{directory}/") or path in (each for other, each in where.items() if other != index):
            problem = f"{graph.nodes[call.caller].path} opens {call.name}, which from its copy is {path}"
            raise NotFrozen(
                graph.root, problem, "say directories for OUT and --closure that lie to each other as before"
            )
        where[index] = path


def _copied(graph: Graph, reached: Mapping[int, int]) -> list[int]:
    """The places of the libraries to copy, in order: what the program needs, and what is opened, by way of what is copied itself."""
    edges: dict[int, list[int]] = {}
    for edge in graph.edges:
        if edge.tag != DLOPEN and edge.target is not None:
            edges.setdefault(edge.source, []).append(edge.target)
    found = {0}
    waiting = [0, *reached.values()]
    while waiting:
        index = waiting.pop()
        if index and stays(graph, graph.nodes[index]):
            continue
        found.add(index)
        waiting += [target for target in edges.get(index, ()) if target not in found]
    return sorted(found - {0})


def _names(graph: Graph, copied: Sequence[int], directory: str) -> dict[int, str]:
    """Where each goes: under its own name, the second of a name into the directory `2`, and so on."""
    found: dict[int, str] = {}
    times: dict[str, int] = {}
    for index in copied:
        name = os.path.basename(graph.nodes[index].path)
        times[name] = times.get(name, 0) + 1
        place = directory if times[name] == 1 else os.path.join(directory, str(times[name]))
        found[index] = os.path.join(place, name)
    return found


@dataclass(frozen=True)
class _Layout:
    """Where each object goes, by its place in Graph.nodes, and how they are bound; `callers` are those that open copies, if any do.

    `answers` are the names by which copies are found beside their paths.
    """

    graph: Graph
    where: Mapping[int, str]
    directory: str
    relative: bool
    callers: frozenset[int]
    answers: Mapping[int, Answer]

    @functools.cached_property
    def links(self) -> Mapping[str, str]:
        """Links beside the copies, for names under which none of them lies."""
        named = ((os.path.join(self.directory, name), index) for index, a in self.answers.items() for name in a.again)
        return {path: self.where[index] for path, index in named if self.where[index] != path}

    def copy(self, index: int) -> Copy:
        graph, node = self.graph, self.graph.nodes[index]
        wants = [text for tag, text in node.loadable.wants if tag == NEEDED]
        edges = [edge for edge in graph.edges if edge.source == index and edge.tag == NEEDED]
        if len(wants) != len(edges):
            problem = f"{node.path} needs a name that the loader passes over"
            raise NotFrozen(graph.root, problem, "take the empty NEEDED out of it")
        renamed: dict[str, str] = {}
        order: list[str] = []
        targets: dict[str, int] = {}
        for text, edge in zip(wants, edges, strict=True):
            if edge.target is None or edge.how is How.LIBC or graph.nodes[edge.target].real == graph.loader.real:
                order.append(text)
                continue
            names = self.bound(index, text, edge.target)
            renamed[text] = names[-1]
            order += [*(name for name in names[:-1] if name not in order), names[-1]]
            targets |= dict.fromkeys(names, edge.target)
        named = [renamed.get(text, text) for text in wants]
        ordered = _as_often(order, named)
        action, search_path, rpath = self.search_path(index)
        edit = Edit(
            (node.real,),
            node.object,
            self.answers[index].soname if index in self.answers else None,
            tuple((old, new) for old, new in renamed.items() if old != new),
            action,
            search_path,
            rpath,
            tuple(ordered) if ordered != named else None,
        )
        return Copy(index, edit, self.where[index], _edited(node.loadable, edit), targets)

    def bound(self, index: int, text: str, target: int) -> list[str]:
        """The NEEDED strings that take the place of one: the last stands for it, in version needs as well, another comes before it."""
        node, found = self.graph.nodes[index], self.graph.nodes[target]
        if target not in self.where:
            return [found.path]
        path = self.where[target]
        answer = self.answers.get(target, Answer(None))
        again = answer.again if answer.asker == index else ()
        if not self.relative:
            return [*again, path]
        name = os.path.basename(path)
        if self.graph.loader.family is Family.MUSL:
            if sum(os.path.basename(each) == name for place, each in self.where.items() if place) > 1:
                problem = f"two libraries are called {name}, of which musl's search finds one"
                raise NotFrozen(self.graph.root, problem, FROM_PATH)
            return [name]
        near = f"{_from(self.where[index], os.path.dirname(path))}/{name}"
        if text not in node.object.version_files:
            return [*again, near]
        return [near, *again, answer.soname or found.object.soname or text]

    def search_path(self, index: int) -> tuple[PathAction, str, bool]:
        """What becomes of an object's search path: `$ORIGIN` means the old directory, and the copies come first where it searches for them.

        An object that has none searches those of the objects which had it loaded, as long as it gets no RUNPATH.
        """
        node = self.graph.nodes[index]
        musl = self.graph.loader.family is Family.MUSL
        old, tag = own_text(node.object)
        origin = os.path.dirname(node.path)
        text = _without_origin(old, origin)
        if musl and "$" in text:
            text = ""  # void as a whole (search.MUSL_VOID)
        opener = (self.callers and index in (0, *self.callers)) or (self.callers and opens_others(node))
        asks = any(answer.again and answer.asker == index for answer in self.answers.values())
        filters = any(tag != NEEDED for tag, _ in node.loadable.wants)
        if opener or asks or filters or (musl and self.relative):
            first = _from(self.where[index], self.directory) if self.relative else self.directory
            text = f"{first}:{text}" if text else first
        bare = node.object.runpath is None and node.object.rpath is None
        action = PathAction.KEEP if text == old else PathAction.SET
        return action, text, tag == "RPATH" and not (bare and index == 0)


def _as_often(order: Sequence[str], named: Sequence[str]) -> list[str]:
    """An order in which each name comes as often as an edit leaves it: as among those that are `named` anew, or once."""
    left = Counter(named) | Counter(set(order))
    found = []
    for name in order:
        if left[name]:
            left[name] -= 1
            found.append(name)
    return found


def _without_origin(text: str, directory: str) -> str:
    """A string with the directory that `$ORIGIN` means in its place."""
    return TOKEN.sub(lambda match: directory if "ORIGIN" in match.groups() else match[0], text)


def _from(path: str, directory: str) -> str:
    """A directory by `$ORIGIN`, as seen from a file."""
    steps = os.path.relpath(directory, os.path.dirname(path))
    return ORIGIN if steps == "." else f"{ORIGIN}/{steps}"


def _edited(loadable: Loadable, edit: Edit) -> Loadable:
    """What the loader sees of an object once its edit is made: added NEEDED come first, then all in their order."""
    versions = dict(edit.needed)
    obj = replace(
        loadable.object,
        needed=edit.needed_after,
        version_files=tuple(versions.get(name, name) for name in loadable.object.version_files),
    )
    if edit.soname is not None:
        obj = replace(obj, soname=edit.soname, kind=Kind.LIBRARY)
    if edit.action is not PathAction.KEEP:
        obj = replace(obj, rpath=edit.search_path) if edit.rpath else replace(obj, runpath=edit.search_path)
    tags = [NEEDED] * (len(edit.needed_after) - len(loadable.object.needed))
    names = iter(edit.needed_after)
    wants = tuple(
        (tag, next(names) if tag == NEEDED else text) for tag, text in (*((tag, "") for tag in tags), *loadable.wants)
    )
    return replace(loadable, object=obj, wants=wants)


def walk_planned(graph: Graph, plan: Plan, reader: Reader) -> Graph:
    """The graph of the program's copy with the copies in place, by the rules of its own loader."""
    files = {
        copy.path: Found((-1, copy.index), graph.nodes[copy.index].real, copy.loadable)
        for copy in (plan.program, *plan.libraries)
    }
    files |= {link: files[path] for link, path in plan.links.items()}
    after = walk(plan.program.path, graph.loader, With(reader, files), plan.opens)
    assert after is not None
    return after


def refuse(graph: Graph, plan: Plan, after: Graph) -> None:
    """Raise NotFrozen where the copies would not load as the originals do, each for its original, or something would be searched for."""
    advice = "please report it, with the program"
    for node in graph.nodes:
        if not os.path.isabs(node.path):
            problem = f"{node.path} was found in the current directory, which is another at each start"
            raise NotFrozen(graph.root, problem, "take the empty or relative entries out of the search paths")
    check_editable(graph, (copy.index for copy in (plan.program, *plan.libraries) if changes(copy.edit)))
    if after.refusal or after.unmatched:
        name = after.refusal or f"a version of {after.unmatched[0][1]} matches no library"
        raise NotFrozen(graph.root, f"its loader would stop at the copies: {name}", advice)
    was = [node.real for node in graph.nodes]
    if [node.real for node in after.nodes] != was:
        lost = next((node.path for node in graph.nodes if node.real not in {each.real for each in after.nodes}), None)
        first = next((node.path for node, old in zip(after.nodes, was, strict=False) if node.real != old), None)
        extra = first or (after.nodes[-1].path if len(after.nodes) > len(was) else lost)
        raise NotFrozen(
            graph.root, f"with the copies, {extra} would be loaded otherwise than before", _elsewhere(graph, plan)
        )
    old = {(edge.source, edge.name): edge.target for edge in graph.edges}
    targets = {
        copy.index: {
            name.replace(ORIGIN, os.path.dirname(after.nodes[copy.index].path)): to for name, to in copy.targets.items()
        }
        for copy in (plan.program, *plan.libraries)
    }
    for edge in after.edges:
        if edge.tag == DLOPEN:
            continue
        bound = targets.get(edge.source, {})
        expected = bound.get(edge.name, old.get((edge.source, edge.name)))
        by_search = edge.how.is_search and "/" in edge.name and graph.loader.family is Family.GLIBC
        if edge.target is None or edge.target != expected or by_search:
            place = after.nodes[edge.target].path if edge.target is not None else "nothing"
            problem = f"{edge.name} of {after.nodes[edge.source].path} would lead to {place}"
            raise NotFrozen(graph.root, problem, _elsewhere(graph, plan))
    made = [edge.target for edge in after.edges if edge.tag == DLOPEN]
    if made != [edge.target for edge in graph.edges if edge.tag == DLOPEN]:
        raise NotFrozen(graph.root, "a dlopen would lead to another file than before", _elsewhere(graph, plan))


def unanswered(graph: Graph, plan: Plan, after: Graph) -> tuple[tuple[str, str], ...]:
    """The names that originals answered and no copy does, with the originals: what is opened later and asks so loads the original too."""
    opens = any(opens_others(graph.nodes[copy.index]) for copy in (plan.program, *plan.libraries))
    if not opens or graph.loader.family is Family.MUSL:
        return ()
    now = answered(after)
    return tuple((name, real) for name, real in answered(graph).items() if now.get(name) != real)


def _elsewhere(graph: Graph, plan: Plan) -> str:
    relative = any(name.startswith(ORIGIN) for copy in (plan.program, *plan.libraries) for name in copy.targets)
    return FROM_PATH if relative else "please report it, with the program"


def changes(edit: Edit) -> bool:
    """Whether an edit changes anything."""
    return bool(edit.soname or edit.needed or edit.order is not None or edit.action is not PathAction.KEEP)
