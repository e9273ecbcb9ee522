"""The way back: absolute names become bare again, and the search path gets the directories that they named; pure."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.policy import FILE_RULES, UNMOVABLE_RULES, FileCase, first
from nix_harden.fixup.resolve import own_search
from nix_harden.fixup.searchpath import is_searched, takes_rpath
from nix_harden.loading.search import NUKED, own_text
from nix_harden.model import Candidate, Decision, Edit, File, Held, PathAction, Plan, Verdict
from nix_harden.settings import Settings

UNBOUND = "was bound"
AMBIGUOUS = "no order of the search path leads each bare name to its own file"
ITSELF = "bare, it would be the object's own SONAME"
NO_ENTRY = "a search path cannot hold a directory with a colon"
ELSEWHERE = "bare, it would lead elsewhere"


def make_plan(
    files: Sequence[File], copies: Mapping[str, str], catalog: Catalog, settings: Settings, held: Held
) -> Plan:
    """Unbind every file: NEEDED, SONAME and version needs by their basenames, each directory once in the search path.

    `copies` maps an absolute name to the copy that is to be found instead. A name stays absolute where it is `held`, or where its
    directory would make it, or another bare name, lead to another file.
    """
    return Plan(tuple(_decide(file, copies, catalog, settings, held) for file in files))


def _decide(file: File, copies: Mapping[str, str], catalog: Catalog, settings: Settings, held: Held) -> Decision:
    obj = file.object
    if fired := first(FILE_RULES, FileCase(file), settings):
        rule, detail = fired
        return Decision(file, Verdict(obj.path, None, rule.name, detail), None, (), (), "", None)
    path = _SearchPath(file, catalog, settings)
    targets = {name: copies.get(name, name) for name in obj.needed if os.path.isabs(name)}
    twice = _twice(targets, catalog)
    verdicts = {name: Verdict(name, None, "bare already") for name in obj.needed}
    for name, target in targets.items():
        bare, directory = os.path.basename(name), os.path.dirname(target)
        if (why := held.needed.get((file.paths[0], name))) is not None:
            verdicts[name] = Verdict(name, None, ELSEWHERE, why)
        elif bare == os.path.basename(obj.soname or ""):
            verdicts[name] = Verdict(name, None, ITSELF)
        elif bare in twice or not (NUKED.search(target) or path.lead(bare, target)):
            verdicts[name] = Verdict(name, None, NO_ENTRY if ":" in directory else AMBIGUOUS, directory)
        else:
            verdicts[name] = Verdict(name, bare, UNBOUND)
    soname = None
    if obj.soname is not None and os.path.isabs(obj.soname):
        why = held.sonames.get(file.paths[0])
        bare = os.path.basename(obj.soname)
        soname = Verdict(obj.soname, None, ELSEWHERE, why) if why else Verdict(obj.soname, bare, UNBOUND)
    replaced = tuple((verdict.name, verdict.new) for verdict in verdicts.values() if verdict.new)
    edit = None
    module = catalog.module(obj)
    if replaced or (soname and soname.new) or module is not None:
        edit = Edit(
            file.paths,
            obj,
            soname.new if soname else None,
            replaced,
            PathAction.SET if path.added else PathAction.KEEP,
            ":".join(path.entries),
            takes_rpath(obj, searches=path.searches),
            audit=None if module is None else "",
        )
    needed = tuple(verdicts[name] for name in obj.needed)
    why = f"gets back {' '.join(path.added)}" if path.added else "as it is"
    if module is not None:
        why += f"; its module {module.path} is named no longer"
    decision = Decision(file, None, soname, needed, (), why, edit)
    unmovable = first(UNMOVABLE_RULES, FileCase(file), settings)
    if edit is None or unmovable is None or catalog.has_room(edit):
        return decision
    rule, detail = unmovable
    left = tuple(Verdict(verdict.name, None, rule.name) for verdict in needed)
    return Decision(file, Verdict(obj.path, None, rule.name, detail), None, left, (), "", None)


def _twice(targets: Mapping[str, str], catalog: Catalog) -> set[str]:
    """The basenames that two of the names share, which are different files."""
    files: dict[str, set[str]] = {}
    for name, target in targets.items():
        files.setdefault(os.path.basename(name), set()).add(catalog.real(target))
    return {bare for bare, found in files.items() if len(found) > 1}


class _SearchPath:
    """An object's search path that gets directories, and the file to which each bare name must lead in it."""

    def __init__(self, file: File, catalog: Catalog, settings: Settings) -> None:
        self.object = file.object
        self.origin = os.path.dirname(file.paths[0])
        self.catalog, self.settings = catalog, settings
        text, _ = own_text(self.object)
        self.entries = text.split(":") if text else []
        self.added: list[str] = []
        self._wanted = {name: self._answer(name, self.entries) for name in self.object.needed if is_searched(name)}
        self.searches = bool(self._wanted) or self.object.opens_libraries or bool(self.object.notes)

    def lead(self, name: str, target: str) -> bool:
        """Let `name` lead to `target`, by its directory as far behind as can be; False where no place for that is right."""
        directory, file = os.path.dirname(target), self._file(target)
        if self._wanted.setdefault(name, file) != file:
            return False
        if (directory in self.entries) if file is None else self._answer(name, self.entries) == file:
            return True
        met = [each for each in self._wanted if self._file(os.path.join(directory, each)) is not None]
        for place in range(len(self.entries), -1, -1):
            entries = [*self.entries[:place], directory, *self.entries[place:]]
            if all(self._answer(each, entries) == self._wanted[each] for each in met):
                self.entries = list(dict.fromkeys(entries))
                self.added.append(directory)
                return True
        del self._wanted[name]
        return False

    def _answer(self, name: str, entries: Sequence[str]) -> str | None:
        """The file that the loader would find for a name if these entries were all that it searches."""
        obj = replace(self.object, runpath=":".join(entries), no_default_directories=True)
        found = own_search(obj, self.origin, name, self.catalog, self.settings).candidate
        return found.real if found else None

    def _file(self, path: str) -> str | None:
        found = self.catalog.look(path, self.object.abi)
        return found.real if isinstance(found, Candidate) else None
