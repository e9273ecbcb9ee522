"""How many instructions a glibc loader spends on what, by valgrind's callgrind; the parser is pure.

The loader is asked to list and to relocate (ld.so(8), LD_TRACE_LOADED_OBJECTS and LD_WARN), so that it does what it does at each start
and runs nothing of the program. The command `valgrind` is a dynamic program, or a script, which those variables would have listed
itself; the tool that it starts is static, and is started here as it does.
"""

import glob
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from nix_harden.process import ask

SECONDS = 600.0
ENVIRON = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes"}
PLATFORMS = {  # valgrind's names for its tools
    "EM_386": "x86",
    "EM_X86_64": "amd64",
    "EM_AARCH64": "arm64",
    "EM_ARM": "arm",
    "EM_PPC64": "ppc64*",
    "EM_S390": "s390x",
    "EM_RISCV": "riscv64",
}
# glibc's functions: elf/dl-lookup.c, and elf/dl-reloc.c with what it inlines.
LOOKUP = re.compile(r"do_lookup_x|_dl_lookup_symbol_x|check_match")
RELOCATION = re.compile(r"_dl_relocate_object|_dl_protect_relro|elf_(?:machine|dynamic)_\w+|resolve_map")
# What these spend belongs to their callers.
STRINGS = re.compile(r"strcmp|strlen|strchr|mem\w+")


@dataclass(frozen=True, slots=True)
class Instructions:
    """User instructions: all of the loader's, those that look symbols up, and those that relocate."""

    total: int
    lookup: int
    relocation: int


def instructions(image: str, machine: str) -> Instructions | str:
    """What the loader of a program spends, or why that is not known. Raises ToolError where valgrind takes too long."""
    launcher = shutil.which("valgrind")
    if launcher is None:
        return "valgrind is not there"
    launcher = os.path.realpath(launcher)
    top = os.path.dirname(os.path.dirname(launcher))
    name = f"callgrind-{PLATFORMS.get(machine, machine)}-linux"
    tools = [path for place in ("libexec", "lib") for path in glob.glob(f"{top}/{place}/valgrind/{name}")]
    if not tools:
        return f"valgrind has no {name}"
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as place:
        file = os.path.join(place, "callgrind")
        options = [
            "-q",
            "--tool=callgrind",
            f"--callgrind-out-file={file}",
            "--compress-pos=no",
            "--compress-strings=no",
        ]
        environ = dict(os.environ) | ENVIRON | {"VALGRIND_LAUNCHER": launcher}
        said = ask([tools[0], *options, image], environ, SECONDS)
        try:
            with open(file, encoding="utf-8", errors="replace") as written:
                spent = parse(written)
        except FileNotFoundError:
            return f"valgrind failed: {(said.err.strip().splitlines() or ['it said nothing'])[-1]}"
    return classify(spent)


def classify(spent: Counter[str]) -> Instructions | str:
    """The instructions of functions by what they are for, or why that cannot be told."""
    lookup = sum(number for name, number in spent.items() if LOOKUP.match(name))
    if not lookup:
        return "valgrind sees no names of functions in its loader, which is stripped"
    relocation = sum(number for name, number in spent.items() if RELOCATION.match(name))
    return Instructions(spent.total(), lookup, relocation)


def parse(lines: Iterable[str]) -> Counter[str]:
    """The instructions of each function, in a file of callgrind's format without compression (valgrind's manual, callgrind format).

    What a function spends in string functions counts as its own.
    """
    spent: Counter[str] = Counter()
    function, callee, called = "", "", False
    for line in lines:
        if line.startswith("fn="):
            function = line[3:].rstrip("\n")
        elif line.startswith("cfn="):
            callee = line[4:].rstrip("\n")
        elif line.startswith("calls="):
            called = True  # the next line is what the callee spent
        elif line[:1].isdigit():
            if (STRINGS.match(callee if called else function) is not None) == called:
                spent[function] += int(line.split()[1])
            called = False
    return spent
