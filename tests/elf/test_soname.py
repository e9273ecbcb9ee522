"""Decide: which SONAMEs become absolute, and which string they become."""

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Store
from support.trace import run


def test_the_soname_of_a_library_becomes_its_path(store: Store) -> None:
    a = store.package("liba")
    liba = a.library("liba.so.1", function("a", 1))
    store.harden(a)
    assert names(liba).soname == str(liba)


def test_it_is_the_directory_and_the_old_soname_so_that_base_names_never_change(store: Store) -> None:
    a = store.package("liba")
    liba = a.library("liba.so.1.2.3", function("a", 1), soname="liba.so.1", links=["liba.so.1", "liba.so"])
    store.harden(a)
    assert names(liba).soname == f"{a.lib}/liba.so.1"


def test_it_stays_where_no_entry_bears_the_old_soname(store: Store) -> None:
    a = store.package("liba")
    liba = a.library("liba-private.so", function("a", 1), soname="liba.so.1")
    store.harden(a)
    assert names(liba).soname == "liba.so.1"


def test_it_stays_where_the_entry_of_that_name_is_another_file(store: Store) -> None:
    a = store.package("liba")
    liba = a.library("liba-debug.so", function("a", 1), soname="liba.so.1")
    other = a.library("liba.so.1", function("a", 2))
    store.harden(a)
    assert names(liba).soname == "liba.so.1"
    assert names(other).soname == str(other)


def test_an_entry_in_another_directory_does_not_count(store: Store) -> None:
    a = store.package("liba")
    liba = a.library("liba.so.1.0", function("a", 1), soname="liba.so.1", directory="lib/private")
    a.lib.joinpath("liba.so.1").symlink_to("private/liba.so.1.0")
    store.harden(a)
    assert names(liba).soname == "liba.so.1"


def test_a_copy_of_another_packages_library_gets_its_own_path(store: Store) -> None:
    """A copy keeps the SONAME of the original, and what links to the copy would be bound to the original."""
    a, copy = store.package("liba"), store.package("copy")
    liba = a.library("liba.so.1", function("a", 1))
    store.harden(a)
    copy.lib.mkdir()
    copied = copy.lib / "liba.so.1"
    copied.write_bytes(liba.read_bytes())
    store.harden(copy)
    assert names(copied).soname == str(copied)


def test_mode_needed_leaves_every_soname(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", prints("a", "b"), needs=[libb, liba])
    before = run(program)
    store.harden(it, options=["--mode", "needed"])
    after = run(program)
    assert (names(liba).soname, names(libb).soname) == ("liba.so.1", "libb.so.1")
    assert names(libb).needed == (str(liba),)
    assert after.behaviour == before.behaviour
    assert after.misses == ()


def test_in_mode_needed_dlopen_of_a_loaded_library_by_its_bare_name_needs_no_search(store: Store) -> None:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", opens("liba.so.1", "a", calls=["a"]), needs=[liba], rpath=[])
    store.harden(it, options=["--mode", "needed", "--keep-runpath"])
    assert names(program).runpath is None
    ran = run(program)
    assert ran.said == (0, "1\n", "")
    assert ran.misses == ()


@pytest.mark.parametrize("flags", [[], ["-no-pie"]], ids=["PIE", "non-PIE"])
def test_a_program_that_has_a_soname_keeps_it(store: Store, flags: list[str]) -> None:
    app = store.package("app")
    liba = app.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba], flags=[*flags, "-Xlinker", "-soname", "-Xlinker", "app"])
    assert names(program).soname == "app"
    before = run(program)
    store.harden(app)
    assert names(program).soname == "app"
    assert run(program).behaviour == before.behaviour
    assert run(program).misses == ()


def test_a_library_that_is_also_a_program_is_a_library(store: Store) -> None:
    """libc.so.6 and libcap.so.2 have an interpreter and can be run."""
    a = store.package("liba")
    interpreter = f'const char interpreter[] __attribute__((section(".interp"))) = "{store.loader}";'
    liba = a.library("liba.so.1", interpreter + function("a", 1))
    store.harden(a)
    assert names(liba).soname == str(liba)


@pytest.mark.parametrize(
    ("soname", "rule"),
    [
        ("libm.so.6", "C library"),
        ("libpthread.so.0", "C library"),
        ("libnss_files.so.2", "C library"),
        ("libgcc_s.so.1", "compiler runtime"),
        ("libstdc++.so.6", "compiler runtime"),
        ("libgomp.so.1", "compiler runtime"),
        ("libasan.so.8", "compiler runtime"),
        ("libjemalloc.so.2", "allocator"),
        ("libcuda.so.1", "driver library"),
        ("libnvidia-glcore.so.535", "driver library"),
        ("libGLX_mesa.so.0", "driver library"),
        ("libEGL_nvidia.so.0", "driver library"),
    ],
)
def test_sonames_that_others_know_by_heart_stay_while_needed_on_them_may_be_bound(
    store: Store, soname: str, rule: str
) -> None:
    it = store.package("it")
    library = it.library(soname, function("a", 1))
    plan = store.harden(it, options=["--json"]).plan
    assert names(library).soname == soname
    assert plan[soname]["soname"] == {"old": soname, "new": None, "why": rule, "detail": ""}


def test_the_loader_itself_is_never_written(store: Store) -> None:
    """Whatever changes in it, no program starts any more."""
    it = store.package("it")
    loader = it.library("ld-linux-x86-64.so.2", function("a", 1), rpath=[store.libc])
    before = loader.read_bytes()
    assert store.harden(it, options=["--json"]).plan["ld-linux-x86-64.so.2"]["skipped"] == "loader"
    assert loader.read_bytes() == before


def test_a_package_that_only_links_to_a_library_leaves_it_alone(store: Store) -> None:
    """A link farm, such as symlinkJoin makes, holds no file of its own."""
    a, farm, app = store.package("liba"), store.package("farm"), store.package("app")
    liba = a.library("liba.so.1.0", function("a", 1), soname="liba.so.1", links=["liba.so.1"])
    farm.lib.mkdir()
    for name in ("liba.so.1", "liba.so.1.0"):
        (farm.lib / name).symlink_to(a.lib / name)
    program = app.program("app", prints("a"), needs=[farm.lib / "liba.so.1"])
    before, bytes_before = run(program), liba.read_bytes()
    store.harden(farm, app)
    after = run(program)
    assert liba.read_bytes() == bytes_before
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert names(program).needed[0] == f"{a.lib}/liba.so.1", "by its own package, which the farm cannot outlive"


@pytest.mark.parametrize("soname", ["", "./liba.so.1", "build/liba.so.1"])
def test_odd_sonames(store: Store, soname: str) -> None:
    """An empty one is none; one with a relative directory names a file of the build, and becomes its path."""
    a = store.package("liba")
    liba = a.plugin("liba.so.1", function("a", 1), flags=["-Xlinker", "-soname", "-Xlinker", soname])
    before = names(liba).soname
    store.harden(a)
    assert names(liba).soname == (str(liba) if soname else before)
