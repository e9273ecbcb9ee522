"""Name every library of a program's closure in the program itself, so that none is searched for: from its graph to an edit; pure.

glibc loads breadth first, so that NEEDED entries of the program, in the order in which its closure was loaded before, give the same
order of loading, hence of symbol lookup. What a library needs by a bare name is then found by the SONAME of what is loaded
(elf/dl-load.c, `_dl_map_object`), which no library is changed for. Whether that holds is not argued but walked: the
graph of the lifted program, by the same rules as the first, says which name would still be searched for, or would lead elsewhere.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from nix_harden.errors import NotFrozen
from nix_harden.loading.graph import DLOPEN, NEEDED, Family, Found, Graph, How, Node, Reader, Seen
from nix_harden.loading.loader import walk
from nix_harden.loading.search import TOKEN, own_text
from nix_harden.model import Edit, PathAction
from nix_harden.names import LIBC, LOADERS
from nix_harden.settings import matches

MAKE_IT_START = "make the program start first, which nix-harden audit may help with"


def check(graph: Graph) -> None:
    """Raise NotFrozen where the program does not start as it is."""
    for edge in graph.edges:
        if edge.how is How.MISSING:
            asker = graph.nodes[edge.source].path
            tried = list(dict.fromkeys(os.path.dirname(each.path) or "." for each in edge.tried))
            places = f"tried: {', '.join(tried)}" if tried else "there is no directory to try"
            problem = f"{edge.name}, which {asker} needs, is not found"
            raise NotFrozen(graph.root, problem, f"{places}; add its directory to the search path of {asker}")
    if graph.refusal:
        raise NotFrozen(graph.root, f"its loader would stop: {graph.refusal}", MAKE_IT_START)
    for index, name in graph.unmatched:
        problem = f"its loader would stop: a version of {name} in {graph.nodes[index].path} matches no loaded library"
        raise NotFrozen(graph.root, problem, MAKE_IT_START)


def check_editable(graph: Graph, places: Iterable[int]) -> None:
    """Raise NotFrozen where one of these nodes is a file in which nothing may move."""
    for place in places:
        obj = graph.nodes[place].object
        if obj.payload:
            problem = f"{obj.path} holds {obj.payload} bytes behind its ELF file, which are found by their offset"
            raise NotFrozen(graph.root, problem, "leave it as it is")
        if not obj.sections:
            problem = f"{obj.path} has no section headers, by which patchelf finds what to edit"
            raise NotFrozen(graph.root, problem, "leave it as it is")


def reach(graph: Graph, lifted: Edit, path: str, reader: Reader) -> Edit:
    """The edit with which the program finds a library that it opens by the name of the file at `path`.

    Its directory becomes the last of the program's search path where none of the others leads there. Raises NotFrozen where another
    file is found first.
    """
    name = os.path.basename(path)
    real = os.path.realpath(path)
    for each in (lifted, _searching(lifted, os.path.dirname(path))):
        after = walk_lifted(graph, each, reader, ((0, name),))
        call = next(edge for edge in after.edges if edge.tag == DLOPEN)
        if call.target is not None and after.nodes[call.target].real == real:
            return each
    found = after.nodes[call.target].path if call.target is not None else "nothing"
    raise NotFrozen(graph.root, f"it would find {found} before {path} under the name {name}", "leave out --also")


def _searching(lifted: Edit, directory: str) -> Edit:
    old = lifted.search_path
    return replace(
        lifted,
        action=PathAction.SET,
        search_path=f"{old}:{directory}" if old else directory,
        rpath=lifted.rpath and bool(old),
    )


def moved(opens: Iterable[tuple[int, str]], graph: Graph, after: Graph) -> tuple[tuple[int, str], ...]:
    """Calls of dlopen as `loader.walk` takes them, for the same objects in another order; what calls load comes behind them in both."""
    places = {node.real: place for place, node in enumerate(after.nodes)}
    count = len(graph.nodes)
    return tuple((places[graph.nodes[caller].real] if caller < count else caller, name) for caller, name in opens)


def check_opened(graph: Graph, after: Graph, advice: str) -> None:
    """Raise NotFrozen where what the program opens later would not be the same files."""
    for edge in after.edges:
        if edge.how is How.MISSING:
            asker = after.nodes[edge.source].path
            raise NotFrozen(graph.root, f"{asker}, once it is opened, would no longer find {edge.name}", advice)
    was, now = ({node.real for node in each.nodes} for each in (graph, after))
    if was != now or after.refusal or after.unmatched:
        problem = after.refusal or f"{min(now ^ was, default='a version')} would be opened otherwise than before"
        raise NotFrozen(graph.root, problem, advice)


def names(graph: Graph) -> tuple[str, ...]:
    """What the lifted program needs, in the order of loading: each library by the path under which it was opened.

    The loader itself is there before any name is looked up, under whichever path it was started, and keeps its bare name; so do
    those that are `known`.
    """
    own = {edge.target for edge in graph.edges if edge.how is How.LIBC}
    kept = known(graph)
    return tuple(
        node.name if index in own or (node.by == 0 and node.name in kept) else node.path
        for index, node in enumerate(graph.nodes[1:], 1)
    )


def known(graph: Graph) -> frozenset[str]:
    """The bare names that the program alone makes known: no SONAME answers them, and others ask for them, or may when they are opened."""
    others = {edge.name for edge in graph.edges if edge.source}
    opens = any(opens_others(node) for node in graph.nodes)
    return frozenset(
        edge.name
        for edge in graph.edges
        if edge.source == 0 and edge.target is not None and edge.how.is_search and (opens or edge.name in others)
        if graph.nodes[edge.target].object.soname != edge.name
    )


def opens_others(node: Node) -> bool:
    """Whether an object opens libraries, the C library left out: what it opens is its own affair."""
    return node.object.opens_libraries and not matches((*LIBC, *LOADERS), os.path.basename(node.path))


def answered(graph: Graph) -> dict[str, str]:
    """Each name, bare or a path, that a loaded object answers, as its SONAME or because it was asked for by it, and the object's file."""
    found: dict[str, str] = {}
    for edge in graph.edges:
        if edge.target is not None and edge.tag != DLOPEN:
            found.setdefault(edge.name, graph.nodes[edge.target].real)
    for node in graph.nodes[1:]:
        if node.object.soname is not None:
            found.setdefault(node.object.soname, node.real)
    return found


def edit(graph: Graph, order: Sequence[str]) -> Edit:
    """The edit that lifts the program: `order` are the `names` of its graph, in any order.

    `$ORIGIN` in its search path becomes the directory that it means: the copy may lie in another.
    """
    root = graph.nodes[0]
    wants = [text for tag, text in root.loadable.wants if tag == NEEDED]
    edges = [edge for edge in graph.edges if edge.source == 0 and edge.tag == NEEDED]
    if len(wants) != len(edges):
        raise NotFrozen(graph.root, "it needs a name that the loader passes over", "take the empty NEEDED out of it")
    places = names(graph)
    kept = known(graph)
    needed = {
        text: edge.name if edge.name in kept else places[edge.target - 1]
        for text, edge in zip(wants, edges, strict=True)
        if edge.target is not None
    }
    renamed = [needed[text] for text in wants]
    again = [name for place, name in enumerate(renamed) if name in renamed[:place] or name not in order]
    return Edit(
        (graph.root,),
        root.object,
        None,
        tuple((old, new) for old, new in needed.items() if old != new),
        *moved_path(graph),
        (*order, *again),
    )


def moved_path(graph: Graph) -> tuple[PathAction, str, bool]:
    """What an edit makes of the program's search path, so that `$ORIGIN` goes on meaning the directory which it means now."""
    text, tag = own_text(graph.nodes[0].object)
    fixed = TOKEN.sub(lambda match: os.path.dirname(graph.root) if "ORIGIN" in match.groups() else match[0], text)
    return PathAction.KEEP if fixed == text else PathAction.SET, fixed, tag == "RPATH"


def walk_lifted(graph: Graph, lifted: Edit, reader: Reader, opens: Sequence[tuple[int, str]] = ()) -> Graph:
    """The graph of the program with the edit made, by the rules of its own loader, and with what calls of dlopen then load."""
    loadable = graph.nodes[0].loadable
    others = tuple(want for want in loadable.wants if want[0] != NEEDED)
    path = {} if lifted.action is PathAction.KEEP else {"rpath" if lifted.rpath else "runpath": lifted.search_path}
    versions = dict(lifted.needed)
    obj = replace(
        loadable.object,
        needed=lifted.needed_after,
        version_files=tuple(versions.get(name, name) for name in loadable.object.version_files),
        **path,  # type: ignore[arg-type]
    )
    wants = (*((NEEDED, name) for name in lifted.needed_after), *others)
    seen = reader.open(graph.root)
    assert isinstance(seen, Found)
    found = replace(seen, loadable=replace(loadable, object=obj, wants=wants))
    after = walk(graph.root, graph.loader, With(reader, {graph.root: found}), opens)
    assert after is not None
    return after


class With:
    """A file system in which some files are others than there are, or are there at all; their paths are normal ones."""

    def __init__(self, reader: Reader, files: Mapping[str, Found]) -> None:
        self.reader, self.files = reader, files
        self.directories = {os.path.dirname(path) for path in files}

    def open(self, path: str) -> Seen:
        return self.files.get(os.path.normpath(path)) or self.reader.open(path)

    def is_directory(self, path: str) -> bool:
        return os.path.normpath(path) in self.directories or self.reader.is_directory(path)

    def writable_at(self, path: str) -> str | None:
        return self.reader.writable_at(path)


def refuse(graph: Graph, after: Graph, advice: str, *, in_order: bool) -> None:
    """Raise NotFrozen where the lifted program would not load the same files, or would search for a name that was answered before.

    `in_order` says that it has to load them in the same order.
    """
    if graph.loader.family is not Family.GLIBC:
        problem = (
            "its loader is not glibc's and compares no SONAMEs, so that libraries would be searched for all the same"
        )
        raise NotFrozen(graph.root, problem, advice)
    check_editable(graph, (0,))
    for node in graph.nodes:
        if node.object.filters:
            problem = f"{node.path} has filter or audit tags ({', '.join(node.object.filters)}), which are searched for"
            raise NotFrozen(graph.root, problem, advice)
        if not os.path.isabs(node.path):
            problem = f"{node.path} was found in the current directory, which is another at each start"
            raise NotFrozen(graph.root, problem, "take the empty or relative entries out of the search paths")
    edges = {
        (graph.nodes[edge.source].path, edge.name): (edge.how, graph.nodes[edge.target])
        for edge in graph.edges
        if edge.target is not None
    }
    for edge in after.edges:
        asker = after.nodes[edge.source].path
        if (asker, edge.name) not in edges:
            continue
        how, was = edges[asker, edge.name]
        if edge.how.is_search and not how.is_search:
            problem = (
                f"{edge.name}, which {asker} needs, is answered by what is loaded already, and would be searched for"
            )
            raise NotFrozen(graph.root, problem, advice)
        if edge.target is None or after.nodes[edge.target].real != was.real:
            other = after.nodes[edge.target].path if edge.target is not None else "nothing"
            problem = f"{other} and {was.path} both bear {edge.name}, and {asker}, which needs the second, would get the first"
            raise NotFrozen(graph.root, problem, advice)
    was_loaded, loaded = ([node.path for node in each.nodes] for each in (graph, after))
    if after.refusal or after.unmatched or sorted(loaded) != sorted(was_loaded) or (in_order and loaded != was_loaded):
        raise NotFrozen(graph.root, "the lifted program would not load the same files in the same order", advice)
    if any(opens_others(node) for node in graph.nodes):
        now = answered(after)
        for name, real in answered(graph).items():
            if "/" not in name and now.get(name) != real:
                problem = f"{name}, which {real} answers to whoever asks for it later, would be answered by {now.get(name, 'nothing')}"
                raise NotFrozen(graph.root, problem, advice)


def searched(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """What the loader still searches for: each name with who needs it and the library to which it leads, each name once."""
    seen: set[str] = set()
    for edge in graph.edges:
        if edge.how.is_search and edge.tag == NEEDED and edge.target is not None and edge.name not in seen:
            seen.add(edge.name)
            yield edge.name, graph.nodes[edge.source].path, graph.nodes[edge.target].path
