"""Why a program loads a library: all chains, the shortest first, each step as the loader takes it."""

import itertools
import json
import subprocess
from pathlib import Path

import pytest
from graph.helpers import listing, world
from graph.test_picture import abstract, numbers, some
from support.dynamic import names
from support.schema import check
from support.source import function, prints
from support.store import Store, patchelf

from nix_harden.graphing.chains import Why, explain
from nix_harden.graphing.values import Picture


def walked(start: int, goal: int, pairs: set[tuple[int, int]], seen: tuple[int, ...] = ()) -> set[tuple[int, ...]]:
    """Every row of numbers from start to goal that meets none twice, by trying all."""
    if start == goal:
        return {(*seen, start)}
    onward = {b for a, b in pairs if a == start and b not in (*seen, start)}
    return {chain for each in onward for chain in walked(each, goal, pairs, (*seen, start))}


def rows(why: Why, whole: Picture) -> list[tuple[int, ...]]:
    label = {vertex.id: int(vertex.label) for vertex in whole.vertices}
    return [(label[chain[0].source], *(label[arrow.target] for arrow in chain)) for chain in why.chains]


@pytest.mark.parametrize("cyclic", [False, True])
def test_chains_are_all_there_are_and_the_shortest_come_first(cyclic: bool) -> None:
    for seed in range(200):
        count, pairs = some(seed, cyclic=cyclic)
        whole = abstract(count, pairs)
        start = next(vertex for vertex in whole.vertices if vertex.label == "0")
        for goal in range(1, count):
            expected = walked(0, goal, numbers(whole))
            why = explain(whole, start, str(goal), 10_000)
            found = rows(why, whole) if why is not None else []
            assert set(found) == expected
            assert len(found) == len(expected)
            assert [len(row) for row in found] == sorted(len(row) for row in found)
            if expected and not cyclic:
                limited = explain(whole, start, str(goal), 1)
                assert limited is not None
                assert limited.total == len(expected)
                assert rows(limited, whole) == found[:1]


def test_a_limit_counts_the_rest_of_very_many() -> None:
    """The chains of forty objects, each of which needs all that come after it, are counted and not walked."""
    pairs = {(a, b) for a, b in itertools.product(range(40), repeat=2) if a < b}
    whole = abstract(40, pairs)
    why = explain(whole, whole.vertices[0], "39", 3)
    assert why is not None
    assert (len(why.chains), why.total) == (3, 2**38)


def test_where_objects_need_each_other_the_rest_is_not_counted() -> None:
    pairs = {(0, 1), (0, 2), (1, 2), (2, 1), (1, 3), (2, 3)}
    whole = abstract(4, pairs)
    why = explain(whole, whole.vertices[0], "3", 1)
    assert why is not None
    assert why.total is None
    complete = explain(whole, whole.vertices[0], "3", 4)
    assert complete is not None
    assert complete.total == 4


def test_words(store: Store) -> None:
    """The path that is meant, then each chain in one line with how each step is found."""
    program = world(store)
    image = store.package("image").lib / "libimage.so.6"
    out = store.call("why", program, "libimage.so.6").out
    assert out.splitlines() == [
        str(image),
        "  viewer → libimage.so.6 (RUNPATH)",
        "  viewer → libimagex.so.6 (RUNPATH) → libimage.so.6 (SONAME match)",
    ]
    assert "  and 1 more chain; --limit N" in store.call("why", "--limit", "1", program, "libimage.so.6").out


def test_each_step_is_one_that_the_files_and_the_loader_have(store: Store) -> None:
    """Of both files of a SONAME every step is a NEEDED of its object (readelf) that leads to a file which the loader maps (ld.so)."""
    program = world(store)
    value = check("why", store.call("why", "--json", program, "libpress.so.1").out)
    mapped, _ = listing(program)
    assert [each["path"] for each in value["libraries"]] == sorted(path for path in mapped if "press" in path)
    assert len(value["chains"]) == value["total"] == 3
    for chain in value["chains"]:
        assert chain[0]["from"] == str(program)
        assert chain[-1]["to"].endswith("/libpress.so.1")
        for step, after in itertools.pairwise(chain):
            assert step["to"] == after["from"]
        for step in chain:
            assert set(step["names"]) <= set(names(Path(step["from"])).needed)
            assert step["to"] in mapped


def test_a_missing_name_has_its_chains(store: Store) -> None:
    out = store.call("why", world(store), "libgone.so.3").out.splitlines()
    assert out == ["libgone.so.3 is not found", "  viewer → libimagex.so.6 (RUNPATH) → libgone.so.3 (not found)"]


def test_what_is_not_loaded_is_a_sentence_and_exit_1(store: Store) -> None:
    program = world(store)
    done = store.call("why", program, "libnever.so.1", status=1)
    assert done.out == ""
    assert f"{program}: it does not load libnever.so.1; " in done.err
    assert len(done.err.splitlines()) == 1


def test_a_library_has_reasons_too(store: Store) -> None:
    """PROGRAM may be a library; what it is asked for itself is not an answer."""
    lib = store.package("f").library("libf.so.1", function("f", 1))
    user = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[lib])
    assert "libg.so.1 → libf.so.1 (RUNPATH)" in store.call("why", user, "libf.so.1").out
    assert "it does not load" in store.call("why", user, "libg.so.1", status=1).err
    assert "say one of them" in store.call("why", store.path, "libf.so.1", status=1).err


def test_names_are_spelled_so_that_a_terminal_does_not_obey(store: Store) -> None:
    lib = store.package("f").library("libf.so.1", function("f", 1))
    program = store.package("app").program("app", prints("f"), needs=[lib])
    odd = lib.with_name("lib\x1b[31m.so")
    lib.rename(odd)
    patchelf("--set-soname", odd.name, odd)
    patchelf("--replace-needed", lib.name, odd.name, program)
    done = subprocess.run(
        ["nix-harden", "why", program, odd.name],
        env=store.environ | {"PATH": f"{Path(__file__).parents[2] / '.venv/bin'}:{store.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout
    assert "lib\\x1b[31m.so" in done.stdout
    assert json.loads(store.call("why", "--json", program, odd.name).out)["libraries"][0]["name"] == odd.name
