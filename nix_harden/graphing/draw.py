"""A picture as text: DOT for Graphviz, Mermaid, and JSON; pure, and what a name holds is never taken for syntax."""

import enum
import html
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nix_harden.graphing.picture import ranks, tagged
from nix_harden.graphing.values import Arrow, Means, Picture, Role, StorePath, Vertex
from nix_harden.loading.graph import AUXILIARY, DLOPEN, FILTER
from nix_harden.saying.words import count, human, printable

# Paul Tol's "light" scheme: fills that the colour-blind tell apart and on which black is read (https://personal.sron.nl/~pault/).
FILLS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00")
ALONE = "#F0F0F0"  # a store path of one library needs no colour to be told apart
INK, ALARM = "#222222", "#B40000"
PALE = "50"  # of 255, how little a pale line covers
MERMAID_EDGES = 500  # maxEdges of its configuration
HUB = 20  # arrows into what so many lead to, as to the C library, are drawn pale
MOST_COLUMNS = 40  # of names beside each other; more are drawn below each other, where a name takes less room
MANY_ARROWS = 1500  # more are laid out with less care, in a quarter of the time
FEW_ARROWS = 60  # so many can each bear a text

# Okabe and Ito's colours, each with a line of its own, so that neither needs the other.
LINES: Mapping[Means, tuple[str, str, str]] = {
    Means.PATH: ("#0072B2", "solid", "by its path: bound"),
    Means.LOADED: ("#56B4E9", "dashed", "by the SONAME of what is loaded"),
    Means.SEARCH: ("#E69F00", "solid", "searched for: RUNPATH or RPATH"),
    Means.SYSTEM: ("#CC79A7", "bold", "searched for: cache, default directory"),
    Means.DLOPEN: ("#009E73", "dotted", "by dlopen, later"),
    Means.REFERENCE: ("#666666", "solid", "by a path in a file"),
    Means.MISSING: (ALARM, "bold", "not found"),
}
SAMPLES = {"solid": "━━━▶", "bold": "━━━▶", "dashed": "╍╍╍▶", "dotted": "┄┄┄▶"}


class Size(enum.Enum):
    """What the size of a vertex tells."""

    FILE = "file"
    CLOSURE = "closure"


@dataclass(frozen=True, slots=True)
class Style:
    """How to draw: boxes around store paths, what sizes tell, where None draws all alike, and whether to say what means what."""

    cluster: bool = False
    size: Size | None = None
    legend: bool = True


def measured(vertex: Vertex, size: Size) -> int:
    return vertex.size if size is Size.FILE else vertex.closure


def lines(vertex: Vertex, style: Style) -> Iterator[str]:
    """The lines of text in a vertex."""
    yield printable(vertex.label)
    if vertex.role is Role.MISSING:
        yield "not found"
    if vertex.twice:
        yield f"twice: {printable(tagged(vertex.store_path))}"
    if style.size is not None and vertex.role is not Role.MISSING:
        yield human(measured(vertex, style.size))
    if vertex.below:
        yield f"{vertex.below} more below"


def hint(vertex: Vertex) -> str:
    """What there is to say of a vertex beside its lines, as a viewer shows when it is pointed at."""
    words = [printable(vertex.path), vertex.role.value]
    if vertex.role is not Role.MISSING:
        words.append(f"{human(vertex.size)}, with all that it loads {human(vertex.closure)}")
    if vertex.bare:
        words.append(count(vertex.bare, "bare name", "bare names"))
    if vertex.missing:
        words.append(f"{count(vertex.missing, 'name', 'names')} not found")
    if vertex.module is not None:
        words.append(
            f"prelinked: its module {printable(vertex.module)} answers names before they are searched for, while it fits"
        )
    return "; ".join(words)


def how(arrow: Arrow) -> str:
    """The few words on an arrow."""
    words = arrow.means.value if arrow.means is Means.LOADED else arrow.how
    if arrow.how == "already loaded under this name" and arrow.means is Means.PATH:
        words = "path"
    return {DLOPEN: "dlopen: ", FILTER: "filter: ", AUXILIARY: "auxiliary: "}.get(arrow.tag, "") + words


def legend(drawn: Picture) -> Iterator[tuple[Means, int]]:
    """Each kind of arrow that is in the picture, with how many there are, left out or not."""
    numbers = Counter(arrow.means for arrow in drawn.arrows)
    for means in LINES:
        if numbers[means]:
            yield means, numbers[means]


def fill(place: StorePath | None) -> str:
    """The colour of what lies in a store path."""
    return ALONE if place is None or place.colour is None else FILLS[place.colour % len(FILLS)]


def gradient(place: StorePath | None) -> str:
    """The same for Graphviz, where it fades to white for the second store path of a colour."""
    faded = place is not None and place.colour is not None and place.colour >= len(FILLS)
    return fill(place) + (":#FFFFFF" if faded else "")


def said(whole: Picture, shown: Picture, form: str) -> Iterator[str]:
    """What people want to know of a picture that they do not see in it."""
    yield from (f"warning: {remark}" for remark in shown.remarks)
    words = f"{count(len(shown.vertices), 'node', 'nodes')} and {count(len(shown.arrows), 'edge', 'edges')}"
    if len(shown.vertices) < len(whole.vertices):
        words += f" of {len(whole.vertices)} and {len(whole.arrows)}"
    if shown.implied and form != "json":
        words += f"; {shown.implied} edges are not drawn, as longer ways imply them: --all-edges draws them"
    yield words
    drawn = len(shown.arrows) - shown.implied
    if form == "mermaid" and drawn > MERMAID_EDGES:
        yield f"warning: Mermaid draws {MERMAID_EDGES} edges unless its maxEdges allows {drawn}; --depth and --why make fewer"


# DOT


def dot(drawn: Picture, style: Style) -> str:
    """The picture for Graphviz (the language: https://graphviz.org/doc/info/lang.html)."""
    return "\n".join(_dot(drawn, style)) + "\n"


def _dot(drawn: Picture, style: Style) -> Iterator[str]:
    colours = {each.path: each for each in drawn.store_paths}
    shown = [arrow for arrow in drawn.arrows if not arrow.implied]
    yield "digraph closure {"
    towards = Counter(arrow.target for arrow in shown)
    pale = any(number >= HUB for number in towards.values())
    large, deep = len(shown) > FEW_ARROWS, ranks(drawn) > MOST_COLUMNS
    quick = " nslimit=1, mclimit=0.3," if len(shown) > MANY_ARROWS else ""
    yield f'  graph [rankdir={"TB" if deep else "LR"}, ranksep="{0.3 if deep else 1.2 if large else 0.8}", nodesep="0.08", fontname="Helvetica", fontsize={24 if large else 12}, labelloc=t, labeljust=l, newrank=true,{quick}'
    yield f"    label=<{_dot_legend(drawn, pale)}>];" if style.legend else "  ];"
    yield f'  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=12, height="0.28", margin="0.09,0.03", color="{INK}", penwidth="0.6"];'
    yield '  edge [fontname="Helvetica", fontsize=9, arrowsize="0.6"];'
    largest = max((measured(vertex, style.size) for vertex in drawn.vertices), default=0) if style.size else 0
    for vertex in drawn.vertices if not style.cluster else ():
        yield "  " + _dot_vertex(vertex, style, colours, largest)
    for number, place in enumerate(drawn.store_paths if style.cluster else ()):
        yield f'  subgraph cluster_{number} {{ graph [label={quoted(printable(place.name))}, tooltip={quoted(printable(place.path))}, style="rounded", color="#888888", fontsize=12];'
        for vertex in drawn.vertices:
            if vertex.store_path == place.path:
                yield "    " + _dot_vertex(vertex, style, colours, largest)
        yield "  }"
    for vertex in drawn.vertices if style.cluster else ():
        if not vertex.store_path:
            yield "  " + _dot_vertex(vertex, style, colours, largest)
    roots = [vertex.id for vertex in drawn.vertices if vertex.root]
    if len(roots) > 1:
        yield f"  {{ rank=source; {'; '.join(roots)}; }}"
    for arrow in shown:
        yield "  " + _dot_arrow(arrow, not large, towards[arrow.target] >= HUB)
    yield "}"


def _dot_vertex(vertex: Vertex, style: Style, colours: Mapping[str, StorePath], largest: int) -> str:
    words = {
        "id": quoted(vertex.id),
        "label": quoted(*lines(vertex, style)),
        "tooltip": quoted(hint(vertex)),
        "fillcolor": quoted(gradient(colours.get(vertex.store_path))),
    }
    if vertex.root:
        words |= {"fontname": '"Helvetica-Bold"', "penwidth": '"2"'}
    if vertex.role is Role.MISSING:
        words |= {
            "style": '"filled,dashed"',
            "fillcolor": '"#FFFFFF"',
            "color": quoted(ALARM),
            "fontcolor": quoted(ALARM),
            "penwidth": '"2"',
        }
    elif vertex.twice or vertex.missing:
        words |= {"color": quoted(ALARM), "penwidth": '"2.5"'}
    if vertex.twice:
        words |= {"peripheries": "2"}
    if style.size is not None and largest:
        share = (measured(vertex, style.size) / largest) ** 0.5
        words |= {"fontsize": f'"{10 + 30 * share:.1f}"'}
    return f"{vertex.id} [{', '.join(f'{name}={value}' for name, value in words.items())}];"


def _dot_arrow(arrow: Arrow, labelled: bool, pale: bool) -> str:
    colour, line, _ = LINES[arrow.means]
    words = {
        "color": quoted(colour + PALE if pale else colour),
        "style": quoted(line),
        "tooltip": quoted(_hint_of(arrow)),
    }
    if labelled:
        words |= {"label": quoted(how(arrow)), "fontcolor": quoted(colour)}
    if arrow.bare:
        words |= {"arrowhead": "empty"}
    return f"{arrow.source} -> {arrow.target} [{', '.join(f'{name}={value}' for name, value in words.items())}];"


def _hint_of(arrow: Arrow) -> str:
    via = f": {printable(arrow.via)}" if arrow.via else ""
    return f"{', '.join(map(printable, arrow.names))} ({how(arrow)}{via})"


def _dot_legend(drawn: Picture, pale: bool) -> str:
    rows = []
    for means, number in legend(drawn):
        colour, line, words = LINES[means]
        rows.append((f'<font color="{colour}">{SAMPLES[line]}</font>', f"{words} ({number})"))
    if any(arrow.bare for arrow in drawn.arrows):
        rows.append(("──▷", "a bare name; ──▶ a path"))
    if pale:
        rows.append((f'<font color="{INK}{PALE}">━━━▶</font>', f"pale: to what {HUB} or more lead to"))
    if drawn.implied:
        rows.append(("", f"{count(drawn.implied, 'edge', 'edges')} left out: longer ways imply them"))
    for kind, words in marks(drawn):
        rows.append((f'<font color="{ALARM}">{kind}</font>', words))
    cells = [f'<td align="left">{sample}</td><td align="left">{html.escape(words)}</td>' for sample, words in rows]
    cells += (
        f'<td bgcolor="{gradient(place)}"> </td><td align="left">{html.escape(printable(place.name))}</td>'
        for place in drawn.store_paths
        if place.colour is not None
    )
    body = "".join(f"<tr>{cell}</tr>" for cell in cells) or "<tr><td> </td></tr>"
    return f'<table border="0" cellspacing="2" cellpadding="1">{body}</table>'


def marks(drawn: Picture) -> Iterator[tuple[str, str]]:
    """The red frames that are in a picture, each with a sign for it and its meaning."""
    if any(vertex.missing for vertex in drawn.vertices):
        yield "▢", "needs what is not found"
    if any(vertex.twice for vertex in drawn.vertices):
        yield "▣", "twice: files of one SONAME in one program"


def quoted(*text: str) -> str:
    """Lines of printable text as a DOT string whose escapes and entities all stand for themselves."""
    escaped = (
        line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("<", "&lt;").replace(">", "&gt;")
        for line in text
    )
    return '"' + "\\n".join(escaped) + '"'


# Mermaid


def mermaid(drawn: Picture, style: Style) -> str:
    """The picture as a Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html)."""
    return "\n".join(_mermaid(drawn, style)) + "\n"


def _mermaid(drawn: Picture, style: Style) -> Iterator[str]:
    yield "flowchart LR"
    groups = drawn.store_paths if style.cluster else ()
    for number, place in enumerate(groups):
        yield f'  subgraph s{number}["{entities(printable(place.name))}"]'
        yield from (
            f"    {_mermaid_vertex(vertex, style)}" for vertex in drawn.vertices if vertex.store_path == place.path
        )
        yield "  end"
    for vertex in drawn.vertices:
        if not groups or not vertex.store_path:
            yield f"  {_mermaid_vertex(vertex, style)}"
    shown = [arrow for arrow in drawn.arrows if not arrow.implied]
    for arrow in shown:
        line = "-.->" if LINES[arrow.means][1] in ("dashed", "dotted") else "-->"
        label = f'|"{entities(how(arrow))}"|' if len(shown) <= FEW_ARROWS else ""
        yield f"  {arrow.source} {line}{label} {arrow.target}"
    for means, _ in legend(drawn):
        places = [str(number) for number, arrow in enumerate(shown) if arrow.means is means]
        if places:
            yield f"  linkStyle {','.join(places)} stroke:{LINES[means][0]}"
    yield from _mermaid_classes(drawn)


def _mermaid_vertex(vertex: Vertex, style: Style) -> str:
    return f'{vertex.id}["{"<br/>".join(map(entities, lines(vertex, style)))}"]'


def _mermaid_classes(drawn: Picture) -> Iterator[str]:
    colours = {each.path: each for each in drawn.store_paths}
    classes: dict[str, list[str]] = {}
    for vertex in drawn.vertices:
        edge = ALARM if vertex.role is Role.MISSING or vertex.twice or vertex.missing else INK
        width = 3 if vertex.root or edge == ALARM else 1
        dashes = ",stroke-dasharray:4" if vertex.role is Role.MISSING else ""
        look = f"fill:{fill(colours.get(vertex.store_path))},stroke:{edge},stroke-width:{width}px,color:{INK}{dashes}"
        classes.setdefault(look, []).append(vertex.id)
    for number, (look, ids) in enumerate(classes.items()):
        yield f"  classDef c{number} {look}"
        yield f"  class {','.join(ids)} c{number}"


def entities(text: str) -> str:
    """Text for a quoted Mermaid string: what it might take for syntax or HTML stands as numbered characters."""
    return "".join(each if each.isalnum() or each in " ./+-_:,=()" else f"#{ord(each)};" for each in text)


# JSON


def as_json(drawn: Picture) -> dict[str, Any]:
    """All of the picture, as schemas/graph.json says; arrows that drawings leave out are in it."""
    return {
        "version": 1,
        "nodes": [_json_vertex(vertex) for vertex in drawn.vertices],
        "edges": [_json_arrow(arrow) for arrow in drawn.arrows],
        "store_paths": [
            {
                "path": place.path,
                "name": place.name,
                "colour": None if place.colour is None else FILLS[place.colour % len(FILLS)],
            }
            for place in drawn.store_paths
        ],
        "remarks": list(drawn.remarks),
    }


def _json_vertex(vertex: Vertex) -> dict[str, Any]:
    missing = vertex.role is Role.MISSING
    return {
        "id": vertex.id,
        "kind": vertex.role.value,
        "label": vertex.label,
        "path": None if missing else vertex.path,
        "soname": vertex.soname,
        "store_path": vertex.store_path or None,
        "size": None if missing else vertex.size,
        "closure_size": None if missing else vertex.closure,
        "depth": vertex.depth,
        "root": vertex.root,
        "bare_names": vertex.bare,
        "missing_names": vertex.missing,
        "duplicate": vertex.twice,
        "module": vertex.module,
        "left_out_below": vertex.below,
    }


def _json_arrow(arrow: Arrow) -> dict[str, Any]:
    return {
        "source": arrow.source,
        "target": arrow.target,
        "tag": arrow.tag,
        "names": list(arrow.names),
        "found_by": arrow.how,
        "via": arrow.via or None,
        "means": arrow.means.value,
        "bare": arrow.bare,
        "implied": arrow.implied,
    }
