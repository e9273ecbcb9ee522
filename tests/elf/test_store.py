"""A whole store directory without Nix, hardened by `nix-harden fixup-store`."""

import os
from pathlib import Path
from typing import Any

from support import schema
from support.source import function, prints
from support.store import Hardened, Package, Store
from support.trace import run


def harden(store: Store, *words: str | Path, status: int = 0) -> Hardened:
    return store.call("fixup-store", *words, store.path, environ={"NIX_STORE": "/nix/store"}, status=status)


def plans(done: Hardened) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = schema.check("store", done.out)["fixups"]
    return found


def chain(store: Store) -> Path:
    """A program of a package whose name sorts before that of what it needs, three packages deep."""
    last = store.package("z").library("libz9.so.1", function("z", 3))
    middle = store.package("m").library("libm9.so.1", function("m", 1, ["z"]), needs=[last])
    return store.package("app").program("app", prints("m"), needs=[middle])


def test_every_package_is_bound_and_nothing_is_searched_for(store: Store) -> None:
    program = chain(store)
    before = run(program)
    done = harden(store)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert before.misses
    assert not after.misses
    assert "nix-harden-needed: 4 packages, 0 without ELF files: " in done.err
    for name in ("z", "m", "app"):
        assert sum(f"{store.package(name).path.name}: " in line for line in done.err.splitlines()) == 1


def test_a_second_run_changes_nothing(store: Store) -> None:
    chain(store)
    harden(store)
    assert "0 names bound; 0 files written" in harden(store).err


def test_a_package_is_done_once_all_that_it_refers_to_is(store: Store) -> None:
    """By a search path, a link, an absolute name or the path in a text; and its inputs are their closure."""
    chain(store)
    linked, text = store.package("linked"), store.package("text")
    (linked.path / "to").symlink_to(store.package("app").path)
    (text.path / "script").write_text(f"exec {linked.path}/to/bin/app")
    done = plans(harden(store, "--json"))
    places = {Path(path).name.partition("-")[2]: n for n, each in enumerate(done) for path in each["packages"]}
    names = ["glibc", "z", "m", "app", "linked", "text"]
    assert sorted(names, key=places.__getitem__) == names
    inputs = [Path(path).name.partition("-")[2] for path in done[places["text"]]["inputs"]]
    assert inputs[:2] == ["linked", "app"]
    assert set(inputs) == set(names) - {"text"}


def test_packages_that_need_each_other_are_hardened_together(store: Store) -> None:
    """Their names are bound, too: each knows of what the other becomes."""
    one, two = store.package("one"), store.package("two")
    second = two.library("lib2.so.1", function("two", 2))
    first = one.library("lib1.so.1", function("one", 1, ["two"]), needs=[second])
    second.unlink()
    second = two.library(
        "lib2.so.1", f"{function('two', 2)} int one(void); int both(void) {{ return one(); }}", needs=[first]
    )
    program = store.package("app").program("app", prints("both"), needs=[second], flags=["-Wl,--allow-shlib-undefined"])
    before = run(program)
    done = plans(harden(store, "--json"))
    assert sorted(map(str, (one.path, two.path))) in [sorted(each["packages"]) for each in done]
    after = run(program)
    assert after.behaviour == before.behaviour
    assert not after.misses


def test_one_that_fails_is_named_and_the_others_go_on(store: Store) -> None:
    """The worst failure is the exit status, and what failed is as it was."""
    program = chain(store)
    bad = store.package("bad")
    broken = bad.library("libbad.so.1", function("bad", 1), needs=[store.package("z").lib / "libz9.so.1"])
    broken.write_bytes(broken.read_bytes()[:200])
    done = harden(store, "--strict", "--json", status=1)
    assert f"nix-harden: error: {bad.path.name}: 1 finding, and hardenNeededStrict is set" in done.err
    assert "; 1 failed\n" in done.err
    (failed,) = (each for each in plans(done) if each["plan"] is None)
    assert failed["packages"] == [str(bad.path)]
    assert failed["errors"]
    assert not run(program).misses


def test_a_dry_run_writes_nothing(store: Store) -> None:
    program = chain(store)
    before = program.read_bytes()
    done = harden(store, "--dry-run")
    assert program.read_bytes() == before
    assert "would be bound" in done.err
    assert "written" not in done.err


def test_nothing_is_written_through_a_link(store: Store, tmp_path: Path) -> None:
    """Neither a tree of links into another place, as a Python environment has, nor an entry of the store that is one."""
    outside = Package(store, tmp_path / "outside")
    lib = outside.library("liba.so.1", function("a", 1))
    before = lib.read_bytes()
    tree = store.package("env")
    tree.lib.symlink_to(outside.lib)
    (tree.path / "liba.so.1").symlink_to(lib)
    (store.path / "entry").symlink_to(outside.path)
    harden(store)
    assert lib.read_bytes() == before
    assert tree.lib.is_symlink()


def test_a_store_that_is_none_is_refused(store: Store, tmp_path: Path) -> None:
    """Also that of a Nix, which would no more know its packages; there a dry run tells."""
    for path, words in {
        tmp_path / "nothing": "is no directory",
        store.loader: "is no directory",
        tmp_path / "empty": "holds no package",
    }.items():
        (tmp_path / "empty").mkdir(exist_ok=True)
        done = store.call("fixup-store", path, status=2)
        assert f"nix-harden: error: {path}: {words}" in done.err
    (store.path / ".links").mkdir()
    program = chain(store)
    before = program.read_bytes()
    assert "is the store of a Nix" in harden(store, status=2).err
    assert program.read_bytes() == before
    assert "would be bound" in harden(store, "--dry-run").err


def test_a_meaning_that_nothing_needs_is_said_once(store: Store) -> None:
    """And none is said where one package of all needs it."""
    chain(store)
    lib = store.package("z").lib / "libz9.so.1"
    assert harden(store, "--dry-run", "--bind", f"libno.so.1={lib}").err.count("which no file here needs") == 1
    assert "which no file here needs" not in harden(store, "--dry-run", "--bind", f"libz9.so.1={lib}").err


def test_names_of_packages_may_hold_any_letters(store: Store) -> None:
    package = Package(store, store.path / "a b,ö(1)")
    lib = package.library("liba.so.1", function("a", 1))
    program = Package(store, store.path / "0 app").program("app", prints("a"), needs=[lib])
    done = plans(harden(store, "--json"))
    names = [os.path.basename(each["packages"][0]) for each in done]
    assert names.index("a b,ö(1)") < names.index("0 app")
    assert not run(program).misses
