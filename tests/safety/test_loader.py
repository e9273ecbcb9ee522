"""What the loader does with absolute names: each hazard is made to happen first, then shown not to happen after hardening."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit.helpers import found
from support.dynamic import names
from support.source import PTHREAD_EXIT, function, opens, prints
from support.store import Package, Store, patchelf
from support.trace import run

MODES = pytest.mark.parametrize("mode", ["soname", "needed"])

AUDITOR = """
    #define _GNU_SOURCE
    #include <stdio.h>
    #include <string.h>
    unsigned la_version(unsigned version) { return version; }
    char *la_objsearch(const char *name, unsigned long *cookie, unsigned flag) {
      const char *base = strrchr(name, '/');
      dprintf(2, "%%u %%s\\n", flag, name);
      return base && !strcmp(base, "/liba.so.1") && *"%s" ? "%s" : (char *) name;
    }"""


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


@pytest.fixture
def liba(store: Store) -> Path:
    return store.package("liba").library("liba.so.1", function("a", 1))


def own(path: Path) -> Path:
    """Make a file of the store's glibc, which is a link to that of other stores, one that may be written."""
    data, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)
    return path


def another_glibc(store: Store) -> Package:
    """A glibc of another build: the names of its private versions differ, as their meaning does between real ones."""
    package = store.package("glibc-other")
    package.lib.mkdir()
    for name in ("libc.so.6", store.loader.name):
        data = (store.libc / name).read_bytes()
        (package.lib / name).write_bytes(data.replace(b"\0GLIBC_PRIVATE\0", b"\0GLIBC_PRIVATF\0"))
        (package.lib / name).chmod(0o755)
    return package


def test_version_needs_that_no_needed_matches_abort_and_hardening_keeps_them_equal(store: Store, it: Package) -> None:
    """`_dl_check_map_versions: Assertion 'needed != NULL'` is what removing one name and adding another leads to."""
    script = store.path / "versions"
    script.write_text("A_1 { global: a; local: *; };")
    a = store.package("liba").library("liba.so.1", function("a", 1), flags=[f"-Wl,--version-script={script}"])
    program = it.program("app", prints("a"), needs=[a])
    broken = it.program("broken", prints("a"), needs=[a])
    patchelf("--remove-needed", "liba.so.1", "--add-needed", a, broken)
    store.harden(store.package("liba"))
    assert run(broken).status == 127
    assert "needed != NULL" in run(broken).err
    assert [finding.subject for finding in found("version-name", store, broken)] == ["liba.so.1"]
    store.harden(it, options=["--exclude", "broken"])
    assert run(program).said == (0, "1\n", "")
    assert set(names(program).version_files) <= set(names(program).needed)
    assert found("version-name", store, program) == []


def test_an_absolute_soname_of_libc_crashes_every_program(store: Store, it: Package, liba: Path) -> None:
    """The reason for the rule `C library`; the bound name alone is safe."""
    program = it.program("app", PTHREAD_EXIT.replace("pthread_exit(", "return ("), needs=[liba])
    store.harden(it)
    assert names(program).needed[-1] == str(store.libc / "libc.so.6")
    assert run(program).said == (0, "1\n", "")
    libc = own(store.libc / "libc.so.6")
    patchelf("--set-soname", libc, libc)
    assert run(program).status != 0


def test_another_soname_of_the_loader_ends_every_program_at_its_start(store: Store, it: Package) -> None:
    """The reason for the rule `loader`: libc's NEEDED on it is answered by its SONAME, else by a second copy that nobody starts."""
    program = it.program("app", prints())
    store.harden(it)
    assert run(program).status == 0
    loader = own(store.loader)
    other = b"/" + loader.name.encode()[1:] + b"\0"
    loader.write_bytes(loader.read_bytes().replace(loader.name.encode() + b"\0", other))
    assert run(program).status != 0


def test_an_absolute_soname_of_libgcc_s_maps_a_second_one(store: Store, it: Package, liba: Path) -> None:
    """The reason for the rule `compiler runtime`: pthread_exit opens libgcc_s.so.1 by that name from libc's own search path."""
    gcc, other = store.compiler_runtimes(), store.package("libgcc-other")
    runtime = gcc.lib / "libgcc_s.so.1"
    shutil.copytree(gcc.lib, other.lib)
    patchelf("--set-rpath", other.lib, own(store.libc / "libc.so.6"))
    program = it.program("app", PTHREAD_EXIT, needs=[liba, runtime])
    store.harden(gcc, it)
    assert run(program).files("libgcc_s") == [str(runtime)]
    patchelf("--set-soname", runtime, runtime)
    assert run(program).files("libgcc_s") == [str(runtime), str(other.lib / "libgcc_s.so.1")]


@MODES
@pytest.mark.parametrize("flags", ["RTLD_NOW", "RTLD_NOW | RTLD_NOLOAD"])
def test_a_loaded_library_is_opened_by_its_bare_name_from_the_program_and_from_a_library(
    store: Store, it: Package, liba: Path, mode: str, flags: str
) -> None:
    """Both link to liba.so.1 and open it by name; it is mapped once, before and after."""
    opener = opens("liba.so.1", "a", flags, calls=["a"])
    libb = store.package("libb").library("libb.so.1", opener.replace("int main(void)", "int b(void)"), needs=[liba])
    program = it.program("direct", opener, needs=[liba])
    indirect = it.program("indirect", prints("b"), needs=[libb])
    before = run(program), run(indirect)
    assert (before[0].out, before[1].out) == ("1\n", "1\n0\n")
    for name in ("liba", "libb", "it"):
        store.harden(store.package(name), options=["--mode", mode])
    after = run(program), run(indirect)
    assert [each.behaviour for each in after] == [each.behaviour for each in before]


@MODES
@pytest.mark.parametrize("opener", ["a name made at run time", "an object that is not hardened"])
def test_a_bare_name_that_no_file_of_the_outputs_holds_is_answered_in_mode_needed_alone(
    store: Store, it: Package, liba: Path, mode: str, opener: str
) -> None:
    """A script that calls dlopen through its interpreter, or a foreign plugin: liba is loaded for libb, and asked for by its
    old SONAME from where no search path leads to it."""
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    source = opens("%s", "a", calls=["b"]).replace('dlopen("%s"', "dlopen(arguments[1]")
    source = source.replace("main(void)", "main(int count, char **arguments)")
    program = it.program("app", source, needs=[libb])
    arguments = ["liba.so.1"]
    if opener == "an object that is not hardened":
        calls = '#include <dlfcn.h>\nint q(void) { return dlopen("liba.so.1", RTLD_NOW) ? 1 : 0; }'
        foreign = store.package("foreign").library("libq.so", calls, rpath=[])
        program, arguments = it.program("asks", prints("b", "q"), needs=[libb, foreign]), []
    before = run(program, *arguments)
    assert before.out in ("1\n", "11\n1\n")
    for name in ("liba", "libb", "it"):
        store.harden(store.package(name), options=["--mode", mode])
    after = run(program, *arguments)
    if mode == "needed":
        assert after.behaviour == before.behaviour
    else:
        assert "not opened: liba.so.1" in after.out or after.out == "11\n0\n"


@MODES
def test_a_library_that_relies_on_what_others_load_is_answered_where_both_are_seen(
    store: Store, it: Package, liba: Path, mode: str
) -> None:
    """libb, not hardened and without a search path, is answered by what the program has loaded: under its own eyes liba's name
    stays. Where liba alone was hardened before, the program asks for it by its bare name, and that answers."""
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[])
    program = it.program("app", prints("a", "b"), needs=[liba, libb])
    before = run(program)
    assert before.out == "1\n11\n"
    for name in ("liba", "it"):
        store.harden(store.package(name), inputs=[store.package("libb")], options=["--mode", mode])
    assert run(program).behaviour == before.behaviour
    assert (names(program).needed[0] == "liba.so.1") == (mode == "soname")


def test_a_program_that_was_linked_to_hardened_libraries_wants_mode_needed_for_them(
    store: Store, it: Package, liba: Path
) -> None:
    """Where the linker has copied liba's absolute SONAME, nothing answers libb any more, and the audit says so."""
    libb = store.package("libb").library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[])
    store.harden(store.package("liba"))
    program = it.program("app", prints("a", "b"), needs=[liba, libb])
    assert run(program).status == 127
    assert [finding.message for finding in found("missing-target", store, program)] != []


def test_two_files_of_one_soname_are_both_loaded_and_the_audit_says_so(store: Store, it: Package) -> None:
    """Bare, the second finds the first by its SONAME; bound in builds of their own, each gets its own, and symbols still come from the first."""
    x1 = store.package("x1").library("libx.so.1", function("x", 1))
    x2 = store.package("x2").library("libx.so.1", function("x", 2))
    libp = store.package("libp").library("libp.so.1", function("p", 0, ["x"]), needs=[x1])
    libq = store.package("libq").library("libq.so.1", function("q", 0, ["x"]), needs=[x2])
    program = it.program("app", prints("p", "q"), needs=[libp, libq])
    before = run(program)
    assert (before.out, before.files("libx")) == ("1\n1\n", [str(x1)])
    for name in ("x1", "x2", "libp", "libq", "it"):
        store.harden(store.package(name))
    after = run(program)
    assert (after.out, after.files("libx")) == ("1\n1\n", [str(x1), str(x2)])
    [finding] = found("soname-twice", store, program)
    assert str(x1) in finding.message
    assert str(x2) in finding.message


def test_bind_makes_the_two_one(store: Store, it: Package) -> None:
    """What a user may do about the diamond: name the one file that is meant, in the package that brings the other."""
    x1 = store.package("x1").library("libx.so.1", function("x", 1))
    x2 = store.package("x2").library("libx.so.1", function("x", 2))
    libp = store.package("libp").library("libp.so.1", function("p", 0, ["x"]), needs=[x1])
    libq = store.package("libq").library("libq.so.1", function("q", 0, ["x"]), needs=[x2])
    program = it.program("app", prints("p", "q"), needs=[libp, libq])
    store.harden(*(store.package(name) for name in ("libp", "libq", "it")), options=["--bind", f"libx.so.1={x1}"])
    assert run(program).files("libx") == [str(x1)]
    assert found("soname-twice", store, program) == []


def test_an_audit_library_still_replaces_a_bound_library(store: Store, it: Package, liba: Path) -> None:
    """glibc asks la_objsearch before it looks at the slash: what LD_LIBRARY_PATH did, LD_AUDIT still does."""
    other = store.package("other").library("liba.so.1", function("a", 2))
    auditor = store.package("auditor").library("libaudit.so", AUDITOR % (other, other))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it)
    assert run(program, environ={"LD_LIBRARY_PATH": str(other.parent)}).out == "1\n"
    assert run(program, environ={"LD_AUDIT": str(auditor)}).out == "2\n"


def test_an_audit_library_sees_the_absolute_name(store: Store, it: Package, liba: Path) -> None:
    auditor = store.package("auditor").library("libaudit.so", AUDITOR % ("", ""))
    program = it.program("app", prints("a"), needs=[liba])
    assert "1 liba.so.1\n" in run(program, environ={"LD_AUDIT": str(auditor)}).err
    store.harden(it)
    after = run(program, environ={"LD_AUDIT": str(auditor)})
    assert f"1 {liba}\n" in after.err
    assert after.out == "1\n"


@MODES
def test_a_preloaded_library_of_the_same_soname_is_loaded_beside_the_bound_one(
    store: Store, it: Package, liba: Path, mode: str
) -> None:
    """Bare, it took its place; its symbols still come first, but both are mapped and both are initialised."""
    other = store.package("other").library("liba.so.1", function("a", 2))
    program = it.program("app", prints("a"), needs=[liba])
    preload = {"LD_PRELOAD": str(other)}
    assert run(program, environ=preload).files("liba") == [str(other)]
    store.harden(store.package("liba"), it, options=["--mode", mode])
    after = run(program, environ=preload)
    assert (after.out, after.files("liba")) == ("2\n", [str(other), str(liba)])


def test_an_excluded_library_is_still_replaced_by_a_preloaded_one(store: Store, it: Package, liba: Path) -> None:
    other = store.package("other").library("liba.so.1", function("a", 2))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it, options=["--exclude", "liba.so.1"])
    assert run(program, environ={"LD_PRELOAD": str(other)}).files("liba") == [str(other)]
    assert run(program, environ={"LD_LIBRARY_PATH": str(other.parent)}).files("liba") == [str(other)]


@pytest.mark.parametrize("keep", [False, True])
def test_a_bare_name_to_preload_is_searched_by_the_programs_search_path(
    store: Store, it: Package, liba: Path, keep: bool
) -> None:
    """LD_PRELOAD=libpre.so without a path works where the program's RUNPATH leads to it; hardenNeededKeepRunpath keeps that."""
    store.package("liba").library("libpre.so", function("a", 3))
    program = it.program("app", prints("a"), needs=[liba])
    preload = {"LD_PRELOAD": "libpre.so"}
    assert run(program, environ=preload).out == "3\n"
    store.harden(it, options=["--keep-runpath"] if keep else [])
    assert run(program, environ=preload).out == ("3\n" if keep else "1\n")


def test_the_loaders_own_preload_works(store: Store, it: Package, liba: Path) -> None:
    other = store.package("other").library("libother.so", function("a", 3))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it)
    words: list[str | Path] = [store.loader, "--preload", other, program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "3\n"


def test_a_hardened_library_opens_in_a_namespace_of_its_own(store: Store, it: Package) -> None:
    """dlmopen by path: the new namespace has its own copy, whose bound names lead to copies of its own."""
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    source = opens(str(libb), "b", calls=["b"]).replace("dlopen(", "dlmopen(LM_ID_NEWLM, ")
    program = it.program("app", source, needs=[libb])
    assert run(program).out == "11\n"
    store.harden(it)
    assert run(program).said == (0, "11\n", "")


@pytest.fixture
def open_to_all(glibc_template: Path) -> Iterator[Store]:
    """A store that another user may enter, which pytest's own directories are not."""
    top = Path(tempfile.mkdtemp(prefix="nix-harden-safety-"))
    top.chmod(0o755)
    yield Store.create(top / "store", glibc_template)
    shutil.rmtree(top)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user makes a program of another user's")
def test_a_set_user_id_program_starts_with_bound_names(open_to_all: Store) -> None:
    """AT_SECURE: the loader takes absolute names, and no variable of the caller's changes them."""
    store, it = open_to_all, open_to_all.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    source = "#include <sys/auxv.h>\n#include <stdio.h>\n#include <unistd.h>\nint a(void);\n"
    source += 'int main(void) { printf("%lu %d %d\\n", getauxval(AT_SECURE), geteuid(), a()); }'
    program = it.program("app", source, needs=[liba])
    store.harden(it)
    program.chmod(0o4755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program],
        env={"LD_LIBRARY_PATH": "/tmp", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 0 1\n", "")


def test_a_libc_of_another_glibc_than_the_interpreters_fails_as_before_and_the_audit_says_why(
    store: Store, it: Package, liba: Path
) -> None:
    """They share private symbols. The search path brought the wrong one before; hardening neither mends nor hides it."""
    other = another_glibc(store)
    program = it.program("app", prints("a"), needs=[liba], rpath=[liba.parent, other.lib])
    before = run(program)
    assert before.status != 0
    assert "GLIBC_PRIVAT" in before.err
    store.harden(it)
    after = run(program)
    assert (after.status, "GLIBC_PRIVAT" in after.err) == (before.status, True)
    assert [finding.path for finding in found("libc-and-interpreter", store, program)] == [str(program)]


def test_another_loader_cannot_run_a_hardened_program(store: Store, it: Package, liba: Path) -> None:
    """Before, LD_LIBRARY_PATH could give that loader its own libc."""
    other = another_glibc(store)
    program = it.program("app", prints("a"), needs=[liba])
    words: list[str | Path] = [other.lib / store.loader.name, "--library-path", other.lib, program]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == "1\n"
    store.harden(it)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "GLIBC_PRIVAT" in done.stderr
    store.call("unharden", str(it.path))
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == "1\n"


def test_another_path_to_a_copy_of_the_loader_maps_it_twice(store: Store, it: Package) -> None:
    """The reason for the rule `the loader itself`: by its bare name it is found as the one that runs already."""
    program = it.program("app", prints(), flags=[str(store.loader)])
    copy = store.package("copy").path / store.loader.name
    shutil.copy(store.loader, copy)
    store.harden(it)
    assert store.loader.name in names(program).needed
    assert run(program).files("ld-linux") == [], "the kernel alone maps it"
    patchelf("--replace-needed", store.loader.name, copy, program)
    assert str(copy) in run(program).mapped


def test_a_bound_library_that_is_gone_stops_the_program_and_the_audit_names_it(
    store: Store, it: Package, liba: Path
) -> None:
    """There is no fallback: another file of that name is not taken."""
    store.package("other").library("liba.so.1", function("a", 2))
    program = it.program("app", prints("a"), needs=[liba])
    store.harden(it)
    liba.unlink()
    after = run(program, environ={"LD_LIBRARY_PATH": str(store.package("other").lib)})
    assert after.status == 127
    assert f"{liba}: cannot open shared object file" in after.err
    assert [finding.subject for finding in found("missing-target", store, program)] == [str(liba)]


def test_a_program_that_asks_for_no_default_directories_is_bound_by_its_search_path_alone(
    store: Store, it: Package, liba: Path
) -> None:
    flags = ["-Xlinker", "-z", "-Xlinker", "nodefaultlib"]
    program = it.program("app", prints("a"), needs=[liba], flags=flags)
    lost = it.program("lost", prints("a"), needs=[liba], flags=flags, rpath=[liba.parent])
    before = run(program)
    assert run(lost).status == 127, "its libc is only in the loader's default directory, which it refuses"
    store.harden(it)
    after = run(program)
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert names(lost).needed == (str(liba), "libc.so.6")


def test_a_needed_that_begins_with_origin_is_followed_as_glibc_does_and_counts_as_bound(
    store: Store, it: Package
) -> None:
    liba = it.library("liba.so.1", function("a", 1))
    program = it.program("app", prints("a"), needs=[liba])
    patchelf("--replace-needed", "liba.so.1", "$ORIGIN/../lib/liba.so.1", program)
    before = run(program)
    assert before.said == (0, "1\n", "")
    answer = store.harden(it)
    assert names(program).needed == ("$ORIGIN/../lib/liba.so.1", str(store.libc / "libc.so.6"))
    assert run(program).behaviour == before.behaviour
    assert "1 name bound (1 already)" in answer.err


def test_the_audit_names_a_bare_name_that_an_absolute_soname_answers_no_more(
    store: Store, it: Package, liba: Path
) -> None:
    """An object that opens liba.so.1 by dlopen holds that string, and its search path does not lead to it."""
    calls = '#include <dlfcn.h>\nint q(void) { return dlopen("liba.so.1", RTLD_NOW) ? 1 : 0; }'
    foreign = store.package("foreign").library("libq.so", calls, rpath=[])
    program = it.program("app", prints("a", "q"), needs=[liba, foreign])
    assert run(program).out == "1\n1\n"
    store.harden(store.package("liba"))
    patchelf("--replace-needed", "liba.so.1", str(liba), program)
    assert run(program).out == "1\n0\n"
    assert "liba.so.1" in store.call("audit", "--verbose", str(program), status=None).out
