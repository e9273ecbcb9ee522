"""Before a byte changes: walk every program by the loader's rules, as it is and as a plan makes it, and hold what would break.

What an object names is often answered by what another one has loaded: by its SONAME, or by a name under which it was asked for
(elf/dl-load.c, `_dl_map_object`). Whether a plan takes such an answer away shows in no object alone. So each file of the outputs is a
root, and each for which it may matter (`ambiguity`) is walked twice (`loading.loader`); the names of each object that is loaded have to
lead to the same files both times, none may be lost, and on glibc none may be searched for that was answered before. Then the order of
loading is the same, and with it that of constructors, which glibc and musl work out from it and from these edges alone.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from nix_harden.errors import SeveralErrors, WouldBreak
from nix_harden.fixup.ambiguity import Change, ambiguous
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.policy import NOT_LOADED
from nix_harden.fixup.resolve import own_search
from nix_harden.fixup.searchpath import is_searched
from nix_harden.loading.disk import DiskReader, read_loader
from nix_harden.loading.graph import DLOPEN, NEEDED, Edge, Family, Found, Graph, How, Loader, Reader, Seen
from nix_harden.loading.loader import walk
from nix_harden.loading.search import is_musl, own_text
from nix_harden.model import Decision, Edit, Held, Kind, Loadable, Object, Plan
from nix_harden.names import LOADERS
from nix_harden.settings import Settings, matches

ANSWERED = (How.NAME, How.SONAME)
# Where a loader of this machine looks when nothing else has led to a file; another machine has other files there.
OF_THE_MACHINE = (How.CACHE, How.DEFAULT)


@dataclass(frozen=True, slots=True)
class Break:
    """What a plan would change in a program: the name by which `asker` is led from file `was` to file `now`, or to none.

    They are one file where the name would be searched for, although it was answered before. `held` is what the plan has to leave so
    that nothing changes, empty where nothing helps.
    """

    root: str
    asker: str
    name: str
    was: str
    now: str | None
    held: Held


def settle(
    make: Callable[[Held], Plan],
    catalog: Catalog,
    settings: Settings,
    *,
    searches: bool,
    originals: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The plan that breaks no program, by leaving as little as is needed as it is.

    `make` answers the plan that leaves what it is given. `searches` says that a name which was answered may be searched for, as long as
    it leads to the same file; `originals` maps the real paths of copies to those of the files for which they stand. Raises SeveralErrors with a WouldBreak for each name that would be lost all the same.
    """
    walks = _Walks(catalog, settings, searches, originals)
    held = Held()
    while True:
        plan = make(held)
        more, breaks = _answers(plan, catalog, settings), list(walks.breaks(plan))
        for each in breaks:
            more |= each.held
        if more.needed.keys() <= held.needed.keys() and more.sonames.keys() <= held.sonames.keys():
            break
        held |= more
    _refuse(breaks)  # what no name that is left can help
    return plan


def confirm(
    plan: Plan,
    catalog: Catalog,
    settings: Settings,
    *,
    searches: bool,
    originals: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise SeveralErrors where a plan that was carried out in part breaks a program; `catalog` is of what was there before."""
    _refuse(list(_Walks(catalog, settings, searches, originals).breaks(plan)))


def _refuse(breaks: Sequence[Break]) -> None:
    first = {(each.asker, each.name): each for each in reversed(breaks)}
    if first:
        raise SeveralErrors(tuple(WouldBreak(e.root, e.asker, e.name, e.was, e.now) for e in first.values()))


def _answers(plan: Plan, catalog: Catalog, settings: Settings) -> Held:
    """The SONAMEs that the outputs' own bare names may be answered by, whoever loads both: each stays.

    They are the NEEDED that stay bare, by any rule, and the strings of objects that open libraries, where their own search does not
    lead to the library as well.
    """
    changed: dict[str, list[Decision]] = {}
    for decision in plan.decisions:
        old = decision.file.object.soname
        if decision.edit is not None and decision.edit.soname is not None and old is not None and "/" not in old:
            changed.setdefault(old, []).append(decision)
    held: dict[str, str] = {}
    for decision in plan.decisions if changed else ():
        obj = decision.file.object
        if decision.skipped is not None and decision.skipped.why in NOT_LOADED:
            continue
        bare = {verdict.name: verdict.why for verdict in decision.needed if verdict.new is None}
        if decision.skipped is not None:
            bare = dict.fromkeys(obj.needed, decision.skipped.why)
        if obj.kind is Kind.PROGRAM:
            bare = {}  # a program is the first to ask
        asked = {name: f"which stays bare: {why}" for name, why in bare.items() if is_searched(name)}
        for name in _opens(obj, catalog):
            asked.setdefault(name, "to open it")
        for name, why in asked.items():
            for other in changed.get(name, ()):
                if other.file.object.abi != obj.abi:
                    continue
                if why == "to open it" and _finds(decision, name, other.file.paths, catalog, settings):
                    continue
                held.setdefault(other.file.paths[0], f"{obj.path} names it, {why}")
    return Held(sonames=held)


def _opens(obj: Object, catalog: Catalog) -> Iterator[str]:
    """The bare names that an object may give to dlopen(3): those in its notes, and its strings but for its own SONAME."""
    noted = [name for note in obj.notes for name in note.sonames]
    mine = os.path.basename(obj.soname or "")
    yield from dict.fromkeys((*noted, *(name for name in catalog.mentions(obj) if name != mine)))


def _finds(decision: Decision, name: str, paths: Sequence[str], catalog: Catalog, settings: Settings) -> bool:
    """Whether the object's own search, once the plan is carried out, leads to that file."""
    obj = decision.edit.after if decision.edit is not None else decision.file.object
    found = own_search(obj, os.path.dirname(decision.file.paths[0]), name, catalog, settings)
    return found.candidate is not None and found.candidate.real == catalog.real(paths[0])


class _Edited:
    """A file system in which the files of a plan are as it makes them."""

    def __init__(self, reader: DiskReader, edits: Sequence[Edit]) -> None:
        self.reader = reader
        self._files: dict[tuple[int, int], Loadable] = {}
        for edit in edits:
            seen = reader.open(edit.paths[0])
            if isinstance(seen, Found):
                self._files[seen.identity] = _edited(seen.loadable, edit)

    @property
    def edited(self) -> Collection[tuple[int, int]]:
        return self._files.keys()

    def open(self, path: str) -> Seen:
        seen = self.reader.open(path)
        if isinstance(seen, Found) and (loadable := self._files.get(seen.identity)) is not None:
            return replace(seen, loadable=loadable)
        return seen

    def is_directory(self, path: str) -> bool:
        return self.reader.is_directory(path)

    def writable_at(self, path: str) -> str | None:
        return None  # which no walk depends on


def _edited(loadable: Loadable, edit: Edit) -> Loadable:
    names = dict(edit.needed)
    wants = tuple((tag, names.get(text, text) if tag == NEEDED else text) for tag, text in loadable.wants)
    return replace(loadable, object=edit.after, wants=wants)


class _Walks:
    """The walks of all roots of some outputs; what was there before is walked once."""

    def __init__(self, catalog: Catalog, settings: Settings, searches: bool, originals: Mapping[str, str]) -> None:
        self.catalog, self.settings, self.searches, self.originals = catalog, settings, searches, originals
        self.reader = DiskReader(catalog.loadable)
        self._loaders: dict[str, Loader | None] = {}
        self._before: dict[str, Graph | None] = {}

    def breaks(self, plan: Plan) -> Iterator[Break]:
        """What the plan would break, root by root, programs first."""
        if not plan.edits:
            return
        reader = _Edited(self.reader, plan.edits)
        changes = _Changes(plan, self.originals)
        for obj in self._roots(plan, reader):
            before = self._walked(obj)
            if before is None or before.refusal is not None:
                continue
            after = self._walk(obj.path, before.loader, reader)
            assert after is not None
            yield from self._compare(before, after, changes)
            yield from self._compare_opened(before, after, changes, reader)

    def _roots(self, plan: Plan, reader: "_Edited") -> Iterator[Object]:
        """The objects of the outputs for which it may matter what is loaded, programs first."""
        by_loader: dict[tuple[object, ...], list[Object]] = {}
        for decision in plan.decisions:
            obj = decision.file.object
            if decision.skipped is not None and decision.skipped.why in NOT_LOADED:
                continue
            if obj.kind is not Kind.PROGRAM or obj.interpreter is not None:
                loader = self._loader(obj)
                by_loader.setdefault((loader.path, loader.abi, loader.family, loader.lib), []).append(obj)
        found = []
        for objects in by_loader.values():
            change = Change(self.reader, reader, reader.edited, lambda obj: _opens(obj, self.catalog))
            unclear = ambiguous([obj.path for obj in objects], self._loader(objects[0]), change)
            found += [obj for obj in objects if obj.path in unclear]
        yield from sorted(found, key=lambda obj: obj.kind is not Kind.PROGRAM)

    def _walked(self, obj: Object) -> Graph | None:
        if obj.path not in self._before:
            self._before[obj.path] = self._walk(obj.path, self._loader(obj), self.reader)
        return self._before[obj.path]

    def _walk(self, root: str, loader: Loader, reader: Reader, opens: Sequence[tuple[int, str]] = ()) -> Graph | None:
        """The graph of a root, in which copies bear the real paths of their originals."""
        graph = walk(root, loader, reader, opens)
        if graph is None or not self.originals:
            return graph
        return replace(
            graph,
            nodes=tuple(replace(node, real=self.originals.get(node.real, node.real)) for node in graph.nodes),
        )

    def _loader(self, obj: Object) -> Loader:
        """The object's loader, or for a library that of the outputs' programs, or that beside the C library which it finds.

        The processor is left out of it: what is proved holds on another one.
        """
        path = obj.interpreter or self.catalog.interpreter(obj.abi) or ""
        if path not in self._loaders:
            self._loaders[path] = read_loader(path, self.reader) if path else None
        loader = self._loaders[path]
        if loader is not None and loader.abi == obj.abi:
            return loader
        lib = self.catalog.lib_token(obj, own_text(obj)[0]) or "lib"
        return Loader(path, "", obj.abi, Family.MUSL if is_musl(obj) else Family.GLIBC, lib=lib)

    def _compare(self, before: Graph, after: Graph, changes: "_Changes") -> Iterator[Break]:
        """Each name that leads elsewhere or is searched for anew; a file of this machine alone is none that a name has to lead to."""
        edges = _by_place(after)
        for key, edge in _by_place(before).items():
            then = edges.get(key)
            if edge.target is None or then is None or matches(LOADERS, os.path.basename(edge.name)):
                continue  # what is loaded no more was itself lost by another name, and a loader is there before all
            was = before.nodes[edge.target].real
            now = after.nodes[then.target].real if then.target is not None else None
            if not self.settings.in_store(was) and (edge.how in OF_THE_MACHINE or now is not None):
                continue
            anew = edge.how in ANSWERED and then.how.is_search and before.loader.family is Family.GLIBC
            if now == was and (not anew or self.searches):
                continue
            asker, place = key
            if changes.is_asked_for(asker, edge.name):
                continue
            held = changes.held(before, after, edge, then, asker)
            yield Break(before.root, asker, edge.name, was, now, held)
        if after.refusal is not None:
            yield Break(before.root, before.root, after.refusal, "what it loads", None, Held())
        known = {(before.nodes[place].real, name) for place, name in before.unmatched}
        for place, name in after.unmatched:
            asker = after.nodes[place].real
            if (asker, name) not in known and (answer := _first(before, name)) and answer.target is not None:
                held = changes.held(before, after, answer, answer, asker)
                yield Break(before.root, asker, name, before.nodes[answer.target].real, None, held)

    def _compare_opened(self, before: Graph, after: Graph, changes: "_Changes", reader: Reader) -> Iterator[Break]:
        """What objects open by a bare name that something loaded has answered."""
        answers, still = _answered(before), _answered(after)
        lost = {
            name: file for name, file in answers.items() if still.get(name) != file and self.settings.in_store(file)
        }
        for place, node in enumerate(after.nodes) if lost else ():
            for name in _opens(node.object, self.catalog):
                if name not in lost or changes.is_asked_for(node.real, name):
                    continue
                opened = self._walk(after.root, after.loader, reader, ((place, name),))
                assert opened is not None
                call = next(edge for edge in opened.edges if edge.tag == DLOPEN)
                now = opened.nodes[call.target].real if call.target is not None else None
                if now != lost[name] and (answer := _first(before, name, lost[name])) is not None:
                    held = changes.held(before, after, answer, answer, node.real)
                    yield Break(before.root, node.real, name, lost[name], now, held)


def _by_place(graph: Graph) -> dict[tuple[str, int], Edge]:
    """Each edge by its object's real path and its place among that object's names."""
    counts: dict[str, int] = {}
    found = {}
    for edge in graph.edges:
        asker = graph.nodes[edge.source].real
        place = counts[asker] = counts.get(asker, -1) + 1
        found[asker, place] = edge
    return found


def _answered(graph: Graph) -> dict[str, str]:
    """Each bare name that a loaded object answers, by the name under which it was asked for or its SONAME, and that object's file."""
    found: dict[str, str] = {}
    for edge in graph.edges:
        if edge.target is not None and "/" not in edge.name:
            found.setdefault(edge.name, graph.nodes[edge.target].real)
    for node in graph.nodes:
        if (soname := node.object.soname) is not None and "/" not in soname:
            found.setdefault(soname, node.real)
    return found


def _first(graph: Graph, name: str, file: str | None = None) -> Edge | None:
    """The first edge of that name, or one that stands for the SONAME of a file."""
    for edge in graph.edges:
        if edge.name == name and edge.target is not None:
            return edge
    for edge in graph.edges:
        if edge.target is not None and graph.nodes[edge.target].real == file:
            return replace(edge, name=name, how=How.SONAME)
    return None


class _Changes:
    """What a plan changes, by the real paths of files, and what of it to leave for the sake of a name."""

    def __init__(self, plan: Plan, originals: Mapping[str, str]) -> None:
        paths = ((originals.get(each.file.object.path, each.file.object.path), each) for each in plan.decisions)
        self._decisions: Mapping[str, Decision] = dict(paths)

    def is_asked_for(self, file: str, name: str) -> bool:
        """Whether the user has said what the name means."""
        decision = self._decisions.get(file)
        return decision is not None and any(each.name == name and each.why == "bind" for each in decision.needed)

    def held(self, before: Graph, after: Graph, edge: Edge, then: Edge, asker: str) -> Held:
        """What has to stay so that `edge` of the asker leads where it did: its own name, what has answered it, or what now does."""
        assert edge.target is not None
        was = before.nodes[edge.target].real
        now = after.nodes[then.target].real if then.target is not None else None
        why = f"in {before.root}, {asker} has {edge.name} answered by what is loaded already"
        if "/" in edge.name:
            why = f"in {before.root}, {asker} would have {now or 'no file'} for {was}"
        if now != was and (path := self._renames(asker, edge.name)) is not None:
            return Held({(path, edge.name): why})
        decision = self._decisions.get(was)
        if decision and decision.edit and decision.edit.soname and decision.file.object.soname == edge.name:
            return Held(sonames={decision.file.paths[0]: why})
        for each in _askers(before, edge.name, was):
            if (path := self._renames(each, edge.name)) is not None:
                return Held({(path, edge.name): why})
        return self._gained(after, then, why)

    def _gained(self, after: Graph, then: Edge, why: str) -> Held:
        """What has to stay so that a name which is now answered by what is loaded is searched for as before."""
        now = after.nodes[then.target].real if then.target is not None else ""
        if (decision := self._decisions.get(now)) and decision.edit and decision.edit.soname == then.name:
            return Held(sonames={decision.file.paths[0]: why})
        for asker in _askers(after, then.name, now):
            decision = self._decisions.get(asker)
            for old, new in decision.edit.needed if decision is not None and decision.edit is not None else ():
                if new == then.name and decision is not None:
                    return Held({(decision.file.paths[0], old): why})
        return Held()

    def _renames(self, file: str, name: str) -> str | None:
        """The path of a file whose plan gives `name` another string."""
        decision = self._decisions.get(file)
        if decision is None or decision.edit is None or name not in dict(decision.edit.needed):
            return None
        return decision.file.paths[0]


def _askers(graph: Graph, name: str, file: str) -> Iterator[str]:
    """The files that name `file` so, in the order of loading."""
    for edge in graph.edges:
        if edge.name == name and edge.target is not None and graph.nodes[edge.target].real == file:
            yield graph.nodes[edge.source].real
