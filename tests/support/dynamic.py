"""What binutils' readelf says of a file: another reader than this project's."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

TAG = re.compile(r"\((NEEDED|SONAME|RPATH|RUNPATH|FILTER|AUXILIARY)\)[^\[]*\[(.*)\]$")
VERSION_FILE = re.compile(r"File: (.*?)  Cnt: ")


@dataclass(frozen=True)
class Names:
    """The strings of one file's dynamic section and the files of its version needs."""

    needed: tuple[str, ...]
    soname: str | None
    rpath: str | None
    runpath: str | None
    version_files: tuple[str, ...]


def names(path: Path) -> Names:
    done = subprocess.run(
        ["readelf", "-dVW", path], capture_output=True, text=True, errors="surrogateescape", check=True
    )
    tags: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if match := TAG.search(line):
            tags.setdefault(match[1], []).append(match[2])

    def last(tag: str) -> str | None:
        return tags[tag][-1] if tag in tags else None

    return Names(
        tuple(tags.get("NEEDED", ())),
        last("SONAME"),
        last("RPATH"),
        last("RUNPATH"),
        tuple(VERSION_FILE.findall(done.stdout)),
    )
