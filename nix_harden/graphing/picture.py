"""What programs load, as a picture: from the loaders' graphs to vertices and arrows, and what to leave out of them; pure.

It is long, as merging graphs and measuring what they merged to share their arrows.
"""

import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from nix_harden.graphing.values import REDUCIBLE, Arrow, File, Means, Picture, Role, StorePath, Vertex
from nix_harden.loading.graph import DLOPEN, Edge, Graph, How, Node
from nix_harden.loading.reasons import store_path
from nix_harden.model import Kind
from nix_harden.settings import matches

SOLID, COLOURS = 8, 16  # how many store paths are told apart by colour; the second half are the first ones, faded
HASH = re.compile(r"[0-9a-z]{32}-(?=.)")


def vertex_id(key: str) -> str:
    """The id of what has a path or name."""
    return "n" + hashlib.sha256(os.fsencode(key)).hexdigest()[:12]


def picture(graphs: Sequence[Graph], files: Mapping[str, File], store: str) -> Picture:
    """The picture of all graphs together: what several programs map is one vertex.

    `files` holds every path of nodes and of what dlopen opens (see `paths`).
    """
    made = _Merge(files, store)
    for graph in graphs:
        made.add(graph)
    done = finish(made.vertices.values(), made.arrows(), frozenset(made.programs))
    return replace(done, remarks=tuple(remark for graph in graphs for remark in _remarks(graph)))


def _remarks(graph: Graph) -> Iterator[str]:
    if not graph.loader.real:
        loader = graph.loader.path or "for its machine"
        yield f"{graph.root}: there is no loader {loader} here, so that default directories are not looked into"
    if graph.refusal is not None:
        yield f"{graph.root}: its loader stops: {graph.refusal}; what it would load after that is not there"
    for place, name in graph.unmatched:
        yield f"{graph.root}: its loader stops: a version of {name} in {graph.nodes[place].path} matches no loaded library"


def paths(graphs: Iterable[Graph]) -> Iterator[str]:
    """Every path of which `picture` wants to know the file."""
    for graph in graphs:
        yield from (node.real for node in graph.nodes)
        yield from (edge.path for edge in graph.opened if edge.path is not None)


class _Merge:
    """Vertices by id and arrows by all but their names."""

    def __init__(self, files: Mapping[str, File], store: str) -> None:
        self.files, self.store = files, store
        self.vertices: dict[str, Vertex] = {}
        self.names: dict[Arrow, dict[str, None]] = {}
        self.programs: list[str] = []

    def add(self, graph: Graph) -> None:
        twice = _twice(graph)
        ids = [self.node(graph, node, node.real in twice) for node in graph.nodes]
        if graph.is_program:
            self.programs.append(ids[0])
        for edge in (*graph.edges, *graph.opened):
            target = ids[edge.target] if edge.target is not None else self.leaf(edge)
            bare = "/" not in edge.name
            arrow = Arrow(ids[edge.source], target, edge.tag, edge.how.value, _means(edge), (), edge.via, bare)
            self.names.setdefault(arrow, {})[edge.name] = None

    def node(self, graph: Graph, node: Node, twice: bool) -> str:
        role = _role(graph, node)
        soname = node.object.soname
        # a program's own SONAME, if it has one, is nobody's name for it
        label = os.path.basename(soname if soname and role is not Role.PROGRAM else node.path)
        vertex = self.vertex(node.real, label, role, soname)
        if twice or (role is Role.LOADER and vertex.role is not role):
            vertex = replace(vertex, twice=vertex.twice or twice, role=role)
        self.vertices[vertex.id] = vertex
        return vertex.id

    def leaf(self, edge: Edge) -> str:
        """The id of what is not among a graph's nodes: a file that only dlopen opens, a missing name, a loader that is not there."""
        if edge.how is How.MISSING:
            vertex = self.vertices.get(vertex_id(edge.name)) or Vertex(
                vertex_id(edge.name), edge.name, os.path.basename(edge.name) or edge.name, Role.MISSING
            )
        else:
            path = edge.path or edge.via or edge.name
            role = Role.OPENED if edge.tag == DLOPEN else Role.LOADER
            vertex = self.vertex(path, os.path.basename(path), role, None)
        self.vertices[vertex.id] = vertex
        return vertex.id

    def vertex(self, path: str, label: str, role: Role, soname: str | None) -> Vertex:
        file = self.files.get(path) or File(path, 0)
        identity = vertex_id(file.real)
        known = self.vertices.get(identity)
        if known is not None and (role is Role.OPENED or known.role is not Role.OPENED):
            return known
        place = store_path(file.real, self.store)
        return Vertex(identity, file.real, label, role, soname, place, file.size, module=file.module)

    def arrows(self) -> Iterator[Arrow]:
        for arrow, names in self.names.items():
            yield replace(arrow, names=tuple(sorted(names, key=os.fsencode)))


def _role(graph: Graph, node: Node) -> Role:
    if node.real == graph.loader.real:
        return Role.LOADER
    return {Kind.PROGRAM: Role.PROGRAM, Kind.PLUGIN: Role.PLUGIN}.get(node.object.kind, Role.LIBRARY)


def _means(edge: Edge) -> Means:
    if edge.how is How.MISSING:
        return Means.MISSING
    if edge.tag == DLOPEN:
        return Means.DLOPEN
    if "/" in edge.name:
        return Means.PATH
    if not edge.how.is_search:
        return Means.LOADED
    return Means.SEARCH if edge.how in (How.RPATH, How.RUNPATH) else Means.SYSTEM


def _twice(graph: Graph) -> frozenset[str]:
    """The real paths of different files that a program maps for one SONAME."""
    bearers: dict[str, set[str]] = {}
    for node in graph.nodes:
        if name := os.path.basename(node.object.soname or ""):
            bearers.setdefault(name, set()).add(node.real)
    return frozenset(path for files in bearers.values() if len(files) > 1 for path in files)


def finish(vertices: Iterable[Vertex], arrows: Iterable[Arrow], programs: Collection[str]) -> Picture:
    """Count, measure, sort and colour what was gathered; `programs` are roots whatever leads to them."""
    vertices, arrows = list(vertices), list(arrows)
    reached = _reached({vertex.id for vertex in vertices}, arrows)
    sizes = {vertex.id: vertex.size for vertex in vertices}
    roots = frozenset(programs) | _unreached(reached, arrows)
    depth = _depths(sorted(roots), arrows)
    bare = Counter(arrow.source for arrow in arrows if arrow.bare and _counts(arrow) for _ in arrow.names)
    missing = Counter(arrow.source for arrow in arrows if arrow.means is Means.MISSING for _ in arrow.names)
    order = list(reached)
    done = (
        replace(
            vertex,
            closure=sum(sizes[order[place]] for place in _bits(reached[vertex.id])),
            depth=depth[vertex.id],
            root=vertex.id in roots,
            bare=bare[vertex.id],
            missing=missing[vertex.id],
        )
        for vertex in vertices
    )
    ranked = tuple(sorted(done, key=lambda vertex: (vertex.depth, os.fsencode(vertex.path), vertex.role.value)))
    return Picture(ranked, _sorted(arrows, ranked), _coloured(ranked))


def _counts(arrow: Arrow) -> bool:
    """Whether a bare name is one that binding would spare a search: the loader's own name never is."""
    return arrow.tag != DLOPEN and arrow.how not in (How.LIBC.value, How.MISSING.value)


def _sorted(arrows: Iterable[Arrow], vertices: Sequence[Vertex]) -> tuple[Arrow, ...]:
    place = {vertex.id: number for number, vertex in enumerate(vertices)}
    return tuple(
        sorted(
            arrows,
            key=lambda arrow: (
                place[arrow.source],
                place[arrow.target],
                arrow.tag,
                arrow.how,
                tuple(map(os.fsencode, arrow.names)),
                os.fsencode(arrow.via),
            ),
        )
    )


def _coloured(vertices: Sequence[Vertex]) -> tuple[StorePath, ...]:
    """The store paths in byte order; those of several vertices get a colour, each its own as far as there are enough.

    The name without the hash chooses first, so that a picture of the next build has the same colours where it can.
    """
    numbers = Counter(vertex.store_path for vertex in vertices if vertex.store_path)
    colours: dict[str, int] = {}
    taken: Counter[int] = Counter()
    for path in sorted(numbers, key=lambda path: (-numbers[path], os.fsencode(path))):
        if numbers[path] > 1:
            first = zlib.crc32(os.fsencode(short(path))) % SOLID
            order = [*range(first, SOLID), *range(first), *range(SOLID, COLOURS)]
            colour = min(order, key=lambda each: taken[each])
            taken[colour] += 1
            colours[path] = colour
    return tuple(StorePath(path, short(path), colours.get(path)) for path in sorted(numbers, key=os.fsencode))


def tagged(path: str) -> str:
    """A store path's name with the first letters of the hash, by which two builds of one name differ."""
    name = os.path.basename(path)
    return f"{short(path)} ({name[:7]})" if HASH.match(name) else path


def short(path: str) -> str:
    """A store path's name without directory and hash; another directory's own path."""
    name = os.path.basename(path)
    return HASH.sub("", name, count=1) if HASH.match(name) else path


# Reachability


def _successors(ids: Collection[str], arrows: Iterable[Arrow]) -> dict[str, dict[str, None]]:
    found: dict[str, dict[str, None]] = {each: {} for each in ids}
    for arrow in arrows:
        found[arrow.source][arrow.target] = None
    return found


def _components(successors: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected components, each behind all that it leads to (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    waiting: set[str] = set()
    found: list[list[str]] = []
    for start in successors:
        if start in number:
            continue
        work = [(start, iter(successors[start]))]
        while work:
            each, rest = work[-1]
            if each not in number:
                number[each] = low[each] = len(number)
                stack.append(each)
                waiting.add(each)
            for other in rest:
                if other not in number:
                    work.append((other, iter(successors[other])))
                    break
                if other in waiting:
                    low[each] = min(low[each], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[each])
                if low[each] == number[each]:
                    cut = stack.index(each)
                    found.append(stack[cut:])
                    waiting.difference_update(stack[cut:])
                    del stack[cut:]
    return found


def _reached(ids: Collection[str], arrows: Iterable[Arrow]) -> dict[str, int]:
    """Of each vertex, itself included, what its arrows lead to: bit N stands for the Nth key."""
    successors = _successors(sorted(ids), arrows)
    places = {each: place for place, each in enumerate(successors)}
    found: dict[str, int] = {}
    for component in _components(successors):
        bits = 0
        for each in component:
            bits |= 1 << places[each]
            for other in successors[each]:
                bits |= found.get(other, 0)
        for each in component:
            found[each] = bits
    return {each: found[each] for each in successors}


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _unreached(reached: Mapping[str, int], arrows: Iterable[Arrow]) -> frozenset[str]:
    """What nothing else leads to; of those that lead to each other alone, the first. What reaches the same is one component."""
    entered = {reached[arrow.target] for arrow in arrows if reached[arrow.source] != reached[arrow.target]}
    first: dict[int, str] = {}
    for each, bits in reached.items():
        first.setdefault(bits, each)
    return frozenset(each for bits, each in first.items() if bits not in entered)


def _depths(roots: Iterable[str], arrows: Iterable[Arrow]) -> dict[str, int]:
    following: dict[str, list[str]] = {}
    for arrow in arrows:
        following.setdefault(arrow.source, []).append(arrow.target)
    depth = dict.fromkeys(roots, 0)
    queue = list(depth)
    for each in queue:
        for other in following.get(each, ()):
            if other not in depth:
                depth[other] = depth[each] + 1
                queue.append(other)
    return depth


def ranks(shown: Picture) -> int:
    """How many columns a drawing needs: the vertices in the longest row of arrows that are drawn, of which a cycle counts once."""
    successors = _successors(
        [vertex.id for vertex in shown.vertices], (each for each in shown.arrows if not each.implied)
    )
    found: dict[str, int] = {}
    for component in _components(successors):
        longest = max((found.get(other, 0) for each in component for other in successors[each]), default=0) + 1
        found |= dict.fromkeys(component, longest)
    return max(found.values(), default=0)


# What to leave out


def within(whole: Picture, depth: int) -> Picture:
    """What is no more than `depth` arrows away from a root."""
    kept = {vertex.id for vertex in whole.vertices if vertex.depth <= depth}
    below: dict[str, set[str]] = {}
    for arrow in whole.arrows:
        if arrow.source in kept and arrow.target not in kept:
            below.setdefault(arrow.source, set()).add(arrow.target)
    counted = replace(
        whole, vertices=tuple(replace(vertex, below=len(below.get(vertex.id, ()))) for vertex in whole.vertices)
    )
    return _only(counted, kept)


def bearers(whole: Picture, library: str) -> tuple[Vertex, ...]:
    """The vertices that a SONAME, file name, path, missing name or a pattern of any of them means, programs and other roots apart."""
    return tuple(
        vertex
        for vertex in whole.vertices
        if not (vertex.root and vertex.role is Role.PROGRAM)
        and (
            library in (names := _names_of(whole, vertex))
            or os.path.normpath(library) == vertex.path
            or matches((library,), *names)
        )
    )


def _names_of(whole: Picture, vertex: Vertex) -> tuple[str, ...]:
    asked = {name for arrow in whole.arrows if arrow.target == vertex.id for name in arrow.names}
    own = (vertex.label, vertex.path, os.path.basename(vertex.path), *([vertex.soname] if vertex.soname else []))
    return (*own, *asked)


def leading_to(whole: Picture, targets: Iterable[Vertex]) -> Picture:
    """Every way from a root to one of the targets, and nothing else."""
    goal = {vertex.id for vertex in targets}
    reached = _reached({vertex.id for vertex in whole.vertices}, whole.arrows)
    places = {each: place for place, each in enumerate(reached)}
    mask = sum(1 << places[each] for each in goal)
    kept = {each for each, bits in reached.items() if bits & mask}
    return _only(whole, kept)


def _only(whole: Picture, kept: Collection[str]) -> Picture:
    vertices = tuple(vertex for vertex in whole.vertices if vertex.id in kept)
    shown = {vertex.store_path for vertex in vertices}
    return Picture(
        vertices,
        tuple(arrow for arrow in whole.arrows if arrow.source in kept and arrow.target in kept),
        tuple(each for each in whole.store_paths if each.path in shown),
        whole.remarks,
    )


def reduced(whole: Picture) -> Picture:
    """The picture with every arrow marked as implied that a longer way of arrows stands for (the transitive reduction).

    Only what a loader maps at start counts as a way. Arrows of missing names, of dlopen, of the cache and of default directories stay, as
    do those between objects that need each other.
    """
    plain = [arrow for arrow in whole.arrows if arrow.means in REDUCIBLE]
    successors = _successors([vertex.id for vertex in whole.vertices], plain)
    reached = _reached(successors, plain)
    places = {each: place for place, each in enumerate(reached)}
    implied: set[tuple[str, str]] = set()
    for each, others in successors.items():
        # those who lead back are in one component with it; to leave one out might cut it
        onward = [other for other in others if not reached[other] >> places[each] & 1]
        for other in onward:
            if any(
                step != other and reached[step] >> places[other] & 1 and not reached[other] >> places[step] & 1
                for step in onward
            ):
                implied.add((each, other))
    return replace(
        whole,
        arrows=tuple(
            replace(arrow, implied=arrow.means in REDUCIBLE and (arrow.source, arrow.target) in implied)
            for arrow in whole.arrows
        ),
    )
