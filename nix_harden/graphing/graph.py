"""Read the object closure of programs, or the closure of store paths, and have its picture drawn.

from nix_harden.graphing.draw import Style
from nix_harden.graphing.graph import choose, draw, look
picture = look(["/nix/store/…-hello/bin/hello"], store="/nix/store")
svg = draw(choose(picture), Style(), "svg")
"""

import json
import mmap
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence

from nix_harden.errors import NotDrawn, ReadError, ToolError, UsageError
from nix_harden.graphing.chains import Why
from nix_harden.graphing.chains import explain as find_chains
from nix_harden.graphing.draw import Style, as_json, dot, mermaid
from nix_harden.graphing.picture import bearers, finish, leading_to, paths, picture, reduced, short, vertex_id, within
from nix_harden.graphing.values import REFERENCE, Arrow, File, Means, Picture, Role, Vertex
from nix_harden.loading.disk import DiskReader, Loaders, elf_files
from nix_harden.loading.graph import Found, Graph, Loader, Reader, Unloadable
from nix_harden.loading.loader import walk
from nix_harden.loading.reasons import store_path
from nix_harden.model import Kind
from nix_harden.prelinking.named import module_of
from nix_harden.process import feed
from nix_harden.programs import step, steps
from nix_harden.saying.files import put
from nix_harden.saying.progress import Progress, quietly

MANY_ARROWS = 60  # from here on, those that longer ways imply are left out
FORMS = {
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".png": "png",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".json": "json",
}
# Below whichever directory: that of the store may be another now than in its files.
ENTRY = re.compile(rb"/([0-9a-z]{32})-")
SECONDS = 600.0  # Graphviz takes seconds for hundreds of libraries, and minutes for thousands


def look(roots: Sequence[str], *, store: str, loader: str | None = None, progress: Progress = quietly) -> Picture:
    """The picture of what the programs and libraries at and below `roots` load. Raises NotDrawn and ReadError."""
    graphs = read(roots, loader=loader, progress=progress)
    return picture(graphs, measure(graphs), store)


def read(roots: Sequence[str], *, loader: str | None = None, progress: Progress = quietly) -> tuple[Graph, ...]:
    """The graph of every dynamic ELF file at and below `roots`, programs first; a wrapper of nixpkgs' means what it starts.

    `loader` is that of libraries, instead of the one beside the C library which they find; `progress` is told how many files of a root
    are done, of how many, and which is next. Raises NotDrawn where a file, or all that is given, has nothing to walk, and ReadError.
    """
    reader = DiskReader()
    loaders = Loaders(reader, loader)
    files = {}
    for number, root in enumerate(roots):
        progress(number, len(roots), f"ELF files below {root}")
        files[root] = list(elf_files([follow(root)]))
    # programs first: what they bring along settles which loader a library alone would lack
    order = sorted({path for paths in files.values() for path in paths}, key=lambda path: _rank(path, reader))
    graphs: dict[str, Graph] = {}
    for number, path in enumerate(order):
        progress(number, len(order), path)
        if (graph := _walk(path, reader, loaders)) is not None:
            graphs[path] = graph
    progress(len(order), len(order), "")
    for root, below in files.items():
        if not graphs.keys() & below and (not graphs or os.path.isfile(root)):
            advice = "say a dynamic program or library, or a directory with some"
            raise NotDrawn(root, why_nothing(follow(root)), advice)
    return tuple(graphs.values())


def _rank(path: str, reader: Reader) -> tuple[bool, bytes]:
    seen = reader.open(path)
    is_program = isinstance(seen, Found) and seen.loadable.object.kind is Kind.PROGRAM
    return not is_program, os.fsencode(path)


def follow(path: str) -> str:
    """The path that a wrapper leads to in the end, or the path itself. Raises ReadError."""
    *_, last = steps(path)
    return last.path


def _walk(path: str, reader: Reader, loaders: Loaders) -> Graph | None:
    seen = reader.open(path)
    if not isinstance(seen, Found):
        return None
    obj = seen.loadable.object
    if obj.kind is Kind.OTHER or (obj.kind is Kind.PROGRAM and obj.interpreter is None):
        return None
    loader = loaders.of(obj)
    if loader is None or loader.abi != obj.abi:
        loader = Loader(obj.interpreter or "", "", obj.abi)
    elif obj.kind is Kind.PROGRAM:
        loaders.preferred.setdefault(obj.abi, loader.path)
    return walk(path, loader, reader)


def why_nothing(root: str) -> str:
    """Why nothing at or below a path can be walked."""
    reader = DiskReader()
    files = list(elf_files([root]))
    if len(files) == 1:
        seen = reader.open(files[0])
        return seen.why if isinstance(seen, Unloadable) else "it is static and loads no libraries"
    found = step(root)
    if found.is_script:
        return f"it is a script, which {found.interpreter} runs"
    return "it is no ELF file" if found.is_file else "there are no dynamic ELF files in it"


def measure(graphs: Sequence[Graph]) -> dict[str, File]:
    """The file at every path that the graphs know."""
    found: dict[str, File] = {}
    modules = {
        graph.nodes[0].real: module.path for graph in graphs if (module := module_of(graph.nodes[0].object)) is not None
    }
    for path in dict.fromkeys(paths(graphs)):
        try:
            found[path] = File(os.path.realpath(path), os.stat(path).st_size, modules.get(path))
        except OSError:
            found[path] = File(path, 0)
    return found


def render(drawn: Picture, style: Style, form: str) -> bytes:
    """The picture as `svg` or `png`, laid out by Graphviz. Raises ToolError where its `dot` is not on PATH or fails."""
    program = shutil.which("dot")
    if program is None:
        raise ToolError(
            "dot",
            "is not on PATH; install Graphviz for SVG and PNG, or write .dot, .mmd or .json, which need no other program",
        )
    return feed([program, f"-T{form}"], dot(drawn, style).encode(), SECONDS)


def look_at_store_paths(
    roots: Sequence[str], *, store: str, loader: str | None = None, progress: Progress = quietly
) -> Picture:
    """The picture of the store paths that hold `roots` and of all that they refer to, which is what their files name, as Nix has it.

    Nix is not asked, so that any directory laid out like a store will do; `loader` is of no account. Raises NotDrawn and ReadError.
    """
    entries = {name[:32]: name for name in _listed(store)}
    waiting = list(dict.fromkeys(_store_path_of(root, store) for root in roots))
    programs = [vertex_id(path) for path in waiting]
    vertices: list[Vertex] = []
    arrows: list[Arrow] = []
    for number, path in enumerate(waiting):
        progress(number, len(waiting), path)
        size, named = _scan(path, store, entries)
        vertices.append(Vertex(vertex_id(path), path, short(path), Role.STORE_PATH, None, path, size))
        for other, holder in named.items():
            if other == path:
                continue
            arrow = Arrow(vertices[-1].id, vertex_id(other), REFERENCE, REFERENCE, Means.REFERENCE, (other,), holder)
            arrows.append(arrow)
            if other not in waiting:
                waiting.append(other)
    progress(len(waiting), len(waiting), "")
    return finish(vertices, arrows, frozenset(programs))


def _listed(store: str) -> list[str]:
    try:
        return os.listdir(store)
    except OSError as error:
        raise ReadError(store, error.strerror or str(error)) from error


def _store_path_of(root: str, store: str) -> str:
    try:
        real = os.path.realpath(root, strict=True)
    except OSError as error:
        raise ReadError(root, error.strerror or str(error)) from error
    path = store_path(real, store)
    if not path.startswith(store + "/"):
        raise NotDrawn(
            root, f"it is not in the store {store}", "say a store path, or where the store is with NIX_STORE"
        )
    return path


def _scan(path: str, store: str, entries: dict[str, str]) -> tuple[int, dict[str, str]]:
    """The size of a store path, and each store path that its files name with the first file that does."""
    size, found = 0, dict[str, str]()
    for each in _all_files(path):
        try:
            status = os.lstat(each)
            if stat.S_ISLNK(status.st_mode):
                names = ENTRY.findall(os.fsencode(os.readlink(each)))
            elif stat.S_ISREG(status.st_mode) and status.st_size:
                size += status.st_size
                with open(each, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    names = ENTRY.findall(data)
            else:
                continue
        except OSError as error:
            raise ReadError(each, error.strerror or str(error)) from error
        for name in sorted({os.fsdecode(name) for name in names} & entries.keys()):
            found.setdefault(f"{store}/{entries[name]}", each)
    return size, found


def _all_files(top: str) -> Iterator[str]:
    """Everything at and below a store path that is no directory, in byte order of each directory."""
    if os.path.islink(top) or not os.path.isdir(top):
        yield top
        return
    for directory, directories, names in os.walk(top):
        directories.sort(key=os.fsencode)
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        for name in sorted((*names, *links), key=os.fsencode):
            yield os.path.join(directory, name)


def choose(whole: Picture, why: str | None = None, depth: int | None = None, *, all_arrows: bool = False) -> Picture:
    """What is to be seen of a picture: the ways to what `why` means, no deeper than `depth`.

    Where there are many arrows, those that others imply are marked so, unless all are asked for, or every way to something.
    Raises NotDrawn where nothing is what `why` means.
    """
    shown = whole
    if why is not None:
        if not (targets := bearers(whole, _meant(why))):
            raise NotDrawn(why, "nothing in the closure is it", "nix-harden graph --json lists what there is")
        shown = leading_to(whole, targets)
    if depth is not None:
        shown = within(shown, depth)
    return shown if all_arrows or why is not None or len(shown.arrows) <= MANY_ARROWS else reduced(shown)


def explain(program: str, library: str, *, store: str, limit: int) -> tuple[Picture, Why]:
    """The picture of a program's closure, and why `library` is in it. Raises NotDrawn where it is not."""
    graphs = read([program])
    whole = picture(graphs, measure(graphs), store)
    if len(graphs) > 1:
        raise NotDrawn(program, f"there are {len(graphs)} programs and libraries in it", "say one of them")
    root = next(vertex for vertex in whole.vertices if vertex.id == vertex_id(graphs[0].root))
    found = find_chains(whole, root, _meant(library), limit)
    if found is None:
        raise NotDrawn(program, f"it does not load {library}", "nix-harden graph --json lists what it loads")
    return whole, found


def _meant(library: str) -> str:
    """A path with every link followed, as vertices have it; what is no path that is there, as it is."""
    return os.path.realpath(library) if "/" in library and os.path.exists(library) else library


def form_of(output: str | None, given: str | None) -> str:
    """The form that was asked for, or that a file's ending means. Raises UsageError where it means none."""
    if given is not None:
        return given
    if output is None:
        return "dot"
    ending = os.path.splitext(output)[1].lower()
    if ending not in FORMS:
        raise UsageError("--output", f"{output} ends in none of {', '.join(FORMS)}; say the form with --format")
    return FORMS[ending]


def draw(shown: Picture, style: Style, form: str) -> bytes:
    """The picture in one of the forms. Raises ToolError where it needs Graphviz and there is none."""
    match form:
        case "dot":
            return dot(shown, style).encode()
        case "mermaid":
            return mermaid(shown, style).encode()
        case "json":
            return (json.dumps(as_json(shown), indent=2) + "\n").encode()
    return render(shown, style, form)


def write(data: bytes, output: str | None) -> None:
    """Put what was drawn into a file, or onto standard output."""
    if output is not None:
        put(output, data)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
