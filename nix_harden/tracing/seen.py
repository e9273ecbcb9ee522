"""What a trace is of and what it showed, as values; pure."""

import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nix_harden.tracing import strace
from nix_harden.tracing.callgrind import Instructions
from nix_harden.tracing.entry import Spent

# Every loader asks for it, whatever a program needs (nixpkgs' by its second name).
PRELOAD = ("/etc/ld.so.preload", "/etc/ld-nix.so.preload")
CACHE = "ld.so.cache"
# What loaders look for below each directory of a search path: libraries for some processors (glibc, elf/dl-hwcaps.c, and before 2.37
# the legacy subdirectories).
VARIANTS = re.compile(r"(?:/glibc-hwcaps(?:/[^/]+)?|/tls|/haswell|/avx512_1|/xeon_phi|/x86_64)+$")


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that can be traced: what was asked for, the real path of what it becomes, and how it is started.

    `chain` are the wrappers on the way, and the image last. `modules` are the real paths of the audit modules that this names by path,
    whose code runs within the loader (rtld-audit(7)); `prelinked` says that it is one of this project.
    """

    program: str
    argv: tuple[str, ...]
    chain: tuple[str, ...]
    machine: str
    interpreter: str | None
    modules: tuple[str, ...] = ()
    prelinked: bool = False

    @property
    def image(self) -> str:
        return self.chain[-1]


@dataclass(frozen=True, slots=True)
class Linking:
    """What glibc says of its own work (ld.so(8), LD_DEBUG=statistics): shares of the loader's time, and relocations.

    `loading` is the share of finding and mapping objects, `relocating` that of relocations and the symbol lookups that they need;
    `cycles` are the loader's time as its clock has it, `symbols` counts relocations with a symbol, `cached` those that took the answer of the one before, `relative` those without.
    """

    cycles: int
    loading: float
    relocating: float
    symbols: int
    cached: int
    relative: int


@dataclass(frozen=True, slots=True)
class Delayed:
    """A start where each failed lookup took longer: the delay asked for, how many calls strace delayed, and the seconds under strace.

    `found` counts those of them that found a file after all, where there were too many paths to tell them apart.
    """

    delay: float
    calls: int
    found: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Whole:
    """A run from its start to its end.

    `opened` are the calls that the loader makes after the start, for dlopen(3), and `own` all others after it, of the program, its
    threads and forks; of a loader that is one file with the C library, as musl's is, none is told apart, and `own` has all. `programs` are
    those that it has started. `status` is as a shell has it; `late` says that the program was ended since it took too long.
    """

    opened: tuple[strace.Call, ...]
    own: tuple[strace.Call, ...]
    is_told_apart: bool
    programs: tuple[str, ...]
    status: int
    late: bool


@dataclass(frozen=True, slots=True)
class Traced:
    """What one program's loader does.

    `calls` are the loader's own, in their order, and `later` those that constructors of libraries make before the program's first
    instruction; `begin` and `end` are when strace saw the start begin and end, by the clock of the calls. `spent` is what each of several starts without strace took. What could not be had is None, and `why_not` says why, by field.
    """

    subject: Subject
    calls: tuple[strace.Call, ...]
    later: tuple[strace.Call, ...]
    spent: tuple[Spent, ...]
    linking: Linking | None = None
    instructions: Instructions | None = None
    delayed: Delayed | None = None
    why_not: tuple[tuple[str, str], ...] = ()
    begin: float = 0.0
    end: float = 0.0
    whole: "Whole | None" = None

    @property
    def libraries(self) -> tuple[str, ...]:
        """The files that the loader maps, in its order, without itself and the program."""
        return mapped(self.calls)

    @property
    def failures(self) -> tuple[str, ...]:
        """Each path that the loader looked up in vain, in its order."""
        return tuple(call.path for call in failures(self.calls) if call.path is not None)

    @property
    def failed_lookups(self) -> int:
        return len(self.failures)

    @property
    def by_directory(self) -> Mapping[str, int]:
        """How many lookups failed in each directory of a search path, the most first; its subdirectories for processors are in it."""
        return by_directory(self.calls)

    @property
    def failed_opens(self) -> int:
        """How many of the failed lookups were to open a file; the rest ask whether a file or directory is there."""
        return sum(self.by_name.values())

    @property
    def by_name(self) -> Mapping[str, int]:
        """How many times a file of each name could not be opened, the most first: what is still searched for."""
        opens = (call for call in failures(self.calls) if call.name.startswith("open"))
        return dict(Counter(os.path.basename(call.path or "") for call in opens).most_common())

    @property
    def by_call(self) -> Mapping[str, int]:
        """How many system calls of each name the loader makes, the most first."""
        return dict(Counter(call.name for call in self.calls).most_common())

    @property
    def times(self) -> tuple[float, ...]:
        """The seconds of each start without strace."""
        return tuple(each.seconds for each in self.spent)

    @property
    def seconds(self) -> float:
        """The median of `times`."""
        return statistics.median(self.times)

    @property
    def processor_seconds(self) -> float | None:
        """The median of the seconds on a processor, which what else the machine does changes little; None where the kernel does not say."""
        known = [each.processor for each in self.spent if each.processor is not None]
        return statistics.median(known) if known else None


def mapped(calls: Iterable[strace.Call]) -> tuple[str, ...]:
    """The files that calls map, in their order, but for the loader's cache."""
    files = dict.fromkeys(call.file for call in calls if call.file and os.path.basename(call.file) != CACHE)
    return tuple(file for file in files if file is not None)


def by_directory(calls: Iterable[strace.Call]) -> dict[str, int]:
    """How many lookups failed in each directory, the most first; subdirectories for processors are in that above them."""
    return dict(Counter(map(directory, failures(calls))).most_common())


def by_parent(calls: Iterable[strace.Call]) -> dict[str, int]:
    """How many lookups failed in each directory, the most first, of a program that may ask for anything."""
    return dict(Counter(os.path.dirname(call.path or "") or "/" for call in failures(calls)).most_common())


def failures(calls: Iterable[strace.Call]) -> Iterator[strace.Call]:
    """The lookups that failed, but for those that every loader makes."""
    return (call for call in calls if call.is_failed_lookup and call.path not in PRELOAD)


def directory(call: strace.Call) -> str:
    """The directory of a search path that a lookup belongs to.

    A library is opened; what is asked for in another way is whether a directory is there at all (glibc, open_path in elf/dl-load.c).
    """
    path = call.path or ""
    return VARIANTS.sub("", os.path.dirname(path) if call.name.startswith("open") else path) or "/"
