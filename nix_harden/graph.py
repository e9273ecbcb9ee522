"""Read the object closure of programs and store paths, and have Graphviz lay its picture out.

from nix_harden.graph import look, render
svg = render(look(["/nix/store/…-hello/bin/hello"]), Style(), "svg")
"""

import os
import shutil
from collections.abc import Sequence

from nix_harden.audit import DiskReader, Loaders, elf_files
from nix_harden.draw import Style, dot
from nix_harden.errors import NotDrawn, ReadError, ToolError
from nix_harden.loader import Found, Graph, Loader, Reader, Unloadable, walk
from nix_harden.model import Kind
from nix_harden.picture import File, Picture, paths, picture
from nix_harden.process import feed
from nix_harden.wrappers import LARGEST, interpreter, wrapped

SECONDS = 600.0  # Graphviz takes seconds for hundreds of libraries, and minutes for thousands
MOST_WRAPPERS = 8


def look(roots: Sequence[str], *, store: str, loader: str | None = None) -> Picture:
    """The picture of what the programs and libraries at and below `roots` load. Raises NotDrawn and ReadError."""
    graphs = read(roots, loader=loader)
    return picture(graphs, measure(graphs), store)


def read(roots: Sequence[str], *, loader: str | None = None) -> tuple[Graph, ...]:
    """The graph of every dynamic ELF file at and below `roots`, programs first; a wrapper of nixpkgs' means what it starts.

    `loader` is that of libraries, instead of the one beside the C library which they find. Raises NotDrawn where there is none.
    """
    reader = DiskReader()
    loaders = Loaders(reader, loader)
    graphs: list[Graph] = []
    for root in roots:
        files = list(elf_files([_follow(root)]))
        found = [graph for path in files if (graph := _walk(path, reader, loaders)) is not None]
        if not found:
            raise NotDrawn(
                root, _why(root, files, reader), "say a dynamic program or library, or a directory with some"
            )
        graphs += found
    unique = {graph.root: graph for graph in graphs}
    return tuple(sorted(unique.values(), key=lambda graph: (not graph.is_program, os.fsencode(graph.root))))


def _follow(path: str) -> str:
    """The path that a wrapper leads to in the end, or the path itself. Raises ReadError."""
    for _ in range(MOST_WRAPPERS):
        try:
            path = os.path.realpath(path, strict=True)
            if not os.path.isfile(path):
                return path
            with open(path, "rb") as file:
                inner = wrapped(file.read(LARGEST))
        except OSError as error:
            raise ReadError(path, error.strerror or str(error)) from error
        if inner is None:
            return path
        path = inner
    return path


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


def _why(root: str, files: Sequence[str], reader: Reader) -> str:
    """Why nothing at or below a path can be walked."""
    if len(files) == 1:
        seen = reader.open(files[0])
        return seen.why if isinstance(seen, Unloadable) else "it is static and loads no libraries"
    if os.path.isfile(root):
        with open(root, "rb") as file:
            data = file.read(LARGEST)
        if data.startswith(b"#!"):
            return f"it is a script, which {interpreter(data)} runs"
    return "it is no ELF file" if os.path.isfile(root) else "there are no dynamic ELF files in it"


def measure(graphs: Sequence[Graph]) -> dict[str, File]:
    """The file at every path that the graphs know."""
    found: dict[str, File] = {}
    for path in dict.fromkeys(paths(graphs)):
        try:
            found[path] = File(os.path.realpath(path), os.stat(path).st_size)
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
