"""The names and paths by which the copies of a closure have to answer, as they open each other by them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nix_harden.freezing.lift import answered, opens_others
from nix_harden.loading.graph import DLOPEN, NEEDED, Family, Found, Graph, Reader
from nix_harden.loading.loader import walk
from nix_harden.reading.elf import read_library_paths


@dataclass(frozen=True)
class Answer:
    """The names that a copy answers beside its path: its SONAME, where that changes, and bare names that are asked for once more.

    `asker` is the place of the object that asks for them, the first that has the library loaded.
    """

    soname: str | None
    again: tuple[str, ...] = ()
    asker: int = -1


def mentioned_names(graph: Graph, where: Mapping[int, str], reader: Reader) -> dict[int, list[str]]:
    """By the places of libraries, other names in their directories that a copied object holds as strings and would open them by."""
    known = answered(graph)
    stems: dict[str, list[int]] = {}
    for index in where:
        stems.setdefault(stem(graph.nodes[index].path), []).append(index)
    found: dict[int, list[str]] = {}
    for caller in where:
        node = graph.nodes[caller]
        for name in node.loadable.mentions if opens_others(node) else ():
            for index in stems.get(stem(name), ()) if name not in known else ():
                other = graph.nodes[index]
                seen = reader.open(os.path.join(os.path.dirname(other.path), name))
                if not isinstance(seen, Found) or seen.real != other.real:
                    continue
                opened = walk(graph.root, graph.loader, reader, ((caller, name),))
                call = next((edge for edge in opened.edges if edge.tag == DLOPEN), None) if opened is not None else None
                if call is not None and call.target == index:
                    found.setdefault(index, []).append(name)
    return found


def literal_paths(graph: Graph, where: Mapping[int, str], reader: Reader) -> dict[int, list[str]]:
    """By the places of libraries, the paths of theirs that are strings of what opens libraries.

    What such a string leads to and is not in the graph may be opened, as no copy: what it needs by path and opens in turn counts, too.
    """
    places = {graph.nodes[index].real: index for index in where if index}
    found: dict[int, list[str]] = {}
    objects = {node.real: node.object for node in graph.nodes}
    waiting = [node.real for node in graph.nodes if opens_others(node)]
    for real in waiting:
        obj = objects[real]
        held = read_library_paths(real) if obj.opens_libraries else filter(os.path.isabs, obj.needed)
        for path in held:
            seen = reader.open(path)
            if not isinstance(seen, Found):
                continue
            if seen.real in places and path not in found.get(places[seen.real], ()):
                found.setdefault(places[seen.real], []).append(path)
            if seen.real not in objects:
                objects[seen.real] = seen.loadable.object
                waiting.append(seen.real)
    return found


def stem(path: str) -> str:
    return os.path.basename(path).partition(".so")[0]


def answers_of(
    graph: Graph, where: Mapping[int, str], directory: str, calls: bool, held: Mapping[int, Sequence[str]]
) -> dict[int, Answer]:
    """By what each copy answers those that ask for its original, by each name that the original answered.

    A SONAME is one name. Where libraries are opened, it is the path by which the original was named, if it was, or by which what
    opens libraries names it: hardened objects name it so. `held` are names that such objects hold as strings. Bare names that it does not answer are asked for beside the path, by the object that has the copy loaded: they are found
    among the copies at once, and from then on answered. A library without SONAME gets the name by which it was asked for first.
    """
    found: dict[int, Answer] = {}
    if graph.loader.family is Family.MUSL:
        return found
    opens = calls or any(opens_others(graph.nodes[index]) for index in where)
    taken = {path: index for index, path in where.items()}
    for index in where:
        node = graph.nodes[index]
        edges = [edge for edge in graph.edges if edge.target == index]
        asked = [edge for edge in edges if edge.tag == NEEDED and edge.source in where]
        names = dict.fromkeys((*([node.object.soname] if node.object.soname else []), *(edge.name for edge in edges)))
        bare, paths = [name for name in names if "/" not in name], [name for name in names if os.path.isabs(name)]
        paths += [name for name in held.get(index, ()) if "/" in name]
        if not index or not asked:
            continue
        soname = node.object.soname or next(iter((*bare, *paths)), None)
        if paths and (opens or index in held):
            soname = paths[0]
            bare += [os.path.basename(path) for path in paths]
        bare += [name for name in held.get(index, ()) if "/" not in name]
        again = [name for name in dict.fromkeys(bare) if name != soname] if opens else []
        again = [name for name in again if taken.setdefault(os.path.join(directory, name), index) == index]
        found[index] = Answer(soname if soname != node.object.soname else None, tuple(again), asked[0].source)
    return found
