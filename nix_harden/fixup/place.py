"""Where new strings go in a string table that keeps its size: into the bytes that nothing refers to; pure."""

import bisect
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nix_harden.model import Edit, Field, PathAction, StringTable, Use, Write
from nix_harden.reading.image import DT_AUDIT, DT_RPATH, DT_RUNPATH


def place(table: StringTable, edit: Edit) -> tuple[Write, ...] | None:
    """The writes that make an edit in place, or None where the free bytes do not suffice, or a tag would have to be added.

    Free is what no symbol, tag or version refers to, once the old strings are out of use; where it is in pieces that are too short,
    the strings that stay move together. New strings share tails with each other and with what is there; what stays free is blanked
    with zeros, so that no store path is left behind in it.
    """
    tags = new_tag(table, edit), audit_tag(table, edit)
    if None in tags or len(edit.needed_after) != len(edit.before.needed):
        return None
    tag = tuple(write for writes in tags for write in writes or ())
    if len(tag) > 1:
        return None  # there is no more than one spare place
    if tag:
        use = Use.AUDIT if edit.audit else Use.RPATH if edit.rpath else Use.RUNPATH
        table = replace(table, fields=(*table.fields, _field(tag[0], use)))
    changes = _changes(table, edit)
    if changes is None:
        return None
    if not changes:
        return ()
    stay = {field: os.fsencode(table.string(field.value)) for field in table.fields if field not in changes}
    filled = _fill(table, changes) or _fill(table, stay | changes)
    return None if filled is None else without_audit(table, edit, (*tag, *filled))


def without_audit(table: StringTable, edit: Edit, writes: tuple[Write, ...] = ()) -> tuple[Write, ...]:
    """The same writes, and where an edit takes the audit module away those that close the gap which its tag leaves."""
    if edit.audit != "" or table.tags is None:
        return writes
    start, section = table.tags.position, bytearray(table.tags.data)
    others = []
    for write in writes:
        if start <= write.position <= start + len(section):  # at its end, where a spare place becomes a tag
            section[write.position - start : write.position - start + len(write.data)] = write.data
        else:
            others.append(write)
    field = next(each for each in table.fields if each.use is Use.AUDIT)
    at = field.position - field.size - start
    del section[at : at + 2 * field.size]
    return (*others, Write(start, bytes(section) + bytes(2 * field.size)))


def new_tag(table: StringTable, edit: Edit) -> tuple[Write, ...] | None:
    """The write that makes a spare DT_NULL the tag of the search path, empty as yet, where there is none; None where none is spare."""
    use = Use.RPATH if edit.rpath else Use.RUNPATH
    if edit.action is PathAction.KEEP or any(field.use is use for field in table.fields):
        return ()
    return _tag(table, DT_RPATH if edit.rpath else DT_RUNPATH)


def audit_tag(table: StringTable, edit: Edit) -> tuple[Write, ...] | None:
    """The same for the tag that names an audit module."""
    return _tag(table, DT_AUDIT) if edit.audit else ()


def _tag(table: StringTable, number: int) -> tuple[Write, ...] | None:
    if table.spare is None:
        return None
    position, width = table.spare
    return (Write(position, number.to_bytes(width, table.byte_order) + bytes(width)),)


def added_tag(table: StringTable, edit: Edit) -> tuple[Write, ...]:
    """The write that makes the NEEDED which patchelf has added for `edit.audit` the tag that it is to be."""
    if not edit.audit:
        return ()
    field = next(each for each in table.fields if each.use is Use.NEEDED and table.string(each.value) == edit.audit)
    return (Write(field.position - field.size, DT_AUDIT.to_bytes(field.size, table.byte_order)),)


def _field(tag: Write, use: Use) -> Field:
    width = len(tag.data) // 2
    return Field(use, tag.position + width, width, 0)


def _fill(table: StringTable, texts: Mapping[Field, bytes]) -> tuple[Write, ...] | None:
    """The writes that lead these fields to these texts and blank what is free then, or None where the texts have no room."""
    kept = table.fixed | {field.value for field in table.fields if field not in texts} | {0}
    free = _free(table.strings, kept)
    buffer = bytearray(table.strings)
    places = {b"": 0}
    written: list[tuple[int, int]] = []
    for text in sorted(set(texts.values()) - {b""}, key=lambda text: (-len(text), text)):
        at = _shared(buffer, text + b"\0", free)
        if at is None:
            at = _take(free, len(text) + 1)
            if at is None:
                return None
            buffer[at : at + len(text) + 1] = text + b"\0"
            written.append((at, at + len(text) + 1))
        places[text] = at
    for start, stop in free:
        if buffer.count(0, start, stop) != stop - start:
            buffer[start:stop] = bytes(stop - start)
            written.append((start, stop))
    strings = (Write(table.offset + start, bytes(buffer[start:stop])) for start, stop in sorted(written))
    fields = (
        Write(field.position, places[text].to_bytes(field.size, table.byte_order))
        for field, text in texts.items()
        if places[text] != field.value
    )
    return (*strings, *fields)


def reorder(table: StringTable, names: Sequence[str]) -> tuple[Write, ...]:
    """The writes that bring the NEEDED of a table, which are `names` in some order, into theirs."""
    fields = [field for field in table.fields if field.use is Use.NEEDED]
    values = {table.string(field.value): field.value for field in fields}
    return tuple(
        Write(field.position, values[name].to_bytes(field.size, table.byte_order))
        for field, name in zip(fields, names, strict=True)
        if values[name] != field.value
    )


def _changes(table: StringTable, edit: Edit) -> dict[Field, bytes] | None:
    """What each field is to lead to, for those that change; None where a string has no field."""
    new = {Use.NEEDED: dict(edit.needed), Use.SONAME: {}, Use.RPATH: {}, Use.RUNPATH: {}, Use.AUDIT: {}}
    new[Use.VERSION] = new[Use.NEEDED]
    old = edit.before
    if edit.audit is not None:
        new[Use.AUDIT] = {old.filters[0]: ""} if edit.audit == "" else {"": edit.audit}
    if edit.soname is not None:
        if old.soname is None:
            return None
        new[Use.SONAME] = {old.soname: edit.soname}
    if edit.action is not PathAction.KEEP:
        use, text = (Use.RPATH, old.rpath) if edit.rpath else (Use.RUNPATH, old.runpath)
        new[use] = {text or "": edit.search_path}
    found = {}
    for field in table.fields:
        text = table.string(field.value)
        if (wanted := new[field.use].get(text, text)) != text:
            found[field] = os.fsencode(wanted)
    return found


def _free(strings: bytes, kept: frozenset[int]) -> list[tuple[int, int]]:
    """The runs of bytes of which no string is made that begins at one of `kept`, in their order."""
    sizes = map((1).__add__, map(len, strings.split(b"\0")[:-1]))  # in C: there are as many as symbols
    starts = itertools.accumulate(sizes, initial=0)
    found: list[tuple[int, int]] = []
    for start in sorted(set(starts) - kept - {len(strings)}):
        end = strings.index(b"\0", start) + 1
        stop = min(kept.intersection(range(start, end)), default=end)
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _shared(buffer: bytearray, text: bytes, free: list[tuple[int, int]]) -> int | None:
    """Where `text` stands already in bytes that are not free."""
    at = buffer.find(text)
    while at >= 0:
        # the first run that ends behind the place
        behind = bisect.bisect_right(free, at, key=lambda run: run[1])
        if behind == len(free) or free[behind][0] >= at + len(text):
            return at
        at = buffer.find(text, at + 1)
    return None


def _take(free: list[tuple[int, int]], size: int) -> int | None:
    """Take bytes from the shortest run that holds so many."""
    fitting = [run for run in free if run[1] - run[0] >= size]
    if not fitting:
        return None
    start, stop = best = min(fitting, key=lambda run: (run[1] - run[0], run[0]))
    index = free.index(best)
    free[index : index + 1] = [(start + size, stop)] if start + size < stop else []
    return start
