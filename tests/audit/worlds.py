"""Random little worlds of libraries: every kind of name, search path and obstacle that a loader may meet, linked by ld alone."""

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = tuple(f"liba{letter}.so.1" for letter in "abcde")
INTERPRETER = "/lib64/ld-linux-x86-64.so.2"
VARIANTS = ("glibc-hwcaps/x86-64-v2", "glibc-hwcaps/x86-64-v3", "haswell", "tls", "x86_64", "tls/x86_64")


@dataclass(frozen=True)
class World:
    """A directory `top` with the ELF files of one random world, which are the roots to walk."""

    top: Path
    roots: tuple[Path, ...]


def make(top: Path, seed: int) -> World:
    """The world of a seed: the same seed gives the same world, but for the path of `top`."""
    return _Maker(top, random.Random(seed)).make()


class _Maker:
    def __init__(self, top: Path, rng: random.Random) -> None:
        self.top, self.rng = top, rng
        self.directories = [top / f"d{number}" for number in range(rng.randint(2, 4))]
        self.stubs: dict[str, Path] = {}
        self.empty = top / "empty.o"
        self.empty32 = top / "empty32.o"

    def make(self) -> World:
        self.top.mkdir(parents=True)
        for object_file, word in ((self.empty, "--64"), (self.empty32, "--32")):
            subprocess.run(["as", word, "-o", object_file, "-"], input=b".section .note.GNU-stack\n", check=True)
        roots = [path for directory in self.directories for name in NAMES if (path := self.entry(directory / name))]
        roots += [self.link(self.top / f"program{number}", program=True) for number in range(2)]
        return World(self.top, tuple(roots))

    def entry(self, path: Path) -> Path | None:
        """What stands at one path, if anything; its path if it is a library of its own."""
        roll = self.rng.random()
        path.parent.mkdir(exist_ok=True)
        if roll < 0.45:
            if self.rng.random() < 0.15:
                variant = path.parent / self.rng.choice(VARIANTS) / path.name
                variant.parent.mkdir(parents=True, exist_ok=True)
                self.link(variant)
            return self.link(path)
        others = [
            other for directory in self.directories for other in sorted(directory.glob("lib*")) if other.is_file()
        ]
        if roll < 0.6 and others:
            other = self.rng.choice(others)
            if self.rng.random() < 0.5:
                path.symlink_to(os.path.relpath(other, path.parent))
            else:
                os.link(other.resolve(), path)
        elif roll < 0.65:
            self.link(path, bits=32)
        elif roll < 0.68:
            path.symlink_to("nowhere")
        elif roll < 0.69:
            path.symlink_to(path.name)
        elif roll < 0.70:
            path.write_text("no library " * 100)
        elif roll < 0.71:
            path.mkdir()
        return None

    def link(self, path: Path, *, program: bool = False, bits: int = 64) -> Path:
        """Link one object with random names."""
        rng = self.rng
        words: list[str | Path] = ["ld", "-o", path, "--no-as-needed", "--allow-shlib-undefined", "-z", "separate-code"]
        if bits == 32:
            words += ["-m", "elf_i386", "-shared", "-soname", path.name, self.empty32]
            return self.run(words, path)
        if program:
            words += ["-pie", "-dynamic-linker", INTERPRETER, "-e", "0"]
        else:
            words.append("-shared")
            if rng.random() < 0.85:
                words += ["-soname", self.soname(path)]
            if rng.random() < 0.06:
                words += [rng.choice(["-f", "-F"]), self.needed()]
        if rng.random() < 0.08:
            words += ["-z", "nodefaultlib"]
        if rng.random() < 0.85:
            words += [rng.choice(["--enable-new-dtags", "--disable-new-dtags"]), "-rpath", self.search_path()]
        words.append(self.empty)
        words += [
            self.stub(self.needed()) for _ in range(rng.randint(1, 4) if program else rng.choice([0, 0, 1, 1, 2, 3]))
        ]
        return self.run(words, path)

    def soname(self, path: Path) -> str:
        roll = self.rng.random()
        if roll < 0.75:
            return path.name
        if roll < 0.85:
            return str(path)
        return self.rng.choice([*NAMES, f"{self.rng.choice(self.directories)}/{self.rng.choice(NAMES)}"])

    def needed(self) -> str:
        rng = self.rng
        name, directory = rng.choice(NAMES), rng.choice(self.directories)
        roll = rng.random()
        if roll < 0.7:
            return name
        if roll < 0.82:
            return f"{directory}/{name}"
        if roll < 0.87:
            return f"$ORIGIN/../{directory.name}/{name}"
        if roll < 0.9:
            return str(directory).lstrip("/") + f"/{name}"
        return rng.choice(
            [
                "libc.so.6",
                "libm.so.6",
                "libz.so.1",
                "ld-linux-x86-64.so.2",
                INTERPRETER,
                "libnowhere.so.9",
                "$LIB/libabsent.so",
            ]
        )

    def search_path(self) -> str:
        rng = self.rng
        odd = [
            "",
            "/nowhere",
            "$ORIGIN",
            "${ORIGIN}/../d1/",
            "$ORIGIN/$LIB",
            "/usr/$LIB",
            "$PLATFORM",
            "//",
            "$ORIGINAL",
        ]
        entries = [
            rng.choice(odd) if rng.random() < 0.3 else str(rng.choice(self.directories)) + "/" * rng.randint(0, 2)
            for _ in range(rng.randint(1, 4))
        ]
        return ":".join(entries) or "/nowhere"

    def stub(self, name: str) -> Path:
        """A library whose SONAME is the NEEDED that whoever links with it gets."""
        if name not in self.stubs:
            stub = self.top / f"stub{len(self.stubs)}.so"
            self.run(["ld", "-o", stub, "-shared", "-soname", name, self.empty], stub)
            self.stubs[name] = stub
        return self.stubs[name]

    def run(self, words: list[str | Path], path: Path) -> Path:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path
