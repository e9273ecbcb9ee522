"""Mutations that know where ELF keeps what the loader and patchelf read."""

import io
import random
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile

WORDS = (
    b"lib.so\0",
    b"libz.so.1\0",
    b"/\0",
    b"$ORIGIN\0",
    b"${LIB}:$PLATFORM::\0",
    b"../../x\0",
    b"\xff\xfe\x80\0",
    b"@/etc/passwd\0",
    b"-\0",
    b"/nix/store/x\0",
    b"a\nb\x1b[31m\0",
    b"dlopen\0",
    b"\x7fELF",
    b"FDO\0\x0a\x0c\x7c\x40",
    b'[{"soname":["\\ud800","\\u0000"]}]',
    b"[" * 200,
    b"/" * 300,
    b"ld-linux-x86-64.so.2\0",
    b"libc.so.6\0",
)
TAGS: tuple[int, ...] = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
    10,
    11,
    14,
    15,
    21,
    24,
    29,
    30,
    0x6FFFFEF5,
    0x6FFFFEF6,
    0x6FFFFEFA,
    0x6FFFFEFB,
    0x6FFFFEFC,
)
TAGS += (0x6FFFFFF0, 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF, 0x7FFFFFFD, 0x7FFFFFFF)
SEGMENTS = (0, 1, 2, 3, 4, 6, 7, 0x6474E550, 0x6474E551)


@dataclass(frozen=True)
class Seed:
    """A file to mutate, and its fields: each the offset and width of one number that means something."""

    name: str
    data: bytes
    order: str
    fields: tuple[tuple[int, int], ...]
    tags: tuple[tuple[int, int], ...]
    types: tuple[tuple[int, int], ...]
    strings: tuple[int, int]


def seed(name: str, data: bytes, whole: bytes) -> Seed:
    """Find the fields of `data` by the section headers of `whole`, the same file before they were stripped."""
    elf = ELFFile(io.BytesIO(whole))
    fields: list[tuple[int, int]] = [(4, 1), (5, 1), (6, 1), (7, 1)]
    header = elf.structs.Elf_Ehdr
    fields += _fields(elf.structs.Elf_Ehdr, header, 0)[1:]
    types, tags = [], []
    for index in range(elf["e_phnum"]):
        row = _fields(elf.structs.Elf_Phdr, elf.structs.Elf_Phdr, elf["e_phoff"] + index * elf["e_phentsize"])
        types.append(row[0])
        fields += row
    for index in range(elf["e_shnum"]):
        fields += _fields(elf.structs.Elf_Shdr, elf.structs.Elf_Shdr, elf["e_shoff"] + index * elf["e_shentsize"])
    strings = (0, len(data))
    word = elf.elfclass // 8
    for section in elf.iter_sections():
        start, size = section["sh_offset"], section["sh_size"]
        match section.name:
            case ".dynamic":
                tags += [(at, word) for at in range(start, start + size, 2 * word)]
                fields += [(at, word) for at in range(start, start + size, word)] * 3
            case ".dynstr":
                strings = (start, start + size)
            case ".dynsym":
                step = elf.structs.Elf_Sym.sizeof()
                fields += [(at, 4) for at in range(start, start + size, step)]
            case ".gnu.version_r" | ".gnu.version_d":
                fields += [(at, width) for at in range(start, start + size, 4) for width in (2, 4)] * 2
            case ".note.dlopen" | ".gnu.hash" | ".hash":
                fields += [(at, 4) for at in range(start, start + min(size, 24), 4)]
    inside = tuple((at, width) for at, width in fields if at + width <= len(data))
    return Seed(name, data, "little" if elf.little_endian else "big", inside, tuple(tags), tuple(types), strings)


def _fields(_: Any, layout: Any, start: int) -> list[tuple[int, int]]:
    found, at = [], start
    for part in layout.subcons:
        width = part.sizeof()
        found.append((at, width))
        at += width
    return found


def all_seeds(made: dict[str, bytes]) -> list[Seed]:
    return [seed(name, data, made[name.removesuffix(" without sections")]) for name, data in made.items()]


class Mutator:
    """Makes inputs from seeds; the same number gives the same inputs."""

    def __init__(self, seeds: list[Seed], number: int) -> None:
        self.seeds = seeds
        self.chance = random.Random(number)

    def input(self) -> tuple[str, bytes]:
        """One mutated file, and the name of its seed."""
        chance = self.chance
        chosen = chance.choice(self.seeds)
        data = bytearray(chosen.data)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 9))):
            self._change(chosen, data)
        return chosen.name, bytes(data)

    def changed(self, index: int, data: bytes) -> bytes:
        """An input that began as the seed of this index, changed once more."""
        changing = bytearray(data)
        self._change(self.seeds[index], changing)
        return bytes(changing)

    def _change(self, seed: Seed, data: bytearray) -> None:
        chance = self.chance
        match chance.randrange(16):
            case 0 | 1 | 2 | 3 | 4:
                self._put(data, *chance.choice(seed.fields), seed.order, self._number(seed, data))
            case 5 | 6:
                self._put(data, *chance.choice(seed.tags), seed.order, chance.choice(TAGS))
            case 7:
                self._put(data, *chance.choice(seed.types), seed.order, chance.choice(SEGMENTS))
            case 8:
                (at, width), (other, _) = chance.choice(seed.fields), chance.choice(seed.fields)
                data[at : at + width] = data[other : other + width]
            case 9 | 10:
                for _ in range(chance.choice((1, 1, 4, 32))):
                    if data:
                        data[chance.randrange(len(data))] = chance.randrange(256)
            case 11:
                del data[chance.choice((chance.randrange(len(data) + 1), chance.randrange(min(len(data), 512) + 1))) :]
            case 12:
                at = chance.randrange(len(data) + 1)
                del data[at : at + chance.choice((1, 2, 4, 8, 64, 1024))]
            case 13:
                at, start = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
                data[at:at] = data[start : start + chance.choice((1, 4, 8, 16, 64, 4096))]
            case 14:
                word = chance.choice(WORDS)
                at = chance.randrange(*seed.strings)
                data[at : at + len(word)] = word
            case _:
                other_seed = chance.choice(self.seeds).data
                at = chance.randrange(len(data) + 1)
                length = chance.choice((4, 16, 64, 512))
                data[at : at + length] = other_seed[at : at + length]

    def _put(self, data: bytearray, at: int, width: int, order: str, value: int) -> None:
        if at + width <= len(data):
            data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, order)  # type: ignore[arg-type]

    def _number(self, seed: Seed, data: bytearray) -> int:
        chance = self.chance
        at, width = chance.choice(seed.fields)
        here = int.from_bytes(data[at : at + width], seed.order)  # type: ignore[arg-type]
        return chance.choice(
            (
                *(0, 1, 2, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, -1, -2, -16, 1 << 63, 1 << 31, 1 << 32),
                *(
                    len(data),
                    len(data) - 1,
                    len(data) + 1,
                    len(data) // 2,
                    here,
                    here + 1,
                    here - 1,
                    here ^ 1 << chance.randrange(63),
                ),
                *(chance.randrange(len(data) + 1), chance.randrange(256), chance.getrandbits(64)),
            )
        )
