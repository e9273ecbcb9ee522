"""What shrinkwrap does, as far as it goes: ask the loader for its list, and write all of it into the program by lief.

    shrinkwrap.py PROGRAM OUT

https://github.com/fzakaria/shrinkwrap (native strategy); its last release is of 2023, and so is its lief.
"""

import os
import re
import subprocess
import sys

import lief

LISTED = re.compile(r"\t(\S+) => (\S+) \(")


def main(program: str, out: str) -> None:
    binary = lief.ELF.parse(program)
    assert binary is not None
    done = subprocess.run([binary.interpreter, "--list", program], capture_output=True, text=True, check=True)
    found = dict(LISTED.findall(done.stdout))
    for name in [str(name) for name in binary.libraries]:
        if name in found:
            binary.remove_library(name)
    for path in reversed(list(found.values())):
        binary.add_library(path)  # before all others
    for need in binary.symbols_version_requirement:
        need.name = found.get(str(need.name), str(need.name))
    binary.write(out)
    os.chmod(out, 0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
