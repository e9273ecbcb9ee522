"""What the other commands make of a prelinked program: each knows what it is."""

import json
import shutil
from pathlib import Path

import pytest
from freeze.helpers import refused
from prelink.helpers import prelink
from start.helpers import trace
from support.source import function, prints
from support.store import Package, Store, patchelf

OPENS = '#include <fcntl.h>\nvoid nosy(void) {}\n__attribute__((constructor)) static void begin(void) { open("/nowhere", O_RDONLY); }'


def found_in_vain(store: Store) -> Path:
    """A program that looks into a directory first that has none of its libraries."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    nosy = store.package("nosy").library("libnosy.so.1", OPENS)
    places = [store.package("empty").path, a.parent, nosy.parent, store.libc]
    store.package("empty").path.mkdir(exist_ok=True)
    flags = ["-Wl,--no-as-needed"]
    return store.package("app").program("app", prints("a"), needs=[a, nosy], rpath=places, flags=flags)


def test_trace_counts_what_the_module_calls_as_the_loaders(store: Store) -> None:
    """It works within the loader; the first call of a constructor still ends the start."""
    source = found_in_vain(store)
    program = prelink(store, source)
    (before,), (after,) = trace(store, source), trace(store, program)
    module = f"{program}.prelink.so"
    assert (before["prelinked"], before["audit_modules"]) == (False, [])
    assert (after["prelinked"], after["audit_modules"]) == (True, [module])
    assert set(before["libraries"]) == set(after["libraries"]) - {module}
    assert (before["failed_lookups"] > 0, after["failed_lookups"]) == (True, 0)
    assert before["constructors_system_calls"] == after["constructors_system_calls"] > 0
    assert f"it is prelinked: the calls of its audit module {module} count as the loader's" in (
        store.call("trace", program).out
    )


def test_trace_says_what_another_audit_module_is(store: Store) -> None:
    other = store.package("other").plugin("other.so", "unsigned la_version(unsigned version) { return version; }")
    program = store.package("app").program("app", prints(), flags=[f"-Wl,--audit,{other}"])
    (seen,) = trace(store, program)
    assert (seen["prelinked"], seen["audit_modules"]) == (False, [str(other)])
    assert f"{program}: the calls of its audit module {other} count" in store.call("trace", program).out


@pytest.mark.parametrize("fits", [True, False])
def test_report_counts_what_is_looked_for_while_the_module_fits(store: Store, fits: bool) -> None:
    """As the loader does, watched by strace: nothing where it fits; where it does not, all but what it answered until it saw that."""
    program = prelink(store, found_in_vain(store))
    if not fits:
        liba = store.package("a").lib / "liba.so.1"
        liba.unlink()
        store.package("a").library("liba.so.1", function("a", 2))
    (root,) = json.loads(store.call("report", program, "--json").out)["roots"]
    assert root["prelinked"] == fits
    assert (root["lookups_now"] == 0) == fits
    assert root["lookups_now"] - root["observed"] in ((0,) if fits else (0, 1))


def test_graph_names_the_module_of_a_program(store: Store) -> None:
    source = found_in_vain(store)
    program = prelink(store, source)
    for path, module in ((source, None), (program, f"{program}.prelink.so")):
        nodes = json.loads(store.call("graph", path, "--format", "json").out)["nodes"]
        assert {node["label"]: node["module"] for node in nodes}[path.name] == module
        assert {node["module"] for node in nodes if node["label"] != path.name} == {None}
        assert ("prelinked: its module" in store.call("graph", path).out) == (module is not None)


@pytest.mark.parametrize("way", [[], ["--order", "proven"], ["--closure", "lib"]], ids=["lift", "proven", "closure"])
def test_freeze_refuses_a_program_whose_module_would_not_fit_the_copy(
    store: Store, way: list[str], tmp_path: Path
) -> None:
    program = prelink(store, found_in_vain(store))
    options = [tmp_path / each if each == "lib" else each for each in way]
    said = refused(store, program, *options)
    assert f"it is prelinked, and its module {program}.prelink.so fits this file alone" in said
    assert not (tmp_path / "lib").exists()


def outputs(store: Store) -> tuple[Package, Package, Path]:
    """A hardened package with a prelinked program and a library that it loads, and one that nothing here loads."""
    both, apart = store.package("both"), store.package("apart")
    mine = both.library("libmine.so.1", function("mine", 1))
    apart.library("libapart.so.1", function("apart", 1))
    source = both.program("app", prints("mine"), needs=[mine])
    store.harden(both)
    program = both.bin / "prelinked"
    store.call("prelink", source, "-o", program)
    return both, apart, program


STALE = "does not fit what is written now, so that ld.so does all by itself; prelink it again"


@pytest.mark.parametrize("what", ["the program", "a library of it", "what it does not load", "nothing"])
def test_fixup_says_whose_module_will_not_fit(store: Store, what: str) -> None:
    """That of a program that is written, or loads what is written; of nothing else."""
    both, apart, program = outputs(store)
    if what == "the program":
        extra = store.package("extra").library("libextra.so.1", function("extra", 1))
        patchelf("--add-needed", extra.name, program)
        patchelf("--add-rpath", str(extra.parent), program)
    elif what == "a library of it":
        patchelf("--set-soname", "libmine.so.1", both.lib / "libmine.so.1")
    done = store.harden(both, *([apart] if what == "what it does not load" else []), inputs=[store.package("extra")])
    lines = [line for line in done.err.splitlines() if STALE in line]
    named = [f"nix-harden-needed: warning: {program}: its module {program}.prelink.so {STALE}"]
    assert lines == (named if what in ("the program", "a library of it") else [])
    assert ("0 written" in done.err or "written" not in done.err) == (what == "nothing")


def test_a_module_that_is_gone_keeps_nothing_from_being_read(store: Store, tmp_path: Path) -> None:
    """Freezing, tracing and drawing go on with the program as ld.so takes it: without the module, which it says it ignores."""
    program = prelink(store, found_in_vain(store))
    Path(f"{program}.prelink.so").unlink()
    assert trace(store, program)[0]["prelinked"] is False
    assert json.loads(store.call("graph", program, "--format", "json").out)["nodes"][0]["module"] is None
    shutil.copy(program, tmp_path / "copy")
    assert "has filter or audit tags" in refused(store, tmp_path / "copy")
