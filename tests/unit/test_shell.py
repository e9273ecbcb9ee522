"""Completions and the man page say what the parser says, and the shells that they are for take them."""

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.store import REPOSITORY

from nix_harden.arguments import parser
from nix_harden.cli import COMMANDS
from nix_harden.packaging import shell


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("share")
    shell.write(top)
    return top


def say(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_subcommands_options_and_values(share: Path) -> None:
    script = """
        source "$1"
        for words in 'nix-harden au' 'nix-harden audit --sa' 'nix-harden fixup --mode n'; do
          read -ra COMP_WORDS <<< "$words"
          COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
          _shtab_nix_harden
          printf '%s\\n' "${COMPREPLY[*]}"
        done"""
    answer = say("bash", "-c", script, "bash", share / shell.PLACES["bash"])
    assert [line.split() for line in answer.splitlines()] == [["audit", "audit-set"], ["--sarif"], ["needed"]]


def test_fish_completes_subcommands_and_options(share: Path) -> None:
    script = """
        source $argv[1]
        complete --do-complete 'nix-harden au'
        complete --do-complete 'nix-harden audit --sa'"""
    answer = say("fish", "--no-config", "-c", script, share / shell.PLACES["fish"])
    assert [line.split("\t")[0] for line in answer.splitlines()] == ["audit", "audit-set", "--sarif"]


def test_zsh_takes_its_completions(share: Path) -> None:
    """Loaded as a function, as compinit does; it names each subcommand."""
    path = share / shell.PLACES["zsh"]
    say("zsh", "-f", "-n", path)
    assert "#compdef nix-harden" in path.read_text().splitlines()[0]
    assert all(f"    {name}:'" in path.read_text() for name in COMMANDS)


def test_the_man_page_has_every_subcommand_and_option_and_no_fault(share: Path) -> None:
    page = say("groff", "-Kutf8", "-man", "-ww", "-Tutf8", "-P-cbou", share / shell.MANUAL)
    words = page.replace("‐\n", "").replace("−", "-").split()
    assert all(f"'nix-harden {name}'" in page for name in COMMANDS)
    for option in ("--output", "--sarif", "--carry", "--program"):
        assert option in words


def test_the_wheel_brings_them_the_schemas_and_the_page(tmp_path: Path) -> None:
    argv = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(REPOSITORY)]
    subprocess.run([sys.executable, *argv], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    machine = f"EM_{platform.machine().upper()}"
    for what in ("module.so", "start"):
        assert f"nix_harden/native/compiled/{machine}.{what}" in names
    for place in shell.files():
        assert any(name.endswith(f".data/data/share/{place}") for name in names)
    for directory in ("schemas", "reporting/pages", "tracing/pictures"):
        for path in (REPOSITORY / "nix_harden" / directory).iterdir():
            assert f"nix_harden/{directory}/{path.name}" in names


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples_and_the_exit_statuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([name, "--help"])
    said = capsys.readouterr().out
    assert f"examples:\n  nix-harden {name} " in said
    assert said.index("examples:") < said.index("exit status:\n  0  done")
