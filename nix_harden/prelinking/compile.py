"""Compile module.c for the machine of a compiler, as the package's build does: compile.py [CC [WORD…]]

The result is of no library and the same for every program; it lies beside this file as modules/<machine>.so.
"""

import os
import sys

from nix_harden.elf import read_object
from nix_harden.prelinking.module import COMPILED
from nix_harden.process import run

SOURCE = os.path.join(os.path.dirname(__file__), "module.c")
FLAGS = (
    "-O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fPIC -shared -nostdlib -fvisibility=hidden "
    # it is there before anything that a compiler may take for granted
    "-fno-stack-protector -fno-asynchronous-unwind-tables "
    "-Wl,--build-id=sha1 -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,defs"
).split()
HARDENED = {"EM_X86_64": ["-fcf-protection"], "EM_AARCH64": ["-mbranch-protection=standard"]}


def compile_module(compiler: list[str]) -> str:
    """Compile it, and answer where the result lies. Raises ToolError."""
    os.makedirs(COMPILED, exist_ok=True)
    made = os.path.join(COMPILED, f"{os.getpid()}.so")
    run([*compiler, *FLAGS, SOURCE, "-o", made])
    found = read_object(made)
    assert found is not None
    machine = found.abi.machine
    run([*compiler, *FLAGS, *HARDENED[machine], SOURCE, "-o", made])
    place = os.path.join(COMPILED, f"{machine}.so")
    os.replace(made, place)
    return place


if __name__ == "__main__":
    print(compile_module(sys.argv[1:] or ["cc"]))
