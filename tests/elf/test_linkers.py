"""Linkers: what each of them writes can be bound, and each copies an absolute SONAME into what links to it."""

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import LINKERS, Store
from support.trace import run

VERSIONS = "A_1 { global: a; local: *; };"

pytestmark = pytest.mark.parametrize("linker", LINKERS)


def test_a_bound_chain_searches_nothing_and_maps_the_same_files(store: Store, linker: str) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1), linker=linker)
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba], linker=linker)
    program = it.program("app", prints("a", "b"), needs=[libb, liba], linker=linker)
    before = run(program)
    assert before.out == "1\n11\n"
    assert before.misses
    store.harden(it)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_an_absolute_soname_is_copied_by_the_linker(store: Store, linker: str) -> None:
    """Of three levels only the first is hardened; what links to it finds it without any search path."""
    a, b, app = store.package("liba"), store.package("libb"), store.package("app")
    liba = a.library("liba.so.1", function("a", 1), linker=linker)
    store.harden(a)
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba], linker=linker, rpath=[])
    program = app.program("app", prints("a"), needs=[liba], linker=linker, rpath=[])
    indirect = app.program("indirect", prints("b"), needs=[libb], linker=linker, rpath=[b.lib])
    assert names(libb).needed == (str(liba),)
    assert names(program).needed[0] == str(liba)
    assert (run(program).out, run(indirect).out) == ("1\n", "11\n")
    assert not [miss for miss in run(program).misses if "liba" in miss]


def test_a_versioned_library_is_bound_and_links_on(store: Store, linker: str) -> None:
    """Names of version needs equal NEEDED byte for byte, else the loader aborts: `needed != NULL`."""
    a, app, later = store.package("liba"), store.package("app"), store.package("later")
    script = store.path / "versions"
    script.write_text(VERSIONS)
    flags = ["-Xlinker", f"--version-script={script}"]
    liba = a.library("liba.so.1", function("a", 1), flags=flags, linker=linker)
    program = app.program("app", prints("a"), needs=[liba], linker=linker)
    before = run(program)
    store.harden(a, app)
    linked = later.program("linked", prints("a"), needs=[liba], linker=linker)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert run(linked).said == (0, "1\n", "")
    for file in (program, linked):
        assert str(liba) in names(file).version_files
        assert set(names(file).version_files) <= set(names(file).needed)


@pytest.mark.parametrize("hash_style", ["sysv", "gnu", "both"])
def test_each_symbol_hash_table_is_read(store: Store, linker: str, hash_style: str) -> None:
    a, app = store.package("liba"), store.package("app")
    flags = ["-Xlinker", f"--hash-style={hash_style}"]
    liba = a.library("liba.so.1", function("a", 1), flags=flags, linker=linker)
    program = app.program("app", prints("a"), needs=[liba], flags=flags, linker=linker)
    before = run(program)
    store.harden(a, app)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


@pytest.mark.parametrize("flags", [("-z", "now"), ("-z", "norelro"), ("-z", "max-page-size=65536"), ("--strip-all",)])
def test_layouts_of_segments_run_after_the_edit(store: Store, linker: str, flags: tuple[str, ...]) -> None:
    it = store.package("it")
    words = [word for flag in flags for word in ("-Xlinker", flag)]
    liba = it.library("liba.so.1", function("a", 1), linker=linker, flags=words)
    program = it.program("app", prints("a"), needs=[liba], linker=linker, flags=words)
    before = run(program)
    store.harden(it)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
