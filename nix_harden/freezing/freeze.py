"""Freeze a finished program: read it and its closure, decide, write a copy, and have its own loader compare the two.

    from nix_harden.freezing.freeze import freeze, freeze_closure, observe
    frozen = freeze("/nix/store/…-hello/bin/hello", "/tmp/hello")
    frozen = freeze_closure("/nix/store/…-hello/bin/hello", "/tmp/hello/bin/hello", "/tmp/hello/lib", relative=True)

Nothing of the program is run but by `observe`: the loader is asked to list and to bind (ld.so(8), LD_TRACE_LOADED_OBJECTS and LD_DEBUG),
and only on the machine that it is for.
"""

import functools
import glob
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence

from nix_harden.errors import NotFrozen, UsageError
from nix_harden.fixup.write import write_copy
from nix_harden.freezing import closure as copying
from nix_harden.freezing import lift, opened
from nix_harden.freezing.copies import check_directory, check_parent, made_directory, written
from nix_harden.freezing.frozen import Closure, Compared, Frozen, Opened, Order, Searched
from nix_harden.freezing.opened import Call, Evidence, Observed
from nix_harden.freezing.ordering import INSTEAD, Ordering, sort
from nix_harden.loading.asking import parse_listing
from nix_harden.loading.disk import DiskReader, Loaders, distrust
from nix_harden.loading.graph import Family, Graph, How, Reader, Unloadable, Unopened
from nix_harden.loading.loader import walk
from nix_harden.loading.symbols import KINDS, Symbols
from nix_harden.model import Kind
from nix_harden.native.compiled import is_start
from nix_harden.prelinking.named import module_of
from nix_harden.process import ask, privilege, show
from nix_harden.programs import MOST, steps
from nix_harden.reading.elf import read_symbols
from nix_harden.settings import Settings, from_environ

SECONDS = 120.0  # the loader looks every symbol up, and says each
# Have the loader list what it maps and look up every symbol as it would before it starts the program, without running IFUNC resolvers.
BIND = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "1", "LD_DEBUG": "bindings"}
BINDING = re.compile(r"^ *\d+:\tbinding file (.*) \[\d+\] to (.*) \[\d+\]: (.*)$", re.MULTILINE)
VARIANT = "/glibc-hwcaps/"
# A name that is answered so was asked for before, or is the loader's.
ANSWERED = (How.NAME, How.SONAME, How.LIBC)
ELSE = "use --closure DIR, which copies the libraries and binds each to the others by path"
REPORT = "please report it, with the program"


def freeze(
    program: str,
    out: str | None,
    *,
    order: Order = Order.LOADER,
    also: Sequence[str] = (),
    observed: Sequence[Observed] = (),
    settings: Settings | None = None,
) -> Frozen:
    """Write to `out` a copy of `program` that names every library of its closure by path, so that none is searched for.

    Without `out` it takes the program's own place, for a wrapper that of the program which it starts.

    `order` is that in which it names them: the loader's own, or one in which symbol lookup passes fewer libraries and, as is proven,
    binds the same. `also` are libraries, by
    path or name, that the program opens as it runs, and `observed` is what `observe` saw: they are found as before, and listed.
    Raises NotFrozen where that cannot be done, UsageError, ReadError and WriteError; nothing was written then, and what was at `out`
    before is as it was. A file at `out` is replaced.
    """
    settings = settings or from_environ(os.environ, {})
    target = check_target(out) if out is not None else None
    source = follow(program)
    target = target or source
    reader = DiskReader()
    graph = startable(source, reader)
    ordering = prove(graph) if order is Order.PROVEN else None
    names = lift.names(graph)
    if ordering is not None:
        names = tuple(names[number - 1] for number in ordering.order)
    edit = lift.edit(graph, names)
    lifted = lift.walk_lifted(graph, edit, reader)
    lift.refuse(graph, lifted, ELSE, in_order=order is Order.LOADER)
    more, calls = opened.collect(graph, also, observed, reader)
    for call in calls:
        if call.evidence is Evidence.ALSO and "/" in call.name:
            edit = lift.reach(graph, edit, call.name, reader)
    after = lift.walk_lifted(graph, edit, reader, lift.moved(opened.opens(calls), graph, lifted))
    lift.check_opened(more, after, ELSE)
    _check_overwritten(target, more, out)
    compared: list[Compared] = []
    with made_directory(os.path.dirname(target)):
        size = write_copy(edit, target, settings, lambda copy: compared.append(compare(graph, after, copy)))
    variants = tuple(name for name in names if VARIANT in name)
    told = _opened(more, calls, {})
    still = tuple(Searched(*each) for each in lift.searched(lifted))
    later = len(set(lift.searched(after))) - len(still)
    return Frozen(
        os.path.abspath(program),
        source,
        target,
        order,
        names,
        variants,
        size,
        compared[0],
        told,
        None,
        ordering,
        still,
        later,
    )


def explain(program: str) -> Ordering:
    """What Order.PROVEN would do for `program`: nothing is written. Raises as `freeze`."""
    graph = startable(follow(program), DiskReader())
    return prove(graph)


def prove(graph: Graph) -> Ordering:
    """Read the symbols of all objects of a program, and sort them. Raises NotFrozen where no order can be proven."""
    if graph.loader.family is not Family.GLIBC:
        raise NotFrozen(graph.root, "what is known of symbol lookup is glibc's", ELSE)
    machine = graph.nodes[0].object.abi.machine
    if machine not in KINDS:
        raise NotFrozen(graph.root, f"which symbols its relocations look up is not known for {machine}", INSTEAD)
    return sort(graph, [read_symbols(node.real) or Symbols() for node in graph.nodes])


def freeze_closure(
    program: str,
    out: str | None,
    directory: str,
    *,
    relative: bool = False,
    also: Sequence[str] = (),
    observed: Sequence[Observed] = (),
    settings: Settings | None = None,
) -> Frozen:
    """Write copies of all libraries of a program into `directory`, each bound to the copies, and to `out` the program, bound to them.

    `directory` is made, or holds nothing yet. With `relative` they are bound by `$ORIGIN`, so that they and the program run wherever
    they lie, as long as their places relative to each other stay. The C library and its loader stay where they are. Otherwise as
    `freeze`: what `also` and `observed` tell of is copied as well.
    """
    settings = settings or from_environ(os.environ, {})
    target = check_target(out) if out is not None else None
    directory = check_directory(directory)
    source = follow(program)
    target = target or source
    target = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
    reader = DiskReader()
    graph = startable(source, reader)
    more, calls = opened.collect(graph, also, observed, reader)
    plan = copying.make_plan(more, calls, target, directory, relative=relative, reader=reader)
    if target in {copy.path for copy in plan.libraries}:
        raise UsageError("--output", f"{target} is where a library goes; say another name")
    after = copying.walk_planned(more, plan, reader)
    copying.refuse(more, plan, after)
    _check_overwritten(target, more, out)
    was = {copy.path: more.nodes[copy.index].path for copy in plan.libraries}
    linked = {link: was[path] for link, path in plan.links.items()}
    compared: list[Compared] = []
    with (
        made_directory(os.path.dirname(directory)),
        made_directory(os.path.dirname(target)),
        written(plan.libraries, plan.links, directory, settings) as copied,
    ):
        size = write_copy(
            plan.program.edit, target, settings, lambda copy: compared.append(compare(graph, after, copy, was | linked))
        )
    libraries = plan.program.edit.needed_after
    variants = tuple(path for path in was.values() if VARIANT in path)
    told = _opened(more, calls, plan.reached)
    made = Closure(
        directory,
        relative,
        tuple((old, new) for new, old in was.items()),
        tuple(node.path for node in plan.stay),
        copied,
        _openers(more, plan) if graph.loader.family is Family.MUSL else (),
        (*copying.unanswered(more, plan, after), *plan.beside),
    )
    return Frozen(
        os.path.abspath(program), source, target, Order.LOADER, libraries, variants, size, compared[0], told, made
    )


def _opened(graph: Graph, calls: Sequence[Call], copies: Mapping[int, str]) -> tuple[Opened, ...]:
    return tuple(
        Opened(
            call.name,
            graph.nodes[call.caller].path,
            call.evidence.value,
            call.how.value,
            call.path,
            copies.get(place),
            call.problem,
        )
        for place, call in enumerate(calls)
    )


def _openers(graph: Graph, plan: copying.Plan) -> tuple[str, ...]:
    """The objects that are copied and open libraries."""
    nodes = [graph.nodes[copy.index] for copy in (plan.program, *plan.libraries)]
    return tuple(node.path for node in nodes if node.object.opens_libraries)


def observe(program: str, arguments: Sequence[str]) -> tuple[tuple[Observed, ...], int]:
    """Run a program, or its wrapper, and answer which libraries its glibc saw it open, and its exit status, negative for a signal.

    It runs in this environment and directory, with this process's standard input; what it prints goes to standard error.
    Raises NotFrozen where its loader does not tell, ToolError where it does not start.
    """
    graph = closure(follow(program), DiskReader())
    if graph.loader.family is not Family.GLIBC:
        raise NotFrozen(graph.root, "its loader tells of no dlopen", "name what it opens with --also")
    if (why_not := distrust(graph.root, graph.nodes[0].object.abi)) is not None:
        raise NotFrozen(graph.root, f"it is not run to see what it opens: {why_not}", "name what it opens with --also")
    needed = [edge.name for edge in graph.edges if edge.source == 0 and edge.how not in ANSWERED]
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        log = os.path.join(scratch, "log")
        status, process = show([os.path.abspath(program), *arguments], {**opened.TRACE, "LD_DEBUG_OUTPUT": log})
        texts = []
        for path in glob.glob(f"{log}.{process}"):
            with open(path, errors="surrogateescape") as file:
                texts.append(file.read())
    found = opened.parse_log("".join(texts), needed)
    if found is None:
        raise NotFrozen(
            graph.root, f"running {program} did not start it, so that nothing was seen", "run the program itself"
        )
    return found, status


def check_target(out: str) -> str:
    """Where the copy goes, checked before anything is done for it."""
    out = os.path.abspath(out)
    if os.path.isdir(out):
        raise UsageError("--output", f"{out} is a directory; say the name of a file in it")
    if os.path.lexists(out) and not stat.S_ISREG(os.lstat(out).st_mode) and not os.path.islink(out):
        raise UsageError("--output", f"{out} is there and no file; say another name")
    check_parent(out, "--output")
    return out


def _check_overwritten(target: str, graph: Graph, out: str | None) -> None:
    """Refuse to write over what the program, or its copy, loads."""
    real = os.path.realpath(target)
    if out is not None and (real == graph.loader.real or real in {node.real for node in graph.nodes[1:]}):
        raise UsageError("--output", f"{target} is a library that {graph.root} loads; say another name")


def follow(program: str) -> str:
    """The real path of the ELF program that `program` is, or starts where it is a wrapper of nixpkgs'. Raises NotFrozen, ReadError."""
    for found in steps(program):
        if not found.is_file:
            raise NotFrozen(found.path, "it is no file", "say the program itself")
        refuse_privileged(found.path, found.status)
    if found.starts is not None:
        raise NotFrozen(program, f"more than {MOST} wrappers start each other", f"freeze {found.path}")
    if found.is_script:
        advice = f"freeze its interpreter {found.interpreter}, or the program that it starts"
        raise NotFrozen(found.path, "it is a script, which names no libraries", advice)
    return found.path


def refuse_privileged(path: str, status: os.stat_result) -> None:
    """Raise NotFrozen for a program that has more privileges than whoever starts it."""
    if (what := privilege(path, status)) is not None:
        problem = f"it is {what}, which a copy is not, and its loader trusts other paths than any program's"
        raise NotFrozen(path, problem, "leave it as it is")


def startable(path: str, reader: Reader) -> Graph:
    """The graph of a program that starts as it is, and that no module knows. Raises NotFrozen, ReadError."""
    graph = closure(path, reader)
    lift.check(graph)
    if (module := module_of(graph.nodes[0].object)) is not None:
        problem = f"it is prelinked, and its module {module.path} fits this file alone"
        raise NotFrozen(
            path,
            problem,
            "take the program that it was made from, or have `nix-harden unharden` take the module away first",
        )
    return graph


def closure(path: str, reader: Reader) -> Graph:
    """The graph of the program at a real path, by its own loader's rules. Raises NotFrozen."""
    seen = reader.open(path)
    if isinstance(seen, Unloadable | Unopened):
        raise NotFrozen(path, f"no loader takes it: {seen.why}", "say an ELF program")
    obj = seen.loadable.object
    if obj.kind in (Kind.LIBRARY, Kind.PLUGIN):
        raise NotFrozen(path, "it is a shared library, not a program", "freeze the programs that use it")
    if obj.interpreter is None and is_start(path):
        raise NotFrozen(path, "it starts from its parts", "take the program that `nix-harden join` makes of it")
    if obj.interpreter is None:
        what = "static-pie" if seen.loadable.type == "ET_DYN" else "static"
        raise NotFrozen(path, f"it is {what} and loads no libraries", "there is nothing to do for it")
    loader = Loaders(reader, None).of(obj)
    if loader is None:
        raise NotFrozen(path, f"its interpreter {obj.interpreter} is not there", "freeze it where it can start")
    graph = walk(path, loader, reader)
    if graph is None:
        raise NotFrozen(path, "no loader takes it", "say an ELF program")
    return graph


def compare(graph: Graph, after: Graph, copy: str, was: Mapping[str, str] | None = None) -> Compared:
    """Ask the program's own loader what it maps and binds for the program and for its copy. Raises NotFrozen where they differ.

    `was` maps the copies of libraries to what they were copied from.
    """
    loader = graph.loader
    abi = graph.nodes[0].object.abi
    if (why_not := distrust(graph.root, abi) or distrust(loader.real, loader.abi)) is not None:
        return Compared(why_not=why_not)
    musl = loader.family is Family.MUSL
    words, environ = (["--list"], {}) if musl else ([], BIND)
    before, now = (ask([loader.path, *words, path], environ, SECONDS) for path in (graph.root, copy))
    mine, theirs = ([path for _, path in rows] for rows in (after.listing, parse_listing(now.out)[musl:]))
    if now.status != before.status or mine != theirs:
        said = (now.err.strip().splitlines() or [f"status {now.status}"])[-1] if now.status else "another list of files"
        raise NotFrozen(graph.root, f"its loader does not agree with what was planned: {said}", REPORT)
    if musl:
        return Compared()
    names = {copy: graph.root, **(was or {})}

    @functools.cache
    def original(path: str) -> str:
        return names.get(os.path.normpath(path), path)

    old, new = (
        {(original(one), original(other), symbol) for one, other, symbol in BINDING.findall(each.err)}
        for each in (before, now)
    )
    if old != new:
        one, other, symbol = min(new - old or old - new)
        problem = f"{len(old ^ new)} symbols would bind to other libraries, such as: {symbol} of {one}, to {other}"
        raise NotFrozen(graph.root, problem, REPORT)
    return Compared(len(old))
