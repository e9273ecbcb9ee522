"""The one part that says how the others make the file: what stands in it, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from nix_harden.parts.forms import Kind
from nix_harden.parts.pieces import BARE, Piece

VERSION = 1
FORMS = frozenset(
    (
        *BARE,
        *"header segments sections strings path dynamic symbols versions needs definitions rel rela notes notes8".split(),
    )
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The file's name, size in bytes, permission bits and kind, its pieces in their order, and what the names were that may be changed.

    `needed` are the names of NEEDED in their order, `texts` the words of SONAME, RPATH and RUNPATH as the part of tags says them, and
    `interpreter` that path; all as they were when the file was split.
    """

    name: str
    size: int
    mode: int
    kind: Kind | None
    needed: tuple[str, ...]
    texts: Mapping[str, str]
    interpreter: str | None
    pieces: tuple[Piece, ...]


def dump(manifest: Manifest) -> str:
    """One piece a line, so that two builds compare."""
    values = asdict(manifest)
    pieces = [astuple(each) if each.lead else astuple(each)[:-1] for each in manifest.pieces]
    lines = ",\n".join(f"  {json.dumps(each)}" for each in pieces)
    head = json.dumps({"version": VERSION, **values, "pieces": None}, indent=1).removesuffix("null\n}")
    return f"{head}[\n{lines}\n ]\n}}\n"


def load(text: str) -> Manifest:
    """Raises ValueError, KeyError and TypeError for what is none of this version."""
    values: dict[str, Any] = json.loads(text)
    if values.pop("version") != VERSION:
        raise ValueError("it is of another version")
    pieces = tuple(Piece(*row) for row in values.pop("pieces"))
    kind = Kind(**row) if (row := values.pop("kind")) else None
    needed = tuple(values.pop("needed"))
    found = Manifest(**values, kind=kind, needed=needed, pieces=pieces)
    end = 0
    for each in pieces:
        if each.offset != end or each.size <= 0 or each.lead < 0 or each.form not in FORMS or "/" in each.part:
            raise ValueError(f"no piece of {each.size} bytes and the form {each.form!r} can be at {each.offset}")
        end = each.end
    if end != found.size or "/" in found.name or (kind is None and any(each.form not in BARE for each in pieces)):
        raise ValueError(f"its pieces make {end} bytes, and {found.size} are wanted")
    if kind is not None and (kind.bits not in (32, 64) or kind.order not in ("<", ">")):
        raise ValueError(f"there are no files of {kind.bits} bits and the order {kind.order!r}")
    return found
