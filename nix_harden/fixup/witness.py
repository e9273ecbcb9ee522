"""A second reader of what was written, which shares no line with the first: pyelftools, asked by its tables of structures.

The only importer of elftools. Its ELFFile takes milliseconds a file, most of them for making these tables anew and for sections.
"""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.construct import Array, ConstructError, Container, RepeatUntil
from elftools.elf.structs import ELFStructs

CLASSES, ORDERS = {1: 32, 2: 64}, {1: True, 2: False}
MOST_VERSIONS = 1 << 14  # libc.so.6 has less than a hundred
PIECE = 256  # bytes that are read of a string at once
STRINGS = "DT_NEEDED DT_SONAME DT_RPATH DT_RUNPATH".split()


class Blind(Exception):
    """pyelftools cannot read a file, whatever a loader makes of it; why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What pyelftools sees of an object, in the words of `model.Object`.

    `versions` are the names of the versions that it needs and defines, in their order; `loaded` the offset, address and size in the
    file of each PT_LOAD.
    """

    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    rpath: str | None
    runpath: str | None
    version_files: tuple[str, ...]
    versions: tuple[str, ...]
    loaded: tuple[tuple[int, int, int], ...]


def look(path: str) -> Seen:
    """Read the object at `path`. Raises Blind."""
    with open(path, "rb", buffering=0) as file:
        try:
            return _File(_Bytes(file.fileno())).seen()
        except (ConstructError, LookupError, ValueError) as error:
            raise Blind(f"{type(error).__name__} {error}".strip()) from error


class _Bytes:
    """The bytes of an open file, read where they are asked for: it may be larger than what a process can map."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.size = descriptor, os.fstat(descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """At most `size` bytes; fewer where the file ends."""
        size = min(size, self.size - start)
        return os.pread(self.descriptor, size, start) if size > 0 else b""

    def string(self, start: int) -> bytes | None:
        """The bytes before the first NUL from `start` on; None where there is none."""
        found = b""
        while piece := self.read(start + len(found), PIECE):
            found += piece
            if (end := found.find(b"\0", len(found) - len(piece))) >= 0:
                return found[:end]
        return None


@functools.cache
def _structures(little_endian: bool, bits: int, *of_header: str) -> ELFStructs:
    """The structures of a class and byte order: the file header's, and all others where e_type, e_machine and EI_OSABI are said."""
    structures = ELFStructs(little_endian, bits)
    structures.create_basic_structs()
    if of_header:
        structures.create_advanced_structs(*of_header)
    return structures


class _File:
    """The headers and the dynamic section of a file, found by its segments."""

    def __init__(self, data: _Bytes) -> None:
        self.data = data
        self.versions = 0
        ident = data.read(0, 16)
        bits, little_endian = CLASSES[ident[4]], ORDERS[ident[5]]
        header = _structures(little_endian, bits).Elf_Ehdr.parse(data.read(0, 64))
        of_header = header["e_type"], header["e_machine"], header["e_ident"]["EI_OSABI"]
        self.structures = _structures(little_endian, bits, *of_header)
        self.segments = self._table(self.structures.Elf_Phdr, header["e_phoff"], header["e_phnum"])
        dynamic = next((each for each in self.segments if each["p_type"] == "PT_DYNAMIC"), None)
        if dynamic is None:
            raise Blind("no dynamic section")
        tags = RepeatUntil(lambda tag, _: tag["d_tag"] == "DT_NULL", self.structures.Elf_Dyn)
        found = tags.parse(data.read(dynamic["p_offset"], dynamic["p_filesz"]))
        self.tags: list[tuple[Any, int]] = [(tag["d_tag"], tag["d_val"]) for tag in found[:-1]]
        self.values = dict(reversed(self.tags))
        self.strings = self._place(self.values["DT_STRTAB"])

    def seen(self) -> Seen:
        names: dict[str, list[str]] = {tag: [] for tag in STRINGS}
        for tag, value in self.tags:
            if tag in names:
                names[tag].append(self._string(value))
        soname, rpath, runpath = (names[tag][-1] if names[tag] else None for tag in STRINGS[1:])
        needs = list(self._versions("DT_VERNEED", "vn", self.structures.Elf_Verneed, self.structures.Elf_Vernaux))
        defined = self._versions("DT_VERDEF", "vd", self.structures.Elf_Verdef, self.structures.Elf_Verdaux)
        versions = [name for _, found in (*needs, *defined) for name in found]
        return Seen(
            self._interpreter(),
            soname,
            tuple(names["DT_NEEDED"]),
            rpath,
            runpath,
            tuple(self._string(entry["vn_file"]) for entry, _ in needs),
            tuple(versions),
            tuple(
                (each["p_offset"], each["p_vaddr"], each["p_filesz"])
                for each in self.segments
                if each["p_type"] == "PT_LOAD"
            ),
        )

    def _interpreter(self) -> str | None:
        for segment in self.segments:
            if segment["p_type"] == "PT_INTERP" and segment["p_filesz"]:
                text = self.data.read(segment["p_offset"], segment["p_filesz"])
                return os.fsdecode(text.partition(b"\0")[0])
        return None

    def _versions(self, tag: str, prefix: str, entry: Any, auxiliary: Any) -> Iterator[tuple[Container, list[str]]]:
        """The entries of a table of versions, each with the names below it."""
        if tag not in self.values:
            return
        at = self._place(self.values[tag])
        for _ in range(self.values[f"{tag}NUM"]):
            found = self._one(entry, at)
            names, below = [], at + found[f"{prefix}_aux"]
            for _ in range(found[f"{prefix}_cnt"]):
                version = self._one(auxiliary, below)
                names.append(self._string(version[f"{prefix}a_name"]))
                if not version[f"{prefix}a_next"]:
                    break
                below += version[f"{prefix}a_next"]
                self._count_version()
            yield found, names
            if not found[f"{prefix}_next"]:
                return
            at += found[f"{prefix}_next"]
            self._count_version()

    def _count_version(self) -> None:
        self.versions += 1
        if self.versions > MOST_VERSIONS:
            raise Blind(f"more than {MOST_VERSIONS} versions")

    def _place(self, address: int) -> int:
        """The offset in the file of what is loaded at an address."""
        for each in self.segments:
            if each["p_type"] == "PT_LOAD" and each["p_vaddr"] <= address < each["p_vaddr"] + each["p_filesz"]:
                return int(address - each["p_vaddr"] + each["p_offset"])
        raise Blind(f"nothing is loaded at {address:#x}")

    def _string(self, offset: int) -> str:
        start = self.strings + offset
        text = self.data.string(start)
        if text is None:
            raise ValueError(f"no string at {start:#x}")
        return os.fsdecode(text)

    def _one(self, entry: Any, at: int) -> Container:
        return entry.parse(self.data.read(at, entry.sizeof()))

    def _table(self, entry: Any, at: int, count: int) -> list[Container]:
        found: list[Container] = Array(count, entry).parse(self.data.read(at, count * entry.sizeof()))
        return found
