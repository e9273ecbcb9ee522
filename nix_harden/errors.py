"""What can go wrong, each as a type that carries its fields and renders itself as one sentence."""

from dataclasses import dataclass, fields
from typing import ClassVar, Self


@dataclass(eq=False)
class HardenError(Exception):
    """Any failure that this program explains; `status` is the exit status that it leads to."""

    status = 3

    def __str__(self) -> str:
        raise NotImplementedError

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))


@dataclass(eq=False)
class UsageError(HardenError):
    """A setting that cannot be used: its name as the user wrote it, and what is wrong with it."""

    setting: str
    problem: str
    status = 2

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}"


@dataclass(eq=False)
class MalformedElf(HardenError):
    """A file that starts as ELF does and then breaks the format (gABI, "Object Files")."""

    path: str
    reason: str
    status = 1

    def __str__(self) -> str:
        return f"{self.path}: malformed ELF: {self.reason}"


@dataclass(eq=False)
class PlanConflict(HardenError):
    """Two edits of one inode that cannot both be made."""

    path: str
    other: str
    problem: str
    status = 1

    def __str__(self) -> str:
        return f"{self.path} and {self.other} are one file, but {self.problem}; nothing was written"


@dataclass(eq=False)
class WriteError(HardenError):
    """A file that could not be replaced; the old one is whole. `replaced` are those of its hard links that are new.

    `torn` says that it was written to straight away and what was there could not be put back.
    """

    path: str
    problem: str
    replaced: tuple[str, ...] = ()
    torn: bool = False

    def __str__(self) -> str:
        if self.torn:
            return f"{self.path}: half written, do not use this output: {self.problem}; build again"
        if self.replaced:
            return f"{self.path}: {', '.join(self.replaced)} new, its other hard links as they were: {self.problem}; run again"
        return f"{self.path}: not written, the file is as it was: {self.problem}"


@dataclass(eq=False)
class NotEdited(HardenError):
    """A file of which patchelf makes nothing that a loader takes, and that has no room; it stays as it is."""

    path: str
    problem: str
    status = 1

    def __str__(self) -> str:
        name = self.path.rpartition("/")[2]
        return f'{self.path}: stays as it is: {self.problem}; hardenNeededExclude = [ "{name}" ] leaves it without a warning'


@dataclass(eq=False)
class ReferenceRefused(HardenError):
    """A reference that a planned name would add, and that an attribute of the derivation refuses."""

    path: str
    name: str
    new: str
    output: str
    target: str
    attribute: str
    allows: bool
    status = 1

    def __str__(self) -> str:
        refusal = "does not allow" if self.allows else "forbids"
        words = f"{self.path}: {self.name} would be {self.new}, a reference of {self.output} to {self.target}, which {self.attribute} {refusal}"
        add = f'add "{self.output}" to it, or ' if self.target == "itself" else "add it there, or "
        mode, exclude = 'set hardenNeededMode = "needed"', "leave the name bare with hardenNeededExclude"
        return f"{words}; {add if self.allows else ''}{mode if self.name == 'SONAME' else exclude}"


@dataclass(eq=False)
class ToolError(HardenError):
    """A program that this one calls is missing, too old, or failed; `ended` is its status, negative for a signal, where it ran."""

    tool: str
    problem: str
    ended: int | None = None

    def __str__(self) -> str:
        return f"{self.tool}: {self.problem}"


@dataclass(eq=False)
class ReadError(HardenError):
    """A file or directory of an output that the system does not let us read."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: cannot be read: {self.problem}"


@dataclass(eq=False)
class CheckFailed(HardenError):
    """A name that means another file after writing than before, or than the plan chose."""

    path: str
    name: str
    expected: str
    actual: str
    status = 1

    def __str__(self) -> str:
        return f"{self.path}: after writing, {self.name} leads to {self.actual} instead of {self.expected}; do not use this output"


@dataclass(eq=False)
class WouldBreak(HardenError):
    """A name in a program of the outputs that would lead to another file, or nowhere, and that no name left bare keeps."""

    root: str
    asker: str
    name: str
    was: str
    now: str | None
    status = 1

    def __str__(self) -> str:
        then = f"{self.now} instead of {self.was}" if self.now is not None else f"nothing instead of {self.was}"
        advice = 'leave names out with hardenNeededExclude, or set hardenNeededMode = "needed"'
        return f"{self.root}: in it, {self.name} of {self.asker} would lead to {then}: {advice}"


@dataclass(eq=False)
class FindingsRefused(HardenError):
    """Findings, however many, where the derivation asks for none; `written` says that they came up when files were."""

    number: int
    written: bool = False
    status = 1

    def __str__(self) -> str:
        words = "1 finding" if self.number == 1 else f"{self.number} findings"
        return f"{words}, and hardenNeededStrict is set{'' if self.written else '; nothing was written'}"


@dataclass(eq=False)
class NotFrozen(HardenError):
    """A program that cannot be frozen as it was asked for: why, and what to do instead."""

    path: str
    problem: str
    advice: str
    status = 1
    asked: ClassVar[str] = "frozen"

    def __str__(self) -> str:
        return f"{self.path}: not {self.asked}, nothing was written: {self.problem}; {self.advice}"


class NotPrelinked(NotFrozen):
    """The same where it was to be prelinked: what keeps a program from the one often keeps it from the other."""

    asked = "prelinked"


@dataclass(eq=False)
class NotDrawn(HardenError):
    """Something that no picture can be made of: why, and what to do instead."""

    path: str
    problem: str
    advice: str
    status = 1

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.advice}"


@dataclass(eq=False)
class SeveralErrors(HardenError):
    """All failures of a run that was carried to its end before it failed."""

    errors: tuple[HardenError, ...]

    @property
    def status(self) -> int:  # type: ignore[override]
        return max(error.status for error in self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass(eq=False)
class NotJoined(HardenError):
    """A part of a file that says what no file can be made of: which, the line in it from 1 if it is one, why, and what to do."""

    path: str
    line: int | None
    problem: str
    advice: str
    status = 1

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.problem}, nothing was written; {self.advice}"
