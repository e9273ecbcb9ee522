"""An SVG as Graphviz writes it, as an element of a page: what draws is taken over, by name, and nothing else is."""

import re
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://www.w3.org/1999/xlink}title"
TAGS = frozenset("svg g title path polygon polyline ellipse text defs linearGradient radialGradient stop".split())
ATTRIBUTES = frozenset(
    (
        "id class transform viewBox d points x y cx cy rx ry x1 y1 x2 y2 r fx fy offset gradientUnits fill fill-opacity stroke stroke-width "
        "stroke-dasharray stroke-opacity text-anchor font-family font-size font-weight font-style textLength stop-color stop-opacity"
    ).split()
)
DECLARATION = re.compile(r"(stop-color|stop-opacity): *([^;]+)")


def element(svg: str) -> str:
    """The svg element, without size, links and style attributes, which a page's content security policy refuses.

    What a viewer would show of a link when it is pointed at becomes a title. Raises ElementTree.ParseError for what is no XML.
    """
    made = _copy(ElementTree.fromstring(svg))
    assert made is not None
    return ElementTree.tostring(made, encoding="unicode")


def _copy(given: ElementTree.Element) -> ElementTree.Element | None:
    name = given.tag.removeprefix(SVG)
    link = name == "a"
    if not link and name not in TAGS:
        return None
    made = ElementTree.Element("g" if link else name)
    made.attrib |= {key: value for key, value in given.attrib.items() if key in ATTRIBUTES}
    made.attrib |= dict(DECLARATION.findall(given.get("style", "")))
    made.text = given.text
    if link and (words := given.get(TITLE)):
        ElementTree.SubElement(made, "title").text = words
    for child in given:
        if (copied := _copy(child)) is not None:
            made.append(copied)
    return made
