"""The audit of a set is Nix's own work: built by other machines, and only where something changed."""

import json
import os
import re
import secrets
import subprocess
from pathlib import Path

from support.nix import CONFIG
from support.nix import ROOT as AS_ROOT
from support.schema import check

ROOT = Path(__file__).parents[2]
EXPRESSION = "tests/bench/audited.nix"
BUILT = re.compile(r"^building '/nix/store/\w+-(small-\d+-audit|audit-set)\.drv'(?: on '([^']*)')?", re.MULTILINE)


def build(count: int, salt: str, tmp_path: Path | None = None) -> tuple[Path, list[tuple[str, str]]]:
    """The joined audit of so many packages, and what was built for it, each with where; on another store alone if one is given."""
    config, words = CONFIG, []
    if tmp_path is not None:
        # a store elsewhere is built in by a sandbox, in which the host's tools are not unless they are named
        config = config.replace("sandbox = false", "sandbox = true\nsandbox-paths = /bin /usr /lib /lib64 /etc")
        words = ["--max-jobs", "0", "--builders", f"local?root={tmp_path}/elsewhere x86_64-linux - 2 1 - -"]
    argv = ["nix-build", "--no-out-link", *words, EXPRESSION, "--arg", "count", str(count), "--argstr", "salt", salt]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "NIX_CONFIG": config}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return Path(done.stdout.strip()), BUILT.findall(done.stderr)


@AS_ROOT
def test_on_another_builder(tmp_path: Path) -> None:
    """Each package's audit and what joins them are built there, and come back; one package more is one audit more."""
    salt = secrets.token_hex(8)
    result, built = build(3, salt, tmp_path)
    assert {
        (name, f"local?root={tmp_path}/elsewhere")
        for name in ("small-1-audit", "small-2-audit", "small-3-audit", "audit-set")
    } <= set(built)
    told = check("set", (result / "set.json").read_text())
    assert [each["name"] for each in told["packages"]] == ["small-1", "small-2", "small-3"]
    assert told["summary"]["programs"] == 3
    assert "3 packages" in (result / "index.html").read_text()
    _, again = build(4, salt)
    assert {name for name, _ in again} == {"small-4-audit", "audit-set"}
    assert build(4, salt)[1] == []


def test_the_same_inputs_give_the_same_bytes() -> None:
    """Built again, an audit and a joined set are what they were."""
    result, _ = build(2, "")
    told = json.loads((result / "set.json").read_text())
    assert {each["path"][:11] for each in told["programs"]} == {"/nix/store/"}
    done = subprocess.run(
        ["nix-build", "--no-out-link", "--check", EXPRESSION, "--arg", "count", "2"],
        cwd=ROOT,
        env={**os.environ, "NIX_CONFIG": CONFIG},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
