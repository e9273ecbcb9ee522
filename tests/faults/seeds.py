"""Small real ELF files of four machines, linked from assembly that holds no instruction, to start mutations from."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

# assembler, linker, and the width of an address
MACHINES = {
    "x86-64": (["x86_64-linux-gnu-as", "--64"], ["x86_64-linux-gnu-ld", "-m", "elf_x86_64"], 64),
    "i386": (["x86_64-linux-gnu-as", "--32"], ["x86_64-linux-gnu-ld", "-m", "elf_i386"], 32),
    "s390x": (["s390x-linux-gnu-as"], ["s390x-linux-gnu-ld"], 64),
    "powerpc": (["powerpc-linux-gnu-as"], ["powerpc-linux-gnu-ld"], 32),
}
VERSIONS = {"liba": "A_1 { global: a; }; A_2 { global: a2; } A_1;", "libb": "B_1 { global: b; };"}
NOTE = json.dumps([{"soname": ["libz.so.1", "libz.so"], "feature": "zlib", "priority": "required"}])
LINK = (
    "--hash-style=both -z noseparate-code -z max-page-size=4096 -z norelro --no-as-needed -L. --allow-shlib-undefined"
)


def make(directory: Path) -> dict[str, bytes]:
    """The seeds by name: two libraries, a program and a static-pie for each machine, some without section headers."""
    seeds = {}
    for machine in MACHINES:
        work = directory / machine
        work.mkdir(parents=True)
        for name, data in _of(machine, work):
            seeds[f"{machine} {name}"] = data
    return seeds


def _of(machine: str, work: Path) -> Iterator[tuple[str, bytes]]:
    for file, words in (
        ("liba", "-shared -soname liba.so.1 --version-script=liba.map -rpath=/nix/store/x/lib -f libfilter.so.1"),
        (
            "libb",
            "-shared -soname libb.so.1 --version-script=libb.map -rpath=$ORIGIN:/usr/lib liba.so --enable-new-dtags",
        ),
        ("app", "-pie --dynamic-linker=/lib/ld.so.1 -e start -rpath=$ORIGIN/../lib libb.so liba.so --enable-new-dtags"),
        ("static", "-pie --no-dynamic-linker -e start"),
    ):
        _link(machine, work, file, words)
        data = (work / f"{file}.so").read_bytes()
        yield file, data
        if file != "static":
            yield f"{file} without sections", without_sections(data)


def _link(machine: str, work: Path, file: str, words: str) -> None:
    assembler, linker, bits = MACHINES[machine]
    (work / f"{file}.map").write_text(VERSIONS.get(file, ""))
    subprocess.run([*assembler, "-o", f"{file}.o", "-"], cwd=work, input=_source(file, bits), text=True, check=True)
    subprocess.run(
        [*linker, "--no-warn-rwx-segments", "-o", f"{file}.so", f"{file}.o", *LINK.split(), *words.split()],
        cwd=work,
        check=True,
    )


def _source(file: str, bits: int) -> str:
    word = ".quad" if bits == 64 else ".long"
    defined = {"liba": ["a", "a2"], "libb": ["b"]}.get(file, ["start"])
    wanted = {"libb": ["a", "dlopen"], "app": ["a", "a2", "b"]}.get(file, [])
    lines = [".data", ".balign 16"]
    for symbol in defined:
        lines += [f".globl {symbol}", f".type {symbol}, %object", f".size {symbol}, 4", f"{symbol}: .long 0"]
    lines += [".balign 16", *(f"{word} {symbol}" for symbol in wanted)]
    if file == "libb":
        lines += ['.section .rodata,"a"', r'.string "libz.so.1"', r'.string "liblong-name.so.2.3"']
        text = NOTE.replace('"', r"\"")
        lines += [
            '.section .note.dlopen,"a",%note',
            ".balign 4",
            ".long 4, 2f - 1f, 0x407c0c0a",
            '.string "FDO"',
            f'1: .string "{text}"',
            "2: .balign 4",
        ]
    return "\n".join([*lines, ""])


def without_sections(data: bytes) -> bytes:
    """The same file as one whose section headers are stripped."""
    wide, order = data[4] == 2, "little" if data[5] == 1 else "big"
    offset, size, counts = (40, 8, 58) if wide else (32, 4, 46)
    start = int.from_bytes(data[offset : offset + size], order)  # type: ignore[arg-type]
    changed = bytearray(data[:start])
    changed[offset : offset + size] = bytes(size)
    changed[counts : counts + 6] = bytes(6)
    return bytes(changed)
