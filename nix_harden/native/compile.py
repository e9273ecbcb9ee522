"""Compile what runs without a library, for the machine of a compiler, as the package's build does: compile.py [CC [WORD…]]

The results are the same for every program; they lie beside this file as compiled/<machine>.<what>.
"""

import os
import sys

from nix_harden.errors import ToolError
from nix_harden.native.compiled import COMPILED, MODULE, START
from nix_harden.process import run

SOURCES = {
    MODULE: ("module.c", ("-shared",)),
    # it stands by itself, and nothing relocates it
    START: ("start.c", ("-static-pie", "-Wl,-e,start", "-s")),
}
FLAGS = (
    "-O2 -std=gnu11 -Wall -Wextra -Werror -ffreestanding -fPIC -nostdlib -fvisibility=hidden "
    # it is there before anything that a compiler may take for granted
    "-fno-stack-protector -fno-asynchronous-unwind-tables "
    "-Wl,--build-id=sha1 -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,defs"
).split()
# By the first part of what a compiler says it compiles for: the machine as <elf.h> names it, and what keeps its branches in place.
MACHINES = {
    "x86_64": ("EM_X86_64", "-fcf-protection"),
    "aarch64": ("EM_AARCH64", "-mbranch-protection=standard"),
}


def compile_all(compiler: list[str]) -> list[str]:
    """Compile them, and answer where the results lie. Raises ToolError."""
    target = run([*compiler, "-dumpmachine"]).strip()
    if (known := MACHINES.get(target.partition("-")[0])) is None:
        raise ToolError(compiler[0], f"compiles for {target}, for which nothing is; they are {', '.join(MACHINES)}")
    machine, hardened = known
    os.makedirs(COMPILED, exist_ok=True)
    places = []
    for what, (source, flags) in SOURCES.items():
        place = os.path.join(COMPILED, f"{machine}.{what}")
        made = f"{place}.{os.getpid()}"
        path = os.path.join(os.path.dirname(__file__), source)
        run([*compiler, *FLAGS, *flags, hardened, path, "-o", made])
        os.replace(made, place)
        places.append(place)
    return places


if __name__ == "__main__":
    print("\n".join(compile_all(sys.argv[1:] or ["cc"])))
