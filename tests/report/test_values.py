"""What a report says of a program: names, reasons, duplicates, sizes, starts; the same in the page and as JSON."""

import os
from pathlib import Path
from typing import Any

from report.conftest import World, held
from support.schema import check
from support.source import function, prints
from support.store import Store

from nix_harden.reporting.page import contents, heading, verdict


def names(world: World, path: Path) -> dict[str, Any]:
    """The names of an object, by their basenames."""
    place = [each["path"] for each in world.values["objects"]].index(str(path))
    return {os.path.basename(row["name"]): row for row in world.values["names"] if row["object"] == place}


def object_of(world: World, path: Path) -> Any:
    return next(each for each in world.values["objects"] if each["path"] == str(path))


def test_the_page_holds_what_json_prints(world: World) -> None:
    assert held(world.page) == world.values


def test_two_runs_are_the_same(world: World, tmp_path: Path) -> None:
    again = tmp_path / "again.html"
    world.store.call("report", world.app.parent.parent, "-o", again)
    assert again.read_bytes() == world.page.read_bytes()


def test_each_name_is_bound_bare_or_missing(world: World) -> None:
    found = names(world, world.app)
    assert {name: row["state"] for name, row in found.items()} == {
        "libf.so.1": "bound",
        "libg.so.1": "bare",
        "libbound.so.1": "bound",
        "libgone.so.1": "missing",
        "libc.so.6": "bare",
    }
    assert found["libg.so.1"]["why"] == "not bound"
    assert not found["libg.so.1"]["expected"]
    assert found["libg.so.1"]["found_by"] == "RUNPATH"
    assert any(place.endswith("/lib/libgone.so.1") for place in found["libgone.so.1"]["tried"])
    loader = names(world, world.store.libc / "libc.so.6")["ld-linux-x86-64.so.2"]
    assert (loader["why"], loader["expected"]) == ("the loader itself", True)


def test_a_name_of_several_programs_is_one_row(world: World) -> None:
    """It counts the walks that load it: two programs here, and nothing else."""
    libc = names(world, world.store.libc / "libc.so.6")["ld-linux-x86-64.so.2"]
    assert libc["roots"] == 2
    assert object_of(world, world.store.libc / "libc.so.6")["roots"] == 2


def test_reasons_count_names(world: World) -> None:
    told = sum(reason["names"] for reason in world.values["reasons"])
    assert told == world.values["summary"]["bare"] == sum(row["state"] == "bare" for row in world.values["names"])
    expected = [reason["expected"] for reason in world.values["reasons"]]
    assert expected == sorted(expected)


def test_two_files_of_one_soname_are_duplicates(world: World) -> None:
    (duplicate,) = world.values["duplicates"]
    paths = [world.values["objects"][place]["path"] for place in duplicate["objects"]]
    assert sorted(paths) == sorted([str(world.libraries["f"]), str(world.libraries["other f"])])
    assert duplicate["together"] == [str(world.app)]
    assert duplicate["extra_bytes"] == min(map(os.path.getsize, paths))


def test_findings_are_the_audits_but_for_bare_names(world: World) -> None:
    checks = {finding["check"] for finding in world.values["findings"]}
    assert {"missing-target", "soname-twice"} <= checks
    assert "bare-name" not in checks
    assert world.values["summary"]["error"] == 2


def test_sizes_are_those_of_files(world: World) -> None:
    libg = object_of(world, world.libraries["g"])
    assert libg["bytes"] == os.path.getsize(world.libraries["g"])
    assert libg["closure_bytes"] == libg["bytes"] + os.path.getsize(world.libraries["other f"])
    total = sum(os.path.getsize(each["path"]) for each in world.values["objects"])
    assert world.values["summary"]["bytes"] == total == sum(row["bytes"] for row in world.values["store_paths"])


def test_starts_are_counted_and_watched(world: World) -> None:
    rows = {row["path"]: row for row in world.values["roots"]}
    app, plain = rows[str(world.app)], rows[str(world.plain)]
    assert app["lookups_now"] == app["observed"] > 0
    assert app["lookups_bare"] > app["lookups_now"]
    assert plain["lookups_bare"] == plain["lookups_now"] == plain["observed"]


def test_not_watched_and_not_compared_where_not_asked_for(world: World) -> None:
    done = world.store.call("report", "--json", "--no-watch", "--no-compare", world.plain)
    (row,) = check("report", done.out)["roots"]
    assert (row["observed"], row["observed_why_not"]) == (None, "not asked for")
    assert (row["compared"], row["compared_why_not"]) == (False, "not asked for")


def test_hardened_all_is_bound_or_bare_for_a_reason(store: Store) -> None:
    """The C library's own SONAME stays bare, and the rule is named."""
    package, app = store.package("f"), store.package("app")
    library = package.library("libf.so.1", function("f", 1))
    program = app.program("app", prints("f"), needs=[library])
    store.harden(package, app)
    values = check("report", store.call("report", "--json", program).out)
    assert values["summary"]["bare"] == values["summary"]["bare_expected"]
    assert values["summary"]["lookups_now"] == 0 < values["summary"]["lookups_bare"]
    by_path = {os.path.basename(each["path"]): each for each in values["objects"]}
    assert by_path["libf.so.1"]["soname_state"] == "bound"
    assert by_path["libc.so.6"]["soname_why"] == "C library"
    assert "had better stay bare" in verdict(values)
    assert "instead of" in verdict(values)


def test_a_file_that_is_never_touched_says_why(store: Store) -> None:
    """Its bare names are as they should be, for the rule that keeps the whole file as it is."""
    library = store.package("f").library("libf.so.1", function("f", 1))
    program = store.package("app").program("app", prints("f"), needs=[library])
    with program.open("ab") as file:
        file.write(b"a payload")
    values = check("report", store.call("report", "--json", program).out)
    assert values["objects"][0]["left_alone"] == "appended data"
    own = [row for row in values["names"] if row["object"] == 0]
    assert {(row["state"], row["why"], row["expected"]) for row in own} == {("bare", "appended data", True)}
    assert any(reason["name"] == "appended data" for reason in values["reasons"])


def test_a_wrapper_means_what_it_starts(world: World, tmp_path: Path) -> None:
    wrapper = tmp_path / "app"
    wrapper.write_text(f'#! /bin/sh -e\nexec -a "$0" "{world.app}"  "$@"\n')
    values = check("report", world.store.call("report", "--json", wrapper).out)
    assert [row["path"] for row in values["roots"]] == [str(world.app)]
    assert values["paths"] == [str(wrapper)]


def test_a_library_alone_does_not_start(world: World) -> None:
    values = check("report", world.store.call("report", "--json", world.libraries["g"]).out)
    (row,) = values["roots"]
    assert (row["kind"], row["lookups_now"], row["observed_why_not"]) == ("library", None, "no program")
    assert "start" not in verdict(values)


def test_what_was_asked_for_is_counted() -> None:
    """Store paths by that name; and what was walked in them, by kind."""
    page = {"store": "/s", "paths": ["/s/a", "/s/b"], "summary": {"programs": 1}, "roots": [{}, {}, {}]}
    assert contents(page) == "2 store paths: 1 program and 2 libraries walked"
    assert contents(page | {"paths": ["/s/a/bin/app"]}) == "1 path: 1 program and 2 libraries walked"


def test_a_heading_has_no_hash() -> None:
    one = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12"
    assert heading({"paths": [one]}) == "hello-2.12"
    assert heading({"paths": [one, "/tmp/a"]}) == "hello-2.12 and a"
    assert heading({"paths": [one, "/tmp/a", "/tmp/b"]}) == "hello-2.12 and 2 more"
