"""Which roots have to be walked to prove a plan: those whose names may mean another file by what is loaded, and no others."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from elf.test_worlds import SEEDS, Maker
from support.source import function, opens, prints
from support.store import Package, Store

from nix_harden.fixup import proof, run
from nix_harden.fixup.ambiguity import Change, ambiguous
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.plan import make_plan
from nix_harden.loading.disk import DiskReader, read_loader
from nix_harden.loading.graph import Family, Loader
from nix_harden.model import Held
from nix_harden.settings import Settings, from_environ


def settings_of(store: Store, package: Package, inputs: Iterable[Package], mode: str) -> Settings:
    options = {
        "outputs": [f"out={package.path}"],
        "inputs": [str(each.path) for each in inputs],
        "mode": mode,
        "store": str(store.path),
    }
    return from_environ(store.environ, options)


class Proof:
    """The first plan for a package, which holds nothing, and the roots that were walked to see what it would break."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.catalog = Catalog(settings, found := run.read(settings))
        self.settings, self.monkeypatch = settings, monkeypatch
        self.plan = make_plan(found.files, self.catalog, settings, Held())
        self.roots: set[str] = set()
        self.walked: set[str] = set()

    def breaks(self, *, all_roots: bool = False) -> set[tuple[str, str, str, str | None]]:
        def choose(roots: Iterable[str], loader: Loader, change: Change) -> frozenset[str]:
            roots = frozenset(roots)
            chosen = roots if all_roots else ambiguous(roots, loader, change)
            self.roots |= roots
            self.walked |= chosen
            return chosen

        self.monkeypatch.setattr(proof, "ambiguous", choose)
        walks = proof._Walks(self.catalog, self.settings, searches=False, originals={})
        return {(each.root, each.asker, each.name, each.now) for each in walks.breaks(self.plan)}


@pytest.mark.parametrize("mode", ["soname", "needed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_not_walked_breaks_nothing(seed: int, mode: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks of all roots of random worlds find no more."""
    world = Maker(store, seed)
    for package in world.packages:
        settings = settings_of(store, package, world.packages, mode)
        of_some, of_all = (Proof(settings, monkeypatch).breaks(all_roots=whole) for whole in (False, True))
        assert of_some == of_all
        store.harden(package, inputs=world.packages, options=["--mode", mode])


def walked(store: Store, package: Package, monkeypatch: pytest.MonkeyPatch, mode: str = "soname") -> set[str]:
    """The base names of the roots of a package that are walked."""
    done = Proof(settings_of(store, package, [], mode), monkeypatch)
    done.breaks()
    return {Path(root).name for root in done.walked}


def chain(package: Package) -> list[Path]:
    a = package.library("liba.so.1", function("a", 1))
    b = package.library("libb.so.1", function("b", 2, ["a"]), needs=[a])
    return [a, b]


def test_where_each_name_is_one_file_nothing_is_walked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    package = store.package("it")
    package.program("app", prints("a", "b"), needs=chain(package))
    assert walked(store, package, monkeypatch) == set()


def test_two_files_of_one_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches what asks for the name is walked, and nothing beside it."""
    package, other = store.package("it"), store.package("other")
    a, b = chain(package)
    second = other.library("liba.so.1", function("a", 9))
    c = package.library("libc1.so.1", function("c1", 3, ["a"]), needs=[second])
    package.library("libd.so.1", function("d", 4))
    package.program("app", prints("b", "c1"), needs=[b, c])
    assert walked(store, package, monkeypatch) == {"app", "liba.so.1", "libb.so.1", "libc1.so.1"}
    assert a.name == second.name


def test_a_name_that_its_own_object_does_not_find(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    package = store.package("it")
    a, b = chain(package)
    package.plugin("p.so", function("p", 5, ["a"]), needs=[a], rpath=[])
    package.program("app", prints("b"), needs=[b])
    assert walked(store, package, monkeypatch) == {"p.so"}


def test_a_search_path_that_what_is_below_inherits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    package = store.package("it")
    _, b = chain(package)
    package.program("app", prints("b"), needs=[b], tag="RPATH")
    assert walked(store, package, monkeypatch) == {"app"}


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_string_to_open_that_a_soname_answers(store: Store, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Only where the plan takes the SONAME away."""
    package = store.package("it")
    a, b = chain(package)
    package.program("app", opens("liba.so.1", "a", calls=["b"]), needs=[a, b])
    assert walked(store, package, monkeypatch, mode) == ({"app"} if mode == "soname" else set())


def test_an_origin_that_depends_on_who_asks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links lead to a library that looks beside itself: the first of them that is opened says where that is."""
    package, links = store.package("it"), store.package("links")
    package.library("liba.so.1", function("a", 1))
    b = package.library("libb.so.1", function("b", 2, ["a"]), needs=[package.lib / "liba.so.1"], rpath=["$ORIGIN"])
    links.lib.mkdir()
    for path in (package.lib / "liba.so.1", b):
        (links.lib / path.name).symlink_to(path)
    package.program("app", prints("b"), needs=[b], rpath=[links.lib, store.libc])
    assert walked(store, package, monkeypatch) == {"app", "libb.so.1"}


def test_a_loader_whose_rules_are_others(store: Store) -> None:
    """musl compares no SONAMEs and searches the paths of all that had each other loaded: every root is walked."""
    package = store.package("it")
    roots = [str(path) for path in chain(package)]
    loader = read_loader(str(store.loader), DiskReader())
    assert loader is not None
    change = Change(DiskReader(), DiskReader(), (), lambda _: ())
    assert ambiguous(roots, loader, change) == set()
    assert ambiguous(roots, replace(loader, family=Family.MUSL), change) == set(roots)
