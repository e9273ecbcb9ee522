"""What setuptools does when it builds a wheel of this package: completions and the man page are made, and go along."""

import os
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parents[2]))  # an isolated build finds its backend's packages only

from nix_harden.packaging import shell


class Build(build_py):
    """build_py, and the files of `shell` below the wheel's share/."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # nothing but the packages is installed
        share = Path(self.build_lib).parent / "share"
        shell.write(share)
        self.distribution.data_files = [
            (f"share/{Path(place).parent}", [os.path.relpath(share / place)]) for place in shell.files()
        ]
