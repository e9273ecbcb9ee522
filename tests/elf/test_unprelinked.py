"""unharden takes the module of a prelinked program away, and hardening goes on from there."""

import subprocess
from pathlib import Path

import pytest
from prelink.helpers import is_at_work, prelink, run
from support.dynamic import names
from support.source import function, prints
from support.store import Store, patchelf


def dynamic(path: Path) -> str:
    return subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("hardened", [False, True], ids=["as built", "hardened"])
@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_a_prelinked_program_loses_its_module(store: Store, hardened: bool, kind: str) -> None:
    """The tag is gone, every other stands, no string leads to the module, and the program says what it said."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    package = store.package("app")
    source = package.program("app", prints("a"), needs=[a], flags=[kind, "-fno-pie" if kind == "-no-pie" else "-fPIE"])
    if hardened:
        store.harden(store.package("a"))
        store.harden(package, inputs=[store.package("a")])
    program = prelink(store, source)
    assert is_at_work(program, source)
    said = store.call("unharden", program, "--verbose").err
    assert f"its module {program}.prelink.so is named no longer" in said
    assert "AUDIT" not in dynamic(program)
    assert str(program).encode() + b".prelink.so" not in program.read_bytes()
    assert run(program) == run(source)
    assert names(program).needed == ("liba.so.1", "libc.so.6")
    before, after = (sorted(line.split()[1] for line in dynamic(path).splitlines()[3:]) for path in (source, program))
    assert [tag for tag in after if tag != "(NULL)"] == [tag for tag in before if tag != "(NULL)"]
    assert "0 files unbound" in store.call("unharden", program).err


def test_an_audit_module_of_somebody_else_stays(store: Store) -> None:
    other = store.package("other").plugin("other.so", "unsigned la_version(unsigned version) { return version; }")
    a = store.package("a").library("liba.so.1", function("a", 1))
    app = store.package("app").program("app", prints("a"), needs=[a], flags=[f"-Wl,--audit,{other}"])
    before = app.read_bytes()
    store.call("unharden", app)
    assert app.read_bytes() == before


def test_a_program_without_search_path_gets_one_and_loses_its_module(store: Store) -> None:
    """The one tag comes and the other goes, in whatever place."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    package = store.package("app")
    source = package.program("app", prints("a"), needs=[a])
    store.harden(store.package("a"))
    store.harden(package, inputs=[store.package("a")])
    patchelf("--remove-rpath", source)
    program = prelink(store, source)
    store.call("unharden", program)
    assert "AUDIT" not in dynamic(program)
    assert str(a.parent) in (names(program).runpath or names(program).rpath or "")
    assert run(program) == run(source)
