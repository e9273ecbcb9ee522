"""Read: what this project's reader sees in real files is what pyelftools, another reader, sees."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

from nix_harden.model import Kind
from nix_harden.reading import image
from nix_harden.reading.elf import read_contents, read_object

PLACES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/bin",
    "/lib32",
    "/usr/lib32",
    *(str(path) for path in Path("/usr").glob("*-linux-gnu*/lib")),
)


LARGE = 1 << 20  # pyelftools takes seconds for more


def files(place: str) -> Iterator[Path]:
    top = Path(place)
    for path in sorted(top.iterdir()) if top.is_dir() else ():
        if path.is_file() and not path.is_symlink() and path.stat().st_size < LARGE and os.access(path, os.R_OK):
            yield path


def dynamic_of(elf: ELFFile) -> DynamicSegment | None:
    return next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)


def strings(dynamic: DynamicSegment, tag: str, name: str) -> list[str]:
    return [str(getattr(each, name)) for each in dynamic.iter_tags(tag)]


def names(elf: ELFFile) -> dict[str, Any]:
    """The names of symbols and versions, by pyelftools and by section headers, which this project's reader does not use."""
    found: dict[str, Any] = {"symbols": [], "needs": [], "versions": [], "definitions": []}
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection) and section.name == ".dynsym":
            found["symbols"] = [symbol["st_name"] for symbol in section.iter_symbols()]
        elif isinstance(section, GNUVerNeedSection):
            for need, versions in section.iter_versions():
                found["needs"].append(need.name)
                found["versions"] += [version["vna_name"] for version in versions]
        elif isinstance(section, GNUVerDefSection):
            for _, versions in section.iter_versions():
                found["definitions"] += [version["vda_name"] for version in versions]
    return found


@pytest.mark.parametrize("place", PLACES)
def test_both_readers_see_the_same(place: str) -> None:
    compared = 0
    for path in files(place):
        with path.open("rb") as stream:
            try:
                elf = ELFFile(stream)
            except ELFError:
                assert read_object(str(path)) is None, path
                continue
            dynamic = dynamic_of(elf)
            obj = read_object(str(path))
            assert obj is not None
            assert (obj.abi.bits, obj.abi.little_endian) == (elf.elfclass, elf.little_endian)
            assert obj.abi.machine == elf.header["e_machine"]
            assert bool(obj.sections) == bool(elf.num_sections())
            if dynamic is None or elf.header["e_type"] not in ("ET_DYN", "ET_EXEC"):
                assert obj.kind is Kind.OTHER
                continue
            assert list(obj.needed) == strings(dynamic, "DT_NEEDED", "needed"), path
            assert [obj.soname or ""] == (strings(dynamic, "DT_SONAME", "soname") or [""]), path
            assert [obj.rpath or ""] == (strings(dynamic, "DT_RPATH", "rpath") or [""]), path
            assert [obj.runpath or ""] == (strings(dynamic, "DT_RUNPATH", "runpath") or [""]), path
            theirs = names(elf)
            assert list(obj.version_files) == theirs["needs"], path
            contents = read_contents(str(path))
            assert contents is not None
            assert list(contents.symbols) == theirs["symbols"], path
            assert list(contents.versions) == theirs["versions"] + theirs["definitions"], path
            compared += 1
    assert compared > 4 or not Path(place).is_dir()


def test_machines_bear_the_names_of_elf_h() -> None:
    from elftools.elf.enums import ENUM_E_MACHINE

    assert {name: ENUM_E_MACHINE[name] for name in image.MACHINES.values()} == {
        name: number for number, name in image.MACHINES.items()
    }
