"""The packages of a store directory, what they refer to, and the order in which to harden them."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from nix_harden.errors import HardenError, ReadError, UsageError
from nix_harden.fixup.outputs import walk
from nix_harden.loading.search import expand, own_text
from nix_harden.model import Output
from nix_harden.reading.elf import read_object
from nix_harden.saying.files import contents
from nix_harden.saying.progress import Progress

# A Nix keeps what its packages share there, and the hashes of all of them in a database.
LINKS_OF_NIX = ".links"


def packages(store: str, *, dry_run: bool) -> tuple[Output, ...]:
    """Each entry of a store directory, but for links and hidden ones, in byte order.

    Raises UsageError where `store` is no directory, or one of Nix, in which nothing may change.
    """
    if not os.path.isdir(store):
        raise UsageError(store, "is no directory; say the one whose entries are packages")
    if not dry_run and os.path.isdir(os.path.join(store, LINKS_OF_NIX)):
        advice = "harden derivations by the hook, or a copy of the store without .links, or say --dry-run"
        raise UsageError(store, f"is the store of a Nix, which knows each package by a hash of its contents; {advice}")
    try:
        with os.scandir(store) as entries:
            names = [each.name for each in entries if not each.name.startswith(".") and not each.is_symlink()]
    except OSError as error:
        raise ReadError(store, error.strerror or str(error)) from error
    if not names:
        raise UsageError(store, "holds no package; say the directory whose entries are packages")
    return tuple(Output(name, os.path.join(store, name)) for name in sorted(names, key=os.fsencode))


def references(found: Sequence[Output], store: str, progress: Progress) -> dict[str, tuple[str, ...]]:
    """The names of the packages that each package refers to, in byte order: by their paths in its files, as Nix finds them, by its links,
    and by search paths that begin with $ORIGIN.

    One that cannot be read refers to nothing here; who hardens it says so.
    """
    names = {package.name for package in found}
    letters = re.escape(os.fsencode("".join(sorted(set().union(*names)))))
    pattern = re.compile(re.escape(os.fsencode(store)) + b"/([" + letters + b"]+)")
    answers = {}
    for done, package in enumerate(found):
        progress(done, len(found), f"what {package.name} refers to")
        try:
            named = set(_named(package, store, pattern)) & names
        except HardenError:
            named = set()
        answers[package.name] = tuple(sorted(named - {package.name}, key=os.fsencode))
    return answers


def _named(package: Output, store: str, pattern: re.Pattern[bytes]) -> Iterator[str]:
    """What stands behind the store directory in all that the package holds."""
    for path, regular in walk(package.path):
        if regular:
            yield from {os.fsdecode(name) for name in pattern.findall(contents(path))}
            yield from (_entry(place, store) for place in _searched(path))
        elif os.path.islink(path):
            yield _entry(os.path.join(os.path.dirname(path), os.readlink(path)), store)


def _searched(path: str) -> Iterator[str]:
    """The directories of an ELF file's search path that are told from its own."""
    try:
        obj = read_object(path)
    except HardenError:
        return
    text = own_text(obj)[0] if obj is not None else ""
    if "ORIGIN" in text:
        yield from expand(text, os.path.dirname(path), "lib", "").split(":")


def _entry(path: str, store: str) -> str:
    """The entry of the store directory at or below which a path lies, or ""."""
    inside = os.path.normpath(path).removeprefix(store + "/")
    return "" if os.path.isabs(inside) else inside.partition("/")[0]


def order(references: Mapping[str, Collection[str]]) -> tuple[tuple[str, ...], ...]:
    """The packages, each behind all that it refers to; those that refer to each other in a circle are one group, in byte order.

    These are the strongly connected components, by Tarjan's algorithm (SIAM J. Comput. 1, 1972).
    """
    place: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: dict[str, None] = {}
    groups: list[tuple[str, ...]] = []
    for root in references:
        stack = [] if root in place else [(root, iter(references[root]))]
        if stack:
            place[root] = lowest[root] = len(place)
            open_[root] = None
        while stack:
            name, rest = stack[-1]
            other = next(rest, None)
            if other is None:
                stack.pop()
                if stack:
                    lowest[stack[-1][0]] = min(lowest[stack[-1][0]], lowest[name])
                if lowest[name] == place[name]:
                    group = []
                    while name not in group:
                        group.append(open_.popitem()[0])
                    groups.append(tuple(sorted(group, key=os.fsencode)))
            elif other not in place:
                place[other] = lowest[other] = len(place)
                open_[other] = None
                stack.append((other, iter(references[other])))
            elif other in open_:
                lowest[name] = min(lowest[name], place[other])
    return tuple(groups)


def closure(group: Collection[str], references: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """All that the packages of a group refer to, and what that refers to in turn, the nearest first, without the group."""
    found = dict.fromkeys(group)
    queue = list(group)
    for name in queue:
        more = [other for other in references[name] if other not in found]
        found |= dict.fromkeys(more)
        queue += more
    return tuple(queue[len(group) :])
