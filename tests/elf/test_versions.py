"""Symbol versions: every file that a version need names is a NEEDED, byte for byte, or ld.so aborts."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store
from support.trace import run


def versioned(package: Package, file: str, source: str, script: str, needs: list[Path] | None = None) -> Path:
    path = package.store.path / f"{file}.versions"
    path.write_text(script)
    return package.library(file, source, needs=needs or [], flags=["-Xlinker", f"--version-script={path}"])


@pytest.fixture
def chain(store: Store) -> tuple[Path, Path, Path]:
    """liba and libb with versions, and a program that uses both."""
    a = versioned(store.package("liba"), "liba.so.1", function("a", 1), "A_1 { global: a; local: *; };")
    b = versioned(
        store.package("libb"), "libb.so.1", function("b", 10, ["a"]), "B_1 { global: b; local: *; };", needs=[a]
    )
    return a, b, store.package("app").program("app", prints("a", "b"), needs=[b, a])


@pytest.mark.parametrize(
    "hardened",
    [["liba"], ["libb"], ["app"], ["liba", "libb"], ["libb", "app"], ["liba", "app"], ["liba", "libb", "app"]],
    ids="+".join,
)
def test_hardened_and_bare_versioned_objects_run_together(
    store: Store, chain: tuple[Path, Path, Path], hardened: list[str]
) -> None:
    before = run(chain[2])
    assert before.out == "1\n11\n"
    store.harden(*(store.package(name) for name in hardened))
    assert run(chain[2]).behaviour == before.behaviour
    for file in chain:
        assert set(names(file).version_files) <= set(names(file).needed)


@pytest.mark.parametrize("hardened", [["liba", "libb"], ["app"], ["libb"]], ids="+".join)
def test_a_versioned_library_opened_later_runs_too(
    store: Store, chain: tuple[Path, Path, Path], hardened: list[str]
) -> None:
    """As `python` passed and its first import aborted, when only some had been rewritten."""
    liba, libb, _ = chain
    app = store.package("app")
    program = app.program("late", opens(str(libb), "b", calls=["a"]), needs=[liba])
    before = run(program)
    assert before.out == "11\n"
    store.harden(*(store.package(name) for name in hardened))
    assert run(program).behaviour == before.behaviour


def test_a_version_spelt_as_the_soname_survives(store: Store) -> None:
    """libcudnn.so.7 has a version node of its own name; a tool that overwrote the old SONAME broke it."""
    a, app = store.package("liba"), store.package("app")
    liba = versioned(a, "liba.so.1", function("a", 1), "liba.so.1 { global: a; local: *; };")
    program = app.program("app", prints("a"), needs=[liba])
    before = run(program)
    store.harden(a, app)
    assert run(program).behaviour == before.behaviour
    assert names(program).version_files.count(str(liba)) == 1


def test_a_weak_and_a_default_version_of_one_symbol_both_bind(store: Store) -> None:
    a, app = store.package("liba"), store.package("app")
    source = """
        __asm__(".symver one, a@A_1"); __asm__(".symver two, a@@A_2");
        int one(void) { return 1; } int two(void) { return 2; }"""
    script = "A_1 { global: a; local: *; }; A_2 { global: a; } A_1;"
    liba = versioned(a, "liba.so.1", source, script)
    old = 'int printf(const char *, ...); __asm__(".symver a, a@A_1"); int a(void); int main(void) { printf("%d\\n", a()); }'
    programs = [app.program("new", prints("a"), needs=[liba]), app.program("old", old, needs=[liba])]
    before = [run(program) for program in programs]
    assert [ran.out for ran in before] == ["2\n", "1\n"]
    store.harden(a, app)
    assert [run(program).behaviour for program in programs] == [ran.behaviour for ran in before]
    assert [run(program).misses for program in programs] == [(), ()]
