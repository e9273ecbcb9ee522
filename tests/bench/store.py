"""What a store would gain by keeping parts of ELF files, and what an update moves, on two states of real sets.

    store.py [--only SET…]

The sets: packages of Debian 12 as released and with its security updates; some of Debian 12 and of 13; and nix/distro before and after
a constant of zlib became another, plain and hardened, which is built first. Of each, the bytes of ELF files in the second state that
the first has not, by what a store would compare; and what is to be moved for the files that changed.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

import bsdiff4
import fastcdc
import zstandard
from real import debstore
from support import nix

from nix_harden.parts.compare import Side
from nix_harden.parts.start import HASH

EXPRESSION = Path(__file__).with_name("rebuilt.nix")
FETCH = Path(__file__).parents[2] / "nix/distro/fetch.py"
SMALLEST, USUAL, LARGEST = 4 << 10, 16 << 10, 64 << 10  # bytes of a chunk
LEVEL = 19  # of zstd, as binary caches compress
NO_HASH = b"e" * 32  # which no hash has a letter of
UPDATED = (
    *(
        "libssl3",
        "openssl",
        "bind9-libs",
        "bind9-dnsutils",
        "php8.2-cli",
        "postgresql-15",
        "postgresql-client-15",
        "libgs10",
    ),
    *("libmagickcore-6.q16-6", "libmagickwand-6.q16-6", "nginx-core"),
)
OF_BOTH = (
    *(
        "bash",
        "coreutils",
        "curl",
        "file",
        "gawk",
        "git",
        "gpg",
        "grep",
        "less",
        "libc6",
        "libgmp10",
        "libsqlite3-0",
        "libstdc++6",
    ),
    *("libxml2", "nano", "openssh-client", "sqlite3", "tar", "vim-tiny", "xz-utils", "zlib1g", "zstd"),
)


@dataclass(frozen=True)
class Unit:
    """Bytes that a store would keep once: how many, and what they are known by."""

    size: int
    known_by: bytes


@dataclass(frozen=True)
class File:
    """An ELF file: its path, its size and that of its parts in bytes, and its units by each way of looking at it."""

    path: Path
    size: int
    written: int
    ways: Mapping[str, tuple[Unit, ...]]


FILE, CHUNKS, PARTS, PLACELESS, CHUNKED, BOTH = WAYS = (
    "whole files",
    "content-defined chunks",
    "parts",
    "parts without addresses",
    "parts, then chunks",
    "parts without addresses, then chunks",
)
MOVES = (
    f"each file by zstd -{LEVEL}",
    "its new parts by zstd",
    "its new chunks by zstd",
    "zstd --patch-from the old file",
    "bsdiff from the old file",
)


def known_by(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def chunks(data: bytes) -> Iterator[bytes]:
    """What FastCDC cuts data into."""
    if len(data) <= SMALLEST:
        yield data
        return
    for each in fastcdc.fastcdc(data, SMALLEST, USUAL, LARGEST, fat=False):
        yield data[each.offset : each.offset + each.length]


def contents(path: Path) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Of each part how many bytes of the file it has and takes itself, and what is in it, with addresses and without."""
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        side = Side(str(path), f"{scratch}/parts")
        for name, part in side.parts.items():
            size = sum(piece.size for piece in side.pieces.get(name, []))
            yield size, part.size, side.read(name), side.placeless(name)


def units(data: bytes, size: int | None = None) -> Iterator[Unit]:
    """The chunks of data, which count as `size` bytes together."""
    scale = 1 if size is None or not data else size / len(data)
    for each in chunks(data):
        yield Unit(round(len(each) * scale), known_by(each))


def looked_at(path: Path) -> File:
    """A file by each way; a part counts as many bytes as it has of the file, whatever its text takes."""
    data = path.read_bytes()
    ways: dict[str, list[Unit]] = {way: [] for way in WAYS}
    ways[FILE].append(Unit(len(data), known_by(data)))
    ways[CHUNKS] += units(data)
    written = 0
    for size, taken, content, placeless in contents(path):
        written += taken
        ways[PARTS].append(Unit(size, known_by(content)))
        ways[PLACELESS].append(Unit(size, known_by(placeless)))
        ways[CHUNKED] += units(content, size)
        ways[BOTH] += units(placeless, size)
    return File(path, len(data), written, {way: tuple(found) for way, found in ways.items()})


def fresh(way: str, old: Iterable[File], new: Iterable[File]) -> dict[Path, list[Unit]]:
    """Of each new file the units that neither an old one has nor a new one before it."""
    known = {unit.known_by for file in old for unit in file.ways[way]}
    found: dict[Path, list[Unit]] = {}
    for file in new:
        found[file.path] = []
        for unit in file.ways[way]:
            if unit.known_by not in known:
                known.add(unit.known_by)
                found[file.path].append(unit)
    return found


def bytes_of(found: Mapping[Path, Iterable[Unit]]) -> int:
    return sum(unit.size for each in found.values() for unit in each)


def packed(data: bytes, before: bytes = b"") -> int:
    """How many bytes zstd makes of data, where it has something before it."""
    log = min(max(20, (len(data) + len(before)).bit_length()), 27)
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=log, enable_ldm=bool(before))
    known = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if before else None
    return len(zstandard.ZstdCompressor(dict_data=known, compression_params=parameters).compress(data))


def moved(work: tuple[Path, Path, Set[bytes], Set[bytes]]) -> tuple[int, ...]:
    """What an update moves for a file that was another before, in each of MOVES; the sets say which parts and chunks are new."""
    old_path, new_path, parts, pieces = work
    old, new = old_path.read_bytes(), new_path.read_bytes()
    new_parts = b"".join(content for _, _, content, _ in contents(new_path) if known_by(content) in parts)
    new_chunks = b"".join(each for each in chunks(new) if known_by(each) in pieces)
    return packed(new), packed(new_parts), packed(new_chunks), packed(new, old), len(bsdiff4.diff(old, new))


@dataclass(frozen=True)
class State:
    """The ELF files of one state of a set, each by a name that it has in the other, too."""

    files: Mapping[str, Path]

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())


def without_hashes(state: State, top: Path) -> State:
    """The same files with one hash for all store paths."""
    files = {}
    for number, (name, path) in enumerate(state.files.items()):
        files[name] = top / str(number) / path.name
        files[name].parent.mkdir(parents=True)
        files[name].write_bytes(HASH.sub(NO_HASH, path.read_bytes()))
    return State(files)


def of_packages(versions: Mapping[str, str | None], environ: Mapping[str, str], top: Path) -> State:
    """Debian's packages, unpacked; with a version each, or as apt would take them."""
    words = [f"{name}={version}" if version else name for name, version in versions.items()]
    top.mkdir()
    get = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *words]
    subprocess.run(get, cwd=top, env=dict(environ), check=True)
    files = {}
    for archive in sorted(top.glob("*.deb")):
        place = top / archive.name.partition("_")[0]
        subprocess.run(["dpkg-deb", "-x", archive, place], check=True)
        for path in debstore.elf_files(place):
            name = str(path.relative_to(place)).removeprefix("usr/")
            files[f"{place.name}/{name}"] = path
    return State(files)


def updates(top: Path) -> tuple[State, State]:
    """Debian 12 as released and with its security updates."""
    subprocess.run(["apt-get", "-qq", "update"], check=True)
    released, updated = dict[str, str | None](), dict[str, str | None]()
    for line in debstore.output("apt-cache", "madison", *UPDATED).splitlines():
        name, version, source = (word.strip() for word in line.split("|"))
        target = updated if "-security" in source else released
        if "-updates" not in source and name not in target:
            target[name] = version
    return of_packages(released, os.environ, top / "released"), of_packages(updated, os.environ, top / "updated")


def releases(top: Path) -> tuple[State, State]:
    """Debian 12 and 13, packages that both have."""
    other = debstore.other_suite("trixie")
    old = of_packages(dict.fromkeys(OF_BOTH), os.environ, top / "12")
    return old, of_packages(dict.fromkeys(OF_BOTH), other, top / "13")


def rebuilt(kind: str) -> tuple[State, State]:
    """nix/distro before and after zlib changed."""
    subprocess.run([FETCH], env=nix.environment(), check=True)
    states = []
    for state in ("before", "after"):
        attribute = f"{kind}.{state}"
        built = ["nix-build", "--no-out-link", "--attr", attribute, str(EXPRESSION)]
        subprocess.run(built, env=nix.environment(), check=True, capture_output=True)
        asked = ["nix-instantiate", "--eval", "--strict", "--json", "--attr", attribute, str(EXPRESSION)]
        done = subprocess.run(asked, env=nix.environment(), check=True, capture_output=True, text=True)
        files = {}
        for output, place in json.loads(done.stdout).items():
            for path in debstore.elf_files(Path(place)):
                files[f"{output}/{path.relative_to(place)}"] = path
        states.append(State(files))
    return states[0], states[1]


def of_rebuilds(kind: str) -> Callable[[Path], tuple[State, State]]:
    return lambda _: rebuilt(kind)


SETS: Mapping[str, Callable[[Path], tuple[State, State]]] = {
    "Debian 12 and its security updates": updates,
    "Debian 12 and 13": releases,
    "nix/distro, zlib changed, plain": of_rebuilds("plain"),
    "nix/distro, zlib changed, hardened": of_rebuilds("hardened"),
}


def table(old: State, new: State, pool: ProcessPoolExecutor, scratch: Path) -> Iterator[str]:
    """What is new in the second state, way by way, and what has to be moved."""
    before, after = (list(pool.map(looked_at, state.files.values(), chunksize=4)) for state in (old, new))
    total = new.size
    taken = sum(file.written for file in after) / total
    yield f"{len(before)} ELF files of {mib(old.size)} MiB, then {len(after)} of {mib(total)} MiB; their parts take {taken:.2f} of that.\n"
    found = {way: fresh(way, before, after) for way in WAYS}
    rows = {way: bytes_of(found[way]) for way in WAYS}
    if any(HASH.search(path.read_bytes()) for path in new.files.values()):
        apart = [without_hashes(state, scratch / str(number)) for number, state in enumerate((old, new))]
        one, two = (list(pool.map(looked_at, state.files.values(), chunksize=4)) for state in apart)
        rows |= {
            f"{way}, one hash for all store paths": bytes_of(fresh(way, one, two)) for way in (FILE, PARTS, CHUNKS)
        }
    yield "| what is kept once | new, MiB | of the state |\n|---|---|---|"
    for way, size in rows.items():
        yield f"| {way} | {mib(size)} | {size / total:.1%} |"
    work: list[tuple[Path, Path, Set[bytes], Set[bytes]]] = []
    for name, path in new.files.items():
        if found[FILE][path] and name in old.files:
            parts, pieces = (frozenset(unit.known_by for unit in found[way][path]) for way in (PARTS, CHUNKS))
            work.append((old.files[name], path, parts, pieces))
    sizes = [sum(each) for each in zip(*pool.map(moved, work), strict=True)] if work else [0] * len(MOVES)
    whole = sum(path.stat().st_size for _, path, *_ in work)
    yield f"\n{len(work)} files of {mib(whole)} MiB had others of their names before them. What is moved for these:\n"
    yield "| in which way | MiB | of them |\n|---|---|---|"
    for move, size in zip(MOVES, sizes, strict=True):
        yield f"| {move} | {mib(size)} | {size / max(whole, 1):.1%} |"


def mib(size: int) -> str:
    return f"{size / 2**20:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="SET", choices=SETS, help=f"some of {'; '.join(SETS)}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary, ProcessPoolExecutor() as pool:
        for number, name in enumerate(arguments.only or SETS):
            top = Path(temporary, str(number))
            top.mkdir()
            print(f"\n### {name}\n")
            for line in table(*SETS[name](top), pool, top / "hashless"):
                print(line, flush=True)


if __name__ == "__main__":
    main()
