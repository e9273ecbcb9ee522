"""What a derivation lets its outputs refer to (Nix manual, "Advanced Attributes"), asked before Nix asks: it says neither file nor why."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nix_harden.errors import ReferenceRefused, UsageError
from nix_harden.model import Decision, Plan
from nix_harden.settings import Settings

# Each with whether it lists what is allowed.
ATTRIBUTES = {
    "allowedReferences": True,
    "allowedRequisites": True,
    "disallowedReferences": False,
    "disallowedRequisites": False,
}


@dataclass(frozen=True)
class Limit:
    """One attribute that limits one output: the attribute as the derivation writes it, and the store paths that it lists.

    `allows` tells whether they are all that it allows, or what it forbids; `itself` whether the output's own path counts.
    """

    output: str
    attribute: str
    allows: bool
    paths: frozenset[str]
    itself: bool = True

    def refuses(self, path: str, own: str) -> bool:
        return (self.itself or path != own) and (path in self.paths) != self.allows


def from_environ(environ: Mapping[str, str], settings: Settings) -> tuple[Limit, ...]:
    """The limits of every output.

    With structured attributes they are those of `outputChecks`, else the variables of the attributes' names, which hold words and
    count an output's own path among its references, but not among its requisites. Raises UsageError where the file of structured
    attributes cannot be read.
    """
    outputs = {output.name: output.path for output in settings.outputs}
    structured = _structured(environ, settings)
    if structured is None:
        return tuple(
            Limit(
                output, attribute, allows, _paths(environ[attribute].split(), outputs), attribute.endswith("References")
            )
            for attribute, allows in ATTRIBUTES.items()
            if attribute in environ
            for output in outputs
        )
    unscanned = structured.get("unsafeDiscardReferences", {})
    return tuple(
        Limit(output, f"outputChecks.{output}.{attribute}", allows, _paths(checks[attribute], outputs))
        for output, checks in structured.get("outputChecks", {}).items()
        if output in outputs and not unscanned.get(output)
        for attribute, allows in ATTRIBUTES.items()
        if attribute in checks
    )


def refused(plan: Plan, limits: Sequence[Limit], settings: Settings) -> Iterator[ReferenceRefused]:
    """Each reference that the plan would add and a limit refuses, once, with the first file and name that bring it."""
    paths = {output.name: output.path for output in settings.outputs}
    names = {path: name for name, path in paths.items()}
    told = set[tuple[str, str, str]]()
    for decision in plan.decisions:
        output = decision.file.output
        mine = [limit for limit in limits if limit.output == output]
        for name, new in _names(decision) if mine else ():
            path = store_path(new, settings.store)
            for limit in mine:
                key = (output, limit.attribute, path)
                if key in told or not limit.refuses(path, paths[output]):
                    continue
                told.add(key)
                target = "itself" if path == paths[output] else names.get(path, path)
                yield ReferenceRefused(
                    decision.file.object.path, name, new, output, target, limit.attribute, limit.allows
                )


def _names(decision: Decision) -> Iterator[tuple[str, str]]:
    """What is to become absolute: the words for it, and its new string."""
    if decision.edit is None:
        return
    for old, new in decision.edit.needed:
        yield f"NEEDED {old}", new
    if decision.edit.soname is not None:
        yield "SONAME", decision.edit.soname


def _paths(words: Sequence[str], outputs: Mapping[str, str]) -> frozenset[str]:
    """Store paths, of which the derivation's own outputs are written by their names."""
    return frozenset(outputs.get(word, word) for word in words)


def _structured(environ: Mapping[str, str], settings: Settings) -> dict[str, dict[str, dict[str, list[str]]]] | None:
    """The derivation's structured attributes, or None where it has none.

    In a sandbox Nix 2.8 names a path of the outside; the file lies in the build directory all the same. Where it is in neither
    place, Nix alone knows the limits, and keeps them.
    """
    named = environ.get("NIX_ATTRS_JSON_FILE", "")
    if not named:
        return None
    for path in (named, os.path.join(settings.build_top, os.path.basename(named))):
        try:
            with open(path, encoding="utf-8") as file:
                attributes: dict[str, dict[str, dict[str, list[str]]]] = json.load(file)
                return attributes
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise UsageError("NIX_ATTRS_JSON_FILE", f"{path} cannot be read: {error}") from error
    return {}


def store_path(path: str, store: str) -> str:
    """The store path in which a file lies."""
    return os.path.join(store, path.removeprefix(store + "/").partition("/")[0])
