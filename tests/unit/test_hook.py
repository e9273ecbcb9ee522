"""The hook as text: rendered from the table of settings, it is bash that shellcheck passes."""

import subprocess
import sys
from pathlib import Path

import pytest

from nix_harden.fixup.hook import render
from nix_harden.settings import TABLE


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hook") / "nix-harden-needed.sh"
    path.write_text(render("/nix/store/abc-nix-harden/bin/nix-harden"))
    return path


def test_bash_parses_it(hook: Path) -> None:
    done = subprocess.run(["bash", "-n", hook], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_passes_it(hook: Path) -> None:
    done = subprocess.run(["shellcheck", "--norc", hook], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_trace_of_the_template_is_left(hook: Path) -> None:
    text = hook.read_text()
    assert not [mark for mark in ("{{", "}}", "{%", "%}", "{#") if mark in text.replace("${#", "")]


def test_it_says_every_attribute_by_its_variable(hook: Path) -> None:
    text = hook.read_text()
    for row in TABLE:
        if row.attribute:
            assert row.attribute in text
            assert row.variable in text


def test_it_calls_the_program_whatever_its_path_holds(tmp_path: Path) -> None:
    text = render("/nix/store/a b'c$d/bin/nix-harden")
    path = tmp_path / "hook.sh"
    path.write_text(text)
    subprocess.run(["bash", "-n", path], check=True)
    assert "'/nix/store/a b'\"'\"'c$d/bin/nix-harden' fixup" in text


def test_the_command_prints_it(hook: Path) -> None:
    words = [sys.executable, "-m", "nix_harden", "hook", "--program", "/nix/store/abc-nix-harden/bin/nix-harden"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (hook.read_text(), "")


@pytest.mark.parametrize("program", ["nix-harden", "./nix-harden", ""])
def test_a_program_that_a_build_would_not_find_is_refused(program: str) -> None:
    words = [sys.executable, "-m", "nix_harden", "hook", "--program", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nix-harden: error: --program: ")


# The arrays that every stdenv has; its other functions differ from one to the next.
STDENV = """set -eu -o pipefail; shopt -s nullglob
NIX_STORE=/nix/store; preFixupHooks=(); postFixupHooks=(); fixupOutputHooks=()
nixErrorLog() { echo "$*" >&2; }
source "$1"
"""


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("list='lib*  *.so\n other'", ["lib*", "*.so", "other"]),
        ("list=('lib*' 'a b')", ["lib*", "a b"]),
        ("list=''", []),
        ("list=()", []),
        (":", []),
    ],
)
def test_patterns_stay_patterns_whatever_lies_in_the_build_directory(
    hook: Path, tmp_path: Path, value: str, lines: list[str]
) -> None:
    """The concatTo of some stdenvs has files take the place of patterns, and older ones have none: the hook asks for none."""
    for name in ("libtool", "a.so"):
        (tmp_path / name).touch()
    script = f"{STDENV}{value}\nnixHardenNeededLines list"
    done = subprocess.run(
        ["bash", "-c", script, "bash", hook], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, lines, "")
