"""What becomes of an object's search path once its names are decided: kept, shortened, emptied, or given directories back; pure."""

import os
from collections.abc import Iterator, Sequence

from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.resolve import LOADER_DIRECTORY, cycle, resolve, resolve_any
from nix_harden.loading.search import NUKED, is_musl, joined, own_text, places, without_room
from nix_harden.model import ABSENT, Candidate, File, Kind, Object, PathAction, Resolution, Tried, Verdict
from nix_harden.names import DRIVERS, LOADERS
from nix_harden.settings import Settings, matches


def is_searched(name: str) -> bool:
    """Whether a NEEDED makes the loader search: it has no slash, and is not the loader's own."""
    return "/" not in name and not matches(LOADERS, name)


def takes_rpath(obj: Object, *, searches: bool) -> bool:
    """Whether the tag of the search path that the object is given is DT_RPATH; `searches` says that it searches for what is not in it.

    A RUNPATH where there was no tag would end the RPATH of the program and of those that have the object loaded, which it searches
    until then (elf/dl-load.c, `_dl_map_object`).
    """
    if obj.runpath is not None:
        return False
    return obj.rpath is not None or (searches and obj.kind is not Kind.PROGRAM)


def search_path(
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
        opened = dict(_opened_by_name(file, catalog, settings))
        wanted = [*bound, *opened.values()]
        found = {resolution.name for resolution in resolutions if resolution.own and resolution.candidate is not None}
        found -= {resolution.name for resolution in resolutions if resolution.how == LOADER_DIRECTORY}
        added = _missing(file, text, wanted, [name for name in searched if name not in found], catalog)
        if added and not text.startswith("@"):  # from which patchelf would read a file
            path = ":".join([*([text] if text else []), *added])
            path = _holders_first(obj, path, [*searched, *opened], catalog, settings)
            return PathAction.SET, path, f"opens libraries; {tag} gets back {' '.join(added)}"
        ordered = _holders_first(obj, text, searched, catalog, settings)
        if ordered != text and not text.startswith("@"):
            return PathAction.SET, ordered, f"opens libraries; what holds {' '.join(searched)} comes first"
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
    if any("$" in name for name in searched):
        return PathAction.KEEP, text, f"bare, and for the loader to expand: {' '.join(searched)}"
    if searched:
        rest = _where_it_may_be(obj, searched, catalog, settings)
        action = PathAction.KEEP if rest == text else PathAction.SET if rest else PathAction.EMPTY
        return action, rest, f"bare: {' '.join(searched)}"
    return PathAction.EMPTY, "", "nothing is searched for any more"


def _where_it_may_be(obj: Object, names: Sequence[str], catalog: Catalog, settings: Settings) -> str:
    """The search path without the directories of the store that hold none of the names, nor builds of them for some processors.

    The loader would try each of them first, with all its subdirectories. What a build has overwritten says which names stay bare, and stays.
    """

    def may_hold(entry: str) -> bool:
        found = (catalog.look(os.path.join(entry, name), obj.abi) for name in names)
        return any(each.why != ABSENT if isinstance(each, Tried) else True for each in found) or any(
            catalog.has_variants(entry, name, obj.abi) for name in names
        )

    return joined(
        [
            entry
            for entry in (obj.runpath or "").split(":")
            if not _is_settled(entry, catalog, settings) or may_hold(entry)
        ]
    )


def _is_settled(entry: str, catalog: Catalog, settings: Settings) -> bool:
    """Whether no machine, no link to the object and no later build says what the entry leads to."""
    directory = catalog.plain(entry)
    return "$" not in entry and settings.in_store(directory) and not NUKED.search(entry)


def _holders_first(obj: Object, text: str, names: Sequence[str], catalog: Catalog, settings: Settings) -> str:
    """The search path in which directories of the store that hold one of the names come before others of the store.

    None passes an entry that is not settled, nor a directory with a file of one name: whatever is searched for, it is found where it was.
    """
    entries: list[str] = []
    front = 0
    for entry in text.split(":") if text else ():
        if not _is_settled(entry, catalog, settings):
            entries.append(entry)
            front = len(entries)
        elif any(isinstance(catalog.look(os.path.join(entry, name), obj.abi), Candidate) for name in names) and not any(
            catalog.clash(entry, other, obj.abi) for other in entries[front:]
        ):
            entries.insert(front, entry)
            front += 1
        else:
            entries.append(entry)
    return joined(entries)


def drop_room(obj: Object, action: PathAction, text: str, why: str, settings: Settings) -> tuple[PathAction, str, str]:
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
            found = resolve_any(obj, obj.directory, each, catalog, settings).candidate if own or "/" in each else None
            if found is None:
                return False
            if found.bound not in queue:
                queue.append(found.bound)
    return True


def _opened_by_name(file: File, catalog: Catalog, settings: Settings) -> Iterator[tuple[str, str]]:
    """The names, and directories, of libraries that the object opens by bare name, as far as its own search does not lead to them.

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
        if cycle(file, found, catalog, settings) is None:
            yield name, os.path.dirname(found.candidate.bound)


def _is_hardened(candidate: Candidate, settings: Settings) -> bool:
    """Whether the library's SONAME is absolute, or will be once this run is done."""
    if candidate.soname is None:
        return False
    own = any(candidate.bound.startswith(output.path + "/") for output in settings.outputs)
    return os.path.isabs(candidate.soname) or (own and settings.mode == "soname")


def _missing(file: File, text: str, wanted: Sequence[str], lost: Sequence[str], catalog: Catalog) -> list[str]:
    """The directories that the search path lacks from wherever the object is loaded, but for those that would answer a name which is
    left unanswered."""
    obj = file.object
    origins = [os.path.dirname(path) for path in file.paths]
    if "ORIGIN" in text and obj.kind is not Kind.PROGRAM:
        origins += catalog.link_directories(file.paths[0])
    lib = catalog.lib_token(obj, text)
    found = ([place.directory for place in places(obj, origin, lib, "")] for origin in origins)
    have = [{catalog.real(directory) for directory in each if directory} for each in found]
    return [
        directory
        for directory in dict.fromkeys(wanted)
        if not all(catalog.real(directory) in each for each in have)
        and not any(isinstance(catalog.look(os.path.join(directory, name), obj.abi), Candidate) for name in lost)
    ]
