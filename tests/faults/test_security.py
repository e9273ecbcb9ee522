"""Security, before and after: what hardening takes from an attacker, and what it does not."""

import re
from pathlib import Path

import pytest
from faults.users import run_as_nobody
from support.source import function, prints
from support.store import REPOSITORY, Package, Store
from support.trace import run

from nix_harden.loading.audit import audit

EVIL = 666
CONSTRUCTOR = 'int puts(const char *); __attribute__((constructor)) static void evil(void) { puts("evil was here"); }'


def evil(store: Store, name: str = "liba.so.1", source: str = function("a", EVIL)) -> Path:
    """A library of the same name in a directory that is nobody's store."""
    return Package(store, store.path.parent).library(name, source, directory="evil", rpath=[])


def program(store: Store, rpath: list[str | Path] | None = None) -> Path:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    return it.program("app", prints("a"), needs=[liba], rpath=rpath)


def said(path: Path, **environ: object) -> str:
    return run(path, environ={name: str(value) for name, value in environ.items()}).out


def test_ld_library_path_is_taken_before_and_ignored_after(open_store: Store) -> None:
    app = program(open_store)
    hostile = evil(open_store).parent
    assert said(app, LD_LIBRARY_PATH=hostile) == f"{EVIL}\n"
    open_store.harden(open_store.package("it"))
    assert said(app, LD_LIBRARY_PATH=hostile) == "1\n"
    assert run(app, environ={"LD_LIBRARY_PATH": str(hostile)}).misses == ()


def test_a_libc_in_ld_library_path_is_not_even_looked_for(open_store: Store) -> None:
    app = program(open_store)
    hostile = evil(open_store, "libc.so.6", CONSTRUCTOR).parent
    assert (
        "evil was here" in said(app, LD_LIBRARY_PATH=hostile)
        or run(app, environ={"LD_LIBRARY_PATH": str(hostile)}).status
    )
    open_store.harden(open_store.package("it"))
    assert run(app, environ={"LD_LIBRARY_PATH": str(hostile)}).said == (0, "1\n", "")


def test_the_current_directory_of_an_empty_entry_is_kept_and_said(open_store: Store) -> None:
    """An entry that is empty comes first: what it means is not this program's to say, so the name stays bare."""
    it = open_store.package("it")
    app = program(open_store, ["", it.lib, open_store.libc])
    hostile = evil(open_store).parent
    assert run(app, cwd=hostile).out == f"{EVIL}\n"
    words = open_store.harden(it, options=["--verbose"]).err
    assert run(app, cwd=hostile).out == f"{EVIL}\n"
    assert "liba.so.1 (may be overridden)" in words
    assert "runpath-empty" in checks(open_store, app)
    open_store.harden(it, options=["--bind", f"liba.so.1={it.lib}/liba.so.1"])
    assert run(app, cwd=hostile).out == "1\n"


def test_a_writable_directory_that_comes_first_stays_until_the_name_is_bound(open_store: Store) -> None:
    it = open_store.package("it")
    shared = open_store.path.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    app = program(open_store, [shared, it.lib, open_store.libc])
    assert said(app) == "1\n"
    evil(open_store).rename(shared / "liba.so.1")
    assert said(app) == f"{EVIL}\n"
    (shared / "liba.so.1").rename(shared / "kept")
    words = open_store.harden(it, options=["--verbose"]).err
    assert "liba.so.1 (may be overridden)" in words
    assert str(shared) in words
    assert "runpath-writable" in checks(open_store, app)
    open_store.harden(
        it, options=["--bind", f"liba.so.1={it.lib}/liba.so.1", "--bind", f"libc.so.6={open_store.libc}/libc.so.6"]
    )
    (shared / "kept").rename(shared / "liba.so.1")
    assert said(app) == "1\n"
    assert checks(open_store, app) == set()


def checks(store: Store, path: Path) -> set[str]:
    done = audit(
        [str(path)],
        store=str(store.path),
        loader=None,
        compare_real=False,
        jobs=1,
        progress=lambda done, total, at: None,
    )
    return {finding.check for finding in done.findings} & {"runpath-writable", "runpath-empty"}


@pytest.fixture
def setuid(open_store: Store) -> Path:
    """A set-user-ID program of root that finds its library by $ORIGIN."""
    it = open_store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    source = """
        #include <stdio.h>
        #include <sys/auxv.h>
        int a(void);
        int main(void) { printf("secure %lu, a() = %d\\n", getauxval(AT_SECURE), a()); return 0; }"""
    app = it.program("app", source, needs=[liba], rpath=["$ORIGIN/../lib", open_store.libc])
    app.chmod(0o4755)
    return app


def test_a_setuid_program_with_origin_cannot_start_before_and_does_after(open_store: Store, setuid: Path) -> None:
    """In secure mode the loader takes no $ORIGIN; an absolute name needs none."""
    status, _, words = run_as_nobody(setuid)
    assert status == 127
    assert "liba.so.1: cannot open shared object file" in words
    open_store.harden(open_store.package("it"))
    assert setuid.stat().st_mode & 0o7777 == 0o4755
    assert run_as_nobody(setuid) == (0, "secure 1, a() = 1\n", "")


def test_a_setuid_program_obeys_no_variable(open_store: Store, setuid: Path) -> None:
    open_store.harden(open_store.package("it"))
    hostile = evil(open_store)
    for name, value in (("LD_LIBRARY_PATH", hostile.parent), ("LD_PRELOAD", hostile), ("LD_AUDIT", hostile)):
        status, out, _ = run_as_nobody(setuid, environ={name: str(value)})
        assert (status, out) == (0, "secure 1, a() = 1\n"), name


def test_ld_preload_is_not_stopped(open_store: Store) -> None:
    app = program(open_store)
    hostile = evil(open_store)
    assert said(app, LD_PRELOAD=hostile) == f"{EVIL}\n"
    open_store.harden(open_store.package("it"))
    assert said(app, LD_PRELOAD=hostile) == f"{EVIL}\n"


AUDIT = """
    #define _GNU_SOURCE
    #include <link.h>
    #include <string.h>
    unsigned la_version(unsigned version) { return version; }
    char *la_objsearch(const char *name, uintptr_t *cookie, unsigned flag)
    { return strstr(name, "liba.so.1") ? (char *)"%s" : (char *)name; }"""


def test_ld_audit_is_not_stopped(open_store: Store) -> None:
    """An audit library answers before the loader looks at the slash: the one who sets the environment owns the program."""
    app = program(open_store)
    hostile = evil(open_store)
    auditor = evil(open_store, "audit.so", AUDIT % hostile)
    open_store.harden(open_store.package("it"))
    assert said(app) == "1\n"
    assert said(app, LD_AUDIT=auditor) == f"{EVIL}\n"


def test_a_dlopen_by_bare_name_still_searches(open_store: Store) -> None:
    """What a program opens by name at run time is no NEEDED: LD_LIBRARY_PATH comes before its RUNPATH."""
    it = open_store.package("it")
    it.library("libp.so.1", function("p", 1))
    source = '#include <dlfcn.h>\nint printf(const char *, ...); int main(void) { void *h = dlopen("libp.so.1", 2); return printf("%d\\n", ((int (*)(void))dlsym(h, "p"))()) < 0; }'
    app = it.program("app", source, rpath=[it.lib, open_store.libc])
    hostile = evil(open_store, "libp.so.1", function("p", EVIL)).parent
    open_store.harden(it)
    assert said(app) == "1\n"
    assert said(app, LD_LIBRARY_PATH=hostile) == f"{EVIL}\n"


def test_security_md_names_each_of_these_tests() -> None:
    """Every claim of docs/security.md names a test of this file, and every test is named there."""
    text = (REPOSITORY / "docs" / "security.md").read_text()
    mine = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", text)) == mine - {"test_security_md_names_each_of_these_tests"}
