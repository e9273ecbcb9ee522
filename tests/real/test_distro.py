"""A small part of the distribution, built in four ways as `make distro` builds all of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from real.distro import HARDENED, PLAIN, Build, Row, compare, load, perform, table

from nix_harden.model import Kind
from nix_harden.prelinking.prelink import prelink
from nix_harden.reading.elf import read_object

PART = ("lua-cjson", "libpng")  # and what they need: zlib, ncurses, readline, Lua


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(compare(PART, 2))


def test_every_build_shows_the_same_and_a_hardened_one_searches_for_nothing(
    rows: list[Row], record_property: Callable[[str, object], None]
) -> None:
    """Files, programs' outputs, and no failing open more than in the plain build; in the hardened one none at all."""
    record_property("table", "\n".join(table(rows)))
    assert {row.name: row.faults for row in rows if row.faults} == {}
    assert sum(row.runs for row in rows) > 0
    assert sum(row.bound for row in rows) > 0
    before, after = (sum(row.opens[way] for row in rows) for way in (0, 1))
    assert before > after == 0


def test_the_packages_are_those_that_were_asked_for_and_what_they_need(rows: list[Row]) -> None:
    """In the order of their dependencies."""
    names = [row.name for row in rows]
    assert set(PART) < set(names)
    assert names.index("zlib") < names.index("libpng")
    assert names.index("ncurses") < names.index("readline") < names.index("lua5_4") < names.index("lua-cjson")


@pytest.mark.parametrize("way", [PLAIN, HARDENED])
def test_every_program_does_the_same_prelinked(rows: list[Row], tmp_path: Path, way: str) -> None:
    """Of a copy of each package, in which every program is prelinked and proved, the runs say what those of the package say."""
    assert rows
    prelinked = compared = 0
    for package in load(PART):
        build = package.builds[way]
        copies = {}
        for output, path in build.outputs.items():
            copies[output] = tmp_path / path.name
            shutil.copytree(path, copies[output], symlinks=True)
            for each in sorted(copies[output].rglob("*")):
                if each.is_dir() and not each.is_symlink():
                    each.chmod(0o755)
        programs = [
            each
            for copy in copies.values()
            for each in sorted(copy.rglob("*"))
            if each.is_file() and not each.is_symlink() and is_program(each)
        ]
        for program in programs:
            assert prelink(str(program), None).proof.why_not is None
            prelinked += 1
        for run in package.programs:
            assert perform(Build(build.drv, copies), run) == perform(build, run)
            compared += len(programs) > 0
    assert prelinked > 2
    assert compared > 2


def is_program(path: Path) -> bool:
    obj = read_object(str(path))
    return obj is not None and obj.kind is Kind.PROGRAM and obj.interpreter is not None
