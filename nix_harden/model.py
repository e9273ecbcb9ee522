"""The nouns of this project as frozen values; no input or output happens here."""

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Abi:
    """What two objects must share to be linked at run time (gABI, "ELF Header").

    `bits` is 32 or 64; `machine` is the name of e_machine in <elf.h>, e.g. ``EM_X86_64``; `osabi` is EI_OSABI,
    with System V and GNU/Linux both 0, as every glibc loads either.
    """

    bits: int
    little_endian: bool
    machine: str
    osabi: int

    def __str__(self) -> str:
        order = "little" if self.little_endian else "big"
        system = f", OS ABI {self.osabi}" if self.osabi else ""
        return f"{self.bits}-bit {order}-endian {self.machine.removeprefix('EM_')}{system}"


class Kind(enum.Enum):
    """What an object is to its loader."""

    LIBRARY = "library"
    PROGRAM = "program"
    PLUGIN = "plugin"  # a shared object without SONAME: opened by path, never by NEEDED
    OTHER = "other"  # nothing dynamic in it: static programs, relocatable objects, core files


@dataclass(frozen=True, slots=True)
class DlopenNote:
    """One entry of a `.note.dlopen` (systemd's ELF_DLOPEN_METADATA): SONAMEs, the first to be found counts, and what they are for."""

    sonames: tuple[str, ...]
    feature: str = ""
    description: str = ""
    priority: str = "recommended"


@dataclass(frozen=True, slots=True)
class Object:
    """One ELF file as the loader sees it, read once from its segments.

    Strings are those of the dynamic section (gABI, "Dynamic Section"), in its order; None means that there is
    no such tag. `version_files` are the vn_file strings of DT_VERNEED; `opens_libraries` tells that it calls
    dlopen(3), `notes` are what its dlopen notes say.
    `no_default_directories` is DF_1_NODEFLIB. `filters` are the strings of
    DT_FILTER, DT_AUXILIARY, DT_AUDIT and DT_DEPAUDIT; `payload` counts bytes after the last one that a header describes; `sections` tells whether there
    is a section header table, which patchelf needs; `debug_only` marks a file whose dynamic section holds no bytes,
    as `objcopy --only-keep-debug` leaves it. `alignment` is the largest of its loaded segments.
    """

    path: str
    abi: Abi
    kind: Kind
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: str | None = None
    runpath: str | None = None
    filters: tuple[str, ...] = ()
    version_files: tuple[str, ...] = ()
    opens_libraries: bool = False
    notes: tuple[DlopenNote, ...] = ()
    no_default_directories: bool = False
    sections: bool = True
    debug_only: bool = False
    payload: int = 0
    alignment: int = 0

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)


@dataclass(frozen=True, slots=True)
class Loadable:
    """What the loader uses of a file beyond its `Object`.

    `type` is the name of e_type in <elf.h>, `flags` DT_FLAGS_1; `wants` pairs DT_NEEDED, DT_FILTER and DT_AUXILIARY with
    their strings, in the dynamic section's order, which decides the order of loading. `mentions` are the strings in an object
    that calls dlopen which read like names of libraries. `unopenable` says why a loader does not open the file as a library although the
    kernel starts it; `relative_unversioned` that it has DT_RELR and needs no version by which a loader without it would refuse the file.
    """

    object: Object
    type: str
    flags: int
    wants: tuple[tuple[str, str], ...]
    mentions: tuple[str, ...] = ()
    unopenable: str | None = None
    relative_unversioned: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One inode of the outputs: every path that names it, in byte order, and the object that it holds."""

    output: str
    paths: tuple[str, ...]
    object: Object


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the derivation: its name (`out`, `lib`, …) and its directory."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that the loader would accept for a name.

    `path` is where the search found it, `real` that path with every symbolic link followed, and `bound` the name
    to bind: the file's own directory with the name that was asked for, where that entry is the same file.
    `stub` says that no entry beside the file bears its SONAME, so that the loader cannot ever have been meant to find it;
    `variants` says that a glibc-hwcaps or legacy capability directory beside `path` holds the same name;
    `dispatcher` that it looks for the system's drivers itself.
    """

    path: str
    real: str
    bound: str
    abi: Abi
    soname: str | None
    stub: bool = False
    variants: bool = False
    dispatcher: bool = False


# Where a name was found, of what the object itself does not say.
INPUTS, ELSEWHERE_IN_INPUTS = "the inputs", "the inputs, outside of their lib directories"
ABSENT = "not there"
# Begins the name of every copy that is written aside, so that one which a kill leaves behind is known for what it is.
COPY = ".nix-harden-"


@dataclass(frozen=True, slots=True)
class Tried:
    """A directory where a name was looked for, and why nothing was taken; ABSENT where no entry bears the name."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The verdict on one NEEDED string: the candidate and how it was found, or none and what was tried.

    `own` tells whether the object's own search found it, hence whether the loader does so today. `impure` is the first
    directory before it that another machine may fill, or the interpreter that only another machine has; `rivals` are different files of that name, none of
    which was chosen.
    """

    name: str
    candidate: Candidate | None
    how: str
    own: bool = False
    impure: str | None = None
    tried: tuple[Tried, ...] = ()
    rivals: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one name of an object: its new string, or None and the rule that left it; `why` says which."""

    name: str
    new: str | None
    why: str
    detail: str = ""


class PathAction(enum.Enum):
    """What to do with an object's search path.

    EMPTY leaves DT_RUNPATH with an empty string, as `patchelf --shrink-rpath` does, which loaders take for none: make-initrd-ng
    joins each entry of it with each NEEDED, and copies no library of an object without the tag.
    """

    KEEP = "keep"
    EMPTY = "empty"
    SET = "set"


class Use(enum.Enum):
    """What a string that this project edits is to its object."""

    NEEDED = "DT_NEEDED"
    SONAME = "DT_SONAME"
    RPATH = "DT_RPATH"
    RUNPATH = "DT_RUNPATH"
    AUDIT = "DT_AUDIT"
    VERSION = "vn_file"


@dataclass(frozen=True, slots=True)
class Field:
    """A number in a file that is the offset of an editable string: its place in the file and its width, in bytes, and its value."""

    use: Use
    position: int
    size: int
    value: int


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes and the place in a file where they go."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StringTable:
    """The dynamic string table of a file and all that refers to it.

    `offset` is its place in the file; `fixed` are the offsets that symbols, versions and other tags refer to, which no
    edit may change; `tags` are the entries of the dynamic section before DT_NULL, as bytes, and their place in the file; `spare` is a DT_NULL that another follows, hence free for a
    tag: its place in the file and the width of its two numbers, in bytes.
    """

    offset: int
    strings: bytes
    little_endian: bool
    fixed: frozenset[int]
    fields: tuple[Field, ...]
    spare: tuple[int, int] | None = None
    tags: Write | None = None

    @property
    def byte_order(self) -> Literal["little", "big"]:
        return "little" if self.little_endian else "big"

    def string(self, offset: int) -> str:
        """The string that begins at an offset which a field holds."""
        return os.fsdecode(self.strings[offset : self.strings.index(b"\0", offset)])


@dataclass(frozen=True, slots=True)
class Edit:
    """All that changes in one inode: made in place, or by one call of patchelf.

    `needed` pairs old with new strings, and version needs follow them; `search_path` is the new string where `action` is SET;
    `rpath` says that the tag which holds it is DT_RPATH. `order` is every NEEDED as it is to stand afterwards, where more than the
    strings changes: what neither stands there nor comes from `needed` is added. `audit` is the DT_AUDIT that is added,
    "" where the only one is taken away.
    """

    paths: tuple[str, ...]
    before: Object
    soname: str | None
    needed: tuple[tuple[str, str], ...]
    action: PathAction
    search_path: str = ""
    rpath: bool = False
    order: tuple[str, ...] | None = None
    audit: str | None = None

    @property
    def needed_after(self) -> tuple[str, ...]:
        """Every NEEDED once the edit is made, in its order."""
        return self.renamed if self.order is None else self.order

    @property
    def renamed(self) -> tuple[str, ...]:
        """The NEEDED that are there, by their new strings, where they stand."""
        names = dict(self.needed)
        return tuple(names.get(name, name) for name in self.before.needed)

    @property
    def after(self) -> Object:
        """What the object reads as once the edit is made."""
        before, names = self.before, dict(self.needed)
        runpath, rpath = before.runpath, before.rpath
        if self.action is not PathAction.KEEP:
            runpath, rpath = (runpath, self.search_path) if self.rpath else (self.search_path, rpath)
        return replace(
            before,
            kind=Kind.LIBRARY if before.kind is Kind.PLUGIN and self.soname is not None else before.kind,
            soname=self.soname or before.soname,
            needed=self.needed_after,
            runpath=runpath,
            rpath=rpath,
            version_files=tuple(names.get(name, name) for name in before.version_files),
            filters=before.filters if self.audit is None else (*before.filters, self.audit) if self.audit else (),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything decided about one file of the outputs; `edit` is None where nothing changes.

    `skipped` names the rule that keeps the whole file as it is, if any.
    """

    file: File
    skipped: Verdict | None
    soname: Verdict | None
    needed: tuple[Verdict, ...]
    resolutions: tuple[Resolution, ...]
    runpath: str
    edit: Edit | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions on all files of all outputs, in byte order of their paths."""

    decisions: tuple[Decision, ...]

    @property
    def edits(self) -> tuple[Edit, ...]:
        return tuple(decision.edit for decision in self.decisions if decision.edit is not None)


@dataclass(frozen=True, slots=True)
class Held:
    """Names that a plan has to leave as they are, each with what would break otherwise.

    `needed` are by the first path of a file and the name, `sonames` by the first path of a file.
    """

    needed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    sonames: Mapping[str, str] = field(default_factory=dict)

    def __or__(self, other: "Held") -> "Held":
        return Held({**other.needed, **self.needed}, {**other.sonames, **self.sonames})
