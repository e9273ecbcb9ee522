"""Completions and the man page, made of the parser when a package is built: `python -m nix_harden.packaging.shell SHARE`.

The only importer of shtab and argparse-manpage; neither is there at run time.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from nix_harden import __version__
from nix_harden.arguments import parser

# Below share/, where each shell looks for completions of programs.
PLACES = {
    "bash": "bash-completion/completions/nix-harden",
    "zsh": "zsh/site-functions/_nix-harden",
    "fish": "fish/vendor_completions.d/nix-harden.fish",
}
MANUAL = "man/man1/nix-harden.1"


def files() -> Mapping[str, str]:
    """The text of each file, by its path below share/."""
    found = parser()
    for action in _actions(found):
        if "|" in str(action.metavar):
            action.choices = str(action.metavar).split("|")
        if "PATH" in str(action.metavar) or action.metavar in ("FILE", "OUT", "PROGRAM", "LIB", "OTHER"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    texts = {place: shtab.complete(found, shell) for shell, place in PLACES.items()}
    about = {
        "project_name": "nix-harden-needed",
        "version": __version__,
        "description": "bind shared libraries by absolute store path",
        "manual_title": "Nix",
    }
    return {**texts, MANUAL: str(Manpage(parser(), about))}


def write(share: Path) -> None:
    """Write each file below the directory `share`."""
    for place, text in files().items():
        path = share / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _actions(within: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in within._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
