"""Every example of every --help works as it stands, on a small program under each name that the examples use."""

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.source import function, prints
from support.store import REPOSITORY, Store

from nix_harden.arguments import parser
from nix_harden.cli import COMMANDS

EXAMPLE = re.compile(r"^  (nix-harden .*)$", re.MULTILINE)
STORE_PATH = re.compile(r"/nix/store/…-([\w-]+)")
PROGRAMS = ("app", "git", "mpv", "magick", "emacs", "ffmpeg", "hello")
OF_THE_SYSTEM = "/run/current-system/sw"


def examples() -> list[str]:
    [commands] = [action for action in parser()._actions if action.dest == "command"]
    assert isinstance(commands.choices, dict)
    return [line for name in commands.choices for line in EXAMPLE.findall(commands.choices[name].epilog)]


@pytest.mark.parametrize("example", examples())
def test_an_example_of_the_help_works(example: str, store: Store, tmp_path: Path) -> None:
    """It ends with 0, or with 1 where an audit finds something in what is not hardened, and a comparison something else."""
    zlib = store.package("zlib").library("libz.so.1", function("z", 1))
    ssl = store.package("openssl").library("libssl.so.3", function("ssl", 1))
    result = store.package("result")
    app = result.program("app", prints("z", "ssl"), needs=[zlib, ssl])
    for name in PROGRAMS[1:]:
        shutil.copy(app, app.with_name(name))
    for name in STORE_PATH.findall(example):
        shutil.copytree(result.bin, store.package(name).bin, dirs_exist_ok=True)
    (tmp_path / "result").symlink_to(result.path)
    for copy in ("result-copy", "bundle"):
        shutil.copytree(result.path, store.path / f"{copy}-of-result")
        (tmp_path / copy).symlink_to(store.path / f"{copy}-of-result")
    if "-o ./bundle" in example:
        (tmp_path / "bundle").unlink()
    if "./prelinked" in example:
        store.call("prelink", app, "-o", tmp_path / "prelinked" / "bin" / "app")
    if " join " in example:
        for name in ("app", "git"):
            store.call("split", app.with_name(name), "-o", tmp_path / f"{name}-parts")
    if " audit-set " in example:
        (tmp_path / "app.json").write_text(store.call("audit", "--json", app, status=None).out)
        (tmp_path / "packages.tsv").write_text(f"app\t{tmp_path}/app.json\nbroken\n")
        told = store.call("audit-set", tmp_path / "packages.tsv", "--json").out
        (tmp_path / "old.json").write_text(told)
    home, path = tmp_path / "home", tmp_path / "path"
    (home / "bin").mkdir(parents=True)
    path.mkdir()
    (path / "nix-harden").write_text(f'#!/bin/sh\nexec {sys.executable} -m nix_harden "$@"\n')
    (path / "nix-harden").chmod(0o755)
    line = STORE_PATH.sub(lambda match: str(store.package(match[1]).path), example).replace(
        OF_THE_SYSTEM, str(result.path)
    )
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env={
            "PATH": f"{path}:{os.environ['PATH']}",
            "HOME": str(home),
            "NIX_STORE": str(store.path),
            "PYTHONPATH": str(REPOSITORY),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    allowed = (0, 1) if " audit " in example or " diff " in example else (0,)
    assert done.returncode in allowed, (line, done.stderr)


def test_every_command_has_an_example() -> None:
    assert {line.split()[1] for line in examples()} == set(COMMANDS)


def test_without_arguments_on_a_terminal() -> None:
    """Eight lines say what can be done now; elsewhere it is a usage error."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "nix_harden"]
    done = subprocess.run(argv, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    lines = os.read(ours, 1 << 16).decode().splitlines()
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(lines) == 8
    assert max(map(len, lines)) <= 100
    named = {line.split()[1] for line in lines[1:-1]}
    (commands,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert named < commands.keys()
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 2
