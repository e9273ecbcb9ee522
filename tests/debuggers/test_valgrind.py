"""valgrind: the same leaks, errors and races; allocators are known by the SONAMEs that hardening leaves or shows."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from debuggers.threads import DEBUG, VARYING, say, source
from support.dynamic import names
from support.store import Store

LEAKS = """\
#include <stdlib.h>
int leaks(int count) {
  for (int i = 0; i < count; i++) *(volatile char *)malloc(10) = 1;
  char *gone = malloc(4);
  free(gone);
  return ((volatile char *)gone)[1] != 77;
}
"""
LEAKING = "int leaks(int); int main(void) { return leaks(3) - 1; }"
RACES = """\
#include <pthread.h>
static int counter;
static void *add(void *unused) { counter++; return unused; }
int races(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads[i], 0, add, 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
  return counter;
}
"""
RACING = "int races(void); int main(void) { return races() - 2; }"
ALLOCATOR = """
static char room[100000];
static unsigned long used;
void *malloc(unsigned long size) { char *at = room + used; used += (size + 31) / 16 * 16; return at; }
void free(void *at) {}
"""
ALLOCATES = """
void *malloc(unsigned long);
int main(void) { for (int i = 0; i < 7; i++) *(volatile char *)malloc(5) = 1; return 0; }
"""


def valgrind(program: Path, *options: str) -> str:
    done = say("valgrind", *options, program)
    return VARYING.sub("…", done.stderr)


def usage(text: str) -> str:
    match = re.search(r"total heap usage: .*", text)
    assert match is not None, text
    return match[0]


def test_memcheck_finds_the_same(store: Store) -> None:
    it = store.package("it")
    liba = it.library("libleaks.so.1", source(it, "leaks.c", LEAKS), flags=DEBUG)
    app = it.program("app", LEAKING, needs=[liba], flags=DEBUG)
    before = valgrind(app, "--leak-check=full")
    assert "definitely lost: 30 bytes in 3 blocks" in before
    assert "leaks (leaks.c:6)" in before
    assert "ERROR SUMMARY: 2 errors from 2 contexts" in before
    store.harden(it)
    assert names(liba).soname == str(liba)
    assert valgrind(app, "--leak-check=full") == before


def test_helgrind_finds_the_same_race(store: Store) -> None:
    it = store.package("it")
    liba = it.library("libraces.so.1", source(it, "races.c", RACES), flags=DEBUG)
    app = it.program("app", RACING, needs=[liba], flags=DEBUG)
    before = helgrind(app)
    assert "Possible data race during write of size 4" in "\n".join(before)
    assert "add (races.c:3)" in "\n".join(before)
    store.harden(it)
    assert helgrind(app) == before


def helgrind(program: Path) -> list[str]:
    """The kinds of race and the lines of the source; which of the two threads came first differs by the run."""
    text = valgrind(program, "--tool=helgrind")
    return sorted({line.strip() for line in text.splitlines() if "data race" in line or "races.c" in line})


@pytest.mark.parametrize(
    ("file", "options", "synonym"),
    [
        ("libjemalloc.so.2", [], "libjemalloc.so.2"),
        ("libtcmalloc_minimal.so.4", [], "*tcmalloc*"),
        ("libmine.so.1", ["--mode", "needed"], "libmine.so.1"),
        ("libmine.so.1", [], "*/libmine.so.1"),
    ],
    ids=["known by name", "valgrind's own pattern", "mode needed", "a pattern for absolute SONAMEs"],
)
def test_an_allocator_is_replaced(store: Store, file: str, options: Sequence[str], synonym: str) -> None:
    """A known allocator keeps its SONAME; another one is found in mode `needed`, or by a pattern that allows a directory."""
    it = store.package("it")
    liba = it.library(file, ALLOCATOR)
    app = it.program("app", ALLOCATES, needs=[liba])
    before = valgrind(app, f"--soname-synonyms=somalloc={synonym.removeprefix('*/')}")
    assert "7 allocs" in usage(before)
    store.harden(it, options=options)
    assert names(app).needed[0] == str(liba)
    assert usage(valgrind(app, f"--soname-synonyms=somalloc={synonym}")) == usage(before)
