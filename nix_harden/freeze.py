"""Freeze a finished program: read it and its closure, decide, write a copy, and have its own loader compare the two.

    from nix_harden.freeze import freeze
    frozen = freeze("/nix/store/…-hello/bin/hello", "/tmp/hello")

Nothing of the program is run: the loader is asked to list and to bind (ld.so(8), LD_TRACE_LOADED_OBJECTS and LD_DEBUG), and only on
the machine that it is for.
"""

import os
import re
import stat
from collections.abc import Collection

from nix_harden import lift
from nix_harden.audit import DiskReader, Loaders, distrust, parse_listing
from nix_harden.elf import read_symbols
from nix_harden.errors import NotFrozen, ReadError, UsageError
from nix_harden.frozen import Compared, Frozen, Order
from nix_harden.loader import Family, Graph, Reader, Unloadable, Unopened, walk
from nix_harden.model import Kind
from nix_harden.ordering import INSTEAD, Ordering, sort
from nix_harden.process import ask
from nix_harden.settings import Settings, from_environ
from nix_harden.symbols import KINDS, Symbols
from nix_harden.wrappers import LARGEST, interpreter, wrapped
from nix_harden.write import write_copy

MOST_WRAPPERS = 8
SECONDS = 120.0  # the loader looks every symbol up, and says each
# Have the loader list what it maps and look up every symbol as it would before it starts the program, without running IFUNC resolvers.
BIND = {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes", "LD_BIND_NOW": "1", "LD_DEBUG": "bindings"}
BINDING = re.compile(r"^ *\d+:\t(binding file .*)$", re.MULTILINE)
VARIANT = "/glibc-hwcaps/"
ELSE = "harden the library's package, which binds the name"


def freeze(
    program: str,
    out: str | None,
    *,
    order: Order = Order.LOADER,
    leave: Collection[str] = (),
    settings: Settings | None = None,
) -> Frozen:
    """Write to `out` a copy of `program` that names every library of its closure by path, so that none is searched for.

    Without `out` it takes the program's own place, for a wrapper that of the program which it starts.

    `order` is that in which it names them: the loader's own, or one in which symbol lookup passes fewer libraries and, as is proven,
    binds the same. `leave` are names that may go on being searched for, where no SONAME answers them.
    Raises NotFrozen where that cannot be done, UsageError, ReadError and WriteError; nothing was written then, and what was at `out`
    before is as it was. A file at `out` is replaced.
    """
    settings = settings or from_environ(os.environ, {})
    target = _target(out) if out is not None else None
    source = follow(program)
    target = target or source
    reader = DiskReader()
    graph = closure(source, reader)
    lift.check(graph)
    ordering = prove(graph) if order is Order.PROVEN else None
    names = lift.names(graph)
    if ordering is not None:
        names = tuple(names[number - 1] for number in ordering.order)
    edit = lift.edit(graph, names)
    after = lift.walk_lifted(graph, edit, reader)
    lift.refuse(graph, after, leave, ELSE)
    compared: list[Compared] = []
    size = write_copy(edit, target, settings, lambda copy: compared.append(compare(graph, after, copy)))
    variants = tuple(name for name in names if VARIANT in name)
    return Frozen(os.path.abspath(program), source, target, order, names, variants, size, compared[0], ordering)


def explain(program: str) -> Ordering:
    """What Order.PROVEN would do for `program`: nothing is written. Raises as `freeze`."""
    graph = closure(follow(program), DiskReader())
    lift.check(graph)
    return prove(graph)


def prove(graph: Graph) -> Ordering:
    """Read the symbols of all objects of a program, and sort them. Raises NotFrozen where no order can be proven."""
    if graph.loader.family is not Family.GLIBC:
        raise NotFrozen(graph.root, "what is known of symbol lookup is glibc's", ELSE)
    machine = graph.nodes[0].object.abi.machine
    if machine not in KINDS:
        raise NotFrozen(graph.root, f"which symbols its relocations look up is not known for {machine}", INSTEAD)
    return sort(graph, [read_symbols(node.real) or Symbols() for node in graph.nodes])


def _target(out: str) -> str:
    """Where the copy goes, checked before anything is done for it."""
    out = os.path.abspath(out)
    if os.path.isdir(out):
        raise UsageError("--output", f"{out} is a directory; say the name of a file in it")
    if os.path.lexists(out) and not stat.S_ISREG(os.lstat(out).st_mode) and not os.path.islink(out):
        raise UsageError("--output", f"{out} is there and no file; say another name")
    if not os.path.isdir(os.path.dirname(out)):
        raise UsageError("--output", f"{os.path.dirname(out)} is no directory; make it first")
    return out


def follow(program: str) -> str:
    """The real path of the ELF program that `program` is, or starts where it is a wrapper of nixpkgs'. Raises NotFrozen, ReadError."""
    path = program
    for _ in range(MOST_WRAPPERS):
        try:
            path = os.path.realpath(path, strict=True)
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise NotFrozen(path, "it is no file", "say the program itself")
            with open(path, "rb") as file:
                data = file.read(LARGEST)
        except OSError as error:
            raise ReadError(path, error.strerror or str(error)) from error
        _refuse_privileged(path, status)
        inner = wrapped(data)
        if inner is None:
            if data.startswith(b"#!"):
                advice = f"freeze its interpreter {interpreter(data)}, or the program that it starts"
                raise NotFrozen(path, "it is a script, which names no libraries", advice)
            return path
        path = inner
    raise NotFrozen(program, f"more than {MOST_WRAPPERS} wrappers start each other", f"freeze {path}")


def _refuse_privileged(path: str, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        what = "set-user-ID or set-group-ID"
    elif "security.capability" in os.listxattr(path):
        what = "given capabilities (capabilities(7))"
    else:
        return
    problem = f"it is {what}, which a copy is not, and its loader trusts other paths than any program's"
    raise NotFrozen(path, problem, "leave it as it is")


def closure(path: str, reader: Reader) -> Graph:
    """The graph of the program at a real path, by its own loader's rules. Raises NotFrozen."""
    seen = reader.open(path)
    if isinstance(seen, Unloadable | Unopened):
        raise NotFrozen(path, f"no loader takes it: {seen.why}", "say an ELF program")
    obj = seen.loadable.object
    if obj.kind in (Kind.LIBRARY, Kind.PLUGIN):
        raise NotFrozen(path, "it is a shared library, not a program", "freeze the programs that use it")
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


def compare(graph: Graph, after: Graph, copy: str) -> Compared:
    """Ask the program's own loader what it maps and binds for the program and for its copy. Raises NotFrozen where they differ."""
    loader = graph.loader
    abi = graph.nodes[0].object.abi
    if (why_not := distrust(graph.root, abi) or distrust(loader.real, loader.abi)) is not None:
        return Compared(why_not=why_not)
    before, now = (ask([loader.path, path], BIND, SECONDS) for path in (graph.root, copy))
    advice = "please report it, with the program"
    mine, theirs = ([path for _, path in rows] for rows in (after.listing, parse_listing(now.out)))
    if now.status != before.status or mine != theirs:
        said = (now.err.strip().splitlines() or [f"status {now.status}"])[-1] if now.status else "another list of files"
        raise NotFrozen(graph.root, f"its loader does not agree with what was planned: {said}", advice)
    old, new = (set(BINDING.findall(each.err.replace(copy, graph.root))) for each in (before, now))
    if old != new:
        changed = min(new - old or old - new)
        raise NotFrozen(
            graph.root, f"{len(old ^ new)} symbols would bind to other libraries, such as: {changed}", advice
        )
    return Compared(len(old))
