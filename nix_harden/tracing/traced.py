"""What a trace showed, as a table for people and as JSON; decides nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from nix_harden.saying.words import count, printable
from nix_harden.tracing.seen import Traced, Whole, by_directory, by_parent, failures, mapped
from nix_harden.tracing.strace import Call

if TYPE_CHECKING:
    from rich.table import Table

INSTRUCTIONS = (
    ("instructions of the loader", "total"),
    ("  of them symbol lookup", "lookup"),
    ("  of them relocation", "relocation"),
)
TABLES: tuple[tuple[str, Callable[[Traced], Mapping[str, int]]], ...] = (
    ("lookups that failed, by directory", lambda each: each.by_directory),
    ("files that were not there, by name", lambda each: each.by_name),
    ("libraries that were opened after the start", lambda each: dict.fromkeys(mapped(_opened(each)), 1)),
    ("lookups that failed after the start, of dlopen", lambda each: by_directory(_opened(each))),
    ("lookups that failed after the start, of the program itself", lambda each: by_parent(_own(each))),
)
MOST_ROWS = 12
WIDE = 160  # columns of what is no terminal


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of each program: `values` as words, and the ratio of the last to the first where it says something."""

    name: str
    values: tuple[str, ...]
    ratio: str = ""


def rows(found: Sequence[Traced]) -> Iterator[Row]:
    """The figures of one program, or of two to compare."""
    yield _numbers("libraries mapped", found, lambda each: len(each.libraries))
    yield _numbers("lookups that failed", found, lambda each: each.failed_lookups)
    yield _numbers("  of them openat or open", found, lambda each: each.failed_opens)
    yield _numbers("system calls of the loader", found, lambda each: len(each.calls))
    yield _numbers("  of them mmap", found, lambda each: each.by_call.get("mmap", 0) + each.by_call.get("mmap2", 0))
    yield _numbers("system calls of constructors", found, lambda each: len(each.later))
    yield Row("time to the first instruction", tuple(map(_time, found)), ratio(*(each.seconds for each in found)))
    busy = [each.processor_seconds for each in found]
    known = [each for each in busy if each is not None]
    yield Row(
        "  of it on a processor", tuple("—" if each is None else milliseconds(each) for each in busy), ratio(*known)
    )
    slow = [each.delayed for each in found if each.delayed is not None]
    if slow:
        yield Row(
            f"time with {milliseconds(slow[0].delay)} more a failed lookup",
            tuple(milliseconds(each.seconds) for each in slow),
            ratio(*(each.seconds for each in slow)),
        )
    yield Row("the loader's time: finding and mapping files", tuple(_share(each, "loading") for each in found))
    yield Row("the loader's time: symbol lookup and relocation", tuple(_share(each, "relocating") for each in found))
    yield Row("relocations that look up a symbol", tuple(_relocations(each) for each in found))
    if any(each.instructions for each in found):
        for name, field in INSTRUCTIONS:
            numbers = [getattr(each.instructions, field) for each in found if each.instructions]
            words = (
                f"{getattr(each.instructions, field) / 1e6:,.1f} M" if each.instructions else "—" for each in found
            )
            yield Row(name, tuple(words), ratio(*numbers))
    if any(each.whole for each in found):
        yield _numbers("after the start: libraries opened by dlopen", found, lambda each: len(mapped(_opened(each))))
        yield _numbers("  lookups that failed, of dlopen", found, lambda each: _failed(_opened(each)))
        yield _numbers("  lookups that failed, of the program itself", found, lambda each: _failed(_own(each)))


def _opened(traced: Traced) -> Sequence[Call]:
    return traced.whole.opened if traced.whole is not None else ()


def _own(traced: Traced) -> Sequence[Call]:
    return traced.whole.own if traced.whole is not None else ()


def _failed(calls: Sequence[Call]) -> int:
    return sum(1 for _ in failures(calls))


def _numbers(name: str, found: Sequence[Traced], figure: Callable[[Traced], int]) -> Row:
    values = [figure(each) for each in found]
    return Row(name, tuple(f"{value:,}" for value in values), ratio(*values))


def _time(traced: Traced) -> str:
    return f"{milliseconds(traced.seconds)} ({min(traced.times) * 1000:.1f}–{max(traced.times) * 1000:.1f})"


def _share(traced: Traced, field: str) -> str:
    return f"{getattr(traced.linking, field):.0%}" if traced.linking else "—"


def _relocations(traced: Traced) -> str:
    return f"{traced.linking.symbols:,}" if traced.linking else "—"


def ratio(*values: float) -> str:
    """The second of two values as a multiple of the first."""
    if len(values) != 2:
        return ""
    before, after = values
    if not before:
        return "1.00" if not after else "new"
    return f"{after / before:.2f}" if after else "0"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def show(found: Sequence[Traced], stream: TextIO, *, colours: bool) -> None:
    """Print the figures as a table, the directories of failed lookups as another, and what could not be had."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(
        file=stream,
        force_terminal=colours,
        no_color=not colours,
        width=None if stream.isatty() else WIDE,
        highlight=False,
        markup=False,
        emoji=False,
    )
    titles = ("before", "after") if len(found) == 2 else ("",)
    for title, each in zip(titles, found, strict=True):
        for line in heading(title, each):
            console.print(Text(printable(line)), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=len(found) == 2)
    table.add_column("")
    for title in titles:
        table.add_column(title, justify="right")
    if len(found) == 2:
        table.add_column("ratio", justify="right")
    for row in rows(found):
        table.add_row(row.name, *row.values, *([row.ratio] if len(found) == 2 else []))
    console.print(table)
    for what, table_of in TABLES:
        if numbers_of := side_by_side(found, table_of):
            console.print(_table(what, titles, numbers_of))
    for line in notes(found):
        console.print(Text(printable(line)), soft_wrap=True)


def _table(what: str, titles: Sequence[str], numbers_of: "Sequence[tuple[str, tuple[int, ...]]]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(what, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right")
    for name, numbers in numbers_of[:MOST_ROWS]:
        table.add_row(Text(printable(name)), *(f"{number:,}" for number in numbers))
    if rest := numbers_of[MOST_ROWS:]:
        sums = (sum(numbers[place] for _, numbers in rest) for place in range(len(titles)))
        table.add_row(f"{len(rest)} more", *(f"{number:,}" for number in sums))
    return table


def heading(title: str, traced: Traced) -> Iterator[str]:
    """Which program this is, and which process image of it is meant."""
    subject = traced.subject
    line = f"{title}: {subject.program}" if title else subject.program
    if subject.image != subject.program:
        what = "which it starts, is traced" if len(subject.chain) > 1 else "is the file"
        line += f"; {subject.image}, {what}" if len(subject.chain) > 1 else f" ({subject.image})"
    yield line


def side_by_side(
    found: Sequence[Traced], table_of: Callable[[Traced], Mapping[str, int]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Each name with the number of each program, the highest first."""
    tables = [table_of(each) for each in found]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [(name, tuple(table.get(name, 0) for table in tables)) for name in names]
    return sorted(rows, key=lambda row: (-max(row[1]), row[0]))


def notes(found: Sequence[Traced]) -> Iterator[str]:
    """What could not be had, and what a figure is made of."""
    for each in found:
        for module in each.subject.modules:
            said = "it is prelinked: the" if each.subject.prelinked else "the"
            yield f"{each.subject.image}: {said} calls of its audit module {module} count as the loader's"
        for field, why in each.why_not:
            yield f"{each.subject.image}: no {field}: {why}"
        if each.whole is not None:
            yield from _notes_of_whole(each.subject.image, each.whole)
        if each.delayed is not None:
            calls = count(each.delayed.calls, "lookup was", "lookups were")
            yield f"{each.subject.image}: {calls} delayed by strace" + (
                f", {each.delayed.found} of which found their file: there are too many paths to tell them apart"
                if each.delayed.found
                else ""
            )


def _notes_of_whole(image: str, whole: Whole) -> Iterator[str]:
    yield f"{image}: {'took too long, and was ended: it ended' if whole.late else 'ended'} with status {whole.status}"
    if not whole.is_told_apart:
        yield f"{image}: musl's loader is its C library, so that all calls of the run count for the program itself"
    if whole.programs:
        names = ", ".join(dict.fromkeys(whole.programs))
        yield f"{image}: started {names}, of which nothing is said here"


def as_json(found: Sequence[Traced]) -> dict[str, Any]:
    """`{"version", "programs": [before, after or one]}`; docs/trace.md has its schema."""
    return {"version": 1, "programs": [_program(each) for each in found]}


def _program(traced: Traced) -> dict[str, Any]:
    why_not = dict(traced.why_not)
    return {
        "program": traced.subject.program,
        "arguments": list(traced.subject.argv[1:]),
        "wrappers": list(traced.subject.chain[:-1]),
        "image": traced.subject.image,
        "interpreter": traced.subject.interpreter,
        "audit_modules": list(traced.subject.modules),
        "prelinked": traced.subject.prelinked,
        "libraries": list(traced.libraries),
        "failed_lookups": traced.failed_lookups,
        "failed_opens": traced.failed_opens,
        "failed_lookups_by_directory": dict(traced.by_directory),
        "failed_opens_by_name": dict(traced.by_name),
        "system_calls": len(traced.calls),
        "system_calls_by_name": dict(traced.by_call),
        "constructors_system_calls": len(traced.later),
        "seconds": traced.seconds,
        "times": list(traced.times),
        "processor_seconds": traced.processor_seconds,
        "linking": traced.linking
        and {
            "loading": traced.linking.loading,
            "relocating": traced.linking.relocating,
            "relocations_with_symbol": traced.linking.symbols,
            "relocations_cached": traced.linking.cached,
            "relocations_relative": traced.linking.relative,
        },
        "instructions": traced.instructions
        and {
            "total": traced.instructions.total,
            "symbol_lookup": traced.instructions.lookup,
            "relocation": traced.instructions.relocation,
        },
        "delayed": traced.delayed
        and {
            "delay": traced.delayed.delay,
            "lookups": traced.delayed.calls,
            "lookups_that_found": traced.delayed.found,
            "seconds": traced.delayed.seconds,
        },
        "whole": traced.whole
        and {
            "status": traced.whole.status,
            "late": traced.whole.late,
            "told_apart": traced.whole.is_told_apart,
            "opened": list(mapped(traced.whole.opened)),
            "opened_failed_lookups": _failed(traced.whole.opened),
            "opened_failed_lookups_by_directory": by_directory(traced.whole.opened),
            "own_failed_lookups": _failed(traced.whole.own),
            "own_failed_lookups_by_directory": by_parent(traced.whole.own),
            "programs": list(traced.whole.programs),
        },
        "why_not": why_not,
    }
