"""What a piece of a file says as lines, by its form, and what bytes such lines are; pure."""

import struct
from collections.abc import Iterable

from nix_harden.parts import forms
from nix_harden.parts.forms import Column, Kind, Strings
from nix_harden.parts.pieces import Piece


def heading(piece: Piece) -> str:
    """The line above a piece in a part of several."""
    return f"[{forms.escape(piece.title.encode('latin-1'))}]"


def say(
    piece: Piece, kind: Kind, names: Strings, data: bytes, notes: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """The lines of bytes in a form, and the names of NEEDED where these are tags; `notes` say more of each row of a table to people."""
    match piece.form:
        case "strings":
            return forms.strings(data), []
        case "path":
            return forms.path(data), []
        case "dynamic":
            return forms.dynamic(kind, names, data)
        case "needs":
            return forms.needs(kind, names, data), []
        case "definitions":
            return forms.definitions(kind, names, data), []
        case "notes" | "notes8":
            return forms.notes(kind, 8 if piece.form == "notes8" else 4, data), []
        case "header":
            row, columns = forms.header(kind)
            values = row.unpack(data)
            return [f"{each.name} {each.say(value)}" for each, value in zip(columns, values, strict=True)], []
        case _:
            return forms.table(*_table(piece, kind, names), data, notes), []


def unsay(piece: Piece, kind: Kind, names: Strings, lines: list[str], needed: list[str]) -> bytes:
    """The bytes of such lines. Raises forms.Unread."""
    match piece.form:
        case "strings":
            return forms.unstrings(lines)
        case "path":
            return forms.unpath(lines, piece.size)
        case "dynamic":
            return forms.undynamic(kind, names, lines, needed)
        case "needs":
            return forms.unneeds(kind, names, lines)
        case "definitions":
            return forms.undefinitions(kind, names, lines)
        case "notes" | "notes8":
            return forms.unnotes(kind, 8 if piece.form == "notes8" else 4, lines)
        case "header":
            row, columns = forms.header(kind)
            return forms.unheader(row, columns, lines)
        case _:
            return forms.untable(*_table(piece, kind, names), lines)


def row_size(piece: Piece, kind: Kind) -> int:
    """How many bytes a row of a table has."""
    return _table(piece, kind, Strings.of(b""))[0].size


def _table(piece: Piece, kind: Kind, names: Strings) -> tuple[struct.Struct, tuple[Column, ...]]:
    match piece.form:
        case "segments":
            return forms.segments(kind)
        case "sections":
            return forms.sections(kind, names)
        case "symbols":
            return forms.symbols(kind, names)
        case "versions":
            return forms.versions(kind)
        case _:
            return forms.relocations(kind, piece.form == "rela")
