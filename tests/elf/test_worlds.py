"""Random worlds of packages, always the same ones: hardened, hardened again and unhardened, with ld.so as the judge."""

import random
from pathlib import Path
from typing import Any

import pytest
from support.source import function, opens, prints
from support.store import Package, Store
from support.trace import run

SEEDS = range(8)


class Maker:
    """Packages whose libraries need earlier ones, in the ways that real ones do and a few that they should not."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.random = store, random.Random(seed)
        self.packages: list[Package] = []
        self.libraries: list[tuple[str, Path, str | None]] = []
        self.programs: list[Path] = []
        for number in range(self.random.randint(3, 5)):
            package = store.package(f"p{number}")
            self.packages.append(package)
            for index in range(self.random.randint(1, 2)):
                self._library(package, f"f{number}{index}")
            if number and self.random.random() < 0.8:
                self._program(package, f"app{number}")
        if not self.programs:
            self._program(self.packages[-1], "app")

    def _needs(self, most: int) -> list[tuple[str, Path, str | None]]:
        return self.random.sample(self.libraries, min(len(self.libraries), self.random.randint(0, most)))

    def _search_path(self, needs: list[tuple[str, Path, str | None]], own: Path) -> list[str]:
        if self.random.random() < 0.15:
            return []
        found = []
        for _, path, _ in needs:
            inside = path.parent.parent == own.parent
            found.append("$ORIGIN/../lib" if inside and self.random.random() < 0.5 else str(path.parent))
        found.append(str(self.store.libc))
        self.random.shuffle(found)
        if self.random.random() < 0.2:
            found.insert(0, str(self.store.path / "gone/lib"))
        return list(dict.fromkeys(found))

    def _library(self, package: Package, name: str) -> None:
        needs = self._needs(2)
        soname = self.random.choice([f"lib{name}.so", f"lib{name}.so", None])
        how: dict[str, Any] = {
            "needs": [path for _, path, _ in needs],
            "rpath": self._search_path(needs, package.lib),
            "tag": self.random.choice(["RUNPATH", "RUNPATH", "RPATH"]),
        }
        source = function(name, 1, [other for other, _, _ in needs])
        if soname:
            path = package.library(f"lib{name}.so", source, **how)
        else:
            path = package.plugin(f"lib{name}.so", source, **how)
        self.libraries.append((name, path, soname))

    def _program(self, package: Package, file: str) -> None:
        needs = self._needs(3) or self.libraries[:1]
        calls = [name for name, _, _ in needs]
        source = prints(*calls)
        if self.random.random() < 0.5:
            name, path, soname = self.random.choice(self.libraries)
            source = opens(soname or str(path), name, calls=calls)
        self.programs.append(
            package.program(
                file,
                source,
                needs=[path for _, path, _ in needs],
                rpath=self._search_path(needs, package.bin),
                tag=self.random.choice(["RUNPATH", "RUNPATH", "RPATH"]),
                flags=["-Xlinker", "--allow-shlib-undefined"],
            )
        )

    def harden(self, chosen: list[Package], mode: str) -> None:
        for package in chosen:
            self.store.harden(package, inputs=self.packages, options=["--mode", mode])


@pytest.mark.parametrize("mode", ["soname", "needed"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_behaves_the_same(seed: int, mode: str, store: Store) -> None:
    """Each program that starts maps the same files in the same order and looks for no more; a second run changes no byte, and what
    is unhardened behaves the same again."""
    world = Maker(store, seed)
    before = {program: ran for program in world.programs if (ran := run(program)).status == 0}
    # what is not hardened may open a hardened library by its bare SONAME, which mode soname takes away (docs/safety.md)
    chosen = world.random.sample(world.packages, 2) if mode == "needed" and seed % 3 == 0 else world.packages
    world.harden(chosen, mode)
    for program, ran in before.items():
        after = run(program)
        assert (program.name, *after.behaviour) == (program.name, *ran.behaviour)
        assert len(after.misses) <= len(ran.misses)
    files = [path for package in world.packages for path in package.path.rglob("*") if path.is_file()]
    once = {path: path.read_bytes() for path in files}
    world.harden(chosen, mode)
    assert {path: path.read_bytes() for path in files} == once
    for package in chosen:
        done = store.call("unharden", str(package.path), status=None)
        assert done.status == 0 or "stays absolute" in done.err
    for program, ran in before.items():
        assert (program.name, *run(program).behaviour) == (program.name, *ran.behaviour)
