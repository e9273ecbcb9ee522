"""Read: what PT_INTERP and notes name may be anything, and leads to an answer or a named error."""

import os
import subprocess
import sys

import pytest
from faults.limits import harden
from support.source import function, prints
from support.store import REPOSITORY, Store


@pytest.mark.parametrize("interpreter", ["/proc/self/mem", "/dev/tty", "/", "x" * 5000])
def test_an_interpreter_that_is_no_file(store: Store, interpreter: str) -> None:
    """Whatever PT_INTERP names is looked at; it may be a device that never ends or a FIFO that nobody writes to."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    if interpreter == "fifo":
        interpreter = str(it.path / "fifo")
        os.mkfifo(interpreter)
    it.program("app", prints("a"), needs=[liba], flags=["-Xlinker", f"--dynamic-linker={interpreter}"])
    assert "1 library, 1 program" in harden(it)


def test_names_in_a_dlopen_note_that_no_file_can_have(store: Store) -> None:
    """JSON may hold half of a surrogate pair, and NUL; no path does."""
    it = store.package("it")
    text = r'[{"soname":["\ud800.so.1","a\u0000b"],"feature":"\ud801","priority":"required"}]'
    note = f'.section .note.dlopen,"a",%note; .balign 4; .long 4, 2f - 1f, 0x407c0c0a; .string "FDO"; 1: .string {_quoted(text)}; 2: .balign 4'
    it.program("app", f"int main(void) {{ return 0; }} __asm__({_quoted(note)});", rpath=[store.libc])
    for form in ([], ["--json"], ["--sarif"]):
        done = subprocess.run(
            [sys.executable, "-m", "nix_harden", "audit", *form, str(it.path)],
            cwd=REPOSITORY,
            env=store.environ,
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        assert b"Traceback" not in done.stderr


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
