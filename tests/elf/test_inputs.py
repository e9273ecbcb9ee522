"""Resolve: a name that an object's own search does not find is looked for in the outputs, then in the inputs' closure."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store, patchelf
from support.trace import run


@pytest.fixture
def app(store: Store) -> Package:
    return store.package("app")


def lost(app: Package, *needs: Path) -> Path:
    """A program that the loader cannot start, since nothing tells it where its libraries are."""
    program = app.program("app", prints("a"), needs=needs, rpath=[app.store.libc])
    ran = run(program)
    assert ran.status == 127
    assert "cannot open shared object file" in ran.err
    return program


def test_the_outputs_answer(store: Store, app: Package) -> None:
    lib = store.package("app-lib")
    program = lost(app, lib.library("liba.so.1", function("a", 1), directory="lib/private"))
    store.harden(app, lib)
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


@pytest.mark.parametrize("directory", ["lib", "lib64", "lib32"])
def test_the_inputs_answer(store: Store, app: Package, directory: str) -> None:
    liba = store.package("liba")
    program = lost(app, liba.library("liba.so.1", function("a", 1), directory=directory))
    store.harden(app, inputs=[liba])
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


def test_what_lies_elsewhere_in_the_inputs_answers(store: Store, app: Package) -> None:
    """Where no lib directory has the name: a language's or a database's own directory. A build for some processors is none to name."""
    liba = store.package("liba")
    liba.library("liba.so.1", function("a", 7), directory="lib/engine/glibc-hwcaps/x86-64-v2")
    program = lost(app, liba.library("liba.so.1", function("a", 1), directory="lib/engine/private"))
    store.harden(app, inputs=[liba])
    assert names(program).needed[0] == str(liba.path / "lib/engine/private/liba.so.1")
    assert run(program).said == (0, "1\n", "")


def test_a_lib_directory_comes_before_what_lies_elsewhere(store: Store, app: Package) -> None:
    liba, other = store.package("liba"), store.package("a-first")
    other.library("liba.so.1", function("a", 9), directory="share/plugins")
    program = lost(app, liba.library("liba.so.1", function("a", 1)))
    store.harden(app, inputs=[other, liba])
    assert run(program).said == (0, "1\n", "")


def test_two_files_elsewhere_in_the_inputs_are_nobodys_guess(store: Store, app: Package) -> None:
    liba = store.package("liba")
    liba.library("liba.so.1", function("a", 9), directory="lib/one")
    program = lost(app, liba.library("liba.so.1", function("a", 1), directory="lib/two"))
    said = store.harden(app, inputs=[liba]).err
    assert "liba.so.1 stays bare: two different files" in said
    assert names(program).needed[0] == "liba.so.1"


@pytest.mark.parametrize("steps", [1, 2])
def test_what_the_inputs_propagate_answers(store: Store, app: Package, steps: int) -> None:
    liba = store.package("liba")
    program = lost(app, liba.library("liba.so.1", function("a", 1)))
    above = liba
    for step in range(steps):
        package = store.package(f"step-{step}")
        (package.path / "nix-support").mkdir()
        (package.path / "nix-support" / "propagated-build-inputs").write_text(f" {above.path} \n")
        above = package
    store.harden(app, inputs=[above])
    assert run(program).said == (0, "1\n", "")


def test_what_the_inputs_libraries_name_in_their_runpath_answers(store: Store, app: Package) -> None:
    liba, libb = store.package("liba"), store.package("libb")
    a = liba.library("liba.so.1", function("a", 1))
    libb.library("libb.so.1", function("b", 10, ["a"]), needs=[a])
    program = lost(app, a)
    store.harden(app, inputs=[libb])
    assert run(program).said == (0, "1\n", "")


def test_what_the_inputs_libraries_need_by_path_answers(store: Store, app: Package) -> None:
    """A hardened input names its own inputs in NEEDED, and no longer in RUNPATH."""
    liba, libb = store.package("liba"), store.package("libb")
    a = liba.library("liba.so.1", function("a", 1))
    b = libb.library("libb.so.1", function("b", 10, ["a"]), needs=[a])
    store.harden(libb)
    assert names(b).runpath == ""
    program = lost(app, a)
    store.harden(app, inputs=[libb])
    assert run(program).said == (0, "1\n", "")


def test_an_input_for_another_machine_does_not_answer(store: Store, app: Package) -> None:
    liba, small = store.package("liba"), store.package("liba-32")
    small.library("liba.so.1", function("a", 9), flags=["-m32"], rpath=[])
    program = lost(app, liba.library("liba.so.1", function("a", 1)))
    store.harden(app, inputs=[small, liba])
    assert run(program).said == (0, "1\n", "")


def test_an_objects_own_search_comes_before_the_outputs(store: Store, app: Package) -> None:
    liba = store.package("liba")
    program = app.program("app", prints("a"), needs=[liba.library("liba.so.1", function("a", 1))])
    app.library("liba.so.1", function("a", 9))
    before = run(program)
    store.harden(app, inputs=[liba])
    assert run(program).behaviour == before.behaviour
    assert run(program).out == "1\n"


def test_the_outputs_come_before_the_inputs(store: Store, app: Package) -> None:
    liba = store.package("liba")
    program = lost(app, liba.library("liba.so.1", function("a", 1)))
    app.library("liba.so.1", function("a", 9))
    store.harden(app, inputs=[liba])
    assert run(program).said == (0, "9\n", "")


def test_two_different_files_are_nobodys_guess(store: Store, app: Package) -> None:
    one, two = store.package("one"), store.package("two")
    first, second = (package.library("liba.so.1", function("a", value)) for value, package in enumerate((one, two)))
    program = lost(app, first)
    answer = store.harden(app, inputs=[one, two])
    assert names(program).needed[0] == "liba.so.1"
    warning = next(line for line in answer.err.splitlines() if "warning" in line)
    for word in (program, "liba.so.1", "two different files", first, second, "hardenNeededBind"):
        assert str(word) in warning
    assert not names(program).runpath, "none of its directories holds the name"


def test_bind_settles_it_library_by_library(store: Store, app: Package) -> None:
    """No search path can take liba.so.1 of the one and libb.so.1 of the other."""
    one, two = store.package("one"), store.package("two")
    for value, package in enumerate((one, two)):
        package.library("liba.so.1", function("a", value))
        package.library("libb.so.1", function("b", 10 + value))
    program = app.program("app", prints("a", "b"), needs=[one.lib / "liba.so.1", one.lib / "libb.so.1"], rpath=[])
    bind = [f"liba.so.1={one.lib}/liba.so.1", f"libb.so.1={two.lib}/libb.so.1"]
    store.harden(app, inputs=[one, two], options=[word for pair in bind for word in ("--bind", pair)])
    assert run(program).said == (0, "0\n11\n", "")


def test_bind_goes_before_the_objects_own_search(store: Store, app: Package) -> None:
    one, two = store.package("one"), store.package("two")
    first, second = (package.library("liba.so.1", function("a", value)) for value, package in enumerate((one, two)))
    program = app.program("app", prints("a"), needs=[first])
    assert run(program).out == "0\n"
    store.harden(app, options=["--bind", f"liba.so.1={second}"])
    assert run(program).said == (0, "1\n", "")


def test_one_file_under_two_names_is_one_file(store: Store, app: Package) -> None:
    one, farm = store.package("one"), store.package("farm")
    liba = one.library("liba.so.1", function("a", 1))
    farm.lib.mkdir()
    (farm.lib / "liba.so.1").symlink_to(liba)
    program = lost(app, liba)
    store.harden(app, inputs=[farm, one])
    assert run(program).said == (0, "1\n", "")
    assert names(program).needed[0] == str(liba), "not through the farm, which would keep one more store path alive"


def test_two_different_files_of_the_outputs_are_nobodys_guess(store: Store, app: Package) -> None:
    program = lost(app, *(app.library("liba.so.1", function("a", 1), directory=place) for place in ("lib/a",)))
    app.library("liba.so.1", function("a", 2), directory="lib/b")
    answer = store.harden(app)
    assert names(program).needed[0] == "liba.so.1"
    for place in ("a", "b"):
        assert f"{app.lib}/{place}/liba.so.1" in answer.err


def test_a_name_found_nowhere_stays_bare_and_the_log_says_what_was_tried(store: Store, app: Package) -> None:
    gone, here = store.package("gone"), store.package("here")
    here.library("libz.so.1", function("z", 1))
    liba = gone.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[liba], rpath=[gone.lib, here.lib])
    liba.unlink()
    answer = store.harden(app, inputs=[here])
    warning = next(line for line in answer.err.splitlines() if "warning" in line)
    for word in (program, "liba.so.1 stays bare", gone.lib, here.lib, store.libc):
        assert str(word) in warning
    assert names(program).needed[0] == "liba.so.1"


def test_the_trail_says_why_each_candidate_was_refused(store: Store, app: Package) -> None:
    text, small, dangling = (store.package(name) for name in ("text", "small", "dangling"))
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    for package in (text, dangling):
        package.lib.mkdir()
    (text.lib / "liba.so.1").write_text("INPUT(-la)")
    (dangling.lib / "liba.so.1").symlink_to("nowhere")
    small.library("liba.so.1", function("a", 9), flags=["-m32"], rpath=[])
    app.program("app", prints("a"), needs=[liba], rpath=[])
    answer = store.harden(app, inputs=[text, small, dangling])
    for package, why in (
        (text, "not an ELF file"),
        (dangling, "a dangling link"),
        (small, "for 32-bit little-endian 386"),
    ):
        assert f"{package.lib} ({why}" in answer.err


@pytest.mark.parametrize("fault", ["not found", "two different files"])
def test_strict_makes_it_a_failure_and_writes_nothing(store: Store, app: Package, fault: str) -> None:
    one, two = store.package("one"), store.package("two")
    liba, _ = (package.library("liba.so.1", function("a", value)) for value, package in enumerate((one, two)))
    program = lost(app, liba)
    before = program.read_bytes()
    inputs = [one, two] if fault == "two different files" else []
    answer = store.harden(app, inputs=inputs, options=["--strict"], status=1)
    assert fault in answer.err
    assert program.read_bytes() == before


def test_an_input_outside_the_store_does_not_answer(store: Store, app: Package, tmp_path: Path) -> None:
    outside = Package(store, tmp_path / "outside")
    program = lost(app, outside.library("liba.so.1", function("a", 1)))
    store.harden(app, inputs=[outside])
    assert names(program).needed[0] == "liba.so.1"


def test_an_input_that_shrink_rpath_dropped_answers(store: Store, app: Package) -> None:
    """`patchelf --shrink-rpath` drops every directory of a hardened library, since it knows bare names only."""
    liba, libb = store.package("liba"), store.package("libb")
    a = liba.library("liba.so.1", function("a", 1))
    store.harden(liba)
    b = libb.library("libb.so.1", function("b", 10, ["a"]), needs=[a])
    program = app.program("app", prints("a", "b"), needs=[a, b])
    before = run(program)
    patchelf("--shrink-rpath", program)
    assert str(liba.lib) not in (names(program).runpath or "")
    store.harden(app, inputs=[liba, libb])
    assert run(program).behaviour == before.behaviour
    assert not [name for name in names(program).needed if not name.startswith("/")]


def test_a_name_that_is_a_link_to_a_library_of_another_name(store: Store, app: Package) -> None:
    """As libchoice.so.3 leads to whichever implementation was chosen; the package of that one has its own libchoice.so.3."""
    farm, chosen = store.package("choice"), store.package("implementation")
    real = chosen.library("libimplementation.so.0", function("a", 1))
    chosen.library("libchoice.so.3", function("a", 2))
    farm.lib.mkdir()
    (farm.lib / "libchoice.so.3").symlink_to(real)
    reference = store.package("reference").library("libchoice.so.3", function("a", 3))
    program = app.program("app", prints("a"), needs=[reference], rpath=[farm.lib, store.libc])
    before = run(program)
    assert before.out == "1\n"
    store.harden(app)
    assert run(program).behaviour == before.behaviour
    assert names(program).needed[0] == f"{farm.lib}/libchoice.so.3"


def test_one_file_needed_under_two_names_is_mapped_once(store: Store, app: Package) -> None:
    """As libtinfo.so.6 may lead to libncursesw.so.6; each user binds the name that it knows, versions and all."""
    curses = store.package("curses")
    script = store.path / "versions"
    script.write_text("N_6 { global: a; local: *; };")
    flags = ["-Xlinker", f"--version-script={script}"]
    real = curses.library("libncursesw.so.6", function("a", 1), flags=flags)
    old = store.package("old").library("libtinfo.so.6", function("a", 9), flags=flags)
    (curses.lib / "libtinfo.so.6").symlink_to(real.name)
    user = app.library("libuser.so.1", function("b", 10, ["a"]), needs=[old], rpath=[curses.lib])
    program = app.program("app", prints("a", "b"), needs=[real, user])
    before = run(program)
    assert before.out == "1\n11\n"
    store.harden(app, curses)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert names(user).needed == (f"{curses.lib}/libtinfo.so.6",)


def test_a_library_alone_finds_its_c_library_among_the_inputs(store: Store) -> None:
    """No program of the outputs says which loader will run it."""
    it = store.package("it")
    liba = it.library("liba.so.1", 'int puts(const char *); int a(void) { return puts(""); }', rpath=[])
    assert names(liba).needed == ("libc.so.6",)
    store.fixup("--output", f"out={it.path}", "--input", store.glibc)
    assert names(liba).needed == (f"{store.libc}/libc.so.6",)


def test_a_list_of_inputs_may_be_empty(store: Store) -> None:
    """A script hands on the list that it has; its end is the next option."""
    a, it = store.package("liba"), store.package("it")
    program = it.program("app", prints("a"), needs=[a.library("liba.so.1", function("a", 1))])
    for words in (["--input", "--mode", "needed"], ["--input"]):
        store.harden(it, options=words)
    assert run(program).said == (0, "1\n", "")
