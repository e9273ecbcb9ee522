"""The named rules by which a program of an output stays as it is although its derivation asks for prelinking: data, asked in order."""

from collections.abc import Sequence
from dataclasses import dataclass

from nix_harden.fixup import policy
from nix_harden.fixup.policy import Rule
from nix_harden.fixup.references import Limit, store_path
from nix_harden.loading.graph import Graph
from nix_harden.model import File
from nix_harden.prelinking.prelink import answerable
from nix_harden.settings import Settings

TOO_LITTLE = "too little to gain"


@dataclass(frozen=True)
class FileCase:
    """A program of an output, which lies at `top`."""

    file: File
    top: str


@dataclass(frozen=True)
class Case:
    """A program that its loader takes: what it loads, what limits the references of its output, and how many symbols it looks up."""

    top: str
    graph: Graph
    limits: Sequence[Limit]
    lookups: int


def _excluded(case: FileCase, settings: Settings) -> str | None:
    return policy.FILE_RULES[0].fires(policy.FileCase(case.file), settings)


def _static(case: FileCase, _: Settings) -> str | None:
    return "" if case.file.object.interpreter is None else None


def _prelinked(case: FileCase, _: Settings) -> str | None:
    return ", ".join(case.file.object.filters) or None


def _alone(case: FileCase, _: Settings) -> str | None:
    return "" if case.file.paths[0] == case.top else None


def _colon(case: FileCase, _: Settings) -> str | None:
    return "" if ":" in case.file.paths[0] else None


def _outside(case: Case, settings: Settings) -> str | None:
    return next((node.path for node in case.graph.nodes if not settings.in_store(node.path)), None)


def _variants(case: Case, _: Settings) -> str | None:
    kept = answerable(case.graph)
    return next((node.path for number, node in enumerate(case.graph.nodes) if number not in kept), None)


def _reference(case: Case, settings: Settings) -> str | None:
    """Only of direct references: all that the module names is in the closure already."""
    for limit in case.limits:
        for node in case.graph.nodes if limit.attribute.endswith("References") else ():
            path = store_path(node.path, settings.store)
            if limit.refuses(path, case.top):
                return f"{path}, by {limit.attribute}"
    return None


def _little(case: Case, settings: Settings) -> str | None:
    return None if case.lookups >= settings.prelink_from else f"{case.lookups} lookups"


FILE_RULES: tuple[Rule[FileCase], ...] = (
    Rule(policy.EXCLUDED, "the derivation asks for it", _excluded),
    Rule("static", "no loader looks anything up for it", _static),
    Rule("audited", "it names a module, or another filter, already", _prelinked),
    Rule("alone", "the output is the program itself, so that no module can lie beside it", _alone),
    Rule("colon", "one in its path would end the name of its module in DT_AUDIT", _colon),
)
RULES: tuple[Rule[Case], ...] = (
    Rule("outside the store", "other machines have another file there, or none", _outside),
    Rule(
        "processor variants",
        "the loader chooses a library by the processor, so that the table would be for that of the builder alone",
        _variants,
    ),
    Rule(
        "refused reference",
        "the module names every library by its path, and the derivation does not let this output refer to one of them",
        _reference,
    ),
    Rule(TOO_LITTLE, "a module is mapped and checked at each start, which costs more than it saves", _little),
)
