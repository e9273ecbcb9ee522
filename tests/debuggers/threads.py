"""A threaded program with a library below it, compiled with debug information; and words without what differs by the run."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.store import Package

DEBUG = ("-gdwarf-4", "-O0", "-fno-omit-frame-pointer", "-Xlinker", "--build-id=sha1")
WORK = """\
int deep(int value) {
  int result = value * 2;
  return result + 1;
}
int work(int value) {
  return deep(value) + 1;
}
"""
APP = """\
#include <pthread.h>
#include <stdio.h>
int work(int value);
static pthread_barrier_t all;
static void *sleeper(void *unused) {
  pthread_barrier_wait(&all);
  pthread_barrier_wait(&all);
  return unused;
}
int main(void) {
  pthread_t threads[3];
  pthread_barrier_init(&all, 0, 4);
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, sleeper, 0);
  pthread_barrier_wait(&all);
  printf("%d\\n", work(20));
  pthread_barrier_wait(&all);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  return 0;
}
"""
VARYING = re.compile(r"0x[0-9a-f]+|\(LWP \d+\)|==\d+==|process \d+|\bPID \d+|\bT\d+\b")
SLEEPER = re.compile(r"^([2-4] Thread … … \"app\") .*")  # it is on its way into the barrier, or there


def source(package: Package, file: str, text: str) -> str:
    """Source that includes a file of that name, which debug information then names: the compiler reads from a pipe."""
    path = package.path.parent.parent / file
    path.write_text(text)
    return f'#include "{path}"'


def build(package: Package) -> tuple[Path, Path]:
    """The library and the program."""
    work = package.library("libwork.so.1", source(package, "work.c", WORK), flags=DEBUG)
    return work, package.program("app", source(package, "app.c", APP), needs=[work], flags=DEBUG)


def say(*words: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool in English, with no settings of the user's."""
    variables = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/no", **(environ or {})}
    return subprocess.run(
        list(words),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=variables,
        stdin=subprocess.DEVNULL,
    )


def gdb(program: Path, commands: Sequence[str], debug: Path | None = None) -> list[str]:
    """What gdb prints for the commands, one line each, addresses and thread numbers of the kernel left out."""
    settings = ["set pagination off", "set debuginfod enabled off", "set width 0", "set breakpoint pending off"]
    if debug is not None:
        settings.append(f"set debug-file-directory {debug}")
    words = [word for line in settings for word in ("-iex", line)]
    words += [word for line in commands for word in ("-ex", line)]
    done = say("gdb", "-nx", "-batch", *words, program)
    lines = (done.stdout + done.stderr).splitlines()
    return [SLEEPER.sub(r"\1", " ".join(VARYING.sub("…", line).split())) for line in lines]
