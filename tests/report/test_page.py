"""The page is one file that asks for nothing, and nothing in a name becomes a part of it."""

import base64
import hashlib
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report.conftest import World, held
from support.browser import Browser
from support.source import function, prints
from support.store import Store

from nix_harden.errors import NotDrawn
from nix_harden.graphing.values import Picture, Role, Vertex
from nix_harden.reporting import embed
from nix_harden.reporting.survey import MOST_DRAWN, drawn
from nix_harden.saying.words import human

# What a name must be able to hold: ends of elements, an event handler, entities, JSON and template syntax, text that is turned around.
HOSTILE = (
    "<script>document.title='owned'<!--.so",
    "<img src=x onerror=document.title='owned'>.so",
    '"}];alert(1)<!--{{ 7*7 }}{% raw %}&lt;&amp;.so',
    "\u202egpj.so.1",
    "line\nbreak\ttab\x1b[31m.so",
    os.fsdecode(b"no-utf-8-\xff\xfe.so"),
    "\u2028\u2029]]>.so",
)


# A NEEDED may hold what no file name can.
END = "</script></style></title></svg><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, glibc_template: Path) -> tuple[Store, Path, Path]:
    """A program that needs a library of each such name, whose page is in a file; one of them is not there."""
    top = tmp_path_factory.mktemp("hostile")
    store = Store.create(top / "store", glibc_template)
    package = store.package("hostile")
    libraries = [package.library("gone<b>.so", function("gone", 1))]
    for number, name in enumerate(HOSTILE):
        libraries.append(package.library(name, function(f"f{number}", number)))
    libraries.append(package.library("end.so", function("end", 1), soname=END))
    program = package.program("<h1>app", prints("gone"), needs=libraries)
    libraries[0].unlink()
    page = top / "page.html"
    store.call("report", package.path, "-o", page)
    return store, program, page


def test_only_its_own_style_and_script_are_in_it(world: World) -> None:
    """Two hashes allow them, and no address is named that could be asked for anything."""
    text = world.page.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for element in ("style", "script"):
        inner = re.search(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert inner is not None
        digest = base64.b64encode(hashlib.sha256(inner[1].encode()).digest()).decode()
        assert f"{element}-src &#39;sha256-{digest}&#39;" in policy[1]
    assert "default-src &#39;none&#39;" in policy[1]
    assert re.findall(r'(?:src|href|action|srcset)="(?!#|data:,)[^"]*"', text) == []
    assert re.findall(r"url\((?!#)|@import|\bstyle=|\bon\w+=", text) == []


def test_names_are_text_and_nothing_else(hostile: tuple[Store, Path, Path], chromium: Browser) -> None:
    """A browser finds no element, no handler and no script that a name has made, and shows each name."""
    _, program, path = hostile
    page = chromium.open(f"file://{path}")
    try:
        assert page.problems == []
        assert page.requests == [f"file://{path}"]
        assert page.evaluate("document.title") != "owned"
        assert page.evaluate("document.scripts.length") == 2
        assert page.evaluate("document.querySelectorAll('img, iframe, h1 h1, b b, [onerror]').length") == 0
        shown = "\n".join(page.texts("#objects-table tbody th"))
        assert program.name in shown
        assert HOSTILE[1] in shown
        assert HOSTILE[2] in shown
        assert "\\u202egpj.so.1" in shown
        assert "no-utf-8-\\udcff\\udcfe.so" in shown
        assert END in "\n".join(page.texts("#names-table tbody td"))
        page.click("#objects-table tbody button", 1)
        assert page.texts("#inspector h3") != []
    finally:
        page.close()


def test_json_in_the_page_survives_every_name(hostile: tuple[Store, Path, Path]) -> None:
    _, _, path = hostile
    found = {os.path.basename(each["path"]) for each in held(path)["objects"]}
    assert set(HOSTILE) <= found
    assert END in {each["name"] for each in held(path)["names"]}


def test_no_part_of_a_picture_but_what_draws() -> None:
    """What another Graphviz, or a name, might put into an SVG stays out of the page."""
    given = """<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt"
        onload="alert(1)"><script>alert(1)</script><image href="http://example.org/"/><foreignObject><b>x</b></foreignObject>
        <a xlink:href="javascript:alert(1)" xlink:title="&lt;b&gt;"><text onclick="alert(1)" style="fill:red">&lt;i&gt;</text></a>
        <stop style="stop-color:#fff;stop-opacity:1.;"/></svg>"""
    found = ElementTree.fromstring(embed.element(given))
    assert [each.tag for each in found.iter()] == ["svg", "g", "title", "text", "stop"]
    assert found.attrib == found[0].attrib == found[0][1].attrib == {}
    assert found[1].attrib == {"stop-color": "#fff", "stop-opacity": "1."}
    assert "&lt;i&gt;" in embed.element(given)


def test_a_picture_has_an_end() -> None:
    """Of more files than anybody finds anything in, there is none, and a sentence says what draws a part."""
    vertices = tuple(Vertex(f"n{number}", f"/{number}", str(number), Role.LIBRARY) for number in range(MOST_DRAWN + 1))
    with pytest.raises(NotDrawn, match=r"1001 files: they are more than a picture shows; .*--depth"):
        drawn(Picture(vertices, (), ()))


def test_sizes_are_said_alike_in_python_and_in_the_page(world: World, chromium: Browser) -> None:
    page = chromium.open(f"file://{world.page}")
    try:
        total = sum(each["bytes"] for each in world.values["objects"])
        assert human(total) in page.text("#summary .tiles")
        (size,) = {row["bytes"] for row in world.values["roots"] if row["path"] == str(world.plain)}
        assert human(size) in page.text("#roots-table")
    finally:
        page.close()
