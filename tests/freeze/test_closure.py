"""freeze --closure: every library is copied, and each copy names the copies by path."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from freeze.helpers import bindings, freeze, listing, loaders_misses, refused, run
from support.dynamic import names
from support.schema import check
from support.source import PTHREAD_EXIT, function, opens, prints
from support.store import Package, Store, patchelf

VERSIONED = 'asm(".symver one, f@@V1"); int one(void) { return 7; }'
BOTH = pytest.mark.parametrize("relative", [False, True], ids=["by path", "relative"])


def library(store: Store, name: str, *needs: Path, value: int = 1) -> Path:
    calls = [need.name.removeprefix("lib").partition(".")[0] for need in needs]
    return store.package(name).library(f"lib{name}.so.1", function(name, value, calls), needs=needs)


def versioned(store: Store, name: str = "f", soname: str | None = None) -> Path:
    script = store.path / "versions"
    script.write_text("V1 { global: f; local: *; };")
    flags = [f"-Wl,--version-script={script}"]
    return store.package(name).library("libf.so.1", VERSIONED, flags=flags, soname=soname)


@pytest.fixture
def wide(store: Store) -> Path:
    z, y, f = library(store, "z"), library(store, "y"), versioned(store)
    b, a = library(store, "b", z, f), library(store, "a", y)
    m = library(store, "m", b, a)
    return store.package("app").program("app", prints("m", "a", "f"), needs=[m, a, f])


def bundle(store: Store, program: Path, *options: str | Path, relative: bool = False) -> Path:
    """The frozen program, whose copies lie in the directory `lib` beside its own; it says the same and searches for nothing."""
    out = store.path / "bundle" / "bin" / program.name
    out.parent.mkdir(parents=True)
    words = ["--closure", store.path / "bundle" / "lib", *(["--relative"] if relative else []), *options]
    freeze(store, program, out, *words)
    before, after = run(program), run(out)
    assert after.said == before.said
    assert loaders_misses(after) == []
    return out


def copies(out: Path) -> list[str]:
    """What the loader maps from beside the program, by the places there, in its order."""
    top = out.parents[1] / "lib"
    paths = [Path(os.path.normpath(path)) for path in listing(out)]
    return [str(path.relative_to(top)) for path in paths if path.is_relative_to(top)]


@BOTH
def test_the_copies_are_loaded_in_the_same_order(store: Store, wide: Path, relative: bool) -> None:
    """The C library and its loader stay where they are; symbols bind to the copies of what they bound to."""
    out = bundle(store, wide, relative=relative)
    top = str(out.parents[1] / "lib")
    was = [path for path in listing(wide) if not path.startswith(str(store.libc))]
    assert copies(out) == [os.path.basename(path) for path in was]
    assert [path for path in listing(out) if path.startswith(str(store.libc))] == [
        path for path in listing(wide) if path.startswith(str(store.libc))
    ]
    places = {f"{top}/{os.path.basename(path)}": path for path in was}

    def original(line: str) -> str:
        words = [os.path.normpath(word) if word.startswith("/") else word for word in line.split(" ")]
        return " ".join(places.get(word, word) for word in words)

    assert {original(line) for line in bindings(out, wide)} == bindings(wide, wide)


def test_every_edge_is_bound(store: Store, wide: Path) -> None:
    """NEEDED and version needs of program and copies are paths, but for the loader's; no SONAME changes."""
    out = bundle(store, wide)
    for path in [out, *sorted((out.parents[1] / "lib").iterdir())]:
        found = names(path)
        assert all("/" in name or name == store.loader.name for name in found.needed)
        assert set(found.version_files) <= set(found.needed)
        assert found.soname == (None if path == out else path.name)


def test_relative_can_be_moved(store: Store, wide: Path) -> None:
    """Also to where a link leads to the program."""
    out = bundle(store, wide, relative=True)
    before = run(out)
    moved = store.path / "elsewhere"
    shutil.move(out.parents[1], moved)
    link = store.path / "link"
    link.symlink_to(moved / "bin" / "app")
    for path in (moved / "bin" / "app", link):
        after = run(path)
        assert after.said == before.said
        assert loaders_misses(after) == []
        assert all(file.startswith((f"{moved}/", f"{store.libc}/")) for file in after.mapped)


def test_relative_asks_twice_for_what_has_versions(store: Store, wide: Path) -> None:
    """glibc expands $ORIGIN in NEEDED, and not in the names that it compares versions with: the SONAME answers these."""
    found = names(bundle(store, wide, relative=True))
    assert found.needed[:5] == (
        *("$ORIGIN/../lib/libm.so.1", "$ORIGIN/../lib/liba.so.1", "$ORIGIN/../lib/libf.so.1", "libf.so.1"),
        str(store.libc / "libc.so.6"),
    )
    assert set(found.version_files) == {"libf.so.1", str(store.libc / "libc.so.6")}


def test_relative_says_what_it_needs_at_its_place(store: Store, wide: Path) -> None:
    out = store.path / "app"
    done = freeze(store, wide, out, "--closure", store.path / "lib", "--relative")
    assert f"{out} needs at their places, wherever it lies: its loader, {store.libc}/libc.so.6" in done.err


def test_originals_stay_as_they_are(store: Store, wide: Path) -> None:
    before = {path: Path(path).read_bytes() for path in [*listing(wide), str(wide)]}
    bundle(store, wide)
    assert before == {path: Path(path).read_bytes() for path in before}


def test_modes_are_kept(store: Store, wide: Path) -> None:
    lib = store.package("m").lib / "libm.so.1"
    lib.chmod(0o555)
    out = bundle(store, wide)
    assert (out.parents[1] / "lib" / "libm.so.1").stat().st_mode & 0o7777 == 0o555


@BOTH
def test_two_files_of_one_name(store: Store, relative: bool) -> None:
    """Which no lift can tell apart: the second goes into a directory of its own, and each user keeps its own."""
    one = store.package("one").library("libx.so.1", function("x", 1), soname="libone.so.1")
    two = store.package("two").library("libx.so.1", function("x", 2))
    b = store.package("b").library("libb.so.1", function("b", 1, ["x"]), needs=[one])
    a = store.package("a").library("liba.so.1", function("a", 1, ["x"]), needs=[two])
    patchelf("--replace-needed", "libone.so.1", "libx.so.1", b)
    patchelf("--replace-needed", "libx.so.1", two, a)
    program = store.package("app").program("app", prints("b", "a"), needs=[b, a])
    assert "use --closure DIR" in refused(store, program)
    assert copies(bundle(store, program, relative=relative)) == ["libb.so.1", "liba.so.1", "libx.so.1", "2/libx.so.1"]


@BOTH
def test_a_library_without_soname(store: Store, relative: bool) -> None:
    x = store.package("x").plugin("libx.so", function("x", 1))
    a = store.package("a").library("liba.so.1", function("a", 1, ["x"]), needs=[x])
    flags = ["-Wl,--allow-shlib-undefined"]
    program = store.package("app").program("app", prints("a"), needs=[a], flags=flags)
    out = bundle(store, program, relative=relative)
    assert copies(out) == ["liba.so.1", "libx.so"]
    assert names(out.parents[1] / "lib" / "libx.so").soname == "libx.so"


@BOTH
def test_versions_of_a_library_without_soname(store: Store, relative: bool) -> None:
    script = store.path / "versions"
    script.write_text("V1 { global: f; local: *; };")
    f = store.package("f").plugin("libf.so", VERSIONED, flags=[f"-Wl,--version-script={script}"])
    program = store.package("app").program("app", prints("f"), needs=[f], flags=["-L", str(f.parent)])
    patchelf("--replace-needed", names(program).needed[0], "libf.so", program)
    assert copies(bundle(store, program, relative=relative)) == ["libf.so"]


def test_a_plugin_finds_the_copy_of_a_library_without_soname(store: Store) -> None:
    """Its copy gets one: the name that answered the plugin before, as the program had asked for it."""
    x = store.package("x").plugin("libx.so", function("x", 1))
    plugin = store.package("p").plugin("p.so", function("p", 1, ["x"]), needs=[x], rpath=[])
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["x"]), needs=[x])
    out = bundle(store, program)
    assert run(out).files("libx") == [str(out.parents[1] / "lib" / "libx.so")]


@BOTH
def test_a_name_that_is_not_the_soname(store: Store, relative: bool) -> None:
    """Relative, the versions follow the SONAME, so that nothing but a loaded library is asked for."""
    f = versioned(store)
    (f.parent / "libf.so.1.0").symlink_to("libf.so.1")
    program = store.package("app").program("app", prints("f"), needs=[f])
    patchelf("--replace-needed", "libf.so.1", "libf.so.1.0", program)
    out = bundle(store, program, relative=relative)
    assert copies(out) == ["libf.so.1.0"]


@pytest.mark.parametrize("flag", ["-f", "-F"])
def test_filters_find_the_copy(store: Store, flag: str) -> None:
    """No NEEDED names what a filter stands for: it is searched for, among the copies first."""
    x = store.package("x").library("libx.so.1", function("a", 5))
    flags = [f"-Wl,{flag},libx.so.1"]
    a = store.package("a").library("liba.so.1", function("a", 1), flags=flags, rpath=[x.parent, store.libc])
    program = store.package("app").program("app", prints("a"), needs=[a])
    assert "filter" in refused(store, program)
    out = store.path / "app"
    freeze(store, program, out, "--closure", store.path / "copies")
    assert run(out).said == run(program).said == (0, "5\n", "")
    assert str(x) in run(program).mapped
    assert str(store.path / "copies" / "libx.so.1") in run(out).mapped
    assert str(x) not in run(out).mapped


def test_the_unwinder_that_the_c_library_opens(store: Store) -> None:
    """libc.so.6 opens libgcc_s.so.1 by name: the copy that is loaded answers, and there is one."""
    runtimes = store.compiler_runtimes()
    gcc = runtimes.lib / "libgcc_s.so.1"
    a = store.package("a").library("liba.so.1", function("a", 3), needs=[gcc])
    program = store.package("app").program("app", PTHREAD_EXIT, needs=[a])
    out = bundle(store, program)
    assert run(out).files("libgcc_s") == [str(out.parents[1] / "lib" / "libgcc_s.so.1")]


@BOTH
def test_what_is_opened_by_its_path_gets_the_copies(store: Store, relative: bool) -> None:
    """A plugin that stays where it is needs a library by its bare name: the SONAME of the copy answers."""
    a = library(store, "a")
    plugin = store.package("p").plugin("p.so", function("p", 1, ["a"]), needs=[a])
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["a"]), needs=[a])
    out = bundle(store, program, relative=relative)
    assert run(out).files("liba") == [str(out.parents[1] / "lib" / "liba.so.1")]


def test_origin_in_a_search_path_means_the_old_directory(store: Store) -> None:
    """That of a copy, for what it opens by name."""
    store.package("a").library("libp.so", function("p", 7), directory="lib/private")
    opener = 'void *dlopen(const char *, int); int a(void) { return dlopen("libp.so", 2) != 0; }'
    a = store.package("a").library("liba.so.1", opener, rpath=["$ORIGIN/private", store.libc])
    program = store.package("app").program("app", prints("a"), needs=[a])
    assert run(program).out == "1\n"
    out = store.path / "app"
    freeze(store, program, out, "--closure", store.path / "copies")
    assert run(out).said == (0, "1\n", "")
    assert names(store.path / "copies" / "liba.so.1").runpath == f"{a.parent}/private:{store.libc}"


def test_hardened_libraries(store: Store) -> None:
    """Their SONAMEs are paths, which stay, and answer who names them so."""
    a = library(store, "a")
    b = library(store, "b", a)
    program = store.package("app").program("app", prints("b", "a"), needs=[b, a])
    store.harden(store.package("a"))
    store.harden(store.package("b"), inputs=[store.package("a")])
    store.harden(store.package("app"), inputs=[store.package("a"), store.package("b")])
    out = bundle(store, program, relative=True)
    assert copies(out) == ["libb.so.1", "liba.so.1"]
    assert names(out.parents[1] / "lib" / "liba.so.1").soname == str(a)


def test_in_place(store: Store, wide: Path) -> None:
    before = run(wide)
    store.call("freeze", "--in-place", wide, "--closure", store.path / "copies")
    after = run(wide)
    assert after.said == before.said
    assert loaders_misses(after) == []


def test_json(store: Store, wide: Path) -> None:
    out, directory = store.path / "app", store.path / "copies"
    told = check("freeze", freeze(store, wide, out, "--closure", directory, "--json").out)
    closure = told["closure"]
    assert closure["directory"] == str(directory)
    assert {row["copy"] for row in closure["copies"]} == {str(path) for path in directory.iterdir()}
    assert {row["path"] for row in closure["copies"]} | set(closure["stay"]) == set(listing(wide))
    assert closure["size"] == sum(path.stat().st_size for path in directory.iterdir())
    assert told["libraries"] == list(names(out).needed)


def test_a_directory_that_holds_something_is_refused(store: Store, wide: Path) -> None:
    directory = store.path / "copies"
    directory.mkdir()
    (directory / "mine").write_text("mine")
    done = freeze(store, wide, store.path / "app", "--closure", directory, status=2)
    assert (
        done.err
        == f"nix-harden: error: --closure: {directory} is not empty; say another directory, or delete it first\n"
    )
    assert [path.name for path in directory.iterdir()] == ["mine"]
    assert not (store.path / "app").exists()


def test_an_empty_directory_is_filled_and_keeps_its_mode(store: Store, wide: Path) -> None:
    directory = store.path / "copies"
    directory.mkdir(mode=0o750)
    freeze(store, wide, store.path / "app", "--closure", directory)
    assert directory.stat().st_mode & 0o7777 == 0o750
    assert len(list(directory.iterdir())) == 6  # all but the C library


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--relative"], "--relative: is for the copies"),
        (["--closure", "lib", "--order", "proven"], "--order: is for --lift"),
        (["--closure", "app/lib"], "app is no directory, and"),
        (["--closure", "app"], "is there and no directory"),
    ],
)
def test_options_that_make_no_sense(store: Store, wide: Path, options: list[str], words: str) -> None:
    (store.path / "app").write_text("old")
    places = [str(store.path / each) if each in ("lib", "app/lib", "app") else each for each in options]
    assert words in freeze(store, wide, store.path / "app", *places, status=2).err
    assert (store.path / "app").read_text() == "old"


@pytest.mark.parametrize("sign", [":", "\n", "$"])
def test_a_directory_that_no_search_path_can_hold(store: Store, wide: Path, sign: str) -> None:
    """It would be read as two directories, or as a token."""
    directory = store.path / f"a{sign}b"
    assert "in it, which a search path cannot hold; say another directory" in (
        freeze(store, wide, store.path / "app", "--closure", directory / "lib", status=2).err
    )
    assert not directory.exists()


def test_directories_are_made(store: Store, wide: Path) -> None:
    """Those of the program and of the copies, and gone again where nothing is written."""
    top = store.path / "one" / "two"
    freeze(store, wide, top / "bin" / "app", "--closure", top / "lib")
    assert run(top / "bin" / "app").said == run(wide).said
    with wide.open("ab") as file:
        file.write(b"payload")
    other = store.path / "other"
    freeze(store, wide, other / "bin" / "app", "--closure", other / "lib", status=1)
    assert not other.exists()


def test_lift_and_closure_exclude_each_other(store: Store, wide: Path) -> None:
    done = freeze(store, wide, store.path / "app", "--lift", "--closure", store.path / "lib", status=2)
    assert "not allowed with argument --lift" in done.err


def test_lift_is_the_default(store: Store, wide: Path) -> None:
    one, other = store.path / "one", store.path / "other"
    freeze(store, wide, one)
    freeze(store, wide, other, "--lift")
    assert one.read_bytes() == other.read_bytes()


def refused_closure(store: Store, program: Path, status: int = 1) -> str:
    """The sentence, after which there is neither a program nor a directory nor what was to become one."""
    before = sorted(store.path.iterdir())
    done = freeze(store, program, store.path / "new", "--closure", store.path / "copies", status=status)
    assert sorted(store.path.iterdir()) == before
    (line,) = done.err.splitlines()
    return line


def test_what_every_freeze_refuses(store: Store, wide: Path) -> None:
    """Static programs, scripts, set-user-ID programs, missing libraries: nothing is written."""
    static = store.package("static").program("app", prints(), flags=["-static"], rpath=[])
    assert "it is static and loads no libraries" in refused_closure(store, static)
    script = store.path / "script"
    script.write_text("#! /usr/bin/python3\n")
    assert "freeze its interpreter /usr/bin/python3" in refused_closure(store, script)
    wide.chmod(0o4755)
    assert "set-user-ID" in refused_closure(store, wide)
    wide.chmod(0o755)
    lib = store.package("y").lib
    (lib / "liby.so.1").unlink()
    asker = store.package("a").lib / "liba.so.1"
    assert f"liby.so.1, which {asker} needs, is not found; tried: {lib}, {store.libc}" in refused_closure(store, wide)


def test_a_file_with_bytes_behind_it(store: Store) -> None:
    """They are found by their offset, which the edit would change."""
    program = store.package("app").program("app", prints("a"), needs=[library(store, "a")])
    with program.open("ab") as file:
        file.write(b"payload" * 100)
    assert "holds 700 bytes behind its ELF file" in refused_closure(store, program)
    assert "holds 700 bytes behind its ELF file" in refused(store, program)


def test_a_full_disk_leaves_nothing(store: Store, wide: Path) -> None:
    """Neither copies nor a program, whatever is written first."""
    directory = store.path / "there"
    directory.mkdir()
    (directory / "app").write_text("old")
    for blocks in (8, 18):  # the first library, and the program
        words = (
            f'ulimit -f {blocks}; exec "$0" -m nix_harden freeze {wide} -o {directory}/app --closure {directory}/lib'
        )
        done = subprocess.run(
            ["bash", "-c", words, sys.executable], env=store.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 3, done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in directory.iterdir()] == ["app"]
        assert (directory / "app").read_text() == "old"


def test_what_fails_after_the_copies_takes_them_away(store: Store, wide: Path) -> None:
    """The program's own place cannot be taken: an immutable directory there."""
    directory = store.path / "copies"
    directory.mkdir()
    out = store.path / "out"
    out.mkdir()
    words = ["freeze", str(wide), "-o", str(out / "app"), "--closure", str(directory)]
    code = (
        "import os, sys\nfrom nix_harden.fixup import write\nfrom nix_harden.cli import main\n"
        "real = os.replace\n"
        f"def replace(a, b):\n    if str(b) == {str(out / 'app')!r}: raise OSError(28, 'No space left on device')\n    real(a, b)\n"
        "write.os.replace = replace\nmain(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=store.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert list(directory.iterdir()) == list(out.iterdir()) == []


def test_another_machine(store: Store) -> None:
    """32-bit programs are copied alike, and said not to be compared."""
    package: Package = store.package("app32")
    lib = package.library("liba.so.1", function("a", 3), flags=["-m32"])
    interpreter = "-Wl,--dynamic-linker=/lib/ld-linux.so.2"
    program = package.program("app", prints("a"), needs=[lib], rpath=[lib.parent], flags=["-m32", interpreter])
    out = store.path / "bundle" / "app"
    out.parent.mkdir()
    told = check("freeze", freeze(store, program, out, "--closure", out.parent / "lib", "--relative", "--json").out)
    assert told["why_not_compared"].startswith("for another machine")
    assert run(out).said == (0, "3\n", "")
    assert str(out.parent / "lib" / "liba.so.1") in map(os.path.normpath, listing(out))
