"""The named rules that keep a file, a SONAME or a NEEDED as it is: data, asked in order, printed by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from nix_harden.loading.search import NUKED, own_text
from nix_harden.model import ABSENT, ELSEWHERE_IN_INPUTS, INPUTS, File, Kind, Object, Resolution
from nix_harden.names import ALLOCATORS, BLAS, DRIVERS, LIBC, LOADERS, RUNTIMES
from nix_harden.saying.words import human
from nix_harden.settings import Settings, matches

Case = TypeVar("Case")
LARGE = 1 << 20  # an alignment from which on patchelf's padding, up to twice as much, is worth more than a SONAME

ANSWERS = "answers a bare name"
EXCLUDED = "excluded"
# Files of which no loader reads a name.
NOT_LOADED = frozenset(("loader", "stub", "separate debug file", "nothing dynamic"))


@dataclass(frozen=True)
class Rule(Generic[Case]):
    """One rule: its name as the log prints it, why it is there, and when it fires.

    `fires` answers with a detail worth printing, "" where the name says all, or None where the rule is silent.
    """

    name: str
    sentence: str
    fires: Callable[[Case, Settings], str | None]
    finding: bool = False


@dataclass(frozen=True)
class FileCase:
    """A file of the outputs, asked whether it may be written at all."""

    file: File

    @property
    def object(self) -> Object:
        return self.file.object


@dataclass(frozen=True)
class SonameCase:
    """An object, and the entry beside it that bears its SONAME and is the same file, if any.

    `variants` tells whether it is one of several builds for different processors, or has such builds beside it; `held` what a walk of
    the programs found to break under another SONAME.
    """

    file: File
    entry: str | None
    variants: bool
    held: str | None = None

    @property
    def object(self) -> Object:
        return self.file.object

    @property
    def soname(self) -> str:
        return self.object.soname or ""


@dataclass(frozen=True)
class NeededCase:
    """One NEEDED of an object and what was found for it.

    `held` says what a walk of the programs found to break once it is bound; `cycle` names the outputs that binding it would close to a
    circle.
    """

    object: Object
    resolution: Resolution
    held: str | None = None
    cycle: Callable[[], str | None] = lambda: None

    @property
    def name(self) -> str:
        return self.resolution.name


def _when(condition: bool, detail: str = "") -> str | None:
    return detail if condition else None


def _named(names: tuple[str, ...] | list[str], *strings: str | None) -> bool:
    return matches(names, *(os.path.basename(string) for string in strings if string)) is not None


def _excluded_file(case: FileCase, settings: Settings) -> str | None:
    root = next((output.path for output in settings.outputs if output.name == case.file.output), "")
    names = [name for path in case.file.paths for name in (path, os.path.relpath(path, root), os.path.basename(path))]
    return matches(settings.exclude, *names)


def _excluded_name(case: NeededCase, settings: Settings) -> str | None:
    candidate = case.resolution.candidate
    names = (case.name, *((candidate.path, candidate.real, candidate.bound) if candidate else ()))
    return matches(settings.exclude, *names)


def _outside(case: NeededCase, settings: Settings) -> str | None:
    candidate = case.resolution.candidate
    if candidate is None:
        return None
    inside = settings.in_store(candidate.bound) and settings.in_store(candidate.real)
    return None if inside else candidate.real


def _driver(case: NeededCase, _: Settings) -> str | None:
    """A dispatcher that the object's own search finds is no driver: it looks for the system's by itself."""
    candidate = case.resolution.candidate
    dispatcher = candidate is not None and candidate.dispatcher and case.resolution.own
    return _when(_named(DRIVERS, case.name) and not dispatcher)


def _stub(case: NeededCase, settings: Settings) -> str | None:
    candidate = case.resolution.candidate
    if candidate is None:
        return None
    return _when(candidate.stub or in_stubs(candidate.path) or in_stubs(candidate.real), candidate.path)


def _trail(resolution: Resolution) -> str:
    """Each place that was tried, once; why only where something of that name was there."""
    tried = {at.path: at.why for at in resolution.tried}
    return "; ".join(path if why == ABSENT else f"{path} ({why})" for path, why in tried.items())


def in_stubs(path: str) -> bool:
    return "stubs" in path.split("/")


FILE_RULES: tuple[Rule[FileCase], ...] = (
    Rule(EXCLUDED, "the derivation asks for it", _excluded_file),
    Rule(
        "loader",
        "whatever changes in it, no program starts any more",
        lambda case, _: _when(_named(LOADERS, case.object.soname)),
    ),
    Rule(
        "stub",
        "what lies in a directory `stubs` is there to be linked to; another file takes its place at run time",
        lambda case, _: _when(any(in_stubs(path) for path in case.file.paths)),
    ),
    Rule(
        "separate debug file",
        "it holds no code and is paired with its program by build id, not loaded",
        lambda case, _: _when(
            case.object.debug_only or "/.build-id/" in case.object.path or case.object.path.endswith(".debug")
        ),
    ),
    Rule("nothing dynamic", "the loader reads no names from it", lambda case, _: _when(case.object.kind is Kind.OTHER)),
)

# Where the new strings have no room in the file, so that patchelf would have to move what lies in it.
UNMOVABLE_RULES: tuple[Rule[FileCase], ...] = (
    Rule(
        "appended data",
        "data after the ELF file proper is found by its offset, which patchelf would move",
        lambda case, _: _when(case.object.payload > 0, f"{case.object.payload} bytes"),
    ),
    Rule(
        "no section headers",
        "patchelf finds the dynamic section through them",
        lambda case, _: _when(not case.object.sections),
    ),
)
NO_ROOM: Rule[FileCase] = Rule(
    "no room",
    "patchelf would move what it may not, or add megabytes for segments that are aligned to them",
    lambda case, settings: _when(
        first(UNMOVABLE_RULES, case, settings) is not None or case.object.alignment >= LARGE,
        human(case.object.alignment),
    ),
)

SONAME_RULES: tuple[Rule[SonameCase], ...] = (
    Rule(
        "program",
        "an executable, PIE or static-pie is started, not looked up; a SONAME breaks static-pie",
        lambda case, _: _when(case.object.kind is Kind.PROGRAM),
    ),
    Rule(
        "plugin without SONAME",
        "it is opened by its path; a SONAME would make it another library to its loader",
        lambda case, _: _when(case.object.kind is Kind.PLUGIN),
    ),
    Rule(
        "mode needed", "the derivation asks to leave every SONAME", lambda _, settings: _when(settings.mode == "needed")
    ),
    Rule(
        EXCLUDED,
        "the derivation asks for it",
        lambda case, settings: matches(settings.exclude, case.soname, os.path.basename(case.soname)),
    ),
    Rule(
        "C library",
        "glibc compares the SONAMEs of its own objects; libc.so.6 under another never finishes its start",
        lambda case, _: _when(_named(LIBC, case.soname)),
    ),
    Rule(
        "compiler runtime",
        "glibc opens libgcc_s.so.1 by that name at pthread_exit, and a second copy would be loaded",
        lambda case, _: _when(_named(RUNTIMES, case.soname)),
    ),
    Rule(
        "allocator",
        "valgrind and the sanitizers know it by its SONAME",
        lambda case, _: _when(_named(ALLOCATORS, case.soname)),
    ),
    Rule(
        "driver library", "the system's own driver takes its place", lambda case, _: _when(_named(DRIVERS, case.soname))
    ),
    Rule(
        "BLAS or LAPACK",
        "another implementation takes its place through LD_LIBRARY_PATH, as nixpkgs' manual says",
        lambda case, _: _when(_named(BLAS, case.soname)),
    ),
    Rule(
        "processor variants",
        "the loader chooses among builds for several processors, which a path with a slash would skip",
        lambda case, _: _when(case.variants),
    ),
    Rule(
        "no entry of that name",
        "no entry beside the file bears the SONAME and is the same file, so the loader would not find it by that path",
        lambda case, _: _when(case.entry is None, f"looked for it beside {case.file.object.path}"),
    ),
    Rule(
        ANSWERS,
        "an object in sight has that name left bare, and would be answered no more, or by another file",
        lambda case, _: case.held,
    ),
)

NEEDED_RULES: tuple[Rule[NeededCase], ...] = (
    Rule(
        "the loader itself",
        "it is already there when names are looked up, so it costs no search",
        lambda case, _: _when(_named(LOADERS, case.name)),
    ),
    Rule("driver library", "the system's own driver takes its place", _driver),
    Rule(
        "BLAS or LAPACK",
        "another implementation takes its place through LD_LIBRARY_PATH, as nixpkgs' manual says",
        lambda case, _: _when(_named(BLAS, case.name)),
    ),
    Rule(EXCLUDED, "the derivation asks for it", _excluded_name),
    Rule(
        "two different files",
        "a guess would bind one of them; hardenNeededBind settles it",
        lambda case, _: _when(
            bool(case.resolution.rivals), " and ".join(rival.path for rival in case.resolution.rivals)
        ),
        finding=True,
    ),
    Rule(
        "not found",
        "no directory that was tried holds a library of that name for this machine",
        lambda case, _: _when(case.resolution.candidate is None, _trail(case.resolution)),
        finding=True,
    ),
    Rule(
        "would close a cycle of outputs",
        "Nix refuses outputs that refer to each other",
        lambda case, _: case.cycle(),
        finding=True,
    ),
    Rule("outside the store", "other machines may not have that file", _outside),
    Rule(
        "reference removed",
        "the build overwrote a hash in the search path, so as not to refer to what lies there; a bound name would",
        lambda case, _: _when(
            case.resolution.how in (INPUTS, ELSEWHERE_IN_INPUTS) and bool(NUKED.search(own_text(case.object)[0]))
        ),
    ),
    Rule(
        "may be overridden",
        "a directory that comes first in the search path is not in the store, so it may hold the name at run time; or the interpreter is"
        " another machine's, which has its own C library",
        lambda case, _: case.resolution.impure,
    ),
    Rule("stub", "it stands for a library that takes its place at run time", _stub),
    Rule(
        "processor variants",
        "the loader chooses among builds for several processors, which a path with a slash would skip",
        lambda case, _: _when(
            case.resolution.candidate is not None and case.resolution.candidate.variants,
            case.resolution.candidate.path if case.resolution.candidate else "",
        ),
    ),
    Rule(
        ANSWERS,
        "a program of the outputs loads an object whose name it answers, or has it answered by a file that is loaded already",
        lambda case, _: case.held,
    ),
)


def first(rules: tuple[Rule[Case], ...], case: Case, settings: Settings) -> tuple[Rule[Case], str] | None:
    """The first rule that fires on a case, with its detail."""
    for rule in rules:
        detail = rule.fires(case, settings)
        if detail is not None:
            return rule, detail
    return None


def leaves_alone(case: FileCase, settings: Settings) -> tuple[Rule[FileCase], str] | None:
    """The rule that keeps a file as it is, as far as the file alone tells; what is hardened had room."""
    hardened = any(os.path.isabs(name) for name in (case.object.soname or "", *case.object.needed))
    return first(FILE_RULES if hardened else (*FILE_RULES, *UNMOVABLE_RULES), case, settings)
