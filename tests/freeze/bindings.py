"""What the loader binds, by its own words, and what our resolver says that it does."""

import os
import re
import subprocess
from pathlib import Path

from nix_harden.freezing.freeze import closure
from nix_harden.loading.binding import Binder
from nix_harden.loading.disk import DiskReader
from nix_harden.loading.graph import Graph
from nix_harden.loading.symbols import Symbols
from nix_harden.reading.elf import read_symbols

LINE = re.compile(r"^ *\d+:\tbinding file (.*) \[0\] to (.*) \[0\]: (.*)$", re.MULTILINE)
# The loader lists and looks everything up, and starts nothing.
TRACE = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "1", "LD_DEBUG": "bindings"}
KERNEL = "linux-vdso.so.1"

# Who asks, who answers, and what: "normal symbol `f' [V1]".
Said = set[tuple[str, str, str]]


def graph_of(program: Path) -> Graph:
    return closure(os.path.realpath(program), DiskReader())


def symbols_of(graph: Graph) -> list[Symbols]:
    return [read_symbols(node.real) or Symbols() for node in graph.nodes]


def resolved(program: Path) -> Said:
    """The bindings of a program, the loader's own left out: it is asked before it looks up anything for itself."""
    graph = graph_of(program)
    objects = symbols_of(graph)
    found = set()
    for node, mine, bindings in zip(graph.nodes, objects, Binder(objects).bindings(range(len(objects))), strict=True):
        for lookup, answer in bindings.items():
            if answer is not None and node.path != graph.loader.path:
                how = "protected" if lookup in mine.protected else "normal"
                version = f" [{os.fsdecode(lookup.version.name)}]" if lookup.version else ""
                words = f"{how} symbol `{os.fsdecode(lookup.name)}'{version}"
                found.add((node.path, graph.nodes[answer].path, words))
    return found


def said(program: Path, *emulator: str) -> Said:
    """The same by the program's loader, which the emulator of another machine may run."""
    path, loader = os.path.realpath(program), graph_of(program).loader.path
    if emulator:
        variables = ",".join(f"{name}={value}" for name, value in TRACE.items())
        words = [*emulator, "-E", variables, loader, path]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    else:
        done = subprocess.run([loader, path], env=TRACE, capture_output=True, text=True, check=True)
    lines = ((asker, answer, words.rstrip()) for asker, answer, words in LINE.findall(done.stderr))
    return {line for line in lines if line[0] not in (KERNEL, loader)}


def answer(bound: Said, asker: Path, symbol: str) -> list[str]:
    """The files that answer an object's lookups of a symbol, written with its version as the loader writes it."""
    return sorted(os.path.basename(to) for by, to, words in bound if by == str(asker) and f"`{symbol}" in words)
