"""The module that a program names, if it is one of this project."""

import os
from dataclasses import dataclass

from nix_harden.errors import ReadError
from nix_harden.model import Kind, Object
from nix_harden.prelinking import module, table


@dataclass(frozen=True, slots=True)
class Named:
    """The path in DT_AUDIT, the bytes of the file there, and the table in them."""

    path: str
    data: bytes
    table: bytes

    def objects(self) -> tuple[str, ...]:
        """The real paths of what the table was made for; none where it is damaged."""
        if not table.is_whole(self.table):
            return ()
        return tuple(os.path.realpath(path) for path in table.decode(self.table).paths)


def named(program: Object) -> Named | None:
    """The module of this project that a program names by its path, beside nothing that an audit or filter tag names.

    None of any other object, and where another audit module lies there. Raises ReadError where the file cannot be read.
    """
    if program.kind is not Kind.PROGRAM or len(program.filters) != 1 or not os.path.isabs(program.filters[0]):
        return None
    [path] = program.filters
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    found = module.detach(data)
    return None if found is None else Named(path, data, found)


def module_of(program: Object) -> Named | None:
    """The same, and None where the file cannot be read."""
    try:
        return named(program)
    except ReadError:
        return None
