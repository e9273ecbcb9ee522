"""How often a loader looks for a file in vain is counted by its rules as strace counts it when it runs."""

from pathlib import Path

import pytest
from musl.muslstore import Musl, uses_libc
from support.source import function, prints
from support.store import Package, Store

from nix_harden.loading.disk import DiskReader, Loaders
from nix_harden.loading.graph import Graph
from nix_harden.loading.loader import walk
from nix_harden.loading.lookups import Lookups, count
from nix_harden.reporting.survey import watch


def look(program: Path) -> tuple[Lookups, int]:
    """What the rules say, and what strace saw the program's own loader do."""
    reader = DiskReader()
    graph = walked(program, reader)
    seen = watch(graph).failed
    assert seen is not None
    return count(graph, reader, prelinked=False), seen


def walked(program: Path, reader: DiskReader) -> Graph:
    seen = reader.open(str(program))
    loader = Loaders(reader, None).of(seen.loadable.object)  # type: ignore[union-attr]
    assert loader is not None
    graph = walk(str(program), loader, reader)
    assert graph is not None
    return graph


@pytest.fixture(params=["RUNPATH", "RPATH"])
def chain(store: Store, request: pytest.FixtureRequest) -> tuple[list[Package], Path]:
    """A program and three libraries in a store path each, which it finds in the last of its directories."""
    tag = request.param
    packages = [store.package(name) for name in "abc"]
    libraries: list[Path] = []
    for package in packages:
        name, below = package.path.name[-1], libraries[-1:]
        calls = [need.name[3] for need in below]
        libraries.append(package.library(f"lib{name}.so.1", function(name, 1, calls), needs=below, tag=tag))
    app = store.package("app")
    places = [store.libc, *(library.parent for library in libraries)]
    program = app.program("app", prints("a", "b", "c"), needs=libraries[::-1], rpath=places, tag=tag)
    return [*packages, app], program


def test_of_bare_names(chain: tuple[list[Package], Path]) -> None:
    """Nothing is saved where nothing is bound."""
    counted, seen = look(chain[1])
    assert counted.now == seen > 10
    assert counted.saved == 0


def test_of_bound_names(store: Store, chain: tuple[list[Package], Path]) -> None:
    """What is saved is what was looked for in vain before, although the bare program is gone."""
    packages, program = chain
    before, _ = look(program)
    store.harden(*packages)
    after, seen = look(program)
    assert after.now == seen == 0
    assert after.bare > 0
    assert after.saved == after.bare
    for package in reversed(packages):
        store.call("unharden", package.path)
    unbound, seen = look(program)
    assert unbound.now == seen == after.bare
    assert before.now >= unbound.now  # the program's own order of directories led past more of them


def test_directories_that_are_not_there(store: Store) -> None:
    """Each is asked about once, then left out, and so are its subdirectories for processors."""
    libraries = [store.package(name).library(f"lib{name}.so.1", function(name, 1)) for name in "abc"]
    places = [store.path / "nowhere/lib", *(library.parent for library in libraries), store.libc]
    counted, seen = look(store.package("app").program("app", prints("a", "b", "c"), needs=libraries, rpath=places))
    assert counted.now == seen > 10


def test_builds_for_processors(store: Store) -> None:
    """A subdirectory that is there is looked into for each name."""
    package = store.package("a")
    libraries = [package.library(f"lib{name}.so.1", function(name, 1)) for name in "ab"]
    package.library("libb.so.1", function("b", 2), directory="lib/glibc-hwcaps/x86-64-v2")
    counted, seen = look(store.package("app").program("app", prints("a", "b"), needs=libraries))
    assert counted.now == seen > 5


def test_of_musl(store: Store) -> None:
    """musl asks for each name in each directory, whether that is there or not."""
    musl = Musl.create(store)
    packages = [store.package(name) for name in "ab"]
    libraries = [
        musl.library(package, f"lib{name}.so", uses_libc(name, 1)) for package, name in zip(packages, "ab", strict=True)
    ]
    places = [store.path / "nowhere", *(library.parent for library in libraries), musl.package.lib]
    program = musl.program(store.package("app"), "app", prints("a", "b"), libraries, places)
    counted, seen = look(program)
    assert counted.now == seen == 3
