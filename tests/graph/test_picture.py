"""A picture has what the loader maps, who asked for it, and marks on what is wrong."""

import itertools
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from graph.helpers import asked, between, edges, listing, missing, named, objects, picture, world
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Store, patchelf

from nix_harden.graphing.draw import how
from nix_harden.graphing.graph import choose
from nix_harden.graphing.picture import bearers, finish, leading_to, ranks, reduced, vertex_id, within
from nix_harden.graphing.values import Arrow, Means, Picture, Role, Vertex
from nix_harden.loading.graph import FILTER, NEEDED


def test_objects_and_missing_names_are_those_of_the_loader(store: Store) -> None:
    """LD_TRACE_LOADED_OBJECTS lists the vertices that the loader maps, and `not found` those that are missing."""
    program = world(store)
    drawn = picture(store, program)
    mapped, lost = listing(program)
    assert objects(drawn) == mapped
    assert missing(drawn) == lost == {"libgone.so.3"}


def test_arrows_are_the_names_of_each_object(store: Store) -> None:
    """Each object has an arrow for each NEEDED that readelf shows, and each is where the loader, too, was asked by that object."""
    program = world(store)
    drawn = picture(store, program)
    for vertex in drawn.vertices:
        if vertex.role is not Role.MISSING:
            mine = [name for arrow in drawn.arrows if arrow.source == vertex.id for name in arrow.names]
            assert sorted(mine) == sorted(names(Path(vertex.path)).needed), vertex.path
    paths = {vertex.id: vertex.path for vertex in drawn.vertices}
    arrows = {(paths[arrow.source], name): paths[arrow.target] for arrow in drawn.arrows for name in arrow.names}
    said = asked(program)
    assert len(said) >= 6
    assert said <= set(arrows)


def test_arrows_lead_to_what_the_loader_maps_for_the_name(store: Store) -> None:
    """How each name is found, and which of two files of one SONAME it means, is as the loader has it."""
    drawn = picture(store, world(store))
    means = {(a.source, a.target): a.means for a in drawn.arrows}
    by_label = {vertex.id: vertex.label for vertex in drawn.vertices}
    seen = {(by_label[source], by_label[target], how) for (source, target), how in means.items()}
    assert {
        ("viewer", "libpaint.so.16", Means.SEARCH),
        ("libpaint.so.16", "libpress.so.1", Means.PATH),
        ("libimagex.so.6", "libimage.so.6", Means.LOADED),
        ("libimagex.so.6", "libgone.so.3", Means.MISSING),
        ("libc.so.6", "ld-linux-x86-64.so.2", Means.LOADED),
    } <= seen
    paint, image = (between(drawn, name, "libpress.so.1")[0].target for name in ("libpaint.so.16", "libimage.so.6"))
    assert paint != image


def test_marks(store: Store) -> None:
    """Two files of one SONAME are both marked, so is what needs a missing name, and bare names are counted."""
    drawn = picture(store, world(store))
    assert [vertex.label for vertex in drawn.vertices if vertex.twice] == ["libpress.so.1", "libpress.so.1"]
    assert [vertex.label for vertex in drawn.vertices if vertex.missing] == ["libimagex.so.6"]
    assert named(drawn, "viewer").bare == len(names(Path(named(drawn, "viewer").path)).needed)
    assert named(drawn, "libpaint.so.16").bare == 0
    assert [vertex.label for vertex in drawn.vertices if vertex.root] == ["viewer"]


def test_two_programs_share_what_both_map(store: Store) -> None:
    """Each object is there once, with the arrows of both programs, whatever the order in which they are named."""
    shared = store.package("s").library("libs.so.1", function("s", 1))
    one, two = (store.package(name).program(name, prints("s"), needs=[shared]) for name in ("one", "two"))
    drawn = picture(store, one, two)
    assert drawn == picture(store, two, one)
    assert {("one", "libs.so.1"), ("two", "libs.so.1")} <= edges(drawn)
    assert len([vertex for vertex in drawn.vertices if vertex.label == "libs.so.1"]) == 1
    assert {vertex.label for vertex in drawn.vertices if vertex.root} == {"one", "two"}


def test_a_directory_means_the_programs_and_libraries_below_it(store: Store) -> None:
    """A library that another of them needs is no root."""
    package = store.package("both")
    used = package.library("libused.so.1", function("used", 1))
    package.library("libalone.so.1", function("alone", 1), needs=[used])
    package.program("app", prints("used"), needs=[used])
    roots = [vertex.label for vertex in picture(store, package.path).vertices if vertex.root]
    assert sorted(roots) == ["app", "libalone.so.1"]


def test_what_dlopen_opens_is_there_and_known_as_such(store: Store) -> None:
    """A hardened library that a program names in a string is reached by a dlopen arrow, and is not mapped at start."""
    lib = store.package("f").library("libf.so.1", function("f", 1))
    patchelf("--set-soname", lib, lib)
    program = store.package("app").program("app", opens("libf.so.1", "f", calls=["f"]), needs=[lib])
    drawn = picture(store, program)
    tags = {arrow.tag for arrow in between(drawn, "app", "libf.so.1")}
    assert tags == {NEEDED, "dlopen"}


def test_what_a_dlopen_note_names_is_there_whether_it_is_found_or_not(store: Store) -> None:
    """A file that only dlopen maps has its place and size, and is none of those that the loader lists."""
    noted = store.package("noted").library("libnoted.so.1", function("noted", 5))
    text = '[{"soname":["libnoted.so.1","libother.so.1"]}]'
    note = f"""__asm__(".pushsection .note.dlopen, \\"a\\", @note\\n .balign 4\\n .long 4, 9f-8f, 0x407c0c0a\\n .asciz \\"FDO\\"\\n"
        "8: .asciz {json.dumps(json.dumps(text))[1:-1]}\\n 9: .balign 4\\n .popsection\\n");"""
    package = store.package("app")
    program = package.program("app", note + "int main(void) { return 0; }", rpath=[noted.parent, store.libc])
    drawn = picture(store, program)
    opened, lost = named(drawn, "libnoted.so.1"), named(drawn, "libother.so.1")
    assert (opened.role, opened.path, opened.size) == (Role.OPENED, str(noted), noted.stat().st_size)
    assert lost.role is Role.MISSING
    assert [arrow.means for arrow in between(drawn, "app", "libnoted.so.1")] == [Means.DLOPEN]
    assert objects(drawn) == listing(program)[0]


def test_a_filter_is_an_arrow_of_its_own(store: Store) -> None:
    """What a library is a filter of is loaded with it, and the arrow says so."""
    lib = store.package("f").library("libf.so.1", function("f", 1))
    source = function("g", 1)
    user = store.package("g").library("libg.so.1", source, flags=["-Wl,-F,libf.so.1"], rpath=[lib.parent, store.libc])
    program = store.package("app").program("app", prints("g"), needs=[user])
    drawn = picture(store, program)
    (arrow,) = between(drawn, "libg.so.1", "libf.so.1")
    assert (arrow.tag, how(arrow)) == (FILTER, "filter: RUNPATH")
    assert objects(drawn) == listing(program)[0]


def test_a_picture_without_its_loader_says_so(store: Store) -> None:
    """A program whose interpreter is gone is drawn all the same, with a remark."""
    program = store.package("app").program("app", prints())
    patchelf("--set-interpreter", "/nowhere/ld.so", program)
    (remark,) = picture(store, program).remarks
    assert str(program) in remark
    assert "/nowhere/ld.so" in remark


def test_why_keeps_every_way_and_nothing_else(store: Store) -> None:
    """All that is left reaches the library, and all arrows between what is left are there."""
    whole = picture(store, world(store))
    shown = choose(whole, "libimage.so.6")
    assert {vertex.label for vertex in shown.vertices} == {"viewer", "libimagex.so.6", "libimage.so.6"}
    assert edges(shown) == {
        ("viewer", "libimage.so.6"),
        ("viewer", "libimagex.so.6"),
        ("libimagex.so.6", "libimage.so.6"),
    }


@pytest.mark.parametrize("word", ["libpress.so.1", "libpre*", "*/libpress.so.*", "SONAME", "PATH", "libgone.so.3"])
def test_a_library_is_meant_by_soname_file_name_path_or_pattern(word: str, store: Store) -> None:
    program = world(store)
    whole = picture(store, program)
    press = store.package("press-1.2").lib / "libpress.so.1"
    if word == "SONAME":
        renamed = press.with_name("libpress-1.2.3.so")
        press.rename(renamed)
        press.symlink_to(renamed.name)
        whole, word = picture(store, program), "libpress.so.1"
    found = bearers(whole, str(press) if word == "PATH" else word)
    assert {vertex.label for vertex in found} == {"libgone.so.3" if "gone" in word else "libpress.so.1"}
    assert len(found) == (1 if word == "PATH" or "gone" in word else 2)


def test_depth_keeps_the_near_and_counts_the_rest(store: Store) -> None:
    """Depth 1 is a program and its own names; each vertex says how many of its neighbours are not there."""
    whole = picture(store, world(store))
    shown = within(whole, 1)
    assert {vertex.depth for vertex in shown.vertices} == {0, 1}
    assert sorted(vertex.label for vertex in shown.vertices if vertex.depth) == sorted(
        names(Path(named(whole, "viewer").path)).needed
    )
    assert {vertex.label: vertex.below for vertex in shown.vertices} == {
        "viewer": 0,
        "libc.so.6": 1,
        "libimage.so.6": 1,
        "libimagex.so.6": 1,
        "libpaint.so.16": 1,
    }


# What follows needs no files


def abstract(count: int, pairs: set[tuple[int, int]], means: Means = Means.PATH) -> Picture:
    """The picture of numbered objects, each of as many bytes as two to the power of its number."""
    vertices = [
        Vertex(vertex_id(str(each)), str(each), str(each), Role.LIBRARY, None, "/s", 1 << each) for each in range(count)
    ]
    arrows = [Arrow(vertex_id(str(a)), vertex_id(str(b)), NEEDED, "path", means, (str(b),)) for a, b in sorted(pairs)]
    return finish(vertices, arrows, frozenset((vertex_id("0"),)))


def some(seed: int, *, cyclic: bool) -> tuple[int, set[tuple[int, int]]]:
    rng = random.Random(seed)
    count = rng.randint(2, 9)
    pairs = {
        (a, b)
        for a, b in itertools.product(range(count), repeat=2)
        if rng.random() < 0.3 and (a < b or (cyclic and a != b))
    }
    return count, pairs | {(0, each) for each in range(1, count) if not any(pair[1] == each for pair in pairs)}


def reach(start: int, pairs: set[tuple[int, int]]) -> set[int]:
    """By walking, not as the program does it."""
    found, queue = {start}, [start]
    for each in queue:
        new = {b for a, b in pairs if a == each} - found
        found |= new
        queue += new
    return found


def numbers(drawn: Picture, *, implied: bool | None = None) -> set[tuple[int, int]]:
    label = {vertex.id: int(vertex.label) for vertex in drawn.vertices}
    return {
        (label[arrow.source], label[arrow.target])
        for arrow in drawn.arrows
        if implied is None or arrow.implied is implied
    }


@pytest.mark.parametrize("cyclic", [False, True])
def test_what_is_left_out_is_implied_by_what_is_drawn(cyclic: bool) -> None:
    """The reduction reaches the same from everywhere; without cycles nothing more could go."""
    for seed in range(300):
        count, pairs = some(seed, cyclic=cyclic)
        drawn = reduced(abstract(count, pairs))
        kept = numbers(drawn, implied=False)
        assert numbers(drawn) == pairs
        assert all(reach(each, kept) == reach(each, pairs) for each in range(count)), seed
        if not cyclic:
            assert all(reach(a, kept - {(a, b)}) != reach(a, pairs) for a, b in kept), seed


@pytest.mark.parametrize("means", [Means.MISSING, Means.DLOPEN, Means.SYSTEM])
def test_what_is_of_another_kind_is_never_left_out_and_implies_nothing(means: Means) -> None:
    triangle = {(0, 1), (1, 2), (0, 2)}
    assert reduced(abstract(3, triangle)).implied == 1
    assert reduced(abstract(3, triangle, means)).implied == 0
    whole = abstract(3, triangle)
    odd = tuple(
        replace(arrow, means=means) if (arrow.source, arrow.target) == (vertex_id("1"), vertex_id("2")) else arrow
        for arrow in whole.arrows
    )
    assert reduced(replace(whole, arrows=odd)).implied == 0


def test_many_edges_are_reduced_unless_all_or_every_way_is_asked_for() -> None:
    whole = abstract(20, {(a, b) for a, b in itertools.product(range(20), repeat=2) if a < b})
    assert choose(whole).implied == 190 - 19
    assert choose(whole, all_arrows=True).implied == 0
    assert choose(whole, "19").implied == 0
    assert choose(abstract(3, {(0, 1), (1, 2), (0, 2)})).implied == 0


def test_sizes_depths_and_rows_are_those_that_walking_gives() -> None:
    """A closure counts each object once, also where objects need each other."""
    for seed in range(200):
        count, pairs = some(seed, cyclic=seed % 2 == 0)
        drawn = abstract(count, pairs)
        for vertex in drawn.vertices:
            assert vertex.closure == sum(1 << each for each in reach(int(vertex.label), pairs))
        depth = {int(vertex.label): 0 for vertex in drawn.vertices if vertex.root}
        for step in range(count):
            near = {b for a, b in pairs if depth.get(a) == step} - depth.keys()
            depth |= dict.fromkeys(near, step + 1)
        assert {int(vertex.label): vertex.depth for vertex in drawn.vertices} == depth
        if seed % 2 and len([vertex for vertex in drawn.vertices if vertex.root]) == 1:
            assert ranks(drawn) == longest(0, pairs)


def longest(start: int, pairs: set[tuple[int, int]]) -> int:
    return 1 + max((longest(b, pairs) for a, b in pairs if a == start), default=0)


def test_leading_to_is_what_walking_backwards_gives() -> None:
    for seed in range(200):
        count, pairs = some(seed, cyclic=True)
        whole = abstract(count, pairs)
        goal = whole.vertices[-1]
        kept = {int(vertex.label) for vertex in leading_to(whole, [goal]).vertices}
        assert kept == {each for each in range(count) if int(goal.label) in reach(each, pairs)}


def test_a_cycle_that_nothing_leads_to_has_one_root() -> None:
    drawn = finish(
        [Vertex(vertex_id(each), each, each, Role.LIBRARY) for each in "abc"],
        [Arrow(vertex_id(a), vertex_id(b), NEEDED, "path", Means.PATH, (b,)) for a, b in ("ab", "ba", "bc")],
        frozenset(),
    )
    roots = [vertex.label for vertex in drawn.vertices if vertex.root]
    assert len(roots) == 1
    assert roots[0] in "ab"


def test_colours_depend_on_names_without_hashes() -> None:
    """The next build of the same packages has the same colours, and no two store paths share one while there are others."""

    def coloured(digit: str) -> dict[str, int | None]:
        paths = [f"/s/{digit * 32}-package{number}-1.0" for number in range(10)]
        vertices = [
            Vertex(vertex_id(f"{path}/{each}"), f"{path}/{each}", each, Role.LIBRARY, None, path)
            for path in paths
            for each in "ab"
        ]
        return {place.name: place.colour for place in finish(vertices, [], frozenset()).store_paths}

    assert coloured("1") == coloured("2")
    assert len(set(coloured("1").values())) == 10


def test_ids_depend_on_paths_alone(store: Store) -> None:
    drawn = picture(store, world(store))
    assert {vertex.id for vertex in drawn.vertices} == {vertex_id(vertex.path) for vertex in drawn.vertices}
    assert len({os.fspath(vertex.path) for vertex in drawn.vertices}) == len(drawn.vertices)
