"""Say what a program's loader does before the program itself begins: what it maps, looks up in vain, and how long that takes.

    from nix_harden.tracing.trace import observe
    traced = observe("/nix/store/…-hello/bin/hello")
    traced.failed_lookups, traced.by_directory, traced.libraries, traced.seconds

Nothing of the program's `main` runs, but for `follow`: each of its starts ends at its first own instruction (`entry`). Wrappers of nixpkgs', which are
to start another program, do run until they have.
"""

import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from nix_harden.errors import ReadError, ToolError, UsageError
from nix_harden.model import Kind
from nix_harden.names import MUSL
from nix_harden.native.compiled import is_start
from nix_harden.prelinking.named import module_of
from nix_harden.process import privilege, start_beside
from nix_harden.programs import MOST, Step, step, steps
from nix_harden.reading.elf import read_object
from nix_harden.settings import matches
from nix_harden.tracing import strace
from nix_harden.tracing.callgrind import Instructions, instructions
from nix_harden.tracing.entry import Process, Spent, hold, hold_for_good
from nix_harden.tracing.seen import Delayed, Linking, Subject, Traced, Whole, failures

# What is asked of a whole run: files, processes, and the first call that glibc makes after its loader's work.
WHOLE = "%file,%process,?mmap,?mmap2,?prlimit64"
LEFT = 1.0  # seconds for strace to see the end of what it follows; what the program leaves behind may run for ever
LOGS = 3  # starts under strace, of which the one that was disturbed least counts
BUDGET = 1.0  # seconds that go into measuring how long a start takes
ROUNDS = (5, 41)  # but never fewer, nor more
NOT_GLIBC = "its loader is not glibc's, which alone can say"
NO_LOADER = "it has no loader"
# strace tells a path that is to be filtered by on its command line, whose length is limited; execve(2) has 2 MiB at least.
MOST_PATHS = 1_000_000
DELAY = re.compile(r"(\d+(?:\.\d+)?) ?(us|µs|ms|s)")
UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
STATISTICS = re.compile(
    r"total startup time in dynamic loader: (?P<total>\d+) cycles"
    r".*?time needed for relocation: (?P<relocation>\d+) cycles"
    r".*?number of relocations: (?P<symbols>\d+)"
    r".*?number of relocations from cache: (?P<cached>\d+)"
    r".*?number of relative relocations: (?P<relative>\d+)"
    r".*?time needed to load objects: (?P<loading>\d+) cycles",
    re.DOTALL,
)

Span = tuple[int, int]  # addresses, from and to


def observe(
    program: str,
    args: Sequence[str] = (),
    *,
    image: str | None = None,
    delay: float | None = None,
    count_instructions: bool = False,
) -> Traced:
    """Start a program several times, and stop it each time before it does anything itself.

    `args` matter to wrappers and to constructors of libraries alone. `image` is what the process becomes, where `program` is a script or
    launcher that is no wrapper of nixpkgs'. `delay` is in seconds. Raises UsageError where `program` is none
    that can be traced, ToolError where strace is not there or the program does not start.
    """
    (traced,) = observe_all([subject(program, args, image)], delay=delay, count_instructions=count_instructions)
    return traced


def observe_all(
    subjects: Sequence[Subject], *, delay: float | None = None, count_instructions: bool = False
) -> tuple[Traced, ...]:
    """Trace several programs; the starts that are timed alternate between them, so that whatever else the machine does meets all."""
    logs = [
        min((_log(subject) for _ in range(LOGS)), key=lambda seen: seen[0].end - seen[0].begin) for subject in subjects
    ]
    found = []
    for subject, (log, loader), spent in zip(subjects, logs, _timed(subjects), strict=True):
        code = code_of(loader, log.calls, subject.modules)
        traced = Traced(subject, *split(log.calls, code), spent, begin=log.begin, end=log.end)
        asked: dict[str, Linking | Instructions | str] = {"linking": _linking(subject)}
        if count_instructions:
            is_glibc = isinstance(asked["linking"], Linking)
            asked["instructions"] = instructions(subject.image, subject.machine) if is_glibc else NOT_GLIBC
        why_not = tuple((field, answer) for field, answer in asked.items() if isinstance(answer, str))
        values = {field: answer for field, answer in asked.items() if not isinstance(answer, str)}
        traced = replace(traced, why_not=why_not, **values)  # type: ignore[arg-type]
        found.append(traced if delay is None else replace(traced, delayed=_delayed(traced, delay)))
    return tuple(found)


def subject(program: str, args: Sequence[str] = (), image: str | None = None) -> Subject:
    """What is to be traced: `program` is searched for in PATH where it has no slash.

    `image` is the file that its process becomes, for a script or launcher that is no wrapper of nixpkgs'. Raises UsageError, ReadError,
    MalformedElf.
    """
    path = program if "/" in program else shutil.which(program)
    if path is None:
        raise UsageError(program, "is no program in PATH; say its path")
    with _names_what_is_there():
        chain = tuple(_chain(os.path.abspath(path)) if image is None else (_checked(step(path)), _checked(step(image))))
    found = read_object(chain[-1])
    if found is None:
        raise UsageError(chain[-1], "is no ELF file, and no wrapper of nixpkgs' that starts one; say an ELF program")
    if found.kind in (Kind.LIBRARY, Kind.PLUGIN):
        raise UsageError(chain[-1], "is a shared library, which is not started; say a program that uses it")
    if found.interpreter is None and is_start(chain[-1]):
        raise UsageError(chain[-1], "starts from its parts; say the program that `nix-harden join` makes of it")
    modules = tuple(os.path.realpath(name) for name in found.filters if os.path.isabs(name))
    return Subject(
        os.path.abspath(path),
        (program, *args),
        chain,
        found.abi.machine,
        found.interpreter,
        modules,
        module_of(found) is not None,
    )


def _chain(path: str) -> Iterator[str]:
    """The real paths of a program and of those that it starts as a wrapper does. Raises UsageError, ReadError."""
    for found in steps(path):
        yield _checked(found)
    if found.starts is not None:
        raise UsageError(found.path, f"more than {MOST} wrappers start each other")
    if found.is_script:
        advice = f"trace its interpreter {found.interpreter}, or say with --image what it becomes"
        raise UsageError(found.path, f"is a script, and no wrapper of nixpkgs'; {advice}")


@contextlib.contextmanager
def _names_what_is_there() -> Iterator[None]:
    """Raises UsageError for a file that is not there."""
    try:
        yield
    except ReadError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UsageError(error.path, "is not there; say a program") from None
        raise


def _checked(found: Step) -> str:
    """The real path of what can be traced. Raises UsageError."""
    if not found.is_file:
        raise UsageError(found.path, "is no file; say a program")
    if not os.access(found.path, os.X_OK):
        raise UsageError(found.path, "may not be executed; say a program")
    if (what := privilege(found.path, found.status)) is not None:
        problem = f"is {what}, which the kernel takes from a traced program, so that what it shows would mislead"
        raise UsageError(found.path, f"{problem}; trace a copy without, whose loader trusts other paths")
    return found.path


def parse_time(option: str, text: str) -> float:
    """Seconds, from a number with the unit us, ms or s that an option gives. Raises UsageError."""
    match = DELAY.fullmatch(text)
    if match is None or not float(match[1]):
        raise UsageError(option, f"{text!r} is no time; say a number with its unit, us, ms or s, such as 1ms")
    return float(match[1]) * UNITS[match[2]]


def code_of(loader: Span | None, calls: Iterable[strace.Call], modules: Sequence[str]) -> tuple[Span, ...]:
    """Where the code of the loader lies and that of the audit modules that it maps; none without a loader."""
    if loader is None:
        return ()
    return (loader, *(call.span for call in calls if call.span is not None and call.file in modules))


def is_within(call: strace.Call, code: Sequence[Span]) -> bool:
    return any(begin <= call.address < end for begin, end in code)


def split(
    calls: Sequence[strace.Call], code: Sequence[Span]
) -> tuple[tuple[strace.Call, ...], tuple[strace.Call, ...]]:
    """The calls that the loader makes until all is loaded and relocated, and those that follow.

    The first call that is made from elsewhere than `code`, which is the loader's own and its audit modules', ends its work: glibc initializes libc.so.6 then, and after that
    runs constructors, which may have it load more by dlopen. musl's code is one file with its C library, and runs constructors
    only after the program's first instruction, so that every call before that is the loader's.
    """
    place = next((place for place, call in enumerate(calls) if not is_within(call, code)), len(calls))
    return tuple(calls[:place]), tuple(calls[place:])


def read_statistics(text: str) -> Linking | None:
    """The last answer of LD_DEBUG=statistics in what a loader wrote, or None where there is none."""
    found = None
    for match in STATISTICS.finditer(text):
        number = {name: int(value) for name, value in match.groupdict().items()}
        total = number["total"] or 1
        found = Linking(
            number["total"],
            number["loading"] / total,
            number["relocation"] / total,
            number["symbols"],
            number["cached"],
            number["relative"],
        )
    return found


def _hold(subject: Subject, environ: Mapping[str, str] | None = None) -> AbstractContextManager[Process]:
    return hold(subject.argv, subject.program, subject.image, subject.machine, dict(os.environ) | dict(environ or {}))


def _strace() -> str:
    tool = shutil.which("strace")
    if tool is None:
        raise ToolError(
            "strace", "is not there; install it (in Nix: pkgs.strace), as it is what sees the loader's calls"
        )
    return tool


def _log(subject: Subject, options: Sequence[str] = ()) -> tuple[strace.Log, tuple[int, int] | None]:
    """A start under strace: what it wrote, and the addresses of the loader."""
    tool = _strace()
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as place, _hold(subject) as held:
        file = os.path.join(place, "log")
        argv = [tool, *strace.OPTIONS, "-o", file, *options, "-p", str(held.pid)]
        held.release()
        beside = start_beside(argv, f"Process {held.pid} attached")
        try:
            os.kill(held.pid, signal.SIGCONT)
            held.wait()
        finally:
            beside.end()
        with open(file, encoding="utf-8", errors="surrogateescape") as log:
            return strace.parse(log), held.loader


def follow(subject: Subject, limit: float | None = None) -> Whole:
    """RUN a program to its end, or for `limit` seconds, under strace. It reads what this process reads, and prints to standard error.

    The loader's calls are those that the code of its file makes (`strace -i`): dlopen is in libc.so, but all that it opens and maps is
    opened and mapped by ld.so (elf/dl-load.c). Raises ToolError.
    """
    tool = _strace()
    with (
        tempfile.TemporaryDirectory(prefix="nix-harden-") as place,
        hold_for_good(subject.argv, subject.program, subject.image) as held,
    ):
        argv = [tool, "-ff", *strace.OPTIONS, f"--trace={WHOLE}", "-o", os.path.join(place, "log"), "-p", str(held.pid)]
        held.release()
        beside = start_beside(argv, f"Process {held.pid} attached")
        try:
            os.kill(held.pid, signal.SIGCONT)
            status, late = held.end(limit)
        finally:
            beside.stop(LEFT)
        calls = strace.of_one_program(_read_logs(place), held.pid)
    musl = subject.interpreter is not None and matches(MUSL, os.path.basename(subject.interpreter)) is not None
    code = code_of(None if musl else held.loader, calls, subject.modules)
    _, later = split(calls, code)
    opened = tuple(call for call in later if is_within(call, code))
    own = tuple(call for call in later if not is_within(call, code))
    programs = (call.path for call in own if call.name in strace.EXECS and call.error is None)
    return Whole(opened, own, not musl, tuple(path for path in programs if path is not None), status, late)


def _read_logs(place: str) -> dict[int, strace.Log]:
    """What `strace -ff` has written of each process, by its number."""
    found = {}
    for name in os.listdir(place):
        with open(os.path.join(place, name), encoding="utf-8", errors="surrogateescape") as log:
            found[int(name.rpartition(".")[2])] = strace.parse(log)
    return found


def _timed(subjects: Sequence[Subject]) -> list[tuple[Spent, ...]]:
    """What each program's starts take, in rounds."""
    least, most = ROUNDS
    rounds: list[list[Spent]] = []
    seconds = 0.0
    while len(rounds) < least or (len(rounds) < most and seconds < BUDGET * len(subjects)):
        rounds.append([_time(subject) for subject in subjects])
        seconds += sum(each.seconds for each in rounds[-1])
    return [tuple(spent) for spent in zip(*rounds, strict=True)]


def _time(subject: Subject) -> Spent:
    with _hold(subject) as held:
        return held.run()


def _linking(subject: Subject) -> Linking | str:
    """What glibc says of its work, in the start that was disturbed least, or why it says nothing."""
    if subject.interpreter is None:
        return NO_LOADER
    found = []
    for _ in range(LOGS):
        answer = _ask_linking(subject)
        if isinstance(answer, str):
            return answer
        found.append(answer)
    return min(found, key=lambda each: each.cycles)


def _ask_linking(subject: Subject) -> Linking | str:
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as place:
        file = os.path.join(place, "statistics")
        with _hold(subject, {"LD_DEBUG": "statistics", "LD_DEBUG_OUTPUT": file}) as held:
            held.run()
            try:
                with open(f"{file}.{held.pid}", encoding="utf-8", errors="replace") as written:
                    found = read_statistics(written.read())
            except FileNotFoundError:
                return NOT_GLIBC
    return found or "its loader's statistics have another form"


def _delayed(traced: Traced, delay: float) -> Delayed:
    """A start where strace delays the lookups that failed in the run before."""
    names = sorted({call.name for call in failures(traced.calls)})
    paths = list(dict.fromkeys(traced.failures))
    if not paths:
        log, _ = _log(traced.subject, ["--trace=none"])
        return Delayed(delay, 0, 0, log.end - log.begin)
    wanted = [word for path in paths for word in ("-P", path)] if sum(map(len, paths)) < MOST_PATHS else []
    inject = f"--inject={','.join(names)}:delay_exit={round(delay * 1e6)}"
    log, _ = _log(traced.subject, [f"--trace={','.join(names)}", inject, *wanted])
    slow = [call for call in log.calls if call.delayed]
    return Delayed(delay, len(slow), sum(call.error is None for call in slow), log.end - log.begin)
