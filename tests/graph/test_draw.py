"""What is drawn: Graphviz reads it, Mermaid's strings hold nothing but text, JSON is as its schema says, whatever names hold."""

import html
import itertools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from graph.helpers import picture, world
from support.schema import check
from support.source import function, prints
from support.store import Store, patchelf

from nix_harden.graphing.draw import ALARM, FILLS, HUB, Size, Style, as_json, dot, entities, mermaid
from nix_harden.graphing.graph import choose, draw
from nix_harden.graphing.picture import COLOURS, finish, reduced, vertex_id
from nix_harden.graphing.values import Arrow, Means, Picture, Role, Vertex
from nix_harden.loading.graph import NEEDED
from nix_harden.saying.words import printable

HOSTILE = (
    'quote".so',
    "back\\slash.so",
    "\\",
    'both\\".so',
    "\\N \\G \\l \\n.so",
    "line\nbreak.so",
    "end]; evil [label=x",
    "<b>&amp;</b>&#38;.so",
    "--> n1; %% comment",
    "`mark` #quot; #35;",
    "end",
    "  spaces  ",
    "ünï.so",
    os.fsdecode(b"latin-\xff.so"),
    "\x1b[31mred",
)


def parsed(text: str) -> dict[str, Any]:
    """What Graphviz itself reads, laid out."""
    done = subprocess.run(["dot", "-Tjson"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"rror" not in done.stderr, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def texts(item: Any) -> str:
    """The text that Graphviz draws for a node or edge, its lines joined; what it read as text, not as escapes."""
    return "\n".join(each["text"] for each in item.get("_ldraw_", ()) if each["op"] == "T")


def named(*labels: str) -> Picture:
    """A root that needs each of these names, in store paths of these names."""
    vertices = [Vertex(vertex_id("/root"), "/root", "root", Role.PROGRAM, None, "/s")]
    arrows = []
    for label in labels:
        path = f"/s/{'0' * 32}-{label}"
        vertices += (
            Vertex(vertex_id(f"{path}/{each}"), f"{path}/{each}", label, Role.LIBRARY, label, path) for each in "ab"
        )
        arrows.append(
            Arrow(vertices[0].id, vertices[-1].id, NEEDED, "RUNPATH", Means.SEARCH, (label,), label, bare=True)
        )
    return finish(vertices, arrows, frozenset((vertices[0].id,)))


@pytest.mark.parametrize("style", [Style(), Style(cluster=True), Style(size=Size.FILE), Style(size=Size.CLOSURE)])
def test_graphviz_reads_every_vertex_and_edge(style: Style, store: Store) -> None:
    drawn = picture(store, world(store))
    read = parsed(dot(drawn, style))
    nodes = [each for each in read["objects"] if "nodes" not in each]
    assert {each["name"] for each in nodes} == {vertex.id for vertex in drawn.vertices}
    number = {each["_gvid"]: each["name"] for each in nodes}
    ends = sorted((number[each["tail"]], number[each["head"]]) for each in read["edges"])
    assert ends == sorted((arrow.source, arrow.target) for arrow in drawn.arrows)
    boxes = [each for each in read["objects"] if each["name"].startswith("cluster")]
    assert len(boxes) == (len(drawn.store_paths) if style.cluster else 0)
    for box in boxes:
        assert len({vertex.store_path for vertex in drawn.vertices if vertex.id in members(box, number)}) == 1


def members(box: Any, number: dict[int, str]) -> set[str]:
    return {number[each] for each in box["nodes"]}


@pytest.mark.parametrize("name", HOSTILE)
def test_graphviz_draws_names_as_they_are(name: str) -> None:
    """No name is an escape, an entity, a line or a statement of DOT; it is drawn as `printable` spells it."""
    drawn = named(name)
    for style in (Style(), Style(cluster=True)):
        read = parsed(dot(drawn, style))
        nodes = [each for each in read["objects"] if "nodes" not in each]
        assert len(nodes) == 3
        assert len(read["edges"]) == 1
        assert sorted(texts(each).strip() for each in nodes) == sorted(["root", *2 * [printable(name).strip()]])
        assert all(printable(name) in html_free(each["tooltip"]) for each in (*nodes[1:], *read["edges"]))


def html_free(escaped: str) -> str:
    """A tooltip as a viewer shows it: `\\\\` is one backslash there, and entities are characters."""
    return html.unescape(escaped.replace("\\\\", "\\"))


def test_marks_are_drawn(store: Store) -> None:
    """A missing name has dashes and says so, both files of one SONAME a double frame and their place, what needs the missing a red frame."""
    drawn = picture(store, world(store))
    nodes = {each["name"]: each for each in parsed(dot(drawn, Style()))["objects"]}
    for vertex in drawn.vertices:
        node = nodes[vertex.id]
        assert ("dashed" in node.get("style", "")) is (vertex.role is Role.MISSING)
        assert (node.get("peripheries") == "2") is vertex.twice
        assert (node["color"] == ALARM) is (vertex.role is Role.MISSING or vertex.twice or vertex.missing > 0)
        assert ("not found" in texts(node)) is (vertex.role is Role.MISSING)
        assert ("twice: press-1." in texts(node)) is vertex.twice


def test_bare_names_have_hollow_heads_and_paths_full_ones(store: Store) -> None:
    drawn = picture(store, world(store))
    hollow = [each.get("arrowhead") == "empty" for each in parsed(dot(drawn, Style()))["edges"]]
    assert sorted(hollow) == sorted("/" not in name for arrow in drawn.arrows for name in arrow.names)
    assert set(hollow) == {False, True}


def test_few_arrows_have_texts_and_many_a_legend_alone() -> None:
    assert {texts(each) for each in parsed(dot(named("a", "b"), Style()))["edges"]} == {"RUNPATH"}
    many = parsed(dot(named(*(f"l{number}" for number in range(70))), Style()))
    assert {texts(each) for each in many["edges"]} == {""}
    legend = "".join(each["text"] for each in many["_ldraw_"] if each["op"] == "T")
    assert "searched for: RUNPATH or RPATH (70)" in legend


def test_the_legend_names_what_has_a_colour(store: Store) -> None:
    """Each store path of several vertices is in it, and no other; so is what was left out."""
    drawn = picture(store, world(store))
    legend = [each["text"] for each in parsed(dot(drawn, Style()))["_ldraw_"] if each["op"] == "T"]
    coloured = {place.name for place in drawn.store_paths if place.colour is not None}
    assert coloured == {"glibc", "image"}
    assert coloured <= set(legend)
    assert not {place.name for place in drawn.store_paths if place.colour is None} & set(legend)
    assert len(FILLS) * 2 == COLOURS


def test_arrows_that_are_implied_are_not_drawn_but_counted(store: Store) -> None:
    drawn = reduced(picture(store, world(store)))
    assert drawn.implied > 0
    read = parsed(dot(drawn, Style()))
    assert len(read["edges"]) == len(drawn.arrows) - drawn.implied
    assert any(f"{drawn.implied} edge" in each.get("text", "") for each in read["_ldraw_"])
    assert mermaid(drawn, Style()).count("-->") + mermaid(drawn, Style()).count("-.->") == len(read["edges"])


def test_what_everything_needs_gets_pale_arrows() -> None:
    vertices = [Vertex(vertex_id(str(each)), str(each), str(each), Role.LIBRARY) for each in range(HUB + 1)]
    arrows = [Arrow(each.id, vertices[0].id, NEEDED, "path", Means.PATH, ("0",)) for each in vertices[1:]]
    for some, pale in ((arrows, True), (arrows[1:], False)):
        colours = {each["color"] for each in parsed(dot(finish(vertices, some, ()), Style()))["edges"]}
        assert all((len(colour) == len("#RRGGBBAA")) is pale for colour in colours)


def test_larger_is_drawn_larger(store: Store) -> None:
    drawn = picture(store, world(store))
    nodes = {each["name"]: each for each in parsed(dot(drawn, Style(size=Size.FILE)))["objects"]}
    there = [vertex for vertex in drawn.vertices if vertex.role is not Role.MISSING]
    by_size = sorted(there, key=lambda vertex: vertex.size)
    letters = [float(nodes[vertex.id]["fontsize"]) for vertex in by_size]
    assert letters == sorted(letters)
    assert letters[-1] > 2 * letters[0]
    assert by_size[-1].size == os.stat(by_size[-1].path).st_size
    assert all("iB" in texts(nodes[vertex.id]) for vertex in there)


def test_deep_pictures_go_down_and_others_to_the_right() -> None:
    def direction(count: int) -> str:
        vertices = [Vertex(vertex_id(str(each)), str(each), str(each), Role.LIBRARY) for each in range(count)]
        arrows = [Arrow(a.id, b.id, NEEDED, "path", Means.PATH, (b.label,)) for a, b in itertools.pairwise(vertices)]
        return str(parsed(dot(finish(vertices, arrows, ()), Style()))["rankdir"])

    assert direction(10) == "LR"
    assert direction(100) == "TB"


@pytest.mark.parametrize("name", HOSTILE)
def test_mermaid_strings_hold_nothing_but_text(name: str) -> None:
    """Every line has the form that the page on flowcharts gives, and the numbered characters spell the name."""
    lines = mermaid(named(name), Style(cluster=True)).splitlines()
    forms = (
        r"flowchart LR",
        r' +n[0-9a-f]{12}\["([^"`<>\\]|<br/>)*"\]',
        r' +subgraph s\d+\["[^"`<>\\]*"\]',
        r" +end",
        r'  n[0-9a-f]{12} (-->|-\.->)(\|"[^"`<>\\|]*"\|)? n[0-9a-f]{12}',
        r"  linkStyle [\d,]+ stroke:#[0-9A-F]{6}",
        r"  classDef c\d+ [-a-z:#,0-9A-F]+",
        r"  class [n0-9a-f,]+ c\d+",
    )
    assert [line for line in lines if not any(re.fullmatch(form, line) for form in forms)] == []
    assert re.sub(r"#(\d+);", lambda match: chr(int(match[1])), entities(printable(name))) == printable(name)
    assert sum(entities(printable(name)) + '"]' in line for line in lines) == 3


@pytest.mark.parametrize("name", HOSTILE)
def test_json_gives_names_back_byte_for_byte(name: str) -> None:
    value = check("graph", json.dumps(as_json(named(name))))
    assert [os.fsencode(node["soname"]) for node in value["nodes"][1:]] == 2 * [os.fsencode(name)]
    assert [list(map(os.fsencode, edge["names"])) for edge in value["edges"]] == [[os.fsencode(name)]]


def test_json_has_what_the_picture_has(store: Store) -> None:
    drawn = reduced(picture(store, world(store)))
    value = check("graph", draw(drawn, Style(), "json").decode())
    assert [node["id"] for node in value["nodes"]] == [vertex.id for vertex in drawn.vertices]
    assert [node["label"] for node in value["nodes"] if node["path"] is None] == ["libgone.so.3"]
    assert [edge["implied"] for edge in value["edges"]] == [arrow.implied for arrow in drawn.arrows]
    assert {edge["means"] for edge in value["edges"]} >= {"path", "search path", "SONAME match", "not found"}


def test_a_library_of_hostile_name_on_disk(store: Store) -> None:
    """From the linker to the drawing: a file and SONAME of quotes, backslashes, newlines and bytes that are no UTF-8."""
    soname = os.fsdecode(b'lib"x\\\n<&>\xff.so.1')
    package = store.package(os.fsdecode(b"odd"))
    made = package.library("libplain.so.1", function("plain", 1))
    odd = Path(made.parent, soname)
    program = store.package("app").program("app", prints("plain"), needs=[made])
    made.rename(odd)
    patchelf("--set-soname", soname, odd)
    patchelf("--replace-needed", made.name, soname, program)
    drawn = picture(store, program)
    read = parsed(dot(drawn, Style()))
    assert printable(soname) in {texts(each) for each in read["objects"]}
    value = check("graph", draw(drawn, Style(), "json").decode())
    assert os.fsencode(soname) in {os.fsencode(node["label"]) for node in value["nodes"]}
    svg = draw(drawn, Style(), "svg")
    assert svg.startswith(b"<?xml")
    assert b"<&>" not in svg


def test_two_runs_give_the_same_bytes(store: Store) -> None:
    program = world(store)
    for form in ("dot", "svg", "png", "mermaid", "json"):
        first, second = (draw(choose(picture(store, program)), Style(), form) for _ in range(2))
        assert first == second
