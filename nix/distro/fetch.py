#!/usr/bin/env python3
"""Put the upstream sources of the distribution into the Nix store, by the host's own apt.

fetch.py                 fetch what the store lacks
fetch.py NAME...         fetch what it lacks for these packages
fetch.py NAME=SOURCE...  pin packages/NAME/source.json to what Debian's source package SOURCE has now

Debian's source packages hold upstream's release unchanged or, where the version says dfsg, without files that are not
free. They are looked up by the file's hash among all versions that the host's repositories offer, so a pin outlives
Debian's own revisions.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = Path(__file__).resolve().parent / "packages"
ATTEMPTS = 3


class Pin(NamedTuple):
    """What a source.json says."""

    source: str  # Debian's source package
    version: str  # upstream's
    file: str
    sha256: str


class Offer(NamedTuple):
    """One version of a source package that apt knows, and the file with upstream's source in it."""

    version: str  # Debian's
    file: str
    sha256: str


class FetchError(Exception):
    """A sentence for whoever called this."""


def run(*argv: str, cwd: Path | None = None) -> str:
    """Return what the program prints; a failure's own words go into the error."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    if done.returncode:
        raise FetchError(f"{' '.join(argv[:2])} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def persistently(*argv: str, cwd: Path | None = None) -> str:
    """Run it again where it fails: a network may."""
    for attempt in range(1, ATTEMPTS):
        try:
            return run(*argv, cwd=cwd)
        except FetchError as error:
            print(f"{error}; again in {5 * attempt} s", file=sys.stderr)
            time.sleep(5 * attempt)
    return run(*argv, cwd=cwd)


def source_lists(etc: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each of apt's lists of repositories, asking for sources where it asks for packages."""
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        if path.suffix == ".sources":
            yield path.name, re.sub(r"^Types:.*", "Types: deb-src", path.read_text(), flags=re.MULTILINE)
        elif path.suffix == ".list":
            lines = [re.sub(r"^\s*deb\s", "deb-src ", line) for line in path.read_text().splitlines()]
            yield path.name, "".join(f"{line}\n" for line in dict.fromkeys(lines))


class Apt:
    """The host's apt with directories of its own, since the host's need not know of sources."""

    def __init__(self, home: Path) -> None:
        etc = Path(run("apt-config", "shell", "DIR", "Dir::Etc/d").split("'")[1])
        lists = home / "sources.list.d"
        for directory in (lists, home / "lists/partial", home / "cache/archives/partial"):
            directory.mkdir(parents=True)
        for name, text in source_lists(etc):
            (lists / name).write_text(text)
        self._options = [
            f"-o{key}={value}"
            for key, value in {
                "Dir::Etc::SourceList": "/dev/null",
                "Dir::Etc::SourceParts": lists,
                "Dir::State::Lists": home / "lists",
                "Dir::Cache": home / "cache",
                "Acquire::Languages": "none",
                "Acquire::Retries": ATTEMPTS,
                # the user that apt downloads as may not enter a temporary directory
                "APT::Sandbox::User": "",
            }.items()
        ]
        persistently("apt-get", "update", "-qq", *self._options)

    def offers(self, source: str) -> list[Offer]:
        """Every version of a source package that the repositories have."""
        text = run("apt-cache", "showsrc", "--only-source", source, *self._options)
        found = []
        for stanza in text.split("\n\n"):
            version = re.search(r"^Version: (\S+)$", stanza, flags=re.MULTILINE)
            checksums = re.search(r"^Checksums-Sha256:\n((?: .*\n?)*)", stanza, flags=re.MULTILINE)
            if not version or not checksums:
                continue
            for sha256, _, file in (line.split() for line in checksums[1].splitlines()):
                if re.search(r"\.orig\.tar\.[a-z0-9]+$", file):
                    found.append(Offer(version[1], file, sha256))
        return found

    def download(self, source: str, offer: Offer, directory: Path) -> Path:
        """The file, whose hash apt has compared."""
        argv = ["apt-get", "source", "-qq", "--download-only", "--tar-only", *self._options]
        persistently(*argv, f"{source}={offer.version}", cwd=directory)
        return directory / offer.file


def upstream_version(debian: str) -> str:
    """Without Debian's epoch, its revision and the word for what was left out."""
    return re.sub(r"[.+~](dfsg|ds|repack).*$", "", re.sub(r"^\d+:", "", debian).rpartition("-")[0])


def store_path(pin: Pin) -> Path:
    """Where the store has, or would have, a file of that name and hash."""
    return Path(run("nix-store", "--print-fixed-path", "sha256", pin.sha256, pin.file).strip())


def fetch(apt: Apt, pin: Pin) -> None:
    offers = apt.offers(pin.source)
    fitting = [offer for offer in offers if offer.sha256 == pin.sha256]
    if not fitting:
        others = ", ".join(dict.fromkeys(offer.file for offer in offers)) or "no such source package"
        raise FetchError(
            f"{pin.file} of {pin.source}: the repositories of this host do not offer it any more ({others})"
        )
    with tempfile.TemporaryDirectory() as directory:
        file = apt.download(pin.source, fitting[0], Path(directory))
        # Debian may name the same bytes otherwise by now.
        added = run("nix-store", "--add-fixed", "sha256", str(file.rename(file.with_name(pin.file)))).strip()
    if added != str(store_path(pin)):
        raise FetchError(f"{pin.file}: downloaded with another hash than apt has said")


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        pinned = [argument for argument in arguments if "=" in argument]
        apt = Apt(Path(home)) if pinned else None
        if apt is not None:
            for argument in pinned:
                name, _, source = argument.partition("=")
                offers = apt.offers(source)
                if not offers:
                    raise FetchError(f"{source}: the repositories of this host have no such source package")
                offer = offers[0]
                pin = Pin(source, upstream_version(offer.version), offer.file, offer.sha256)
                (PACKAGES / name).mkdir(exist_ok=True)
                (PACKAGES / name / "source.json").write_text(json.dumps(pin._asdict(), indent=2) + "\n")
        names = [argument.partition("=")[0] for argument in arguments]
        files = [PACKAGES / name / "source.json" for name in names] or sorted(PACKAGES.glob("*/source.json"))
        pins = [Pin(**json.loads(file.read_text())) for file in files if file.exists()]
        missing = [pin for pin in pins if not store_path(pin).exists()]
        if missing and apt is None:
            apt = Apt(Path(home))
        for pin in missing:
            print(f"fetching {pin.file}", file=sys.stderr)
            fetch(apt, pin)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except FetchError as error:
        sys.exit(f"fetch.py: {error}")
