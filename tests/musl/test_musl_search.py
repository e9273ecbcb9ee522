"""musl: what a dependency elsewhere, a dlopen and a void search path rely on goes on working once a package is hardened."""

import subprocess
import sys
from pathlib import Path

import pytest
from musl.muslstore import Musl, uses_libc
from support.dynamic import names
from support.source import opens, prints
from support.store import REPOSITORY, Package, Store, patchelf
from support.trace import run


def opener(name: str, symbol: str) -> str:
    """A library's source: o() opens `name` and answers what `symbol` there returns, or -1."""
    return f"""
        void *dlopen(const char *, int), *dlsym(void *, const char *);
        int o(void) {{
          void *handle = dlopen("{name}", 2);
          return handle ? ((int (*)(void))dlsym(handle, "{symbol}"))() : -1;
        }}"""


def test_libc_stays_bare(store: Store, musl: Musl) -> None:
    """It is a reserved name, never searched; by a path it is opened, mapped, recognised and unmapped again for each edge."""
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    app = musl.program(it, "app", prints("a"), [liba])
    before = run(app)
    store.harden(it, inputs=[musl.package])
    after = run(app)
    assert names(app).needed == (str(liba), "libc.so")
    assert names(liba).needed == ("libc.so",)
    assert [names(path).runpath for path in (liba, app)] == [""] * 2
    assert after.behaviour == before.behaviour


def test_a_dependency_elsewhere_that_relies_on_the_programs_path(store: Store, musl: Musl) -> None:
    """libb, not hardened and without RUNPATH, finds liba by the RUNPATH of the program that asked for it."""
    one, two, it = (store.package(name) for name in ("one", "two", "it"))
    liba = musl.library(one, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(two, "libb.so.1", uses_libc("b", 10, "a"), [liba], rpath=[])
    app = musl.program(it, "app", prints("a", "b"), [libb, liba])
    before = run(app)
    assert before.said == (0, "1\n11\n", "")
    store.harden(it, inputs=[one, two, musl.package])
    assert run(app).said == before.said


def test_a_dependency_elsewhere_that_relies_on_a_librarys_path(store: Store, musl: Musl) -> None:
    """The same, by the RUNPATH of a library between the two."""
    one, two, three, it = (store.package(name) for name in ("one", "two", "three", "it"))
    liba = musl.library(one, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(two, "libb.so.1", uses_libc("b", 10, "a"), [liba], rpath=[])
    libmid = musl.library(three, "libmid.so.1", uses_libc("mid", 100, "b"), [libb], rpath=[two.lib, one.lib])
    app = musl.program(it, "app", prints("mid"), [libmid], rpath=[three.lib])
    before = run(app)
    assert before.said == (0, "111\n", "")
    store.harden(three, inputs=[one, two, musl.package])
    assert run(app).said == before.said


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_library_opens_what_the_programs_path_leads_to(store: Store, musl: Musl, mode: str) -> None:
    """musl's dlopen searches the program's path, whoever calls it."""
    it = store.package("it")
    libp = musl.library(it, "libp.so.1", uses_libc("p", 5))
    libo = musl.library(it, "libo.so.1", opener("libp.so.1", "p"), rpath=[])
    app = musl.program(it, "app", prints("o"), [libo], rpath=[libp.parent])
    before = run(app)
    assert before.said == (0, "5\n", "")
    store.harden(it, inputs=[musl.package], options=["--mode", mode])
    assert run(app).said == before.said


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_library_opens_what_is_loaded(store: Store, musl: Musl, mode: str) -> None:
    """Found by a search, a library has its name for dlopen; found by its path, it has none."""
    it = store.package("it")
    libp = musl.library(it, "libp.so.1", uses_libc("p", 5))
    libo = musl.library(it, "libo.so.1", opener("libp.so.1", "p"))
    app = musl.program(it, "app", prints("o", "p"), [libo, libp])
    before = run(app)
    assert before.said == (0, "5\n5\n", "")
    store.harden(it, inputs=[musl.package], options=["--mode", mode])
    assert run(app).said == before.said


def test_a_program_opens_what_was_found_by_a_librarys_path(store: Store, musl: Musl) -> None:
    """The same the other way round: libp lies where only libo's RUNPATH leads; the program opens it by name."""
    there, it = store.package("there"), store.package("it")
    libp = musl.library(there, "libp.so.1", uses_libc("p", 5))
    libo = musl.library(it, "libo.so.1", uses_libc("o", 1, "p"), [libp])
    app = musl.program(it, "app", opens("libp.so.1", "p", calls=["o"]), [libo])
    before = run(app)
    assert before.said == (0, "5\n", "")
    store.harden(it, inputs=[there, musl.package])
    assert run(app).said == before.said


def test_a_void_path_is_no_path(store: Store, musl: Musl) -> None:
    """musl knows neither $LIB nor $PLATFORM: one of them makes the whole search path void, and the asker's is used."""
    one, two, it = (store.package(name) for name in ("one", "two", "it"))
    musl.library(one, "liba.so.1", uses_libc("a", 1))
    right = musl.library(two, "liba.so.1", uses_libc("a", 2))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [right], rpath=[Path(f"{one.path}/$LIB")])
    app = musl.program(it, "app", prints("b"), [libb], rpath=[it.lib, two.lib])
    before = run(app)
    assert before.said == (0, "12\n", "")
    store.harden(it, inputs=[one, two, musl.package])
    assert run(app).said == before.said


def test_a_glibc_and_a_musl_program_in_one_output(store: Store, musl: Musl) -> None:
    """A musl library without RUNPATH has libc.so from musl, whatever loader the output's first program has: --strict is content."""
    it = store.package("it")
    it.program("aaa", prints())
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1), rpath=[])
    app = musl.program(it, "app", prints("a"), [liba])
    store.harden(it, options=["--strict"])
    assert names(liba).needed == ("libc.so",)
    assert run(app).said == (0, "1\n", "")


def both(store: Store, musl: Musl) -> tuple[Package, Path]:
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    libb = musl.library(it, "libb.so.1", uses_libc("b", 10, "a"), [liba])
    return it, musl.program(it, "app", prints("a", "b"), [libb, liba])


def test_the_audit_agrees_with_musl(store: Store, musl: Musl) -> None:
    it, _ = both(store, musl)
    store.harden(it, inputs=[musl.package])
    done = command(store, "audit", it.path)
    assert done.returncode == 0, done.stdout + done.stderr


def command(store: Store, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nix_harden", *words],
        cwd=REPOSITORY,
        env=store.environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_audit_knows_libc_by_any_path(store: Store, musl: Musl) -> None:
    """musl opens the path, sees itself, and takes it for the reserved name."""
    it = store.package("it")
    liba = musl.library(it, "liba.so.1", uses_libc("a", 1))
    app = musl.program(it, "app", prints("a"), [liba])
    libc = musl.package.lib / "libc.so"
    patchelf("--replace-needed", "libc.so", libc, app)
    patchelf("--replace-needed", "libc.so", libc, liba)
    assert str(libc) in names(app).needed
    assert run(app).said == (0, "1\n", "")
    done = command(store, "audit", it.path)
    assert "loader-disagrees" not in done.stdout, done.stdout
