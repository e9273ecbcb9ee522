"""`nix-harden audit` as a command: what it prints, in which form, and its exit status."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.schema import check
from support.source import function, prints
from support.store import REPOSITORY, Store, patchelf

from nix_harden.loading.checks import CHECKS

COMMAND = [sys.executable, "-m", "nix_harden", "audit"]


def audit(store: Store, *words: str | Path, status: int) -> str:
    done = subprocess.run(
        [*COMMAND, *words], cwd=REPOSITORY, env=store.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status < 2 else done.stderr


@pytest.fixture
def program(store: Store) -> Path:
    """A program whose one library is gone, and which has an empty search path entry."""
    lib = store.package("f").library("libf.so.1", function("f", 1))
    path = store.package("app").program("app", prints("f"), needs=[lib])
    lib.unlink()
    patchelf("--set-rpath", f":{lib.parent}:{store.libc}", path)
    return path


@pytest.fixture
def clean(store: Store) -> Path:
    """A program of which only the loader's own name is bare."""
    path = store.package("clean").program("clean", prints())
    patchelf("--replace-needed", "libc.so.6", store.libc / "libc.so.6", "--remove-rpath", path)
    return path


def test_text(store: Store, program: Path) -> None:
    """The answer, findings below their check and what to do, and a summary; nothing is coloured where there is no terminal."""
    lines = audit(store, program.parent, status=1).splitlines()
    assert lines[0].startswith(f"{program}: 1 name does not resolve, 2 libraries, ")
    assert re.search(r", \d+ lookups in vain at each start$", lines[0])
    place = lines.index(
        "error: missing-target: a name that leads to no file: give the build the library (buildInputs), or say where it is (hardenNeededBind)"
    )
    assert lines[place + 1].startswith(f"  {program}: libf.so.1 is not found")
    assert lines[-1].startswith("1 file: 2 errors, ")
    assert lines[-1].endswith("1 compared with their real loaders")
    assert "\x1b" not in "".join(lines)


def test_notes_alone_exit_0(store: Store, clean: Path) -> None:
    """A note is worth knowing and fails nothing."""
    out = audit(store, clean, status=0)
    assert "(the loader itself)" in out
    assert out.splitlines()[0] == f"{clean}: everything resolves, 2 libraries, no lookup in vain at each start"
    assert str(clean) not in "".join(out.splitlines()[1:])
    assert "is bare (the loader itself)" in audit(store, "--verbose", clean, status=0)


def test_fail_on(store: Store, program: Path, clean: Path) -> None:
    """--fail-on counts the checks that it names alone; CHECK:note counts notes too."""
    audit(store, "--fail-on", "soname-twice", program, status=0)
    audit(store, "--fail-on", "soname-twice,missing-target", program, status=1)
    audit(store, "--fail-on", "soname-twice", "--fail-on", "runpath-empty", program, status=1)
    audit(store, "--fail-on", "bare-name", clean, status=0)
    audit(store, "--fail-on", "bare-name:note", clean, status=1)
    assert "the checks are bare-name, " in audit(store, "--fail-on", "nonsense", program, status=2)


def test_json(store: Store, program: Path) -> None:
    """The JSON form holds roots, findings and summary."""
    done = check("audit", audit(store, "--json", program, status=1))
    assert done["roots"] == [
        {
            "path": str(program),
            "loader": str(store.loader),
            "objects": 3,
            "compared": True,
            "why_not": None,
            "lookups": done["roots"][0]["lookups"],
            "symbols": None,
        }
    ]
    assert done["roots"][0]["lookups"]["now"] > 0
    assert {"missing-target", "runpath-empty"} <= {each["check"] for each in done["findings"]}
    assert done["summary"]["error"] == 2


def test_both_forms_at_once(store: Store, program: Path, tmp_path: Path) -> None:
    """--into DIR has what --json and --sarif print, beside what is printed; one walk for all."""
    (tmp_path / "into").mkdir()
    text = audit(store, "--into", tmp_path / "into", program, status=1)
    assert text == audit(store, program, status=1)
    for name, option in (("audit.json", "--json"), ("audit.sarif", "--sarif")):
        assert (tmp_path / "into" / name).read_text() == audit(store, option, program, status=1)
    assert "is no directory; make it first" in store.call("audit", "--into", tmp_path / "gone", program, status=2).err


def test_no_compare(store: Store, program: Path) -> None:
    """--no-compare runs no loader."""
    done = check("audit", audit(store, "--json", "--no-compare", program, status=1))
    assert done["roots"][0]["why_not"] == "not asked for"


def only(value: Any, required: dict[str, type], optional: dict[str, type]) -> None:
    """Check an object of SARIF: all required properties, none unknown, each of its type."""
    assert set(required) <= set(value) <= {*required, *optional}, value
    for name, each in value.items():
        assert isinstance(each, {**required, **optional}[name]), (name, each)


def test_sarif(store: Store, program: Path) -> None:
    """The SARIF form has what SARIF 2.1.0 requires (sections 3.13, 3.14, 3.18 to 3.20, 3.27 to 3.30, 3.49), and all levels and rules fit."""
    log = json.loads(audit(store, "--sarif", program, status=1))
    only(log, {"version": str, "runs": list}, {"$schema": str})
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    only(run, {"tool": dict}, {"results": list, "invocations": list})
    only(run["tool"], {"driver": dict}, {})
    driver = run["tool"]["driver"]
    only(driver, {"name": str}, {"version": str, "rules": list})
    only(run["invocations"][0], {"executionSuccessful": bool}, {})
    assert [rule["id"] for rule in driver["rules"]] == [check.name for check in CHECKS]
    for rule in driver["rules"]:
        only(rule, {"id": str}, {"shortDescription": dict, "defaultConfiguration": dict})
        only(rule["shortDescription"], {"text": str}, {})
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert len(run["results"]) >= 3
    for result in run["results"]:
        required = {"message": dict, "ruleId": str, "ruleIndex": int, "level": str, "locations": list}
        only(result, required, {"partialFingerprints": dict, "relatedLocations": list})
        only(result["message"], {"text": str}, {})
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        for location in [*result["locations"], *result.get("relatedLocations", [])]:
            only(location, {"physicalLocation": dict}, {"message": dict})
            only(location["physicalLocation"], {"artifactLocation": dict}, {})
            assert location["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")


@pytest.mark.parametrize(
    ("variables", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)]
)
def test_colours(variables: dict[str, str], coloured: bool, store: Store, program: Path) -> None:
    """Colours on a terminal, unless NO_COLOR says otherwise."""
    mine, theirs = pty.openpty()
    subprocess.run([*COMMAND, program], cwd=REPOSITORY, env=store.environ | variables, stdout=theirs, check=False)
    os.close(theirs)
    assert (b"\x1b[31;1merror" in os.read(mine, 4096)) is coloured
    os.close(mine)


def test_names_that_are_no_utf_8(store: Store) -> None:
    """A path of any bytes can be printed in every form."""
    directory = os.fsdecode(b"/odd \xff\n")
    package = store.package("odd")
    path = package.program("odd", prints(), rpath=[directory], directory=os.fsdecode(b"b\xfe n"))
    for form in ((), ("--json",), ("--sarif",)):
        assert "odd" in audit(store, *form, path, status=1)
