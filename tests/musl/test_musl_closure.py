"""musl: a program frozen with its libraries; no SONAME is compared, so that every edge is bound, or found by $ORIGIN in search paths."""

import os
from pathlib import Path

import pytest
from musl.muslstore import Musl, uses_libc
from support.dynamic import names
from support.schema import check
from support.source import opens, prints
from support.store import Store
from support.trace import Run, run


@pytest.fixture
def app(store: Store, musl: Musl) -> Path:
    """Four libraries in as many packages, of which one is needed twice."""
    z = musl.library(store.package("z"), "libz.so.1", uses_libc("z", 1))
    y = musl.library(store.package("y"), "liby.so.1", uses_libc("y", 10, "z"), [z])
    b = musl.library(store.package("b"), "libb.so.1", uses_libc("b", 100, "z"), [z])
    a = musl.library(store.package("a"), "liba.so.1", uses_libc("a", 1000, "y", "b"), [y, b])
    return musl.program(store.package("app"), "app", prints("a", "b"), [a, b])


def bundle(store: Store, program: Path, *options: str | Path) -> Path:
    top = store.path / "bundle"
    top.mkdir()
    out = top / "app"
    told = store.call("freeze", program, "-o", out, "--closure", top / "lib", *options, "--json")
    assert check("freeze", told.out)["why_not_compared"] is None
    return out


def searched(ran: Run) -> list[str]:
    return [path for path in ran.misses if ".so" in os.path.basename(path)]


def test_every_edge_is_bound(store: Store, app: Path) -> None:
    """The C library is a reserved name, which stays; the loader itself lists the copies in the order of the originals."""
    before = run(app)
    assert searched(before)
    out = bundle(store, app)
    after = run(out)
    assert (after.said, searched(after)) == (before.said, [])
    lib = out.parent / "lib"
    assert [path for path in after.mapped if path.startswith(str(lib))] == [
        str(lib / os.path.basename(path)) for path in before.mapped if ".so.1" in path and "musl" not in path
    ]
    assert names(out).needed == (str(lib / "liba.so.1"), str(lib / "libb.so.1"), "libc.so")
    assert names(lib / "libb.so.1").needed == (str(lib / "libz.so.1"), "libc.so")


def test_relative_can_be_moved(store: Store, app: Path) -> None:
    """By $ORIGIN in RUNPATH, with bare names: musl expands it in no NEEDED."""
    before = run(app)
    out = bundle(store, app, "--relative")
    assert names(out).needed == ("liba.so.1", "libb.so.1", "libc.so")
    assert names(out).runpath is not None
    assert str(names(out).runpath).startswith("$ORIGIN/lib:")
    assert str(names(out.parent / "lib" / "liba.so.1").runpath).startswith("$ORIGIN:")
    out.parent.rename(store.path / "moved")
    after = run(store.path / "moved" / "app")
    assert (after.said, searched(after)) == (before.said, [])
    assert [path for path in after.mapped if path.startswith(f"{store.path}/moved/lib/")] == [
        f"{store.path}/moved/lib/lib{name}.so.1" for name in "abyz"
    ]


def test_the_lift_is_refused_with_the_way_out(store: Store, app: Path) -> None:
    done = store.call("freeze", app, "-o", store.path / "out", status=1)
    assert "its loader is not glibc's and compares no SONAMEs" in done.err
    assert "use --closure DIR" in done.err
    assert not (store.path / "out").exists()


def test_a_plugin_asked_for(store: Store, musl: Musl) -> None:
    """It and what it needs are copied, and found by name among the copies; what is loaded already is not loaded again."""
    it, other = store.package("it"), store.package("other")
    a = musl.library(it, "liba.so.1", uses_libc("a", 1))
    q = musl.library(other, "libq.so.1", uses_libc("q", 10))
    p = musl.library(other, "libp.so.1", uses_libc("p", 100, "q", "a"), [q, a])
    app = musl.program(it, "app", opens("libp.so.1", "p", calls=["a"]), [a], rpath=[a.parent, p.parent])
    before = run(app)
    assert before.said == (0, "111\n", "")
    out = bundle(store, app, "--also", "libp.so.1")
    after = run(out)
    assert after.said == before.said
    for name in ("liba", "libp", "libq"):
        assert after.files(name) == [str(out.parent / "lib" / f"{name}.so.1")]


def test_two_files_of_one_name(store: Store, musl: Musl) -> None:
    """By path each user gets its own; musl's search, which takes a name for a file that bears it, cannot tell them apart."""
    one = musl.library(store.package("one"), "libx.so.1", uses_libc("x", 1))
    two = musl.library(store.package("two"), "libx.so.1", uses_libc("other", 2))
    b = musl.library(store.package("b"), "libb.so.1", uses_libc("b", 10, "x"), [one])
    a = musl.library(store.package("a"), "liba.so.1", uses_libc("a", 20, "other"), [two])
    store.harden(store.package("b"), inputs=[store.package("one"), musl.package])
    store.harden(store.package("a"), inputs=[store.package("two"), musl.package])
    app = musl.program(store.package("app"), "app", prints("b", "a"), [b, a])
    before = run(app)
    assert before.said == (0, "11\n22\n", "")
    line = store.call(
        "freeze", app, "-o", store.path / "out", "--closure", store.path / "lib", "--relative", status=1
    ).err
    assert "two libraries are called libx.so.1" in line
    assert "leave out --relative" in line
    after = run(bundle(store, app))
    assert (after.said, searched(after)) == (before.said, [])


def test_who_opens_libraries_is_warned_of(store: Store, musl: Musl) -> None:
    a = musl.library(store.package("it"), "liba.so.1", uses_libc("a", 1))
    app = musl.program(store.package("it"), "app", opens("libp.so.1", calls=["a"]), [a])
    done = store.call("freeze", app, "-o", store.path / "out", "--closure", store.path / "lib")
    assert f"warning: {app} opens libraries, and musl compares no SONAMEs" in done.err


def test_no_run_is_observed(store: Store, app: Path) -> None:
    done = store.call("freeze", app, "-o", store.path / "out", "--closure", store.path / "lib", "--observe", status=1)
    assert "its loader tells of no dlopen; name what it opens with --also" in done.err
