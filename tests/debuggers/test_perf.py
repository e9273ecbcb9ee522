"""perf sees in a prelinked program what it sees in the one that it was made from."""

import re
import subprocess
from pathlib import Path

from prelink.helpers import is_at_work, prelink
from support.store import Store, Words

SPIN = "int spin(int n) { volatile int x = 0; for (int i = 0; i < n; i++) x += i; return x; }"
SAMPLED = re.compile(r"^ +\d+\.\d+% +\S+ +(\S+) +\[\.\] (\w+)", re.MULTILINE)
CHAIN = re.compile(r"^\t +[0-9a-f]+ (\w+)\+0x[0-9a-f]+ \((.*)\)$", re.MULTILINE)


def perf(program: Path, data: Path) -> tuple[int, set[tuple[str, str]], set[tuple[str, str]]]:
    """Whether the kernel lets perf record, the functions that took a tenth of the time or more, and those in call chains, with their files."""
    record: list[Words] = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-g", "-o", data, program]
    done = subprocess.run(record, capture_output=True, check=False)
    words = [["report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "10"], ["script"]]
    said = [
        subprocess.run(["perf", each[0], "-i", data, *each[1:]], capture_output=True, text=True, check=False).stdout
        for each in words
    ]
    chains = {(name, Path(path).name) for name, path in CHAIN.findall(said[1]) if name in ("spin", "main")}
    return done.returncode, set(SAMPLED.findall(said[0])), chains


def test_functions_and_chains_are_the_same(store: Store, tmp_path: Path) -> None:
    """Where the kernel lets nobody record, it says so of both."""
    hot = store.package("hot").library("libhot.so.1", SPIN, flags=["-O1", "-fno-omit-frame-pointer"])
    source = "int spin(int); int main(void) { return spin(100000000) & 0; }"
    plain = store.package("app").program("app", source, needs=[hot], flags=["-fno-omit-frame-pointer"])
    program = prelink(store, plain)
    assert is_at_work(program, plain)
    before, after = (perf(path, tmp_path / f"{number}.data") for number, path in enumerate((plain, program)))
    assert after == before
    if before[0] == 0:
        assert before[1] == {("libhot.so.1", "spin")}
        assert ("spin", "libhot.so.1") in before[2]
