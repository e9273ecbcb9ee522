"""Libraries that a program opens as it runs: how they become known, and what freezing does for them."""

from pathlib import Path

import pytest
from freeze.helpers import freeze, listing, loaders_misses, refused, run
from support.dynamic import names
from support.schema import check
from support.source import function, opens, prints
from support.store import Store

NOTE = r"""
asm(".pushsection .note.dlopen, \"a\"\n"
    ".balign 4\n.long 4\n.long 2f - 1f\n.long 0x407c0c0a\n.asciz \"FDO\"\n"
    "1: .asciz \"[{\\\"feature\\\": \\\"f\\\", \\\"soname\\\": [%s]}]\"\n"
    "2: .balign 4\n.popsection");
"""


def noted(*sonames: str) -> str:
    return NOTE % ", ".join(f'\\\\\\"{soname}\\\\\\"' for soname in sonames)


@pytest.fixture
def plugin(store: Store) -> Path:
    """libp needs libq, which nothing else needs, and liba, which the program has."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    q = store.package("q").library("libq.so.1", function("q", 10))
    return store.package("p").library("libp.so.1", function("p", 100, ["q", "a"]), needs=[q, a])


def opener(store: Store, name: str, source: str = "", *rpath: Path) -> Path:
    """A program that needs liba and opens a library."""
    a = store.package("a").lib / "liba.so.1"
    places = [*rpath, a.parent, store.libc]
    return store.package("app").program("app", source + opens(name, "p", calls=["a"]), needs=[a], rpath=places)


def told(store: Store, program: Path, *options: str | Path) -> dict[str, object]:
    """What --json says was opened, the only entry."""
    (entry,) = check("freeze", freeze(store, program, store.path / "out", "--json", *options).out)["opened"]
    assert isinstance(entry, dict)
    return entry


def closure(store: Store) -> list[str | Path]:
    return ["--closure", store.path / "copies"]


def in_copies(store: Store, program: Path) -> list[str]:
    return [Path(path).name for path in run(program).mapped if path.startswith(f"{store.path}/copies/")]


@pytest.mark.parametrize("name", ["libp.so.1", "/libp.so.1"])
def test_asked_for_by_name_or_path(store: Store, plugin: Path, name: str) -> None:
    """The library and what it needs are copied and bound, and are found by the name before all others."""
    program = opener(store, "libp.so.1", "", plugin.parent)
    asked = str(plugin) if "/" in name else name
    entry = told(store, program, *closure(store), "--also", asked)
    copy = store.path / "copies" / "libp.so.1"
    assert entry | {"how": ""} == {
        "name": asked,
        "by": str(program),
        "evidence": "asked for",
        "how": "",
        "path": str(plugin),
        "copy": str(copy),
        "problem": "",
    }
    assert run(store.path / "out").said == run(program).said == (0, "111\n", "")
    assert in_copies(store, store.path / "out") == ["liba.so.1", "libp.so.1", "libq.so.1"]
    assert set(names(copy).needed) >= {str(store.path / "copies" / "libq.so.1")}


def test_asked_for_by_a_name_that_a_library_finds(store: Store, plugin: Path) -> None:
    """The first object that opens libraries and finds it is the one that is taken to open it."""
    source = """
        void *dlopen(const char *, int), *dlsym(void *, const char *);
        int o(void) { return ((int (*)(void))dlsym(dlopen("libp.so.1", 2), "p"))(); }"""
    a = store.package("a").lib / "liba.so.1"
    o = store.package("o").library("libo.so.1", source, rpath=[plugin.parent, store.libc])
    program = store.package("app").program("app", prints("o", "a"), needs=[o, a])
    entry = told(store, program, *closure(store), "--also", "libp.so.1")
    assert (entry["by"], entry["how"]) == (str(o), "RUNPATH")
    assert run(store.path / "out").said == run(program).said == (0, "111\n1\n", "")
    assert "libp.so.1" in in_copies(store, store.path / "out")


def test_a_dlopen_note(store: Store, plugin: Path) -> None:
    """Of the names of a note the first that is found; copied unasked."""
    program = opener(store, "libp.so.1", noted("libnowhere.so.1", "libp.so.1"), plugin.parent)
    entry = told(store, program, *closure(store))
    assert (entry["name"], entry["evidence"], entry["path"]) == ("libp.so.1", "named in a dlopen note", str(plugin))
    assert run(store.path / "out").said == run(program).said
    assert "libp.so.1" in in_copies(store, store.path / "out")


def test_a_dlopen_note_of_what_is_not_there(store: Store, plugin: Path) -> None:
    """Is said, and no reason to refuse."""
    program = opener(store, "libp.so.1", noted("libnowhere.so.1"), plugin.parent)
    done = freeze(store, program, store.path / "out", *closure(store))
    assert f"{program} opens libnowhere.so.1 (named in a dlopen note): not found; tried: {plugin.parent}" in done.err


def test_a_note_in_a_library_that_lets_another_open(store: Store, plugin: Path) -> None:
    """It does not call dlopen itself: what its note names is found by its search path all the same, and so is the copy."""
    o = store.package("o").library("libo.so.1", noted("libp.so.1") + function("o", 1), rpath=[plugin.parent])
    program = store.package("app").program("app", prints("o"), needs=[o])
    entry = told(store, program, *closure(store))
    assert (entry["by"], entry["copy"]) == (str(o), str(store.path / "copies" / "libp.so.1"))
    assert names(store.path / "copies" / "libo.so.1").runpath == f"{store.path}/copies:{plugin.parent}"


def test_a_run_is_observed(store: Store, plugin: Path) -> None:
    """The program runs, with the arguments; what it prints goes to standard error."""
    program = opener(store, "libp.so.1", "", plugin.parent)
    done = freeze(store, program, store.path / "out", "--json", *closure(store), "--observe", "--", "x")
    assert "111\n" in done.err
    (entry,) = check("freeze", done.out)["opened"]
    assert (entry["name"], entry["evidence"], entry["how"]) == ("libp.so.1", "seen in a run", "RUNPATH")
    assert "libp.so.1" in in_copies(store, store.path / "out")


def test_arguments_and_the_environment_reach_the_run(store: Store, plugin: Path) -> None:
    """A wrapper's variables too: what LD_LIBRARY_PATH led to is copied, and found without it."""
    source = opens("libp.so.1", "p", calls=["a"]).replace("main(void)", "main(int argc, char **argv)")
    source = source.replace("void *handle", "if (argc != 3) return 8; void *handle")
    a = store.package("a").lib / "liba.so.1"
    program = store.package("app").program(".app-wrapped", source, needs=[a])
    wrapper = program.parent / "app"
    wrapper.write_text(
        f'#! /bin/bash -e\nexport LD_LIBRARY_PATH={plugin.parent}\nexec -a "$0" "{program}"  one "$@" \n'
    )
    wrapper.chmod(0o755)
    out = store.path / "out"
    freeze(store, wrapper, out, *closure(store), "--observe", "--", "two")
    assert run(program, "one", "two").status == 9
    ran = run(out, "one", "two")
    assert ran.said == (0, "111\n", "")
    assert "libp.so.1" in in_copies(store, out) or "libp.so.1" in [Path(path).name for path in ran.mapped]


def test_a_run_that_fails_is_said(store: Store, plugin: Path) -> None:
    program = opener(store, "libnowhere.so.1")
    done = freeze(store, program, store.path / "out", "--observe")
    assert f"warning: {program} ended with status 9" in done.err


def test_a_run_of_something_else(store: Store, plugin: Path) -> None:
    """A wrapper that does not come to its program shows nothing."""
    program = opener(store, "libp.so.1", "", plugin.parent)
    wrapper = store.path / "wrapper"
    wrapper.write_text(f'#! /bin/bash -e\nexit 0\nexec -a "$0" "{program}" "$@" \n')
    wrapper.chmod(0o755)
    done = freeze(store, wrapper, store.path / "out", *closure(store), "--observe", status=1)
    assert f"running {wrapper} did not start it, so that nothing was seen" in done.err
    assert not (store.path / "copies").exists()


def test_what_is_opened_by_its_path_stays(store: Store, plugin: Path) -> None:
    """Nothing would lead to a copy; what it needs in its turn is not copied either."""
    program = opener(store, str(plugin))
    entry = told(store, program, *closure(store), "--observe")
    assert (entry["path"], entry["copy"], entry["how"]) == (str(plugin), None, "path")
    assert run(store.path / "out").said == run(program).said
    assert in_copies(store, store.path / "out") == ["liba.so.1"]


def test_relative_copies_are_found(store: Store, plugin: Path) -> None:
    program = opener(store, "libp.so.1", "", plugin.parent)
    top = store.path / "bundle"
    top.mkdir()
    freeze(store, program, top / "app", "--closure", top / "lib", "--relative", "--also", "libp.so.1")
    top.rename(store.path / "moved")
    ran = run(store.path / "moved" / "app")
    assert ran.said == (0, "111\n", "")
    assert f"{store.path}/moved/lib/libq.so.1" in ran.mapped


def test_a_library_without_search_path_goes_on_to_those_above_it(store: Store, plugin: Path) -> None:
    """It opens a second library that only the RPATH of the program leads to: a RUNPATH of its own would end that."""
    source = """
        void *dlopen(const char *, int), *dlsym(void *, const char *);
        int o(void) { return ((int (*)(void))dlsym(dlopen("libp.so.1", 2), "p"))() + (dlopen("libr.so.1", 2) != 0); }"""
    r = store.package("r").library("libr.so.1", function("r", 1))
    a = store.package("a").lib / "liba.so.1"
    o = store.package("o").library("libo.so.1", source, rpath=[])
    places = [o.parent, a.parent, plugin.parent, r.parent, store.libc]
    program = store.package("app").program("app", prints("o", "a"), needs=[o, a], rpath=places, tag="RPATH")
    freeze(store, program, store.path / "out", *closure(store), "--also", "libp.so.1")
    assert run(store.path / "out").said == run(program).said == (0, "112\n1\n", "")
    assert str(r) in run(store.path / "out").mapped


def test_the_lift_loads_nothing_beforehand(store: Store, plugin: Path) -> None:
    """What is opened RTLD_LOCAL would otherwise answer for everybody. It is listed, found as before, and proven to be."""
    program = opener(store, "libp.so.1", "", plugin.parent)
    entry = told(store, program, "--also", "libp.so.1")
    assert (entry["path"], entry["copy"]) == (str(plugin), None)
    out = store.path / "out"
    assert listing(out) == listing(program)
    assert run(out).said == run(program).said
    assert names(out).runpath == names(program).runpath


def test_the_lift_makes_a_path_known_by_its_name(store: Store, plugin: Path) -> None:
    """Its directory is the last that the program searches; whoever has opened it by its name finds it."""
    program = opener(store, "libp.so.1")
    assert run(program).status == 9
    out = store.path / "out"
    freeze(store, program, out, "--also", plugin)
    assert run(out).said == (0, "111\n", "")
    assert names(out).runpath == f"{names(program).runpath}:{plugin.parent}"
    assert loaders_misses(run(program)) != []


def test_what_a_plugin_gets_by_the_programs_name(store: Store) -> None:
    """A library without SONAME, which answers its bare name only because the program asked for it so: also before another file."""
    x = store.package("x").plugin("libx.so", function("x", 1))
    other = store.package("other").plugin("libx.so", function("x", 9))
    plugin = store.package("p").plugin("p.so", function("p", 1, ["x"]), needs=[other])
    program = store.package("app").program("app", opens(str(plugin), "p", calls=["x"]), needs=[x])
    freeze(store, program, store.path / "out", "--also", plugin)
    assert run(store.path / "out").said == run(program).said == (0, "2\n", "")
    assert run(store.path / "out").files("libx") == [str(x)]


def test_the_lift_refuses_a_path_that_another_file_hides(store: Store, plugin: Path) -> None:
    other = store.package("other").library("libp.so.1", function("p", 5))
    program = opener(store, "libp.so.1", "", other.parent)
    assert f"it would find {other} before {plugin} under the name libp.so.1" in refused(
        store, program, "--also", plugin
    )


def test_what_is_asked_for_has_to_be_there(store: Store, plugin: Path) -> None:
    """The directories that were tried are named, also for what it needs in its turn."""
    program = opener(store, "libp.so.1", "", plugin.parent)
    line = refused(store, program, "--also", "libnowhere.so.1")
    assert f"--also libnowhere.so.1: not found; tried: {plugin.parent}" in line
    q = store.package("q").lib / "libq.so.1"
    q.unlink()
    line = refused(store, program, "--also", "libp.so.1", *closure(store))
    assert f"--also libp.so.1: libq.so.1, which {plugin} needs, is not found; tried: {q.parent}" in line
    assert not (store.path / "copies").exists()


def test_each_once(store: Store, plugin: Path) -> None:
    """Asked for, named in a note and seen: listed as what is known first."""
    program = opener(store, "libp.so.1", noted("libp.so.1"), plugin.parent)
    entry = told(store, program, *closure(store), "--also", "libp.so.1", "--observe")
    assert entry["evidence"] == "asked for"


def test_a_proven_order_opens_the_same(store: Store, plugin: Path) -> None:
    """The object that opens stands elsewhere among what is loaded."""
    source = """
        void *dlopen(const char *, int), *dlsym(void *, const char *);
        int o(void) { return ((int (*)(void))dlsym(dlopen("libp.so.1", 2), "p"))(); }"""
    a = store.package("a").lib / "liba.so.1"
    o = store.package("o").library("libo.so.1", source, rpath=[plugin.parent, store.libc])
    # libh answers most lookups, and so comes first in a proven order
    many = [f"h{number}" for number in range(40)]
    h = store.package("h").library("libh.so.1", "".join(function(name, 1) for name in many))
    program = store.package("app").program("app", prints("o", "a", *many), needs=[o, a, h])
    out = store.path / "out"
    told = check("freeze", freeze(store, program, out, "--order", "proven", "--observe", "--json").out)
    assert names(out).needed.index(str(h)) < names(out).needed.index(str(o))
    assert told["opened"][0]["by"] == str(o)
    assert run(out).said == run(program).said


def test_what_is_for_the_lift(store: Store, plugin: Path) -> None:
    program = opener(store, "libp.so.1", "", plugin.parent)
    for options in (["--order", "proven"], ["--explain-order"]):
        done = freeze(store, program, store.path / "out", *closure(store), *options, status=2)
        assert f"{options[0]}: is for --lift" in done.err
