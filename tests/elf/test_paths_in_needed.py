"""NEEDED with a slash: a linker records the path that it was given of a library without SONAME."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store, patchelf
from support.trace import run


@pytest.fixture
def it(store: Store) -> Package:
    """liba.so without SONAME, and a program linked to it."""
    it = store.package("it")
    it.plugin("liba.so", function("a", 1), directory="lib")
    it.program("app", prints("a"), needs=[it.lib / "liba.so"])
    return it


def name(it: Package, path: str) -> Path:
    program = it.bin / "app"
    patchelf("--replace-needed", names(program).needed[0], path, program)
    return program


@pytest.mark.parametrize("path", ["./liba.so", "../lib/liba.so", "/gone/build/lib/liba.so", "$ORIGIN/gone/liba.so"])
def test_a_path_that_leads_nowhere_in_the_store_means_the_library_of_the_outputs(
    store: Store, it: Package, path: str
) -> None:
    program = name(it, path)
    store.harden(it)
    assert names(program).needed[0] == f"{it.lib}/liba.so"
    assert run(program).said == (0, "1\n", "")


def test_a_path_into_the_build_directory_means_the_library_of_the_outputs(
    store: Store, it: Package, tmp_path: Path
) -> None:
    """It is still there when the hook runs, and gone when the program does."""
    built = Package(store, tmp_path / "build" / "it").plugin("liba.so", function("a", 9), directory="lib")
    program = name(it, str(built))
    store.harden(it, environ={"NIX_BUILD_TOP": str(tmp_path / "build")})
    assert names(program).needed[0] == f"{it.lib}/liba.so"


def test_a_path_to_a_file_outside_the_store_is_left_and_said(store: Store, it: Package, tmp_path: Path) -> None:
    outside = Package(store, tmp_path / "outside").plugin("liba.so", function("a", 9), directory="lib")
    program = name(it, str(outside))
    answer = store.harden(it)
    assert names(program).needed[0] == str(outside)
    assert f"{outside} stays as it is" in answer.err


def test_an_origin_that_leads_into_the_store_stays(store: Store, it: Package) -> None:
    program = name(it, "$ORIGIN/../lib/liba.so")
    answer = store.harden(it)
    assert names(program).needed[0] == "$ORIGIN/../lib/liba.so"
    assert "warning" not in answer.err
    assert run(program).said == (0, "1\n", "")


def test_two_libraries_of_that_name_are_nobodys_guess(store: Store, it: Package) -> None:
    it.plugin("liba.so", function("a", 2), directory="lib/other")
    program = name(it, "./liba.so")
    answer = store.harden(it)
    assert names(program).needed[0] == "./liba.so"
    assert "./liba.so stays as it is" in answer.err
