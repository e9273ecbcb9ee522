"""Compile module.c for the machine of a compiler, as the package's build does: compile.py [CC [WORD…]]

The result is of no library and the same for every program; it lies beside this file as modules/<machine>.so.
"""

import os
import sys

from nix_harden.errors import ToolError
from nix_harden.prelinking.module import COMPILED
from nix_harden.process import run

SOURCE = os.path.join(os.path.dirname(__file__), "module.c")
FLAGS = (
    "-O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fPIC -shared -nostdlib -fvisibility=hidden "
    # it is there before anything that a compiler may take for granted
    "-fno-stack-protector -fno-asynchronous-unwind-tables "
    "-Wl,--build-id=sha1 -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,defs"
).split()
# By the first part of what a compiler says it compiles for: the machine as <elf.h> names it, and what keeps its branches in place.
MACHINES = {
    "x86_64": ("EM_X86_64", "-fcf-protection"),
    "aarch64": ("EM_AARCH64", "-mbranch-protection=standard"),
}


def compile_module(compiler: list[str]) -> str:
    """Compile it, and answer where the result lies. Raises ToolError."""
    target = run([*compiler, "-dumpmachine"]).strip()
    if (known := MACHINES.get(target.partition("-")[0])) is None:
        raise ToolError(
            compiler[0], f"compiles for {target}, for which there is no module; they are {', '.join(MACHINES)}"
        )
    machine, hardened = known
    os.makedirs(COMPILED, exist_ok=True)
    place = os.path.join(COMPILED, f"{machine}.so")
    made = f"{place}.{os.getpid()}"
    run([*compiler, *FLAGS, hardened, SOURCE, "-o", made])
    os.replace(made, place)
    return place


if __name__ == "__main__":
    print(compile_module(sys.argv[1:] or ["cc"]))
