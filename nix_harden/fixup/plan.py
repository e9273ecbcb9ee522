"""Turn what was read and found into one plan for all files: pure decisions, and conflicts refused before a byte changes."""

import os
from collections.abc import Sequence
from dataclasses import replace

from nix_harden.errors import NotEdited, PlanConflict, UsageError
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.policy import (
    FILE_RULES,
    NEEDED_RULES,
    NO_ROOM,
    SONAME_RULES,
    UNMOVABLE_RULES,
    FileCase,
    NeededCase,
    SonameCase,
    first,
)
from nix_harden.fixup.resolve import cycle, resolve_any
from nix_harden.fixup.searchpath import drop_room, search_path, takes_rpath
from nix_harden.loading.search import own_text
from nix_harden.model import (
    Candidate,
    Decision,
    Edit,
    File,
    Held,
    Kind,
    PathAction,
    Plan,
    Resolution,
    Verdict,
)
from nix_harden.names import LOADERS
from nix_harden.settings import Settings, matches

BOUND_ALREADY = "bound already"
NOT_EDITED = "patchelf cannot edit it"


def make_plan(files: Sequence[File], catalog: Catalog, settings: Settings, held: Held) -> Plan:
    """Decide on every file; what is `held` stays as it is.

    Raises PlanConflict where the names of one inode need different strings, UsageError where a binding fits no object.
    """
    plan = Plan(tuple(_decide(file, catalog, settings, held) for file in files))
    for name, path in settings.bind:
        asked = [each for decision in plan.decisions for each in decision.resolutions if each.name == name]
        if asked and not any(resolution.how == "bind" for resolution in asked):
            why = next(tried.why for tried in asked[0].tried if tried.path == path)
            raise UsageError(f"--bind {name} (hardenNeededBind)", f"{path} cannot be what it means: {why}")
    return plan


def leave(plan: Plan, refused: Sequence[NotEdited]) -> Plan:
    """The plan as it was carried out: those files stayed as they are."""
    problems = {error.path: error.problem for error in refused}

    def left(decision: Decision) -> Decision:
        path = decision.file.paths[0]
        if path not in problems:
            return decision
        needed = tuple(Verdict(verdict.name, None, NOT_EDITED) for verdict in decision.needed)
        skipped = Verdict(path, None, NOT_EDITED, problems[path])
        return replace(decision, skipped=skipped, soname=None, needed=needed, edit=None)

    return Plan(tuple(map(left, plan.decisions)))


def _decide(file: File, catalog: Catalog, settings: Settings, held: Held) -> Decision:
    obj = file.object
    if fired := first(FILE_RULES, FileCase(file), settings):
        rule, detail = fired
        return Decision(file, Verdict(obj.path, None, rule.name, detail), None, (), (), "", None)
    resolutions = _resolutions(file, catalog, settings)
    needed = tuple(_needed_verdict(file, resolution, catalog, settings, held) for resolution in resolutions)
    soname = _soname_verdict(file, catalog, settings, held)
    action, text, why = drop_room(obj, *search_path(file, needed, resolutions, catalog, settings), settings)
    replaced = tuple(
        dict.fromkeys((verdict.name, verdict.new) for verdict in needed if verdict.new and verdict.new != verdict.name)
    )
    new_soname = soname.new if soname.new != obj.soname else None
    edit = None
    if replaced or new_soname or action is not PathAction.KEEP:
        edit = Edit(file.paths, obj, new_soname, replaced, action, text, takes_rpath(obj, searches=True))
    return fitted(Decision(file, None, soname, needed, resolutions, why, edit), catalog, settings)


def fitted(decision: Decision, catalog: Catalog, settings: Settings) -> Decision:
    """The decision as far as it has room, where patchelf must make none or would make far too much: without the SONAME, or nothing."""
    edit, case = decision.edit, FileCase(decision.file)
    no_room = NO_ROOM.fires(case, settings)
    if edit is None or no_room is None or catalog.has_room(edit):
        return decision
    less = replace(edit, soname=None)
    asked = bool(less.needed) or less.action is not PathAction.KEEP
    unmovable = first(UNMOVABLE_RULES, case, settings)
    if edit.soname is not None and (catalog.has_room(less) if asked else unmovable is None):
        soname = Verdict(edit.before.soname or "", None, NO_ROOM.name, no_room)
        return replace(decision, soname=soname, edit=less if asked else None)
    if unmovable is None:
        return decision
    rule, detail = unmovable
    return Decision(decision.file, Verdict(edit.before.path, None, rule.name, detail), None, (), (), "", None)


def _resolutions(file: File, catalog: Catalog, settings: Settings) -> tuple[Resolution, ...]:
    """One resolution a NEEDED.

    A search path with $ORIGIN must mean the same from every hard link, or the plan is refused. Where it means another file
    from a symbolic link, either may be meant, and both are rivals; but a program's is where the file lies, however it is started.
    """
    obj = file.object
    text, _ = own_text(obj)
    origins = list(dict.fromkeys(os.path.dirname(path) for path in file.paths))
    found = [
        tuple(resolve_any(obj, origin, name, catalog, settings) for name in obj.needed)
        for origin in (origins if "ORIGIN" in text else origins[:1])
    ]
    for origin, other in zip(origins[1:], found[1:], strict=False):
        for mine, theirs in zip(found[0], other, strict=True):
            if (mine.candidate and mine.candidate.real) != (theirs.candidate and theirs.candidate.real):
                link = next(path for path in file.paths if os.path.dirname(path) == origin)
                raise PlanConflict(
                    file.paths[0],
                    link,
                    f"{mine.name} means another file from each, by their $ORIGIN; make them two files or exclude them",
                )
    if "ORIGIN" not in text or obj.kind is Kind.PROGRAM:
        return found[0]
    return tuple(_from_links(file, resolution, catalog, settings) for resolution in found[0])


def _from_links(file: File, resolution: Resolution, catalog: Catalog, settings: Settings) -> Resolution:
    mine = resolution.candidate
    for origin in catalog.link_directories(file.paths[0]):
        other = resolve_any(file.object, origin, resolution.name, catalog, settings).candidate
        if mine is not None and other is not None and mine.real != other.real:
            return replace(resolution, candidate=None, rivals=(mine, other))
    return resolution


def _needed_verdict(file: File, resolution: Resolution, catalog: Catalog, settings: Settings, held: Held) -> Verdict:
    obj, name = file.object, resolution.name
    if "/" in name:
        candidate = resolution.candidate
        if candidate is None or (resolution.own and not settings.in_store(os.path.normpath(candidate.path))):
            return Verdict(name, None, "a path that leads to no library in the store")
        if resolution.own:
            return Verdict(name, name, BOUND_ALREADY, _another(candidate, catalog, settings))
    asked_for = resolution.how == "bind" and not matches(LOADERS, name)
    if not asked_for and (
        fired := first(
            NEEDED_RULES,
            NeededCase(
                obj,
                resolution,
                held.needed.get((file.paths[0], name)),
                lambda: cycle(file, resolution, catalog, settings),
            ),
            settings,
        )
    ):
        rule, detail = fired
        return Verdict(name, None, rule.name, detail)
    assert resolution.candidate is not None
    return Verdict(name, resolution.candidate.bound, resolution.how)


def _another(candidate: Candidate, catalog: Catalog, settings: Settings) -> str:
    """The one library of the outputs that bears the name of a file elsewhere: a copy of a hardened package may mean its own."""
    if any(candidate.bound.startswith(output.path + "/") for output in settings.outputs):
        return ""
    paths = catalog.output_paths(os.path.basename(candidate.path))
    ours = {found.real: found for path in paths if isinstance(found := catalog.look(path, candidate.abi), Candidate)}
    return next(iter(ours.values())).path if len(ours) == 1 else ""


def _soname_verdict(file: File, catalog: Catalog, settings: Settings, held: Held) -> Verdict:
    obj = file.object
    name = os.path.basename(obj.soname or "")
    entries = (os.path.join(os.path.dirname(link), name) for link in file.paths if name)
    entry = next((path for path in entries if _same(path, file.paths[0])), None)
    variants = any(
        catalog.is_variant(link, obj.abi) or catalog.has_variants(os.path.dirname(link), name, obj.abi)
        for link in file.paths
    )
    if fired := first(SONAME_RULES, SonameCase(file, entry, variants, held.sonames.get(file.paths[0])), settings):
        rule, detail = fired
        return Verdict(obj.soname or "", None, rule.name, detail)
    return Verdict(obj.soname or "", entry, BOUND_ALREADY if entry == obj.soname else "library")


def _same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.samefile(path, other)
