"""Draw what a trace showed as an SVG for people who would rather look; geometry is decided here, and the template draws."""

import os
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nix_harden.saying.templates import fill
from nix_harden.saying.words import printable
from nix_harden.tracing.seen import PRELOAD, Traced, by_directory, by_parent
from nix_harden.tracing.traced import milliseconds, side_by_side

TEMPLATES = Path(__file__).with_name("pictures")
TEMPLATE = "trace.svg.j2"
WIDTH, MARGIN = 880, 28
LABELS = 300  # the column of names, left of the bars
ROOM = 130  # for the figure at the end of a bar
MOST_ROWS = 10
LONGEST_LABEL = 46
BAR, ROW, GAP = 11, 34, 26
STRIP = 26
SLICE = 4  # pixels of a strip that are one column
LEAST = 0.05  # pixels that can be seen
KINDS = ("failed", "call", "relocation", "constructors")
STORE_PATH = re.compile(r".*/[0-9a-z]{32}-")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from x, `width` wide, and the words after it; `low` and `high` are the ends of its spread."""

    y: float
    width: float
    words: str
    style: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its bars, one a program."""

    y: float
    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """A titled part of the picture, with `lines`, or with `strips`: a path of SVG for each kind of time, by program."""

    y: float
    title: str
    note: str
    lines: tuple[Line, ...] = ()
    strips: tuple[tuple[Line, tuple[tuple[str, str], ...]], ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    bottom: float = 0.0


def draw(found: Sequence[Traced]) -> str:
    """The picture of one program, or of two to compare, as an SVG document. Raises ToolError where the template is missing."""
    panels = tuple(_panels(found))
    values = {
        "title": _title(found),
        "panels": panels,
        "pair": len(found) == 2,
        "width": WIDTH,
        "height": panels[-1].bottom + MARGIN,
        "margin": MARGIN,
        "left": MARGIN + LABELS,
        "strip": STRIP,
    }
    return fill(TEMPLATES / TEMPLATE, values, "trace")


def _title(found: Sequence[Traced]) -> str:
    names = list(dict.fromkeys(printable(os.path.basename(each.subject.program)) for each in found))
    libraries = " and ".join(str(each) for each in dict.fromkeys(len(each.libraries) for each in found))
    return f"How {' and '.join(names)} begins, with {libraries} libraries"


def _panels(found: Sequence[Traced]) -> Iterator[Panel]:
    y = 104.0
    for make in (_times, _delays, _strips, _directories, _names, _opened, _own):
        panel = make(found, y)
        if panel is not None:
            yield panel
            y = panel.bottom + 30


def _times(found: Sequence[Traced], y: float) -> Panel:
    """Bars of the median time."""
    note = f"median of {len(found[0].times)} starts that nothing slows; the thin line is the middle half of them"
    most = max(_quartiles(each.times)[1] for each in found)
    bars = []
    for place, each in enumerate(found):
        low, high = _quartiles(each.times)
        at = y + GAP + place * (BAR + 6)
        bars.append(
            Bar(
                at,
                _scale(each.seconds, most),
                milliseconds(each.seconds),
                _style(place, found),
                _scale(low, most),
                _scale(high, most),
            )
        )
    line = Line(y + GAP, "time", tuple(bars))
    return Panel(y, "Time to the program's first instruction", note, (line,), bottom=bars[-1].y + BAR)


def _quartiles(times: Sequence[float]) -> tuple[float, float]:
    first, _, third = statistics.quantiles(times, n=4, method="inclusive")
    return first, third


def _delays(found: Sequence[Traced], y: float) -> Panel | None:
    delays = [each.delayed for each in found if each.delayed is not None]
    if not delays:
        return None
    title = f"The same with {milliseconds(delays[0].delay)} more for each failed lookup"
    most = max(each.seconds for each in delays)
    bars = tuple(
        Bar(
            y + GAP + place * (BAR + 6),
            _scale(each.seconds, most),
            f"{milliseconds(each.seconds)}, {each.calls:,} delayed",
            _style(place, found),
        )
        for place, each in enumerate(delays)
    )
    note = "one start under strace, which delays them, as a store on a network would"
    return Panel(y, title, note, (Line(y + GAP, "time", bars),), bottom=bars[-1].y + BAR)


def _strips(found: Sequence[Traced], y: float) -> Panel:
    """What each start spends its time on, on one scale."""
    longest = max((each.end - each.begin for each in found), default=0.0) or 1.0
    width = WIDTH - 2 * MARGIN
    strips, at = [], y + 8
    for place, each in enumerate(found):
        words = "before" if len(found) == 2 and not place else "after" if place else ""
        failed = f"{each.failed_lookups:,} failed lookups, {len(each.calls):,} system calls"
        name = f"{words}: {failed}" if words else failed
        strips.append((Line(at + 18, name, ()), tuple(_paths(each, at + 26, width / longest))))
        at += STRIP + 28
    ticks = tuple((width * part / 4, milliseconds(longest * part / 4)) for part in range(5))
    title = "What the start is made of, as strace sees it"
    return Panel(y, title, "strace makes each system call longer", (), tuple(strips), ticks, at + 26)


def _paths(traced: Traced, y: float, scale: float) -> Iterator[tuple[str, str]]:
    """For each kind of time a path: columns of SLICE pixels, stacked by what they are made of."""
    columns: dict[int, dict[str, float]] = {}
    for begin, end, kind in spans(traced):
        low, high = (begin - traced.begin) * scale / SLICE, (end - traced.begin) * scale / SLICE
        for column in range(int(low), int(high) + 1):
            part = min(high, column + 1) - max(low, column)
            columns.setdefault(column, dict.fromkeys(KINDS, 0.0))[kind] += max(part, 0.0) * STRIP
    for place, kind in enumerate(KINDS):
        pieces = []
        for column, heights in sorted(columns.items()):
            top = y + STRIP - sum(heights[other] for other in KINDS[: place + 1])
            if heights[kind] >= LEAST:
                pieces.append(f"M{MARGIN + column * SLICE} {top:.1f}h{SLICE}v{heights[kind]:.1f}h-{SLICE}z")
        yield kind, "".join(pieces)


def spans(traced: Traced) -> Iterator[tuple[float, float, str]]:
    """The time of a start under strace in pieces, each with its kind and without gaps between them.

    strace says when a call begins, and until the next begins it is counted for that call. But before an mprotect, and at the end of its
    work, a loader has relocated an object: what is longer there than the middle one of all calls is relocation.
    """
    if not traced.calls and not traced.later:
        yield traced.begin, traced.end, "call"
        return
    calls = [*traced.calls, *traced.later]
    ends = [*(call.at for call in calls[1:]), traced.end]
    usual = statistics.median(end - call.at for call, end in zip(calls, ends, strict=True))
    yield traced.begin, calls[0].at, "call"
    for place, (call, end) in enumerate(zip(calls, ends, strict=True)):
        if place >= len(traced.calls):
            yield call.at, end, "constructors"
            continue
        relocates = place + 1 == len(traced.calls) or calls[place + 1].name == "mprotect"
        middle = min(end, call.at + usual) if relocates else end
        yield call.at, middle, "failed" if call.is_failed_lookup and call.path not in PRELOAD else "call"
        yield middle, end, "relocation"


def _directories(found: Sequence[Traced], y: float) -> Panel | None:
    return _table(found, y, "Lookups that failed, by directory", side_by_side(found, lambda each: each.by_directory))


def _names(found: Sequence[Traced], y: float) -> Panel | None:
    return _table(found, y, "Files that were not there, by name", side_by_side(found, lambda each: each.by_name))


def _opened(found: Sequence[Traced], y: float) -> Panel | None:
    numbers = side_by_side(found, lambda each: by_directory(each.whole.opened) if each.whole else {})
    return _table(found, y, "After the start: lookups of dlopen that failed, by directory", numbers)


def _own(found: Sequence[Traced], y: float) -> Panel | None:
    numbers = side_by_side(found, lambda each: by_parent(each.whole.own) if each.whole else {})
    return _table(found, y, "After the start: lookups of the program itself that failed, by directory", numbers)


def _table(found: Sequence[Traced], y: float, title: str, table: Sequence[tuple[str, tuple[int, ...]]]) -> Panel | None:
    """Bars of the rows with the highest numbers, and the sum of the rest."""
    if not table:
        return None
    shown, rest = table[:MOST_ROWS], table[MOST_ROWS:]
    most = max(max(numbers) for _, numbers in shown)
    height = len(found) * (BAR + 2) + 8
    lines = []
    for row, (name, numbers) in enumerate(shown):
        at = y + GAP + row * height
        bars = tuple(
            Bar(at + place * (BAR + 2), _scale(number, most), f"{number:,}", _style(place, found))
            for place, number in enumerate(numbers)
        )
        lines.append(Line(at + len(found) * (BAR + 2) / 2 + 3, short(name), bars))
    bottom = y + GAP + len(shown) * height
    if rest:
        sums = (f"{sum(numbers[place] for _, numbers in rest):,}" for place in range(len(found)))
        lines.append(Line(bottom + 8, f"and {len(rest)} more: {' → '.join(sums)}", ()))
        bottom += 12
    return Panel(y, title, "", tuple(lines), bottom=bottom)


def _scale(value: float, most: float) -> float:
    return round((WIDTH - 2 * MARGIN - LABELS - ROOM) * value / (most or 1), 1)


def _style(place: int, found: Sequence[Traced]) -> str:
    return ("before", "after")[place] if len(found) == 2 else "one"


def short(directory: str) -> str:
    """A directory without its store and hash, and no longer than its column."""
    words = printable(STORE_PATH.sub("", directory))
    return words if len(words) <= LONGEST_LABEL else f"…{words[-LONGEST_LABEL + 1 :]}"
