"""Turn what was read and found into one plan for all files: pure decisions, and conflicts refused before a byte changes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from nix_harden.errors import PlanConflict, UsageError
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.policy import FILE_RULES, NEEDED_RULES, SONAME_RULES, FileCase, NeededCase, SonameCase, first
from nix_harden.fixup.resolve import LOADER_DIRECTORY, resolve, resolve_path
from nix_harden.model import (
    ABSENT,
    Candidate,
    Decision,
    Edit,
    File,
    Object,
    PathAction,
    Plan,
    Resolution,
    Tried,
    Verdict,
)
from nix_harden.names import DRIVERS, LOADERS
from nix_harden.search import NUKED, is_musl, own_text, without_room
from nix_harden.settings import Settings, matches

BOUND_ALREADY = "bound already"


def make_plan(files: Sequence[File], catalog: Catalog, settings: Settings) -> Plan:
    """Decide on every file.

    Raises PlanConflict where the names of one inode need different strings, UsageError where a binding fits no object.
    """
    plan = Plan(tuple(_decide(file, catalog, settings) for file in files))
    for name, path in settings.bind:
        asked = [each for decision in plan.decisions for each in decision.resolutions if each.name == name]
        if asked and not any(resolution.how == "bind" for resolution in asked):
            why = next(tried.why for tried in asked[0].tried if tried.path == path)
            raise UsageError(f"--bind {name} (hardenNeededBind)", f"{path} cannot be what it means: {why}")
    return plan


def _decide(file: File, catalog: Catalog, settings: Settings) -> Decision:
    obj = file.object
    if fired := first(FILE_RULES, FileCase(file), settings):
        rule, detail = fired
        return Decision(file, Verdict(obj.path, None, rule.name, detail), None, (), (), "", None)
    resolutions = _resolutions(file, catalog, settings)
    needed = tuple(_needed_verdict(file, resolution, catalog, settings) for resolution in resolutions)
    soname = _soname_verdict(file, catalog, settings)
    action, text, why = _drop_room(obj, *_search_path(file, needed, resolutions, catalog, settings), settings)
    replaced = tuple(
        dict.fromkeys((verdict.name, verdict.new) for verdict in needed if verdict.new and verdict.new != verdict.name)
    )
    new_soname = soname.new if soname.new != obj.soname else None
    edit = None
    if replaced or new_soname or action is not PathAction.KEEP:
        edit = Edit(file.paths, obj, new_soname, replaced, action, text, obj.rpath is not None and obj.runpath is None)
    return Decision(file, None, soname, needed, resolutions, why, edit)


def _resolutions(file: File, catalog: Catalog, settings: Settings) -> tuple[Resolution, ...]:
    """One resolution a NEEDED.

    A search path with $ORIGIN must mean the same from every hard link, or the plan is refused. Where it means another file
    from a symbolic link, either may be meant, and both are rivals.
    """
    obj = file.object
    text, _ = own_text(obj)
    origins = list(dict.fromkeys(os.path.dirname(path) for path in file.paths))
    found = [
        tuple(_resolution(obj, origin, name, catalog, settings) for name in obj.needed)
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
    if "ORIGIN" not in text:
        return found[0]
    return tuple(_from_links(file, resolution, catalog, settings) for resolution in found[0])


def _from_links(file: File, resolution: Resolution, catalog: Catalog, settings: Settings) -> Resolution:
    mine = resolution.candidate
    for origin in catalog.link_directories(file.paths[0]):
        other = _resolution(file.object, origin, resolution.name, catalog, settings).candidate
        if mine is not None and other is not None and mine.real != other.real:
            return replace(resolution, candidate=None, rivals=(mine, other))
    return resolution


def _resolution(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    if "/" not in name:
        return resolve(obj, origin, name, catalog, settings)
    return resolve_path(obj, origin, name, catalog, settings)


def _needed_verdict(file: File, resolution: Resolution, catalog: Catalog, settings: Settings) -> Verdict:
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
            NEEDED_RULES, NeededCase(obj, resolution, lambda: _cycle(file, resolution, catalog, settings)), settings
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


def _cycle(file: File, resolution: Resolution, catalog: Catalog, settings: Settings) -> str | None:
    """The two outputs that a new binding would make refer to each other; one that the search path names is not new."""
    candidate = resolution.candidate
    if candidate is None or resolution.own:
        return None
    for output in settings.outputs:
        inside = candidate.bound == output.path or candidate.bound.startswith(output.path + "/")
        if inside and output.name != file.output and catalog.closes_cycle(file.output, output.name):
            return f"{file.output} to {output.name} by {candidate.bound}, and back"
    return None


def _soname_verdict(file: File, catalog: Catalog, settings: Settings) -> Verdict:
    obj = file.object
    name = os.path.basename(obj.soname or "")
    entries = (os.path.join(os.path.dirname(link), name) for link in file.paths if name)
    entry = next((path for path in entries if _same(path, file.paths[0])), None)
    variants = any(
        catalog.is_variant(link, obj.abi) or catalog.has_variants(os.path.dirname(link), name, obj.abi)
        for link in file.paths
    )
    if fired := first(SONAME_RULES, SonameCase(file, entry, variants), settings):
        rule, detail = fired
        return Verdict(obj.soname or "", None, rule.name, detail)
    return Verdict(obj.soname or "", entry, BOUND_ALREADY if entry == obj.soname else "library")


def _same(path: str, other: str) -> bool:
    return os.path.exists(path) and os.path.samefile(path, other)


def is_searched(name: str) -> bool:
    """Whether a NEEDED makes the loader search: it has no slash, and is not the loader's own."""
    return "/" not in name and not matches(LOADERS, name)


def _search_path(
    file: File, needed: Sequence[Verdict], resolutions: Sequence[Resolution], catalog: Catalog, settings: Settings
) -> tuple[PathAction, str, str]:
    """What becomes of RPATH or RUNPATH, its new text, and why."""
    obj = file.object
    text, tag = own_text(obj)
    if settings.keep_runpath:
        return PathAction.KEEP, text, "the derivation asks for it"
    if obj.rpath is not None and obj.runpath is not None:
        return PathAction.KEEP, text, "the loader ignores its RPATH only while it has a RUNPATH"
    searched = [verdict.name for verdict in needed if verdict.new is None and is_searched(verdict.name)]
    if obj.opens_libraries or obj.notes:
        bound = [os.path.dirname(verdict.new) for verdict in needed if verdict.new]
        wanted = [*bound, *_opened_by_name(file, catalog, settings)]
        found = {resolution.name for resolution in resolutions if resolution.own and resolution.candidate is not None}
        found -= {resolution.name for resolution in resolutions if resolution.how == LOADER_DIRECTORY}
        added = _missing(obj, text, wanted, [name for name in searched if name not in found], catalog)
        if added and not text.startswith("@"):  # from which patchelf would read a file
            path = ":".join([*([text] if text else []), *added])
            return PathAction.SET, path, f"opens libraries; {tag} gets back {' '.join(added)}"
        return PathAction.KEEP, text, "opens libraries"
    if obj.runpath is None:
        return PathAction.KEEP, text, "no RUNPATH" if obj.rpath is None else "RPATH stays as it is"
    if not obj.runpath:
        return PathAction.KEEP, text, "empty already"
    if obj.filters:
        return PathAction.KEEP, text, f"filter or auxiliary of {' '.join(obj.filters)}"
    if is_musl(obj) and not _all_bound(file, needed, catalog, settings):
        return PathAction.KEEP, text, "musl searches it for what the libraries below name, too"
    if searched and is_musl(obj):
        return PathAction.KEEP, text, f"bare: {' '.join(searched)}"
    if searched:
        rest = _where_it_may_be(obj, searched, catalog, settings)
        action = PathAction.KEEP if rest == text else PathAction.SET if rest else PathAction.EMPTY
        return action, rest, f"bare: {' '.join(searched)}"
    return PathAction.EMPTY, "", "nothing is searched for any more"


def _where_it_may_be(obj: Object, names: Sequence[str], catalog: Catalog, settings: Settings) -> str:
    """The search path without the directories of the store that hold none of the names, nor builds of them for some processors.

    The loader would try each of them first, with all its subdirectories. What a build has overwritten says which names stay bare, and stays.
    """

    def is_settled(entry: str) -> bool:
        directory = os.path.normpath(entry)
        return "$" not in entry and settings.in_store(directory) and not NUKED.search(entry)

    def may_hold(entry: str) -> bool:
        found = (catalog.look(os.path.join(entry, name), obj.abi) for name in names)
        return any(each.why != ABSENT if isinstance(each, Tried) else True for each in found) or any(
            catalog.has_variants(entry, name, obj.abi) for name in names
        )

    return ":".join(entry for entry in (obj.runpath or "").split(":") if not is_settled(entry) or may_hold(entry))


def _drop_room(obj: Object, action: PathAction, text: str, why: str, settings: Settings) -> tuple[PathAction, str, str]:
    """The same without the entry that the hook made linkers add, where no --shrink-rpath has dropped it."""
    rest = without_room(text, settings.store)
    if rest == text:
        return action, text, why
    empty = not rest and obj.runpath is not None
    return PathAction.EMPTY if empty else PathAction.SET, rest, why


def _all_bound(file: File, needed: Sequence[Verdict], catalog: Catalog, settings: Settings) -> bool:
    """Whether no library below the object searches for anything, by NEEDED or dlopen; those of the outputs, after this run."""
    queue = [verdict.new for verdict in needed if verdict.new]
    for name in queue:
        below = catalog.look(name, file.object.abi)
        obj = catalog.object(name)
        if not isinstance(below, Candidate) or obj is None or obj.opens_libraries:
            return False
        own = any(below.real.startswith(output.path + "/") for output in settings.outputs)
        for each in obj.needed:
            if matches(LOADERS, os.path.basename(each)) or each in queue:
                continue
            found = _resolution(obj, obj.directory, each, catalog, settings).candidate if own or "/" in each else None
            if found is None:
                return False
            if found.bound not in queue:
                queue.append(found.bound)
    return True


def _opened_by_name(file: File, catalog: Catalog, settings: Settings) -> Iterator[str]:
    """The directories of libraries that the object opens by bare name, as far as its own search does not lead to them.

    They are those which its dlopen notes name, and those whose names it holds as strings and whose SONAMEs are absolute: while one
    was loaded under its bare SONAME, the loader answered with it and did not search.
    """
    obj = file.object
    origin = os.path.dirname(file.paths[0])
    noted = [name for note in obj.notes for name in note.sonames]
    for name in dict.fromkeys((*noted, *catalog.mentions(obj))):
        if "/" in name or name in obj.needed or matches((*LOADERS, *DRIVERS, *settings.exclude), name):
            continue
        found = resolve(obj, origin, name, catalog, settings)
        if found.candidate is None or found.own or found.impure:
            continue
        if name not in noted and not is_musl(obj) and not _is_hardened(found.candidate, settings):
            continue
        if _cycle(file, found, catalog, settings) is None:
            yield os.path.dirname(found.candidate.bound)


def _is_hardened(candidate: Candidate, settings: Settings) -> bool:
    """Whether the library's SONAME is absolute, or will be once this run is done."""
    if candidate.soname is None:
        return False
    own = any(candidate.bound.startswith(output.path + "/") for output in settings.outputs)
    return os.path.isabs(candidate.soname) or (own and settings.mode == "soname")


def _missing(obj: Object, text: str, wanted: Sequence[str], lost: Sequence[str], catalog: Catalog) -> list[str]:
    """The directories that the search path lacks, but for those that would answer a name which is left unanswered."""
    have = {entry.rstrip("/") for entry in text.split(":")}
    return [
        directory
        for directory in dict.fromkeys(wanted)
        if directory not in have
        and not any(isinstance(catalog.look(os.path.join(directory, name), obj.abi), Candidate) for name in lost)
    ]
