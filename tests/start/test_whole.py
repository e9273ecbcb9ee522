"""`nix-harden trace --whole`: what a program opens after its start, by dlopen and by itself, and how it ends."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from musl.muslstore import Musl
from start.helpers import refused
from support import schema
from support.source import function, opens, prints
from support.store import REPOSITORY, Store

# Opens liba.so.1 and a file of its own by the same path as dlopen does in vain, in a thread and in a fork as well.
SOURCE = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void *look(void *x) { open("EMPTY/own", O_RDONLY); open("EMPTY/liba.so.1", O_RDONLY | O_CLOEXEC); return 0; }
    int main(int count, char **words) {
      pthread_t thread;
      if (!dlopen("liba.so.1", RTLD_NOW)) return 9;
      pthread_create(&thread, 0, look, 0);
      pthread_join(thread, 0);
      if (!fork()) { look(0); _exit(0); }
      if (!vfork()) { execl("/bin/cat", "cat", "EMPTY/of-another-program", (char *) 0); _exit(1); }
      while (wait(0) > 0);
      puts("printed");
      return count > 1 ? 7 : 0;
    }"""


def program(store: Store) -> tuple[Path, Path]:
    """A program whose search path begins with an empty directory, and the library that it opens."""
    lib = store.package("a").library("liba.so.1", function("a", 1))
    empty = store.package("empty")
    made = store.package("app").program(
        "app", SOURCE.replace("EMPTY", str(empty.path)), rpath=[empty.path, lib.parent, store.libc]
    )
    return made, lib


def whole(store: Store, *words: str | Path, status: int = 0) -> dict[str, Any]:
    done = store.call("trace", "--json", "--whole", *words, status=status)
    (found,) = schema.check("trace", done.out)["programs"]
    run: dict[str, Any] = found["whole"]
    return run


def test_the_loaders_calls_are_told_from_the_programs_own(store: Store) -> None:
    """By where they are made, though both ask for the same path; and a thread and a fork are the program."""
    app, lib = program(store)
    empty = str(store.package("empty").path)
    run = whole(store, app)
    assert run["told_apart"]
    assert run["opened"] == [str(lib)]
    assert run["opened_failed_lookups_by_directory"][empty] >= 1
    assert run["own_failed_lookups_by_directory"][empty] == 4


def test_a_program_that_is_started_is_named_and_not_followed(store: Store) -> None:
    app, _ = program(store)
    run = whole(store, app)
    assert [Path(path).name for path in run["programs"]] == ["cat"]
    said = store.call("trace", "--whole", app).out
    assert "started /bin/cat, of which nothing is said here" in said


def test_what_constructors_open_is_opened_after_the_start(store: Store) -> None:
    """The loader's own work is over when they run."""
    lib = store.package("a").library("liba.so.1", function("a", 1))
    source = '#include <dlfcn.h>\n__attribute__((constructor)) static void c(void) { dlopen("liba.so.1", RTLD_NOW); } int b(void) { return 1; }'
    opener = store.package("b").library("libb.so.1", source, rpath=[lib.parent, store.libc])
    app = store.package("app").program("app", prints("b"), needs=[opener])
    assert whole(store, app)["opened"] == [str(lib)]


def test_the_status_is_the_programs_and_a_signals_as_a_shell_has_it(store: Store) -> None:
    app, _ = program(store)
    assert whole(store, app, "an argument", status=7)["status"] == 7
    killed = store.package("app").program("killed", "int abort(void); int main(void) { return abort(); }")
    assert whole(store, killed, status=134)["status"] == 134


def test_what_the_program_prints_goes_to_standard_error(store: Store) -> None:
    """Standard output has the result alone, and the program reads what is given to this one."""
    app, _ = program(store)
    done = store.call("trace", "--json", "--whole", app)
    assert json.loads(done.out)["version"] == 1
    assert "printed" in done.err
    reader = store.package("app").program(
        "reader",
        "int puts(const char *); char *gets(char *); int main(void) { char t[99]; return puts(gets(t)); }",
        flags=["-std=c99"],
    )
    command = [sys.executable, "-m", "nix_harden", "trace", "--whole", str(reader)]
    done_too = subprocess.run(
        command, input="given\n", cwd=REPOSITORY, env=store.environ, capture_output=True, text=True, check=False
    )
    assert "given" in done_too.stderr


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_runs_for_ever_is_ended_at_the_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    """By SIGTERM, or by SIGKILL where it does not heed that; and what it opened until then is said."""
    lib = store.package("a").library("liba.so.1", function("a", 1))
    source = '#include <dlfcn.h>\n#include <signal.h>\n#include <unistd.h>\nint main(void) { if (IGNORES) signal(SIGTERM, SIG_IGN); dlopen("liba.so.1", RTLD_NOW); for (;;) pause(); }'
    app = store.package("app").program(
        "app", source.replace("IGNORES", str(int(stubborn))), rpath=[lib.parent, store.libc]
    )
    run = whole(store, "--limit", "5s", app, status=137 if stubborn else 143)
    assert run["late"]
    assert run["opened"] == [str(lib)]


def test_what_is_left_running_is_not_waited_for(store: Store) -> None:
    source = (
        "#include <unistd.h>\nint main(void) { if (!fork()) { close(0); close(1); close(2); sleep(120); } return 0; }"
    )
    app = store.package("app").program("app", source)
    begin = time.monotonic()
    assert not whole(store, app)["late"]
    assert time.monotonic() - begin < 60


def test_many_threads_come_and_go(store: Store) -> None:
    """More than strace says a word of each into a pipe that nobody reads."""
    source = """
        #include <pthread.h>
        static void *nothing(void *x) { return x; }
        int main(void) { for (int i = 0; i < 3000; i++) { pthread_t t; pthread_create(&t, 0, nothing, 0); pthread_join(t, 0); } return 0; }"""
    app = store.package("app").program("app", source)
    assert whole(store, "--limit", "60s", app)["status"] == 0


def test_before_and_after_are_followed_both(store: Store, tmp_path: Path) -> None:
    """And drawn."""
    app, _ = program(store)
    file = tmp_path / "run.svg"
    said = store.call("trace", "--whole", "--svg", file, "--against", app, app).out
    (line,) = (line for line in said.splitlines() if line.startswith("after the start: libraries opened by dlopen"))
    assert line.split()[-3:] == ["1", "1", "1.00"]
    words = ["".join(each.itertext()) for each in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")]
    assert any("After the start: lookups of dlopen that failed" in each for each in words)
    assert any("After the start: lookups of the program itself" in each for each in words)


def test_of_musl_none_is_told_apart_and_that_is_said(store: Store) -> None:
    """Its loader and its C library are one file."""
    musl = Musl.create(store)
    lib = musl.library(store.package("a"), "liba.so.1", function("a", 1))
    app = musl.program(store.package("app"), "app", opens("liba.so.1", "a"), rpath=[lib.parent])
    run = whole(store, app)
    assert (run["told_apart"], run["opened"]) == (False, [])
    assert "musl's loader is its C library" in store.call("trace", "--whole", app).out


def test_a_limit_without_a_run_is_refused(store: Store) -> None:
    assert "--limit: is for --whole" in refused(store, "--limit", "1s", "/bin/true", status=2)
    assert "--limit: 'soon' is no time" in refused(store, "--whole", "--limit", "soon", "/bin/true", status=2)
