"""AddressSanitizer reports the same, in a program and in a library, with its runtime in the store."""

import shutil
from pathlib import Path

import pytest
from debuggers.threads import DEBUG, VARYING, say, source
from support.dynamic import names
from support.glibc import HOST
from support.store import Package, Store, patchelf

OVERFLOW = """\
#include <stdlib.h>
int overflow(int by) {
  char *room = malloc(8);
  room[8 + by] = 1;
  int first = room[0];
  free(room);
  return first;
}
"""
PROGRAM = """\
int overflow(int);
int main(void) {
  return overflow(2);
}
"""
ASAN = (*DEBUG, "-fsanitize=address")


@pytest.fixture
def runtime(store: Store) -> Package:
    """libasan, libgcc_s and libstdc++ as nixpkgs' gcc-lib has them."""
    package = store.compiler_runtimes()
    asan = package.lib / "libasan.so.8"
    shutil.copy(HOST / asan.name, asan)
    patchelf("--set-rpath", f"{package.lib}:{store.libc}", asan)
    return package


def build(store: Store, runtime: Package, instrumented: bool) -> tuple[Package, Path, Path]:
    """A library with the sanitizer, and a program that has it too, or not."""
    it = store.package("it")
    path = [runtime.lib, store.libc]
    liba = it.library("liboverflow.so.1", source(it, "overflow.c", OVERFLOW), flags=ASAN, rpath=path)
    flags = ASAN if instrumented else DEBUG
    return it, liba, it.program("app", source(it, "app.c", PROGRAM), needs=[liba], flags=flags, rpath=[it.lib, *path])


def report(program: Path, **environ: str) -> tuple[int, list[str]]:
    """The status and the words of the report, from its first line to the summary, without addresses."""
    done = say(program, environ={"ASAN_OPTIONS": "symbolize=1:detect_leaks=0", **environ})
    return done.returncode, [VARYING.sub("…", line) for line in done.stderr.partition("Shadow bytes")[0].splitlines()]


@pytest.mark.parametrize("everything", [False, True], ids=["program and library", "and the runtime"])
def test_an_instrumented_program(store: Store, runtime: Package, everything: bool) -> None:
    it, liba, app = build(store, runtime, instrumented=True)
    before = report(app)
    text = "\n".join(before[1])
    assert "heap-buffer-overflow" in text
    assert "overflow.c:4" in text
    assert "SUMMARY: AddressSanitizer" in text
    store.harden(it, *([runtime] if everything else []), inputs=[runtime])
    assert names(app).needed[0] == str(runtime.lib / "libasan.so.8")
    assert str(liba) in names(app).needed
    assert names(runtime.lib / "libasan.so.8").soname == "libasan.so.8"
    assert report(app) == before


def test_an_instrumented_library_of_a_program_that_is_not(store: Store, runtime: Package) -> None:
    """The runtime refuses to come late, and comes first by LD_PRELOAD: one copy, under its name or its path."""
    it, _, app = build(store, runtime, instrumented=False)
    asan = runtime.lib / "libasan.so.8"
    refused, preloaded = report(app), report(app, LD_PRELOAD=str(asan))
    assert "does not come first" in "\n".join(refused[1])
    assert "overflow.c:4" in "\n".join(preloaded[1])
    store.harden(it, inputs=[runtime])
    assert report(app) == refused
    assert report(app, LD_PRELOAD=str(asan)) == preloaded
