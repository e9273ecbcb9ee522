"""What is done with whole store paths after the build: copied, rewritten, linked, moved."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store, patchelf
from support.trace import run

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user may change the root directory")


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


@pytest.fixture
def liba(store: Store) -> Path:
    return store.package("liba").library("liba.so.1", function("a", 1))


@pytest.fixture
def program(store: Store, it: Package, liba: Path) -> Path:
    """A hardened program of two libraries, each package hardened on its own."""
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", prints("a", "b"), needs=[libb, liba])
    for name in ("liba", "libb", "it"):
        store.harden(store.package(name))
    return program


def search(file: Path, *, text: bool) -> list[str]:
    """The directories of an object's search path: what patchelf prints of it, split, or those of its tag, if it has one."""
    path = names(file).runpath
    return path.split(":") if path is not None else [""] if text else []


def make_initrd(program: Path, root: Path, *, text: bool) -> None:
    """As make-initrd-ng does: each directory of the search path joined with each NEEDED, where an absolute name replaces the
    directory; the interpreter; all copied to the same paths under a new root, and stripped."""
    queue, done = [program], set[Path]()
    while queue:
        file = queue.pop()
        if file in done:
            continue
        done.add(file)
        target = Path(f"{root}{file}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        subprocess.run(["strip", "--strip-all", target], check=True)
        for name in names(file).needed:
            found = [path for place in search(file, text=text) if os.path.exists(path := os.path.join(place, name))]
            queue += map(Path, found[:1])


def starts(program: Path, root: Path, loader: Path) -> bool:
    Path(f"{root}{loader.parent}").mkdir(parents=True, exist_ok=True)
    shutil.copy(loader, f"{root}{loader}")
    answer = subprocess.run(["chroot", root, program], capture_output=True, text=True, check=False)
    return (answer.returncode, answer.stdout, answer.stderr) == (0, "1\n11\n", "")


@ROOT
def test_an_initrd_made_from_what_patchelf_prints_is_whole(program: Path, store: Store, tmp_path: Path) -> None:
    """make-initrd-ng of 2022 split the text of RUNPATH, and an empty text is one entry."""
    make_initrd(program, tmp_path / "initrd", text=True)
    assert starts(program, tmp_path / "initrd", store.loader)


@ROOT
def test_an_initrd_made_from_the_entries_of_runpath_is_whole(program: Path, store: Store, tmp_path: Path) -> None:
    """make-initrd-ng since it reads ELF itself takes no library of an object that has no RUNPATH, and one that is empty has an
    entry."""
    make_initrd(program, tmp_path / "initrd", text=False)
    assert starts(program, tmp_path / "initrd", store.loader)


@ROOT
@pytest.mark.parametrize("how", ["never hardened", "keep", "unharden"])
def test_an_initrd_takes_what_keeps_its_runpath_or_gets_it_back(
    store: Store, it: Package, liba: Path, tmp_path: Path, how: str
) -> None:
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", prints("a", "b"), needs=[libb, liba])
    packages = [store.package(name) for name in ("liba", "libb", "it")]
    for package in packages if how != "never hardened" else ():
        store.harden(package, options=["--keep-runpath"] if how == "keep" else [])
    if how == "unharden":
        store.call("unharden", *(str(package.path) for package in packages))
    make_initrd(program, tmp_path / "initrd", text=False)
    assert starts(program, tmp_path / "initrd", store.loader)


def test_a_scripted_initrd_looks_for_bare_names_and_finds_them_once_unhardened(
    program: Path, store: Store, liba: Path
) -> None:
    """Its find-libs joins a directory and a name by text, so that an absolute name leads nowhere."""
    copies = store.package("extra-utils")
    copies.lib.mkdir()
    for file in (program, liba, store.package("libb").lib / "libb.so.1"):
        shutil.copy(file, copies.lib)

    def satisfied() -> bool:
        files = [copies.lib / name for name in ("app", "libb.so.1")]
        ours = [name for file in files for name in names(file).needed if "libc" not in name]
        return all(os.path.isfile(f"{copies.lib}/{name}") for name in ours)

    assert not satisfied()
    store.call("unharden", str(copies.path))
    assert satisfied()
    patchelf("--set-rpath", f"{copies.lib}:{store.libc}", copies.lib / "app")
    patchelf("--set-rpath", f"{copies.lib}:{store.libc}", copies.lib / "libb.so.1")
    assert run(copies.lib / "app").files("lib")[:2] == [f"{copies.lib}/libb.so.1", f"{copies.lib}/liba.so.1"]


def test_a_reference_that_was_removed_is_named_by_the_audit_and_comes_off(
    program: Path, store: Store, liba: Path
) -> None:
    """`remove-references-to -t liba`: the name leads nowhere, and unharden makes it bare."""
    part = store.package("liba").path.name[:32].encode()
    data = program.read_bytes()
    assert part in data
    program.write_bytes(data.replace(part, b"e" * 32))
    assert run(program).status == 127
    answer = store.call("audit", str(program), status=1)
    assert f"{'e' * 32}-liba/lib/liba.so.1 is not found" in answer.out
    store.call("unharden", str(program))
    assert "liba.so.1" in names(program).needed
    assert run(program, environ={"LD_LIBRARY_PATH": str(liba.parent)}).said == (0, "1\n11\n", "")


def test_a_store_path_that_is_replaced_in_place_takes_effect(program: Path, store: Store) -> None:
    """As replaceDependencies does it: another hash of the same length in the bytes of everything that refers to it."""
    old, new = store.package("liba"), store.package("liba-patched")
    new.library("liba.so.1", function("a", 5))
    store.harden(new)
    new.path.rename(store.path / f"{new.path.name[:32]}-liba")
    for file in (program, store.package("libb").lib / "libb.so.1"):
        data = file.read_bytes()
        file.write_bytes(data.replace(old.path.name[:32].encode(), new.path.name[:32].encode()))
    after = run(program)
    assert (after.status, after.out) == (0, "5\n15\n")
    assert after.files("liba") == [f"{store.path}/{new.path.name[:32]}-liba/lib/liba.so.1"]
    assert after.misses == ()


def test_files_that_the_store_made_one_by_hard_links_are_loaded_once(store: Store, it: Package) -> None:
    """`nix-store --optimise`: the loader knows a file by its inode, by whichever of its absolute names it is asked for."""
    one, two = store.package("one"), store.package("two")
    liba = one.library("liba.so.1", function("a", 1))
    two.lib.mkdir()
    os.link(liba, two.lib / "liba.so.1")
    libp = store.package("libp").library("libp.so.1", function("p", 0, ["a"]), needs=[liba])
    libq = store.package("libq").library("libq.so.1", function("q", 0, ["a"]), needs=[two.lib / "liba.so.1"])
    program = it.program("app", prints("p", "q"), needs=[libp, libq])
    store.harden(store.package("libp"), store.package("libq"), it)
    assert names(libp).needed[0] != names(libq).needed[0]
    after = run(program)
    assert after.said == (0, "1\n1\n", "")
    assert len(after.files("liba")) == 1


def test_a_prebuilt_program_is_bound_after_autopatchelf_and_does_not_mind_one_later(
    store: Store, it: Package, liba: Path
) -> None:
    """It sets the interpreter and a search path of the libraries that it found, without libc's; names that are absolute
    and there it takes as they are."""
    program = it.program("app", prints("a"), needs=[liba], rpath=[])
    assert run(program).status == 127
    patchelf("--set-rpath", liba.parent, program)
    before = run(program)
    assert before.out == "1\n"
    store.harden(it)
    after = run(program)
    assert after.said == before.said
    assert after.mapped == (*before.mapped[:-1], str(store.libc / "libc.so.6")), "the loader's own default directory"
    assert after.misses == ()
    patchelf("--set-interpreter", store.loader, "--set-rpath", "/nowhere/lib", program)
    assert run(program).said == before.said
    assert run(program).misses == ()


@ROOT
def test_a_closure_runs_under_another_root_and_not_under_another_name(
    program: Path, store: Store, tmp_path: Path
) -> None:
    """A container or a chroot keeps the paths; a store that is moved does not, whatever its names are."""
    root = tmp_path / "root"
    shutil.copytree(store.path, f"{root}{store.path}", symlinks=True)
    answer = subprocess.run(["chroot", root, program], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "1\n11\n")
    moved = store.path.with_name("moved")
    store.path.rename(moved)
    words = [moved / store.loader.relative_to(store.path), moved / program.relative_to(store.path)]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    assert answer.returncode == 127
    assert "cannot open shared object file" in answer.stderr


def test_two_packages_of_one_name_in_a_search_path_keep_their_winner(store: Store, it: Package) -> None:
    one = store.package("one").library("libx.so.1", function("x", 1))
    two = store.package("two").library("libx.so.1", function("x", 2))
    for number, order in enumerate(([one, two], [two, one])):
        rpath = [*(library.parent for library in order), store.libc]
        program = it.program(f"app{number}", prints("x"), needs=[one], rpath=rpath)
        before = run(program)
        store.harden(it)
        assert run(program).behaviour == before.behaviour
        assert names(program).needed[0] == str(order[0])


@pytest.mark.parametrize("case", ["bound on purpose", "a directory that holds both", "both of one name", "a driver"])
def test_unhardened_names_lead_to_the_same_files_or_are_said(store: Store, it: Package, case: str) -> None:
    """A directory that comes first may hold another file of the name. Then another order, or an absolute name that stays with
    a warning, is right."""
    one, two = store.package("one"), store.package("two")
    liba, libx = one.library("liba.so.1", function("a", 1)), two.library("libx.so.1", function("x", 2))
    environ = {}
    match case:
        case "bound on purpose":  # a program that opens libraries keeps the search path that leads to the other
            other = one.library("libx.so.1", function("x", 1))
            source = "#include <dlfcn.h>\n" + prints("x") + "void *f(const char *n) { return dlopen(n, RTLD_NOW); }"
            program = it.program("app", source, needs=[libx])
            store.harden(it, options=["--bind", f"libx.so.1={other}"])
        case "a directory that holds both":
            one.library("libx.so.1", function("x", 1))
            program = it.program("app", prints("a", "x"), needs=[liba, libx], rpath=[two.lib, one.lib, store.libc])
            store.harden(it)
        case "both of one name":
            other = one.library("libx.so.1", function("y", 1))
            store.harden(one, two)
            program = it.program("app", prints("x", "y"), flags=[str(libx), str(other)])
            store.harden(it)
        case _:  # a stub of the driver lies beside liba, where nothing looked for it
            one.library("libcuda.so.1", function("cuda", 0))
            driver = store.package("driver").library("libcuda.so.1", function("cuda", 9))
            store.harden(one)
            program = it.program("app", prints("a", "cuda"), needs=[liba, driver], rpath=[store.libc])
            store.harden(it)
            environ = {"LD_LIBRARY_PATH": ""}
    before = run(program, environ=environ)
    answer = store.call("unharden", str(it.path), status=None)
    assert run(program, environ=environ).files("lib") == before.files("lib")
    assert answer.status == ("stays absolute" in answer.err)


def test_a_tree_that_finds_its_libraries_by_origin_is_no_longer_whole_in_a_copy(store: Store, it: Package) -> None:
    """A tree that is meant to be copied, as a bundle or a run-time image is, is to be left out: dontHardenNeeded, or exclude."""
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba], rpath=["$ORIGIN/../lib", store.libc])
    left = it.program("left", prints("a"), needs=[liba], rpath=["$ORIGIN/../lib", store.libc])
    store.harden(it, options=["--exclude", "bin/left"])
    copy = store.package("copy")
    shutil.copytree(it.path, copy.path, dirs_exist_ok=True)
    assert run(program).files("liba") == run(copy.bin / program.name).files("liba") == [str(liba)]
    assert run(left).files("liba") == [str(liba)]
    assert run(copy.bin / left.name).files("liba") == [str(copy.lib / "liba.so.1")]
