"""Read: what PT_INTERP and notes name may be anything, and leads to an answer or a named error."""

import subprocess
import sys

from support.store import REPOSITORY, Store


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
