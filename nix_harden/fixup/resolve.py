"""Find the file that one bare NEEDED means: as ld.so would, else among the outputs, else among the inputs' closure."""

import os
from collections.abc import Iterable
from dataclasses import replace

from nix_harden.fixup.catalog import Catalog
from nix_harden.loading.search import Place, expand, is_pure, own_text, places, platforms
from nix_harden.model import ELSEWHERE_IN_INPUTS, INPUTS, Candidate, File, Object, Resolution, Tried
from nix_harden.names import LIBC
from nix_harden.settings import Settings, matches

LOADER_DIRECTORY = "the interpreter's C library"


def resolve(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    """The file that `name` means to `obj` when the loader finds the object in directory `origin`, with the trail.

    `--bind` decides alone; then the object's own search does, a hit there ending it as in the loader; then the outputs;
    then the lib directories of the inputs' closure; then all else in it. Two different files in one of the last three are an answer of
    their own: nobody's guess.
    """
    tried: list[Tried] = []
    for library, path in settings.bind:
        if library == name:
            match catalog.look(os.path.normpath(path), obj.abi):
                case Candidate() as candidate:
                    chosen = replace(candidate, bound=candidate.path)
                    return Resolution(name, chosen, "bind")
                case Tried() as refusal:
                    tried.append(Tried(path, refusal.why))
    own = own_search(obj, origin, name, catalog, settings)
    tried += own.tried
    if own.candidate or own.rivals:
        return replace(own, tried=tuple(tried))
    impure = own.impure
    if matches(LIBC, name):
        impure = impure or catalog.interpreter_of_elsewhere(obj)
    for how, paths in (
        ("the outputs", catalog.output_paths),
        (INPUTS, catalog.input_paths),
        (ELSEWHERE_IN_INPUTS, lambda name: catalog.input_paths_elsewhere(name, obj.abi)),
    ):
        found = _among(paths(name), obj, catalog, tried)
        if found:
            single = found[0] if len(found) == 1 else None
            return Resolution(name, single, how, False, impure, tuple(tried), () if single else found)
    return Resolution(name, None, "", False, impure, tuple(tried))


def resolve_any(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    """`resolve` for a bare name, `resolve_path` for one with a slash."""
    if "/" not in name:
        return resolve(obj, origin, name, catalog, settings)
    return resolve_path(obj, origin, name, catalog, settings)


def resolve_path(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    """The file that a NEEDED with a slash means: what it leads to in the store, by the loader's own expansion of tokens.

    One that leads into the build directory, nowhere, or where the current directory says (a linker records the path that it is
    given of a library without SONAME) means the one library of the outputs that bears its basename, if there is one.
    """
    found = path_target(obj, origin, name, catalog)
    if found is not None and settings.in_store(os.path.normpath(found.path)):
        return Resolution(name, found, "a path", True)
    building = settings.build_top and os.path.normpath(name).startswith(settings.build_top + "/")
    tried: list[Tried] = []
    if found is not None and not building:
        return Resolution(name, found, "a path", True)
    among = _among(catalog.output_paths(os.path.basename(name)), obj, catalog, tried)
    if len(among) == 1 and len(platforms(obj.abi, name)) == 1:
        return Resolution(name, among[0], "the outputs", False, None, tuple(tried))
    return Resolution(name, None, "a path", True, None, tuple(tried))


def path_target(obj: Object, origin: str, name: str, catalog: Catalog) -> Candidate | None:
    """What a NEEDED with a slash leads to, wherever that is, once its tokens are expanded; None for what is not absolute then, or
    leads to different files by what the processor answers."""
    found = set[Candidate | Tried | None]()
    for platform in platforms(obj.abi, name):
        expanded = expand(name, origin, catalog.lib_token(obj, name), platform)
        directory, file = os.path.split(expanded)
        path = os.path.join(catalog.plain(directory), file)
        found.add(catalog.look(path, obj.abi) if os.path.isabs(expanded) else None)
    single = found.pop()
    return single if isinstance(single, Candidate) and not found else None


def own_search(obj: Object, origin: str, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    """What the loader's own search finds for a bare `name` today, or no candidate.

    Where the search path says $PLATFORM, which is the processor's to answer, each answer is followed; if they lead to
    different files, those are the rivals.
    """
    text, _ = own_text(obj)
    lib = catalog.lib_token(obj, text)
    answers = [
        _search(places(obj, origin, lib, platform), obj, name, catalog, settings)
        for platform in platforms(obj.abi, text)
    ]
    files = {answer.candidate.real: answer for answer in answers if answer.candidate is not None}
    if len(files) > 1:
        rivals = tuple(answer.candidate for answer in files.values() if answer.candidate is not None)
        return Resolution(name, None, "RUNPATH", True, None, answers[0].tried, rivals)
    return next(iter(files.values()), answers[0])


def _search(path: Iterable[Place], obj: Object, name: str, catalog: Catalog, settings: Settings) -> Resolution:
    tried: list[Tried] = []
    impure: str | None = None
    variants = False
    loader = None if obj.no_default_directories else catalog.loader_directory(obj)
    for text in (*path, *((Place(loader, LOADER_DIRECTORY),) if loader else ())):
        place = replace(text, directory=catalog.plain(text.directory))
        if not os.path.isabs(place.directory):
            tried.append(Tried(place.directory or "the current directory", "another one at run time"))
            impure = impure or place.directory or "the current directory"
            continue
        answer = catalog.look(os.path.join(place.directory, name), obj.abi)
        variants = variants or catalog.has_variants(place.directory, name, obj.abi)
        if isinstance(answer, Candidate):
            candidate = replace(answer, variants=True) if variants else answer
            return Resolution(name, candidate, place.how, True, impure, tuple(tried))
        tried.append(answer)
        if not is_pure(place, name, settings.store):
            impure = impure or place.directory
    return Resolution(name, None, "", True, impure, tuple(tried))


def _among(paths: Iterable[str], obj: Object, catalog: Catalog, tried: list[Tried]) -> tuple[Candidate, ...]:
    """The different files that the paths lead to, each once."""
    found: dict[str, Candidate] = {}
    for path in paths:
        match catalog.look(path, obj.abi):
            case Candidate() as candidate:
                found.setdefault(candidate.real, candidate)
            case Tried() as refusal:
                tried.append(refusal)
    return tuple(found.values())


def cycle(file: File, resolution: Resolution, catalog: Catalog, settings: Settings) -> str | None:
    """The two outputs that a new binding would make refer to each other; one that the search path names is not new."""
    candidate = resolution.candidate
    if candidate is None or resolution.own:
        return None
    for output in settings.outputs:
        inside = candidate.bound == output.path or candidate.bound.startswith(output.path + "/")
        if inside and output.name != file.output and catalog.closes_cycle(file.output, output.name):
            return f"{file.output} to {output.name} by {candidate.bound}, and back"
    return None
