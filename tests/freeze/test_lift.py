"""freeze --lift: the program names its whole closure in the loader's own order, and nothing is searched for."""

import os
from pathlib import Path

import pytest
from freeze.helpers import bindings, freeze, frozen, listing, loaders_misses, run
from support.dynamic import names
from support.schema import check
from support.source import function, opens, prints
from support.store import Package, Store, patchelf

VERSIONED = 'asm(".symver one, f@@V1"); int one(void) { return 1; }'


def library(store: Store, name: str, *needs: Path, value: int = 1) -> Path:
    calls = [need.name.removeprefix("lib").partition(".")[0] for need in needs]
    return store.package(name).library(f"lib{name}.so.1", function(name, value, calls), needs=needs)


@pytest.fixture
def wide(store: Store) -> Path:
    """A program whose closure is wider than its NEEDED, so that depth-first and alphabetical orders are not the loader's."""
    z = library(store, "z")
    y = library(store, "y")
    b = library(store, "b", z)
    a = library(store, "a", y)
    m = library(store, "m", b, a)
    return store.package("app").program("app", prints("m", "a"), needs=[m, a])


def test_the_loaders_order_is_kept(store: Store, wide: Path) -> None:
    """Breadth first, the loader itself where it stood; each library by the path under which the search had found it."""
    out = frozen(store, wide)
    assert listing(out) == listing(wide)
    assert bindings(out, wide) == bindings(wide, wide)
    libraries = [path for path in listing(wide) if path != str(store.loader)]
    assert [name for name in names(out).needed if "/" in name] == libraries
    assert loaders_misses(run(wide)) != []


def test_the_loader_keeps_its_bare_name(store: Store, wide: Path) -> None:
    """So that the program starts under another path of its loader, too."""
    out = frozen(store, wide)
    assert names(out).needed.count(store.loader.name) == 1
    link = store.path / "other-loader"
    link.symlink_to(store.loader)
    patchelf("--set-interpreter", link, out)
    assert run(out).said == run(wide).said


def test_libraries_stay_as_they_are(store: Store, wide: Path) -> None:
    before = {path: Path(path).read_bytes() for path in [*listing(wide), str(wide)]}
    frozen(store, wide)
    assert before == {path: Path(path).read_bytes() for path in before}


def test_version_needs_follow(store: Store) -> None:
    """The loader compares the file of a version with the names under which libraries were asked for."""
    script = store.path / "versions"
    script.write_text("V1 { global: f; local: *; };")
    package = store.package("f")
    lib = package.library("libf.so.1", VERSIONED, flags=[f"-Wl,--version-script={script}"])
    out = frozen(store, store.package("app").program("app", prints("f"), needs=[lib]))
    assert str(lib) in names(out).version_files
    assert set(names(out).version_files) <= set(names(out).needed)


def test_a_name_that_is_there_twice(store: Store) -> None:
    """Two NEEDED of one library stay two, and the order of loading is that of the first."""
    b = library(store, "b")
    a = library(store, "a", b)
    program = store.package("app").program("app", prints("a", "b"), needs=[a, b])
    patchelf("--add-needed", "libxx.so", program)
    data = program.read_bytes()
    assert data.count(b"libxx.so\0") == 1
    program.write_bytes(data.replace(b"libxx.so\0", b"liba.so.1"[:8] + b"\0"))
    (a.parent / "liba.so.").symlink_to("liba.so.1")
    out = frozen(store, program)
    assert listing(out) == listing(program)
    assert len([name for name in names(out).needed if os.path.basename(name) in ("liba.so.1", "liba.so.")]) == 2


def test_origin_in_the_search_path_means_the_old_place(store: Store) -> None:
    """What the program opens later by a bare name is found from the copy, too."""
    app = store.package("app")
    app.library("libp.so", function("p", 7), directory="lib/private")
    program = app.program("app", opens("libp.so", "p"), rpath=["$ORIGIN/../lib/private", store.libc])
    assert run(program).said == (0, "7\n", "")
    out = store.package("frozen").path / "app"
    freeze(store, program, out)
    assert run(out).said == (0, "7\n", "")
    assert names(out).runpath == f"{program.parent}/../lib/private:{store.libc}"


@pytest.mark.parametrize("flags", [("-no-pie",), ("-pie",), ("-Wl,-z,now", "-Wl,-z,relro"), ("-Wl,--hash-style=sysv",)])
def test_kinds_of_programs(store: Store, flags: tuple[str, ...]) -> None:
    lib = library(store, "a", library(store, "b"))
    out = frozen(store, store.package("app").program("app", prints("a"), needs=[lib], flags=flags))
    assert loaders_misses(run(out)) == []


def test_mode_is_kept_and_a_file_at_out_replaced(store: Store, wide: Path) -> None:
    """By rename: who has the old file open keeps it; a hard link to it stays as it is."""
    wide.chmod(0o555)
    out = store.path / "out"
    out.write_text("old")
    os.link(out, store.path / "other")
    freeze(store, wide, out)
    assert out.stat().st_mode & 0o7777 == 0o555
    assert (store.path / "other").read_text() == "old"
    assert run(out).said == run(wide).said


def test_freezing_twice_changes_nothing(store: Store, wide: Path) -> None:
    once = frozen(store, wide)
    twice = store.path / "twice"
    freeze(store, once, twice)
    assert twice.read_bytes() == once.read_bytes()


def test_a_hardened_program(store: Store, wide: Path) -> None:
    """NEEDED that are absolute already stay, and what comes below them is lifted."""
    libraries = [Package(store, Path(path).parents[1]) for path in listing(wide)]
    store.harden(Package(store, wide.parents[1]), inputs=libraries, options=["--mode", "needed"])
    out = frozen(store, wide)
    assert listing(out) == listing(wide)


def test_json(store: Store, wide: Path) -> None:
    """Results on standard output, words on standard error."""
    out = store.path / "out"
    done = freeze(store, wide, out, "--json")
    told = check("freeze", done.out)
    assert told["path"] == str(out)
    assert told["libraries"] == list(names(out).needed)
    assert told["size"] == out.stat().st_size
    assert told["bindings_compared"] > 10
    assert told["why_not_compared"] is None
    assert "libraries by path in the loader's order" in done.err


def test_another_machine(store: Store) -> None:
    """Nothing of the program or its loader is run: 32-bit programs are frozen alike, and said not to be compared."""
    package = store.package("app32")
    lib = package.library("liba.so.1", function("a", 3), flags=["-m32"])
    interpreter = "-Wl,--dynamic-linker=/lib/ld-linux.so.2"
    program = package.program("app", prints("a"), needs=[lib], rpath=[lib.parent], flags=["-m32", interpreter])
    out = store.path / "out32"
    told = check("freeze", freeze(store, program, out, "--json").out)
    assert told["why_not_compared"].startswith("for another machine")
    assert listing(out) == listing(program)
    assert run(out).said == (0, "3\n", "")


def test_a_name_that_no_soname_answers_is_searched_for_as_before(store: Store) -> None:
    """It leads to the same file, and the log and --json say who searches for what."""
    package = store.package("odd")
    odd = package.library("libodd.so.1", function("odd", 4), links=["libodd.so.1.0"])
    a = store.package("a").library("liba.so.1", function("a", 1, ["odd"]), needs=[odd])
    patchelf("--replace-needed", "libodd.so.1", "libodd.so.1.0", a)
    program = store.package("app").program("app", prints("a"), needs=[a], flags=["-Wl,--allow-shlib-undefined"])
    out = store.path / "out"
    done = freeze(store, program, out, "--json")
    path = f"{odd.parent}/libodd.so.1.0"
    words = f"{a} goes on searching for libodd.so.1.0, which is not the SONAME of {path}; --closure DIR binds it"
    assert words in done.err
    assert check("freeze", done.out)["searched"] == [{"name": "libodd.so.1.0", "by": str(a), "path": path}]
    assert run(out).said == (0, "5\n", "")
    assert listing(out) == listing(program)


def test_a_name_that_only_the_program_makes_known_stays(store: Store) -> None:
    """No SONAME answers it, and what is loaded with the program or opened later may have no search path of its own."""
    x = store.package("x").plugin("libx.so", function("x", 1))
    plugin = store.package("p").plugin("p.so", function("p", 1, ["x"]), needs=[x], rpath=[])
    b = store.package("b").library("libb.so.1", function("b", 1, ["x"]), needs=[x], rpath=[])
    opened = store.package("one").program("app", opens(str(plugin), "p", calls=["x"]), needs=[x])
    loaded = store.package("two").program("app", prints("x", "b"), needs=[x, b])
    for number, program in enumerate((opened, loaded)):
        out = store.path / f"out{number}"
        freeze(store, program, out)
        assert run(out).said == run(program).said
        assert run(out).status == 0
        assert names(out).needed[0] == "libx.so"


def test_what_plugins_search_for_is_counted(store: Store) -> None:
    q = store.package("q").library("libq.so.1", function("q", 1))
    plugin = store.package("p").plugin("p.so", function("p", 1, ["q"]), needs=[q])
    a = store.package("a").library("liba.so.1", function("a", 1))
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["a"]), needs=[a])
    done = freeze(store, program, store.path / "out", "--observe")
    assert f"what {store.path / 'out'} opens goes on searching for 1 name by itself" in done.err


def test_two_files_of_one_soname(store: Store) -> None:
    """Where one of them is named by path, each user keeps its own: the first that was loaded answers the bare name, as before."""
    one = store.package("one").library("libx.so.1", function("x", 1))
    two = store.package("two").library("libx.so.1", function("x", 2))
    b = store.package("b").library("libb.so.1", function("b", 1, ["x"]), needs=[one])
    a = store.package("a").library("liba.so.1", function("a", 1, ["x"]), needs=[two])
    patchelf("--replace-needed", "libx.so.1", two, a)
    program = store.package("app").program("app", prints("b", "a"), needs=[b, a])
    assert listing(frozen(store, program)) == listing(program)
    assert {str(one), str(two)} < set(listing(program))
