"""After writing: every name of every object still means the same file, or the one that the plan chose."""

import os
from collections.abc import Iterator

from nix_harden.errors import CheckFailed, SeveralErrors
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.outputs import read_outputs
from nix_harden.fixup.resolve import own_search, path_target
from nix_harden.model import Decision, Object, Plan
from nix_harden.names import LOADERS
from nix_harden.settings import Settings, matches

NOTHING = "nothing"


def check(plan: Plan, settings: Settings) -> None:
    """Read the outputs again and resolve each name anew. Raises SeveralErrors with a CheckFailed for each that differs."""
    read = read_outputs(settings.outputs)
    catalog = Catalog(settings, read)
    objects = {path: file.object for file in read.files for path in file.paths}
    failures = [
        failure for decision in plan.decisions for failure in _differences(decision, objects, catalog, settings)
    ]
    broken = [error for error in read.unread if any(error.path in decision.file.paths for decision in plan.decisions)]
    if failures or broken:
        raise SeveralErrors((*broken, *failures))


def _differences(
    decision: Decision, objects: dict[str, Object], catalog: Catalog, settings: Settings
) -> Iterator[CheckFailed]:
    if decision.skipped is not None and not decision.needed:
        return
    path = decision.file.paths[0]
    after = objects.get(path)
    if after is None:
        yield CheckFailed(path, "the file", "an ELF file", NOTHING)
        return
    for name, verdict, resolution in zip(after.needed, decision.needed, decision.resolutions, strict=True):
        if matches(LOADERS, os.path.basename(name)) or (resolution.rivals and verdict.new is None):
            continue  # the loader is there before any search; several files were several before
        wanted = NOTHING
        if verdict.new is not None and verdict.new != verdict.name:
            wanted = catalog.real(verdict.new)
        elif resolution.own and resolution.candidate is not None:
            wanted = resolution.candidate.real
        actual = _meaning(after, os.path.dirname(path), name, catalog, settings)
        if actual != wanted:
            yield CheckFailed(path, name, wanted, actual)


def _meaning(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> str:
    if "/" not in name:
        candidate = own_search(obj, origin, name, catalog, settings).candidate
        return candidate.real if candidate else NOTHING
    target = path_target(obj, origin, name, catalog)
    return target.real if target else NOTHING
