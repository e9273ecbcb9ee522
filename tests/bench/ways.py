"""The ways in which programs are bound, each made of the same sources in a store of its own.

Stores of one closure have paths of one length, so that no name is longer than another way's.
"""

import enum
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Program
from bench.synthetic import Link, Objects
from real import debstore
from support import room
from support.store import Store, patchelf

from nix_harden.names import LIBC, LOADERS
from nix_harden.settings import matches

# nix-harden as it is where no file has room.
PATCHELF_ONLY = """
import sys
from nix_harden import cli
from nix_harden.fixup import write
write.place = lambda table, edit: None
cli.main(sys.argv[1:])
"""


class Way(enum.Enum):
    """How a program finds its libraries."""

    SEARCHING = "unhardened"
    SONAME = "patchelf --set-soname"
    PATCHELF = "bound by patchelf"
    IN_PLACE = "bound in place"
    LINKED = "absolute from the link on"
    LIFTED = "frozen, all lifted"
    PROVEN = "frozen, in a proven order"
    PRELINKED = "prelinked"


@dataclass(frozen=True)
class Bound:
    """A program bound in one way, and the seconds that the tool took; 0 where none ran."""

    program: Program
    seconds: float = 0.0


def synthetic(top: Path, template: Path, count: int) -> Mapping[Way, Bound]:
    """Each way of a closure of `count` libraries. The unhardened one has the room that in-place binding uses, and does not use it."""
    objects = Objects(top / "objects", count)
    links = {
        Way.SEARCHING: Link(room=True),
        Way.SONAME: Link(patch_soname=True),
        Way.PATCHELF: Link(),
        Way.IN_PLACE: Link(room=True),
        Way.LINKED: Link(absolute=True),
    }
    bound = {}
    for number, (way, how) in enumerate(links.items()):
        (top / str(number)).mkdir()
        store = Store.create(top / str(number), template)
        made = objects.link(store, how)
        seconds = 0.0
        if way in (Way.PATCHELF, Way.IN_PLACE):
            seconds = harden(way, store.path, ["--output", f"out={made.package}", "--input", str(store.glibc)])
        bound[way] = Bound(Program(made.program, (), ("wait",)), seconds)
    bound[Way.LIFTED] = lift(bound[Way.SEARCHING], "loader")
    bound[Way.PROVEN] = lift(bound[Way.SEARCHING], "proven")
    bound[Way.PRELINKED] = prelink(bound[Way.SEARCHING])
    return bound


@dataclass(frozen=True)
class Real:
    """A Debian program: its package, its path there, and what it is run with, as `Program` has it."""

    package: str
    path: str
    ends: Sequence[str]
    waits: Sequence[str] | None


REAL = {
    "ffmpeg": Real(
        "ffmpeg",
        "bin/ffmpeg",
        ("-version",),
        ("-loglevel", "quiet", "-f", "s16le", "-i", "pipe:0", "-f", "null", "-"),
    ),
    "inkscape": Real("inkscape", "bin/inkscape", ("--version",), ("--pipe", "--export-filename=/dev/null")),
    "convert": Real("imagemagick-6.q16", "bin/convert-im6.q16", ("-version",), ("-", "null:")),
    "wireshark": Real(
        "wireshark-qt", "bin/wireshark", ("--version",), None
    ),  # of Qt, of which it needs no display then
    "git": Real("git", "bin/git", ("--version",), ("hash-object", "--stdin")),
}


def real(top: Path, names: Sequence[str]) -> Mapping[str, Mapping[Way, Bound]]:
    """Each way of Debian's programs, whose names nobody can make absolute at the link any more.

    All but the way by patchelf alone have room: their search path was longer once. The seconds are those of all packages.
    """
    wanted = [REAL[name] for name in names]
    roots = [each.package for each in wanted]
    places = {way: top / str(number) for number, way in enumerate(Way)}
    origin = top / "o"
    debstore.build(origin, roots, debstore.default_cache())
    seconds = dict.fromkeys(Way, 0.0)
    for way in (Way.SEARCHING, Way.SONAME, Way.PATCHELF, Way.IN_PLACE):
        relocate(origin, places[way])
        store = debstore.load(places[way])
        if way in (Way.SEARCHING, Way.IN_PLACE):
            room.leave(store.elf_files(), store.directory)
        if way is Way.SONAME:
            seconds[way] = _set_sonames(store)
        if way in (Way.PATCHELF, Way.IN_PLACE):
            for package in store.packages:
                inputs = [word for path in package.deps for word in ("--input", path)]
                seconds[way] += harden(way, store.directory, ["--output", f"out={package.path}", *inputs])
    shutil.rmtree(origin)
    found: dict[str, dict[Way, Bound]] = {}
    for name, each in zip(names, wanted, strict=True):
        ways = found[name] = {}
        for way in (Way.SEARCHING, Way.SONAME, Way.PATCHELF, Way.IN_PLACE):
            path = debstore.load(places[way]).path(each.package) / each.path
            ways[way] = Bound(Program(path.resolve(), each.ends, each.waits), seconds[way])
        ways[Way.LIFTED] = lift(ways[Way.SEARCHING], "loader")
        ways[Way.PROVEN] = lift(ways[Way.SEARCHING], "proven")
        ways[Way.PRELINKED] = prelink(ways[Way.SEARCHING])
    return found


def harden(way: Way, store: Path, words: Sequence[str]) -> float:
    """The seconds of one run of the hook's program, by patchelf alone where the way asks for it."""
    program = ["-c", PATCHELF_ONLY] if way is Way.PATCHELF else ["-m", "nix_harden"]
    environ = {"PATH": os.environ["PATH"], "NIX_STORE": str(store)}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *program, "fixup", *words], env=environ, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    return seconds


def lift(searching: Bound, order: str) -> Bound:
    """A copy of the unhardened program that names all that it loads, in an order of freeze --order."""
    return _copied(searching.program, order, "freeze", "--order", order)


def prelink(searching: Bound) -> Bound:
    """A copy of the unhardened program that names its module."""
    return _copied(searching.program, "prelinked", "prelink")


def _copied(program: Program, directory: str, *words: str) -> Bound:
    """A copy below the program's directory that a subcommand makes."""
    path = program.path.parent / directory / program.path.name  # git is another program under another name
    path.parent.mkdir()
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "nix_harden", *words, program.path, "-o", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Bound(Program(path, program.ends, program.waits), time.perf_counter() - begin)


def relocate(source: Path, target: Path) -> None:
    """Copy a store to a path of the same length, and have its files name the new one."""
    old, new = os.fsencode(source), os.fsencode(target)
    assert len(old) == len(new)
    shutil.copytree(source, target, symlinks=True)
    for path in target.rglob("*"):
        if path.is_symlink():
            text = os.readlink(path)
            if text.startswith(str(source)):
                path.unlink()
                path.symlink_to(text.replace(str(source), str(target), 1))
        elif path.is_file() and old in (data := path.read_bytes()):
            path.write_bytes(data.replace(old, new))


def _set_sonames(store: debstore.Store) -> float:
    """What the original hook does: an absolute SONAME for every file that is called a library, but for the C library's."""
    files = [
        path
        for path in store.elf_files()
        if ".so" in path.name and not matches([*LIBC, *LOADERS], path.name) and debstore.read_dynamic(path)
    ]
    begin = time.perf_counter()
    for path in files:
        patchelf("--set-soname", path, path)
    return time.perf_counter() - begin
