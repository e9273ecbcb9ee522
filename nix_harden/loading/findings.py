"""What is wrong with one object, and how bad that is."""

import enum
from dataclasses import dataclass

from nix_harden.loading.graph import Graph


class Severity(enum.IntEnum):
    """How bad a finding is: a note is worth knowing, a warning worth mending, an error breaks a program or may."""

    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One failed check on one object.

    `path` is the object, `subject` the name or entry in it, `program` the file from which the object was reached; `alone` says
    that this file is a library, so that a program which loads it may bring what it lacks.
    """

    check: str
    severity: Severity
    path: str
    subject: str
    message: str
    program: str
    reason: str = ""
    alone: bool = False


def malformed(path: str, why: str) -> Finding:
    return Finding("malformed", Severity.ERROR, path, "", why, path)


def missing_interpreter(path: str, interpreter: str, foreign: bool) -> Finding:
    what = "is for another machine" if foreign else "is not there"
    return Finding(
        "interpreter", Severity.ERROR, path, interpreter, f"its interpreter {interpreter} {what}: it cannot start", path
    )


def in_parts(path: str) -> Finding:
    said = f"it starts from its parts, and loads what {path}.needed says then: audit what `nix-harden join` makes of it"
    return Finding("in-parts", Severity.WARNING, path, "", said, path)


def disagreement(graph: Graph, difference: str) -> Finding:
    return Finding("loader-disagrees", Severity.ERROR, graph.root, "", f"{graph.loader.path}: {difference}", graph.root)
