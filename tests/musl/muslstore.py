"""A store with musl in it, and how C is compiled for it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.store import Package, Store

HOST = Path("/usr/lib/x86_64-linux-musl/libc.so")
LOADER = "ld-musl-x86_64.so.1"


@dataclass(frozen=True)
class Musl:
    """Debian's musl as a package: its C library, which is its loader as well, under both of its names."""

    package: Package

    @classmethod
    def create(cls, store: Store) -> "Musl":
        package = store.package("musl")
        package.lib.mkdir()
        shutil.copy(HOST, package.lib)
        (package.lib / LOADER).symlink_to("libc.so")
        return cls(package)

    @property
    def loader(self) -> Path:
        return self.package.lib / LOADER

    def library(
        self, package: Package, file: str, source: str, needs: Sequence[Path] = (), rpath: Sequence[Path] | None = None
    ) -> Path:
        places = self._rpath(needs, rpath)
        return package.library(file, source, needs=needs, rpath=places, compiler="musl-gcc")

    def program(
        self, package: Package, file: str, source: str, needs: Sequence[Path] = (), rpath: Sequence[Path] | None = None
    ) -> Path:
        interpreter = ["-Xlinker", f"--dynamic-linker={self.loader}", "-Xlinker", "--allow-shlib-undefined"]
        places = self._rpath(needs, rpath)
        return package.program(file, source, needs=needs, rpath=places, compiler="musl-gcc", flags=interpreter)

    def _rpath(self, needs: Sequence[Path], rpath: Sequence[Path] | None) -> list[Path]:
        return [*(need.parent for need in needs), self.package.lib] if rpath is None else list(rpath)


def uses_libc(name: str, value: int, *calls: str) -> str:
    """A library's source as support.source has it, but one that needs the C library."""
    declarations = "".join(f"int {other}(void);" for other in calls)
    total = " + ".join(["atoi(text)", *(f"{other}()" for other in calls)])
    return (
        f'{declarations} int atoi(const char *); int {name}(void) {{ const char *text = "{value}"; return {total}; }}'
    )
