"""Profilers: an address leads through /proc/PID/maps to a file and by its segments to the same function and line."""

import re
import subprocess
from pathlib import Path

from debuggers.threads import DEBUG, WORK, say, source
from support.dynamic import names
from support.store import Store

SHOWS = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int work(int value);
int main(void) {
  Dl_info info;
  dladdr((void *)work, &info);
  printf("%p %p\\n%s %s\\n", (void *)work, (void *)main, info.dli_fname, info.dli_sname);
  FILE *maps = fopen("/proc/self/maps", "r");
  for (int byte; (byte = getc(maps)) != EOF;) putchar(byte);
  return 0;
}
"""
MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+ +(/.*)")
LOAD = re.compile(r"LOAD +0x([0-9a-f]+) 0x([0-9a-f]+) \S+ 0x([0-9a-f]+)")


def symbolised(address: int, maps: str) -> tuple[str, list[str]]:
    """The file that holds an address and addr2line's function and line: what `perf report` does with a sample."""
    for line in maps.splitlines():
        match = MAP.match(line)
        if match and int(match[1], 16) <= address < int(match[2], 16):
            file, offset = match[4], address - int(match[1], 16) + int(match[3], 16)
            break
    headers = subprocess.run(["readelf", "-lW", file], capture_output=True, text=True, check=True).stdout
    segments = [[int(word, 16) for word in match.groups()] for match in LOAD.finditer(headers)]
    virtual = next(
        start + offset - position for position, start, size in segments if position <= offset < position + size
    )
    done = subprocess.run(["addr2line", "-fe", file, hex(virtual)], capture_output=True, text=True, check=True)
    return file, done.stdout.split()


def test_addresses_have_the_same_names(store: Store) -> None:
    it = store.package("it")
    work = it.library("libwork.so.1", source(it, "work.c", WORK), flags=DEBUG)
    app = it.program("app", source(it, "shows.c", SHOWS), needs=[work], flags=DEBUG)

    def look() -> list[object]:
        addresses, named, maps = say(app).stdout.split("\n", 2)
        found = [symbolised(int(address, 16), maps) for address in addresses.split()]
        files = list(dict.fromkeys(match[4] for match in MAP.finditer(maps)))
        return [found, Path(named.split()[0]).name, named.split()[1], sorted(files)]

    before, sources = look(), store.path.parent
    assert before[0] == [(str(work), ["work", f"{sources}/work.c:5"]), (str(app), ["main", f"{sources}/shows.c:5"])]
    assert before[1:3] == ["libwork.so.1", "work"]
    store.harden(it)
    assert names(app).needed[0] == str(work)
    assert look() == before
