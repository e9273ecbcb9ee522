"""The audits of many packages are joined: what each has, what differs from another state, and a page that stays quick."""

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser
from support.schema import check
from support.source import function, prints
from support.store import Store

PROGRAMS = 20_000
LONGEST_TASK = 1_500  # milliseconds, as in test_browser


def audited(
    top: Path, name: str, roots: Sequence[dict[str, Any]], findings: Sequence[tuple[str, str, str, str]]
) -> str:
    """A line of a list, and the audit in it; a finding is its check, severity, subject and reason."""
    path = f"/nix/store/01234567-{name}/bin/{name}"
    told = {
        "version": 1,
        "roots": [
            {
                "path": path,
                "loader": "/ld.so",
                "objects": 3,
                "compared": True,
                "why_not": None,
                "lookups": None,
                "symbols": None,
            }
            | root
            for root in roots
        ],
        "findings": [
            {
                "check": what,
                "severity": severity,
                "path": path,
                "subject": subject,
                "reason": reason or None,
                "message": f"{subject}: {what}",
                "program": path,
            }
            for what, severity, subject, reason in findings
        ],
        "summary": {"files": len(roots)},
    }
    (top / f"{name}.json").write_text(json.dumps(told))
    return f"{name}\t{top / name}.json\n"


def joined(store: Store, path: Path, *words: str | Path) -> Any:
    return check("set", store.call("audit-set", path, "--json", *words).out)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    start = {"lookups": {"now": 7, "bare": 9}, "symbols": 100}
    path.write_text(
        audited(
            tmp_path,
            "a",
            [start, {}],
            [("bare-name", "warning", "libx.so", "not bound"), ("bare-name", "note", "liby.so", "driver library")],
        )
        + audited(
            tmp_path,
            "b",
            [start | {"symbols": None}],
            [("soname-twice", "error", "libz.so.1", ""), ("runpath-missing", "warning", "/x", "")],
        )
        + audited(tmp_path, "c", [], [])
        + "broken\n"
    )
    return path


def test_rows_and_sums(store: Store, packages: Path, tmp_path: Path) -> None:
    """A row a package and a program, findings by what found them, and a table for other tools."""
    done = joined(store, packages, "--csv", tmp_path / "set.csv")
    assert [row["name"] for row in done["packages"]] == ["a", "b", "c"]
    assert done["not_evaluated"] == ["broken"]
    sums = done["summary"]
    assert (sums["packages"], sums["programs"], sums["error"], sums["bare"], sums["lookups"], sums["symbols"]) == (
        3,
        2,
        1,
        1,
        14,
        100,
    )
    assert [(row["package"], row["lookups"], row["symbols"]) for row in done["programs"]] == [
        ("a", 7, 100),
        ("b", 7, None),
    ]
    assert {(row["reason"], row["severity"], row["number"]) for row in done["reasons"]} == {
        ("not bound", "warning", 1),
        ("driver library", "note", 1),
    }
    assert {row["check"] for row in done["checks"]} == {"soname-twice", "runpath-missing"}
    assert done["duplicates"] == [{"name": "libz.so.1", "number": 1, "packages": ["b"]}]
    assert done["worst"] == ["b", "a"]
    with (tmp_path / "set.csv").open() as file:
        assert [(row["name"], row["error"], row["lookups"]) for row in csv.DictReader(file)] == [
            ("a", "0", "7"),
            ("b", "1", "7"),
            ("c", "0", "0"),
        ]


def test_two_states(store: Store, packages: Path, tmp_path: Path) -> None:
    """What became better and worse, what is new and gone."""
    (tmp_path / "old.json").write_text(store.call("audit-set", packages, "--json").out)
    later = tmp_path / "later"
    later.write_text(
        audited(tmp_path, "a", [], [("missing-target", "error", "libx.so", "")])
        + audited(tmp_path, "b", [], [])
        + audited(tmp_path, "d", [], [])
    )
    done = joined(store, later, "--before", tmp_path / "old.json")
    told = done["before"]
    assert (told["better"], told["worse"], told["new"], told["gone"]) == (["b"], ["a"], ["d"], ["c"])
    assert told["summary"]["lookups"] == 14
    assert done["summary"]["lookups"] == 0


def test_real_audits(store: Store, tmp_path: Path) -> None:
    """What `audit --json --symbols` prints is what is joined; a program that can be prelinked has its lookups of symbols."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    app = store.package("app").program("app", prints("a"), needs=[a])
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "audit.json").write_text(store.call("audit", "--json", "--symbols", app, status=None).out)
    (tmp_path / "list").write_text(f"app\t{tmp_path / 'app'}\n")
    (program,) = joined(store, tmp_path / "list")["programs"]
    assert (program["path"], program["libraries"]) == (str(app), 3)
    assert program["lookups"] > 0
    assert program["symbols"] > 0


def test_what_cannot_be_joined(store: Store, tmp_path: Path) -> None:
    """A sentence that names the file."""
    (tmp_path / "text").write_text("text")
    (tmp_path / "list").write_text(f"a\t{tmp_path}/text\nb\t{tmp_path}/gone\n")
    (tmp_path / "good").write_text(audited(tmp_path, "a", [], []))
    for words, problem in (
        ([tmp_path / "list", "--json"], f"{tmp_path}/text: cannot be read: it is no JSON"),
        ([tmp_path / "gone", "--json"], f"{tmp_path}/gone: cannot be read"),
        ([tmp_path / "good"], "say where the page goes, or --csv or --json"),
        (
            [tmp_path / "good", "--json", "--before", tmp_path / "a.json"],
            "is not what `nix-harden audit-set --json` prints",
        ),
    ):
        done = store.call("audit-set", *words, status=None)
        assert done.status in (2, 3)
        assert problem in done.err


def test_a_page_of_many_programs(store: Store, tmp_path: Path, chromium: Browser) -> None:
    """With 20,000 programs it asks for nothing, complains of nothing, and filters and sorts without standing still."""
    chance = random.Random(1)
    lines = []
    for number in range(PROGRAMS // 10):
        roots = [
            {"lookups": {"now": chance.randrange(400), "bare": 500}, "symbols": chance.randrange(9000)}
            for _ in range(10)
        ]
        lines.append(audited(tmp_path, f"p{number}", roots, [("runpath-missing", "warning", "/<b>x</b>", "")]))
    (tmp_path / "list").write_text("".join(lines))
    store.call("audit-set", tmp_path / "list", "-o", tmp_path / "set.html")
    page = chromium.open(f"file://{tmp_path / 'set.html'}")
    assert "20,000 programs" in page.text(".verdict")
    assert page.text("[data-for=programs-table] [data-count]") == "20,000 rows, the first 50 shown"
    page.type("[data-for=programs-table] [data-filter]", "p77")
    page.settle()
    rows = page.text("[data-for=programs-table] [data-count]")
    assert rows.startswith("110 rows of 20,000")
    page.evaluate("window.began = performance.now()")
    page.click("#programs-table th[data-key=symbols] button")
    page.settle()
    assert page.evaluate("performance.now() - window.began") < LONGEST_TASK
    shown = [int(text.replace(",", "")) for text in page.texts("#programs-table tbody tr > :nth-child(6)")]
    assert shown == sorted(shown, reverse=True)
    assert page.evaluate("document.querySelectorAll('b').length") == page.evaluate(
        "document.querySelectorAll('.legend b').length"
    )
    assert page.problems == []
    page.close()
