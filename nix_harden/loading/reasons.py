"""Why a name is left bare: the first reason that holds, in one table; pure."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from nix_harden.loading.findings import Severity
from nix_harden.loading.graph import Edge, Graph, How
from nix_harden.names import DRIVERS, LIBC, LOADERS
from nix_harden.reading.elf import is_dispatcher
from nix_harden.settings import matches

DRIVER_DIRECTORIES = ("/run/opengl-driver/", "/run/opengl-driver-32/")


@dataclass(frozen=True)
class Reason:
    """Why a name is bare: the name of the reason, its sentence, whether it is as it should be, and when it holds."""

    name: str
    sentence: str
    severity: Severity
    holds: Callable[[Graph, Edge, str], bool]


def _named(patterns: tuple[str, ...] | list[str], name: str) -> bool:
    return matches(patterns, os.path.basename(name)) is not None


def store_path(path: str, store: str) -> str:
    """The store path that holds a file, or, for a file outside the store, its directory."""
    if path.startswith(store + "/"):
        return "/".join(path.split("/")[: store.count("/") + 2])
    return os.path.dirname(path)


def _in_store(path: str, store: str) -> bool:
    return path.startswith(store + "/")


def _outside(graph: Graph, edge: Edge, store: str) -> bool:
    target = graph.nodes[edge.target] if edge.target is not None else None
    return not _in_store(graph.nodes[edge.source].real, store) or (
        target is not None and not _in_store(target.real, store)
    )


def _overridable(graph: Graph, edge: Edge, store: str) -> bool:
    """Whether a directory that comes before the one that answered is not settled by the store."""
    if edge.how is not How.RUNPATH and edge.how is not How.RPATH:
        return False
    node = graph.nodes[edge.source]
    for entry in node.search:
        if os.path.normpath(entry.directory) == os.path.normpath(os.path.dirname(edge.path or "")):
            return False
        if not _in_store(os.path.normpath(entry.directory), store):
            return True
    return False


def _driver(graph: Graph, edge: Edge, _: str) -> bool:
    """A dispatcher that the object's own search finds is no driver, as for the hook."""
    own = edge.target is not None and edge.how in (How.RUNPATH, How.RPATH)
    dispatcher = own and is_dispatcher(edge.name, edge.path or "")
    return _named(DRIVERS, edge.name) and not dispatcher


def _variant(graph: Graph, edge: Edge, _: str) -> bool:
    return edge.path is not None and any(
        os.path.dirname(edge.path).endswith("/" + variant) for variant in graph.loader.variants
    )


REASONS = (
    Reason(
        "the loader itself",
        "it is there before any name is looked up",
        Severity.NOTE,
        lambda graph, edge, _: edge.how is How.LIBC or _named(LOADERS, edge.name),
    ),
    Reason(
        "driver library",
        "the system's own driver takes its place",
        Severity.NOTE,
        _driver,
    ),
    Reason(
        "C library",
        "glibc's own libraries are left as they are",
        Severity.NOTE,
        lambda graph, edge, _: _named(LIBC, graph.nodes[edge.source].object.soname or ""),
    ),
    Reason("outside the store", "the object or the library that it finds is not in the store", Severity.NOTE, _outside),
    Reason("processor variants", "the loader chose a build for this processor", Severity.NOTE, _variant),
    Reason(
        "may be overridden",
        "a directory outside the store comes first in the search path, and may hold the name at run time",
        Severity.NOTE,
        _overridable,
    ),
    Reason(
        "loaded before",
        "another object asked for it first, so this program does not search; another program may",
        Severity.WARNING,
        lambda graph, edge, _: not edge.how.is_search,
    ),
    Reason(
        "not bound", "each program that loads it searches for the name", Severity.WARNING, lambda graph, edge, _: True
    ),
)


def reason_of(graph: Graph, edge: Edge, store: str) -> Reason:
    """Why the name of an edge that leads to a file is bare: the first reason that holds."""
    return next(reason for reason in REASONS if reason.holds(graph, edge, store))
