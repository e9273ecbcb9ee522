"""What trace counts is what strace prints of the loader, and nothing of the program."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from musl.muslstore import Musl, uses_libc
from start.helpers import by_hand, trace
from support.source import function, prints
from support.store import Store

# The first call that glibc makes once its loader has relocated everything: __libc_early_init asks for the size of stacks.
GLIBC_IS_DONE = "prlimit64(0, RLIMIT_STACK, NULL"
# It opens a file that is not there when it is loaded, and so does the program that calls it, which prints as well.
NOSY = """
    #include <fcntl.h>
    #include <stdio.h>
    __attribute__((constructor)) static void begin(void) { puts("constructed"); fflush(stdout); open("/nowhere/constructor.so", O_RDONLY); }
    int nosy(void) { return 1; }"""
OPENS = """
    #include <dlfcn.h>
    #include <fcntl.h>
    int nosy(void);
    int main(void) { nosy(); open("%s", O_CREAT | O_WRONLY, 0600); return dlopen("libnowhere.so.1", RTLD_NOW) != 0; }"""


def chain(store: Store) -> Path:
    """A program of three libraries in three packages."""
    c = store.package("c").library("libc1.so.1", function("c1", 3))
    b = store.package("b").library("libb.so.1", function("b", 2, ["c1"]), needs=[c])
    a = store.package("a").library("liba.so.1", function("a", 1, ["b"]), needs=[b])
    rpath = [store.package("empty").lib, *(path.parent for path in (b, a)), store.libc]
    return store.package("app").program("app", prints("a"), needs=[a], rpath=rpath)


def test_counts_are_those_of_strace(store: Store) -> None:
    """glibc: calls, failed lookups and the directories and names among them, as a hand-written search in strace's lines finds them."""
    program = chain(store)
    expected = by_hand(program, GLIBC_IS_DONE)
    (found,) = trace(store, program)
    assert expected.failed
    assert found["failed_lookups"] == len(expected.failed)
    assert found["system_calls"] == expected.calls
    assert sum(found["failed_lookups_by_directory"].values()) == len(expected.failed)
    assert found["failed_opens_by_name"]["liba.so.1"] == sum(path.endswith("/liba.so.1") for path in expected.failed)
    assert found["failed_lookups_by_directory"][str(store.package("empty").lib)] == sum(
        path.startswith(str(store.package("empty").lib)) for path in expected.failed
    )


def test_libraries_are_what_the_loader_lists(store: Store) -> None:
    program = chain(store)
    (found,) = trace(store, program)
    said = subprocess.run([store.loader, "--list", program], capture_output=True, text=True, check=True).stdout
    listed = [line.split()[2] for line in said.splitlines() if "=>" in line]
    assert found["libraries"] == [path for path in listed if path != str(store.loader)]


def test_a_hardened_chain_is_searched_for_nothing(store: Store) -> None:
    program = chain(store)
    (before,) = trace(store, program)
    packages = [store.package(name) for name in ("c", "b", "a", "app")]
    for place, package in enumerate(packages):
        store.harden(package, inputs=[*packages[:place], store.package("glibc")])
    (after,) = trace(store, program)
    assert before["failed_lookups"] > 10
    assert after["failed_lookups"] == 0
    assert after["failed_lookups_by_directory"] == {}
    assert after["libraries"] == before["libraries"]


def test_musl_is_followed_to_the_programs_first_instruction(store: Store) -> None:
    """Its loader is one file with its C library, and makes no call of its own before main."""
    musl = Musl.create(store)
    b = musl.library(store.package("b"), "libb.so.1", uses_libc("b", 2))
    a = musl.library(store.package("a"), "liba.so.1", uses_libc("a", 1, "b"), needs=[b])
    source = 'int a(void); int access(const char *, int); int main(void) { access("/nowhere", a()); return 0; }'
    program = musl.program(
        store.package("app"), "app", source, needs=[a], rpath=[store.package("empty").lib, b.parent, a.parent]
    )
    expected = by_hand(program, 'access("/nowhere"')
    (found,) = trace(store, program)
    assert len(found["libraries"]) == 2
    assert expected.failed
    assert found["failed_lookups"] == len(expected.failed)
    assert found["system_calls"] == expected.calls
    assert found["linking"] is None
    assert "glibc" in found["why_not"]["linking"]


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_what_has_no_loader_makes_no_call(store: Store, flag: str) -> None:
    """A static program relocates itself, after its own first instruction."""
    program = store.package("app").program("app", "int main(void) { return 0; }", flags=[flag])
    (found,) = trace(store, program)
    assert (found["interpreter"], found["libraries"], found["system_calls"]) == (None, [], 0)
    assert found["constructors_system_calls"] == 0
    assert found["seconds"] > 0
    assert found["why_not"] == {"linking": "it has no loader"}


def test_another_width_of_words_is_read(store: Store) -> None:
    """A program of 32 bits on a machine of 64; its loader is the host's."""
    program = store.package("app").program("app", "int main(void) { return 0; }", flags=["-m32"], rpath=[])
    (found,) = trace(store, program)
    assert [os.path.basename(path) for path in found["libraries"]] == ["libc.so.6"]
    assert found["linking"]["relocations_with_symbol"] > 0


def test_main_is_never_run_and_constructors_are_told_apart(store: Store, tmp_path: Path) -> None:
    """What a library looks for when it is initialized is not the loader's; what the program opens later does not happen."""
    made = tmp_path / "made"
    lib = store.package("nosy").library("libnosy.so.1", NOSY)
    program = store.package("app").program("app", OPENS % made, needs=[lib])
    expected = by_hand(program, GLIBC_IS_DONE)
    made.unlink()
    (found,) = trace(store, program)
    assert found["failed_lookups"] == len(expected.failed)
    assert found["constructors_system_calls"] > 0
    assert not {"libnowhere.so.1", "constructor.so"} & set(found["failed_opens_by_name"])
    assert not made.exists()


def test_nothing_is_left_behind(store: Store, tmp_path: Path) -> None:
    """Neither a process, nor a dump of the one that strace saw die of its breakpoint."""
    program = chain(store)
    script = 'ulimit -c unlimited && cd "$1" && shift && exec "$@"'
    subprocess.run(
        ["bash", "-c", script, "bash", tmp_path, sys.executable, "-m", "nix_harden", "trace", program],
        check=True,
        env=store.environ,
        stdout=subprocess.DEVNULL,
    )
    assert not list(tmp_path.glob("*core*"))
    running = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            running += path.read_bytes()
    assert bytes(program) not in running
