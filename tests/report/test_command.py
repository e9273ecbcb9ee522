"""`nix-harden report` as a command: what it writes, says and refuses, and what it does without Graphviz and strace."""

import os
import shutil
from pathlib import Path

from foreign.cross import AARCH64, World
from report.conftest import World as Reported
from support.schema import check
from support.store import Store

from nix_harden.graphing.graph import look
from nix_harden.reporting.survey import survey


def without(tools: tuple[str, ...], top: Path) -> dict[str, str]:
    """An environment where PATH leads to these tools alone."""
    top.mkdir()
    for tool in tools:
        (top / tool).symlink_to(shutil.which(tool) or "")
    return {"PATH": str(top)}


def test_a_page_says_in_one_sentence_what_it_found(world: Reported, tmp_path: Path) -> None:
    done = world.store.call("report", world.app, "-o", tmp_path / "page.html")
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("nix-harden: 3 of 7 ")
    assert "1 name leads to no file." in line
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_each_part_of_the_work_is_told_before_it_begins(world: Reported) -> None:
    """A bar has something to say whatever takes long: of a report, and of the graph in it."""
    told: list[str] = []
    survey([str(world.app)], store=str(world.store.path), jobs=1, progress=lambda done, total, what: told.append(what))
    parts = [str(world.app), f"start of {world.app}", "sizes and the graph"]
    assert [each for each in dict.fromkeys(told) if each in parts] == parts
    told.clear()
    look([str(world.app)], store=str(world.store.path), progress=lambda done, total, what: told.append(what))
    assert told[:2] == [f"ELF files below {world.app}", str(world.app)]


def test_somewhere_it_must_go(world: Reported) -> None:
    assert "--output: is missing" in world.store.call("report", world.app, status=2).err


def test_what_is_no_program_is_a_sentence_and_no_page(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    page = tmp_path / "page.html"
    assert "it is a script, which /bin/sh runs" in store.call("report", script, "-o", page, status=1).err
    assert "No such file" in store.call("report", tmp_path / "nowhere", "-o", page, status=3).err
    assert not page.exists()


def test_where_no_file_can_be_is_a_sentence(world: Reported, tmp_path: Path) -> None:
    assert "is a directory" in world.store.call("report", world.app, "-o", tmp_path, status=2).err
    assert "is no directory" in world.store.call("report", world.app, "-o", tmp_path / "a/b", status=2).err


def test_without_graphviz_the_page_has_all_else(world: Reported, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = world.store.call("report", world.app, "-o", page, environ=without(("strace",), tmp_path / "bin"))
    assert "the page has no picture: dot: is not on PATH" in done.err
    text = page.read_text()
    assert "There is no picture here: dot: is not on PATH" in text
    assert 'id="viewport"' not in text
    assert 'id="names-table"' in text


def test_without_strace_starts_are_not_watched(world: Reported, tmp_path: Path) -> None:
    done = world.store.call("report", world.app, "--json", environ=without(("dot",), tmp_path / "bin"))
    (row,) = check("report", done.out)["roots"]
    assert (row["observed"], row["observed_why_not"]) == (None, "strace is not on PATH")
    assert row["lookups_now"] > 0


def test_what_cannot_be_walked_is_named(store: Store, tmp_path: Path) -> None:
    """A malformed file is in the page, with the reason, and does not keep others out of it."""
    (tmp_path / "broken").write_bytes(b"\x7fELF" + bytes(12))
    values = check("report", store.call("report", "--json", tmp_path).out)
    assert [(row["path"], row["why"]) for row in values["unread"]] == [(str(tmp_path / "broken"), "malformed")]
    assert [finding["check"] for finding in values["findings"]] == ["malformed"]
    page = tmp_path / "page.html"
    store.call("report", tmp_path / "broken", "-o", page)
    assert os.fspath(tmp_path / "broken") in page.read_text()


def test_another_machines_program_is_not_watched(store: Store) -> None:
    """Its page has everything but what only a run can show, and says why."""
    world = World.create(store, AARCH64)
    library = world.library(store.package("f"), "libf.so.1", "int f(void) { return 1; }")
    program = world.program(store.package("app"), "app", "int f(void); int main(void) { return f(); }", needs=[library])
    (row,) = check("report", store.call("report", "--json", program).out)["roots"]
    assert row["observed"] is None
    assert row["observed_why_not"] == row["compared_why_not"]
    assert "AARCH64" in row["observed_why_not"]
    assert row["lookups_now"] > 0
