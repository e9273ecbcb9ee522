"""The module with a table of its own: one file, of what module.c was compiled to and a table as its last segment; pure."""

from nix_harden.native.compiled import Loaded, behind
from nix_harden.prelinking.table import MAGIC


def detach(module: bytes) -> bytes | None:
    """The table of a file that `attach` made, None of any other."""
    at = _last(module)
    return None if at is None else module[at.offset : at.offset + at.size]


def exchange(module: bytes, table: bytes) -> bytes:
    """A file that `attach` made, with another table of the same size."""
    at = _last(module)
    assert at is not None
    assert at.size == len(table)
    return module[: at.offset] + table


def _last(module: bytes) -> Loaded | None:
    """The program header of the table, None where there is none."""
    last = behind(module)
    if last is None or module[last.offset : last.offset + len(MAGIC)] != MAGIC:
        return None
    return last
