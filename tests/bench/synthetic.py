"""Closures of many small libraries, one directory each, linked as a build in each of the ways would link them.

A library has a handful of functions and a table of the addresses of others': of those that it needs, which the loader looks up
at start, as it does for C++ and for what is linked with `-z now`. The program needs every library itself and in its turn
each library needs three before it, as wide closures have it.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support import room
from support.store import Store, patchelf

FUNCTIONS = 12
FAN_OUT = (1, 7, 40)
PROGRAM = """
#include <unistd.h>
{declarations}
int (*volatile table[])(void) = {{ {table} }};
int main(int argc, char **argv) {{
  int sum = 0;
  for (unsigned i = 0; i < sizeof table / sizeof *table; i++) sum += table[i]();
  if (argc > 1) {{ char byte; sum += read(0, &byte, 1); }}
  return sum != {count};
}}
"""


@dataclass(frozen=True)
class Made:
    """A program, and the store path in which it lies with its libraries."""

    program: Path
    package: Path


@dataclass(frozen=True)
class Link:
    """How a derivation links: with room or without, names absolute from the link on, SONAMEs made absolute behind it."""

    room: bool = False
    absolute: bool = False
    patch_soname: bool = False


class Objects:
    """The object files of a closure of `count` libraries, assembled once for all ways."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory, self.count = directory, count
        directory.mkdir(parents=True)
        for number in range(count):
            (directory / f"{number}.s").write_text(_assembly(number))
            subprocess.run(["as", "-o", f"{number}.o", f"{number}.s"], cwd=directory, check=True)
        source = PROGRAM.format(
            declarations="".join(f"int f{number}_0(void);" for number in range(count)),
            table=", ".join(f"f{number}_0" for number in range(count)),
            count=count,
        )
        argv: list[str | Path] = ["gcc", "-x", "c", "-", "-c", "-O1", "-fPIE", "-o", directory / "program.o"]
        subprocess.run(argv, input=source, text=True, check=True)

    def link(self, store: Store, how: Link) -> Made:
        """Link everything into a store, each library before those that need it."""
        libc = store.libc / "libc.so.6"
        if how.absolute:
            # what linkers would copy the name from, were it there at run time
            libc = self.directory / "libc.so.6"
            shutil.copy(store.libc / "libc.so.6", libc)
            patchelf("--set-soname", store.libc / "libc.so.6", libc)
        package = store.package("synthetic")
        libraries: list[Path] = []
        for number in range(self.count):
            path = package.path / f"lib{number:04}" / f"libsynthetic{number:04}.so.1"
            path.parent.mkdir()
            needs = [libraries[other] for other in _needs(number)]
            soname = str(path) if how.absolute else path.name
            argv: list[str | Path] = ["ld", "-shared", "--hash-style=gnu", "-z", "now", "-soname", soname, "-o", path]
            _run([*argv, *_options(store, how, needs), self.directory / f"{number}.o", *needs, libc])
            _settle(path, store, how, needs)
            libraries.append(path)
        program = package.bin / "program"
        program.parent.mkdir()
        argv = ["gcc", "-pie", "-nodefaultlibs", "-o", program, f"-Wl,--dynamic-linker={store.loader}", "-Wl,-z,now"]
        argv += [word for each in _options(store, how, libraries) for word in ("-Xlinker", each)]
        _run([*argv, self.directory / "program.o", *libraries, libc])
        _settle(program, store, how, libraries)
        return Made(program, package.path)


def _options(store: Store, how: Link, needs: Sequence[Path]) -> list[str]:
    words = ["--no-as-needed", "--enable-new-dtags", "--allow-shlib-undefined"]
    if how.absolute:
        return words
    return [*words, "-rpath", _search_path(store, needs) + (f":{room.entry(store.path)}" if how.room else "")]


def _needs(number: int) -> list[int]:
    return sorted({number - back for back in FAN_OUT if number >= back})


def _assembly(number: int) -> str:
    """`f<number>_<k>` return 1; `t<number>` holds the addresses of the functions of those that are needed."""
    lines = [".text"]
    for k in range(FUNCTIONS):
        name = f"f{number}_{k}"
        lines += [f".globl {name}", f".type {name},@function", f"{name}: mov $1,%eax", "ret", f".size {name},.-{name}"]
    lines += [".data", f".globl t{number}", f".type t{number},@object", f"t{number}:"]
    lines += [f".quad f{other}_{k}" for other in (*_needs(number), number) for k in range(FUNCTIONS)]
    lines += [".quad free", f".size t{number},.-t{number}", '.section .note.GNU-stack,"",@progbits', ""]
    return "\n".join(lines)


def _search_path(store: Store, needs: Sequence[Path]) -> str:
    return ":".join(str(place) for place in dict.fromkeys([*(need.parent for need in needs), store.libc]))


def _settle(path: Path, store: Store, how: Link, needs: Sequence[Path]) -> None:
    """What fixupPhase does before the hook: shrink the search path, of which the room goes."""
    if how.room:
        patchelf("--set-rpath", _search_path(store, needs), path)
    if how.patch_soname and ".so" in path.name:
        patchelf("--set-soname", path, path)


def _run(argv: Sequence[str | Path]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
