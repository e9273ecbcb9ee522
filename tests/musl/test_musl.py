"""musl: no SONAME is compared, search paths are inherited, and dlopen(3) searches the program's; what is bound runs as before."""

import subprocess
import sys
from pathlib import Path

import pytest
from musl.muslstore import Musl, uses_libc
from support.dynamic import names
from support.source import opens, prints
from support.store import REPOSITORY, Package, Store
from support.trace import Run, run

LIBC = "libc.so"


def of(run: Run, *wanted: str) -> list[str]:
    return [path for path in run.misses if Path(path).name in wanted]


def test_every_edge_bound_runs_without_a_search_path(store: Store, musl: Musl) -> None:
    """Three packages, each hardened after the one before; libc is a reserved name that is never searched."""
    first, second, third = (store.package(name) for name in ("first", "second", "third"))
    liba = musl.library(first, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(second, "libb.so.1", uses_libc("b", 10, "a"), [liba])
    app = musl.program(third, "app", prints("a", "b"), [libb, liba])
    before = run(app)
    assert before.said == (0, "1\n11\n", "")
    assert of(before, "liba.so.1")
    for package, inputs in ((first, []), (second, [first]), (third, [first, second])):
        store.harden(package, inputs=[musl.package, *inputs])
    after = run(app)
    assert after.said == before.said
    assert after.misses == ()
    assert set(after.mapped) >= set(before.mapped)
    assert [names(path).soname for path in (liba, libb)] == [str(liba), str(libb)]
    assert names(app).needed[:2] == (str(libb), str(liba))
    assert names(libb).needed[0] == str(liba)
    assert [names(path).runpath for path in (liba, libb, app)] == [""] * 3


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_one_package(store: Store, musl: Musl, mode: str) -> None:
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [liba])
    app = musl.program(it, "app", prints("a", "b"), [libb, liba])
    before = run(app)
    store.harden(it, inputs=[musl.package], options=["--mode", mode])
    after = run(app)
    assert (after.said, after.misses) == (before.said, ())
    assert len(after.files("liba")) == 1


def test_a_library_that_stays_bare_keeps_the_search_path(store: Store, musl: Musl) -> None:
    """Nothing but a search finds it, since musl compares no SONAME."""
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [liba])
    app = musl.program(it, "app", prints("a", "b"), [libb, liba])
    before, paths = run(app), [names(libb).runpath, names(app).runpath]
    store.harden(it, inputs=[musl.package], options=["--exclude", "liba.so.1"])
    after = run(app)
    assert names(app).needed[:2] == (str(libb), "liba.so.1")
    assert [names(libb).runpath, names(app).runpath] == paths
    assert after.said == before.said
    assert len(after.files("liba")) == 1


def test_a_library_that_finds_its_own_by_what_the_program_says(store: Store, musl: Musl) -> None:
    """libb has no RUNPATH; musl searches that of who asked for it. Hardened with the program, it is bound as well."""
    other, it = store.package("other"), store.package("it")
    liba = musl.library(other, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [liba], rpath=[])
    app = musl.program(it, "app", prints("b"), [libb], rpath=[it.lib, other.lib])
    before = run(app)
    assert before.said == (0, "11\n", "")
    store.harden(it, inputs=[other, musl.package])
    after = run(app)
    assert (after.said, after.misses) == (before.said, ())
    assert names(libb).needed[0] == str(liba)


@pytest.mark.parametrize("mode", ["soname", "needed"])
@pytest.mark.parametrize("name", ["libp.so.1", "liba.so.1"])
def test_a_program_opens_by_name(store: Store, musl: Musl, name: str, mode: str) -> None:
    """A plugin that nothing needs, and a library that is loaded: its one inode is found by the search path, which stays."""
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    musl.library(it, "libp.so.1", uses_libc("p", 2, "a"), [liba])
    app = musl.program(it, "app", opens(name, name[3], calls=["a"]), [liba])
    before = run(app)
    assert before.status == 0
    store.harden(it, inputs=[musl.package], options=["--mode", mode])
    after = run(app)
    assert after.said == before.said
    assert len(after.files("liba")) == 1


def test_musl_itself_stays_as_it_is(store: Store, musl: Musl) -> None:
    app = musl.program(store.package("it"), "app", prints())
    before = (musl.package.lib / LIBC).read_bytes()
    store.harden(musl.package)
    assert (musl.package.lib / LIBC).read_bytes() == before
    assert run(app).status == 0


def test_musl_and_glibc_in_one_store(store: Store, musl: Musl) -> None:
    """Programs of both, with libraries of one name: each keeps its own."""
    here, there = store.package("here"), store.package("there")
    mine = musl.library(here, "liba.so.1", uses_libc("a", 1))
    theirs = there.library("liba.so.1", uses_libc("a", 2))
    apps = [musl.program(here, "app", prints("a"), [mine]), there.program("app", prints("a"), needs=[theirs])]
    before = [run(app) for app in apps]
    assert [ran.out for ran in before] == ["1\n", "2\n"]
    store.harden(here, there, inputs=[musl.package])
    after = [run(app) for app in apps]
    assert [ran.said for ran in after] == [ran.said for ran in before]
    assert [ran.misses for ran in after] == [(), ()]
    assert [names(app).needed[0] for app in apps] == [str(mine), str(theirs)]


def both(store: Store, musl: Musl) -> tuple[Package, Path]:
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [liba])
    return it, musl.program(it, "app", prints("a", "b"), [libb, liba])


def test_the_way_back(store: Store, musl: Musl) -> None:
    it, app = both(store, musl)
    before = run(app)
    store.harden(it, inputs=[musl.package])
    done = command(store, "unharden", it.path)
    assert done.returncode == 0, done.stderr
    assert names(app).needed == ("libb.so.1", "liba.so.1", LIBC)
    after = run(app)
    assert (after.said, set(after.mapped)) == (before.said, set(before.mapped))


def command(store: Store, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nix_harden", *words],
        cwd=REPOSITORY,
        env=store.environ,
        capture_output=True,
        text=True,
        check=False,
    )
