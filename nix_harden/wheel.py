"""What setuptools does when it builds a wheel of this package: completions and the man page are made, and go along."""

from pathlib import Path

from setuptools.command.build_py import build_py

from nix_harden import shell


class Build(build_py):
    """build_py, and the files of `shell` below the wheel's share/."""

    def run(self) -> None:
        super().run()
        share = Path(self.build_lib).parent / "share"
        shell.write(share)
        self.distribution.data_files = [
            (f"share/{Path(place).parent}", [str(share / place)]) for place in shell.files()
        ]
