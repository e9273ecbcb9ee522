"""Prelink a finished program: read it and its closure, work out its table, have its own loader prove it, and write a copy that names its module.

    from nix_harden.prelinking.prelink import prelink
    done = prelink("/nix/store/…-hello/bin/hello", "/tmp/hello")

Nothing of the program is run but resolvers of IFUNCs: the loader is asked to relocate it, and only on the machine that it is for, or
under qemu-user(1) where that is there.
"""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

from nix_harden.errors import HardenError, NotFrozen, NotPrelinked, UsageError
from nix_harden.fixup.write import write_copy
from nix_harden.freezing import lift
from nix_harden.freezing.copies import check_parent, made_directory
from nix_harden.freezing.freeze import check_target, follow, refuse_privileged, startable
from nix_harden.loading.disk import DiskReader, distrust, host_abi
from nix_harden.loading.graph import Family, Graph, Reader
from nix_harden.model import Edit, PathAction
from nix_harden.native import compiled
from nix_harden.prelinking import table
from nix_harden.prelinking.prelinked import Asker, Gain, Prelinked, Proof, Whole
from nix_harden.prelinking.prove import Attach, prove
from nix_harden.prelinking.slots import TYPES, Mapped
from nix_harden.prelinking.table import Table
from nix_harden.reading.elf import read_mapped
from nix_harden.saying.files import put
from nix_harden.settings import Settings, from_environ

BESIDE = ".prelink.so"
# Before it, ld.so gives the functions of what is opened later to its profiler wherever there is an audit module (BZ #15533).
OLDEST = b"GLIBC_2.35"
# Where there is an audit module, ld.so lays out the static thread-local variables of libraries as it does for what is opened later, in
# 1,952 bytes (elf/dl-tls.c, tls_static_surplus), of which it keeps 1,664 for that alone otherwise.
MOST_STATIC_TLS = 288
VARIANTS = "glibc-hwcaps"
QEMU = {"EM_X86_64": "qemu-x86_64", "EM_AARCH64": "qemu-aarch64"}


def prelink(program: str, out: str | None, beside: str | None = None, *, settings: Settings | None = None) -> Prelinked:
    """Write to `out` a copy of `program` that names a module, and to `beside`, or behind `out`'s name, that module.

    Without `out` it takes the program's own place, for a wrapper that of the program which it starts. Raises NotPrelinked where that
    cannot be done or proved, UsageError, ReadError and WriteError; nothing was written then.
    """
    settings = settings or from_environ(os.environ, {})
    with as_prelinked():
        target = check_target(out) if out is not None else None
        source = follow(program)
    target = target or source
    graph = loaded(source, DiskReader())
    beside = (
        os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(beside))), os.path.basename(beside))
        if beside
        else ""
    )
    place = beside or os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target) + BESIDE)
    check_parent(place, "--table")
    if ":" in place:
        raise UsageError("--table", f"{place} has a colon in it, which ends a name in DT_AUDIT; say another name")
    objects = [read(graph, node.real) for node in graph.nodes]
    return write(program, graph, objects, target, place, settings=settings)


def loaded(source: str, reader: Reader) -> Graph:
    """What the program at a real path loads. Raises NotPrelinked for what no table can be made for, or would be used."""
    with as_prelinked():
        refuse_privileged(source, os.stat(source))
        graph = startable(source, reader)
    _refuse(graph)
    return graph


def write(
    program: str, graph: Graph, objects: Sequence[Mapped], target: str, place: str, *, settings: Settings
) -> Prelinked:
    """Write to `target` a copy of the program of a graph, which was asked for as `program`, and to `place` the module that it names.

    `objects` are the files of the graph. Raises as `prelink`.
    """
    attach = functools.partial(
        compiled.attach, _compiled(graph), page=compiled.PAGES[graph.nodes[0].object.abi.machine]
    )
    done: list[tuple[Table, Proof, int]] = []

    def make(copy: str) -> None:
        copied = [read(graph, copy), *objects[1:]]
        made = table.make(graph, copied, answerable(graph))
        if made.static_tls > MOST_STATIC_TLS:
            problem = f"{made.static_tls} bytes of thread-local variables of its libraries would take the room of those that are opened later"
            raise NotPrelinked(graph.root, problem, "freeze it instead")
        proof = _prove(graph, copied, made, copy, attach)
        data = attach(made.encode())
        put(place, data, "--table")
        done.append((made, proof, len(data)))

    with made_directory(os.path.dirname(target)), made_directory(os.path.dirname(place)), _unless_it_fails(place):
        size = write_copy(_edit(graph, target, place), target, settings, make)
    made, proof, module_size = done[0]
    return Prelinked(_gain(program, graph, made), target, place, size, module_size, proof)


@contextlib.contextmanager
def _unless_it_fails(place: str) -> Iterator[None]:
    """A module that is new goes again where the program that is to name it cannot be written."""
    new = not os.path.lexists(place)
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
        raise


def explain(program: str) -> Gain:
    """What prelinking `program` would gain: nothing is written, run or proved. Raises as `prelink`."""
    with as_prelinked():
        source = follow(program)
    graph = loaded(source, DiskReader())
    made = table.make(graph, [read(graph, node.real) for node in graph.nodes], answerable(graph))
    return _gain(program, graph, made)


def saved(program: str) -> int | None:
    """How many lookups of symbols a start of the program at a real path would be spared, None where it cannot be prelinked."""
    try:
        return explain(program).lookups
    except HardenError:
        return None


def _gain(program: str, graph: Graph, made: Table) -> Gain:
    return Gain(
        os.path.abspath(program),
        graph.root,
        len(made.paths),
        sum(len(each) for each in made.names),
        made.lookups,
        made.rest,
        made.slots,
        len(made.encode()),
        tuple(Asker(path, part.lookups) for path, part in zip(made.paths, made.parts, strict=True)),
        tuple(
            Whole(path, part.whole)
            for number, (path, part) in enumerate(zip(made.paths, made.parts, strict=True))
            if part.whole and number != made.loader
        ),
    )


@contextlib.contextmanager
def as_prelinked() -> Iterator[None]:
    """What keeps a program from being frozen keeps it from being prelinked, too."""
    try:
        yield
    except NotFrozen as error:
        raise NotPrelinked(error.path, error.problem, error.advice) from error


def _refuse(graph: Graph) -> None:
    """Raise NotPrelinked for what no table can be made for, or would be used."""
    machine = graph.nodes[0].object.abi.machine
    if graph.loader.family is not Family.GLIBC:
        raise NotPrelinked(graph.root, "its loader is not glibc's, and has no audit modules", "freeze it instead")
    if machine not in TYPES or not graph.nodes[0].object.abi.little_endian:
        raise NotPrelinked(
            graph.root, f"which words its relocations write is not known for {machine}", "freeze it instead"
        )
    if graph.loader.real not in {node.real for node in graph.nodes}:
        raise NotPrelinked(
            graph.root, "nothing of it needs its loader by name, as a C library does", "leave it as it is"
        )
    if len(graph.nodes) > table.MOST:
        raise NotPrelinked(graph.root, f"it loads more than {table.MOST} objects", "freeze it instead")
    for node in graph.nodes:
        if node.object.filters:
            names = ", ".join(node.object.filters)
            problem = f"{node.path} has filter or audit tags ({names}), which change what is loaded"
            raise NotPrelinked(graph.root, problem, "leave it as it is")
        if not os.path.isabs(node.path):
            problem = f"{node.path} was found in the current directory, which is another at each start"
            raise NotPrelinked(graph.root, problem, "take the empty or relative entries out of the search paths")


def _compiled(graph: Graph) -> bytes:
    machine = graph.nodes[0].object.abi.machine
    if (found := compiled.read(machine, compiled.MODULE)) is None:
        raise NotPrelinked(graph.root, f"this nix-harden has no module for {machine}", compiled.advice(machine))
    return found


def read(graph: Graph, path: str) -> Mapped:
    """One file of a program's closure. Raises NotPrelinked, ReadError and MalformedElf."""
    found = read_mapped(path)
    if found is None:
        raise NotPrelinked(graph.root, f"{path} is no ELF file any longer", "try again")
    return found


def _edit(graph: Graph, target: str, place: str) -> Edit:
    """The edit that names the module; where the copy lies in another directory, `$ORIGIN` goes on meaning what it meant."""
    root = graph.nodes[0].object
    moved = os.path.realpath(os.path.dirname(target)) != os.path.dirname(graph.root)
    path = lift.moved_path(graph) if moved else (PathAction.KEEP, "", False)
    return Edit((graph.root,), root, None, (), *path, audit=place)


def answerable(graph: Graph) -> frozenset[int]:
    """The objects whose names the table may answer: those that any processor would find (ld.so(8), "glibc-hwcaps")."""
    return frozenset(
        number
        for number, node in enumerate(graph.nodes)
        if VARIANTS not in node.path.split("/")
        and not os.path.isdir(os.path.join(os.path.dirname(node.path), VARIANTS))
    )


def _prove(graph: Graph, objects: Sequence[Mapped], made: Table, copy: str, attach: Attach) -> Proof:
    """What the loader said, or why it was not asked."""
    if not any(OLDEST in {version.name for version in each.symbols.versions.values()} for each in objects):
        raise NotPrelinked(graph.root, f"its glibc is older than {os.fsdecode(OLDEST)}", "freeze it instead")
    command, why_not = command_for(graph, copy)
    if why_not is not None:
        return Proof(0, why_not)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        try:
            return Proof(prove(command, made, objects, attach, scratch), None)
        except NotPrelinked as error:
            # the copy is gone when this is read
            raise NotPrelinked(graph.root, error.problem.replace(copy, graph.root), error.advice) from error


def command_for(graph: Graph, path: str) -> tuple[list[str], str | None]:
    """How to start a program on this machine, and why not, or None: under qemu-user(1) where it is for another."""
    abi = graph.nodes[0].object.abi
    if abi == host_abi():
        return [path], distrust(path, abi) or distrust(graph.loader.real, graph.loader.abi)
    emulator = shutil.which(QEMU.get(abi.machine, ""))
    return [emulator or "", path], None if emulator else f"for another machine ({abi}), and there is no qemu for it"
