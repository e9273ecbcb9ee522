"""What setuptools does when it builds a wheel of this package: completions, the man page and what is compiled are made, and go along."""

import contextlib
import os
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parents[2]))  # an isolated build finds its backend's packages only

from nix_harden.errors import ToolError
from nix_harden.native.compile import compile_all
from nix_harden.packaging import shell


class Build(build_py):
    """build_py, and the files of `shell` below the wheel's share/; where there is a compiler, what native/ has for its machine."""

    def run(self) -> None:
        with contextlib.suppress(ToolError):  # who prelinks or starts from parts without it is told how to come by it
            compile_all([os.environ.get("CC", "cc")])
        super().run()
        if self.editable_mode:
            return  # nothing but the packages is installed
        share = Path(self.build_lib).parent / "share"
        shell.write(share)
        self.distribution.data_files = [
            (f"share/{Path(place).parent}", [os.path.relpath(share / place)]) for place in shell.files()
        ]
