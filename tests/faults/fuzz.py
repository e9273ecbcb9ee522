"""Give mutated ELF files to the reader, the planner and the writer's re-reading, each with a limit on time and memory.

`python -m faults.fuzz INPUTS SEED` ends with status 1 where anything but a named error, a hang or too much memory was found.
"""

import collections
import contextlib
import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from faults import mutate, seeds

from nix_harden.errors import HardenError, MalformedElf
from nix_harden.fixup import write as writer
from nix_harden.fixup.catalog import Catalog
from nix_harden.fixup.outputs import Read
from nix_harden.fixup.place import place
from nix_harden.fixup.plan import make_plan
from nix_harden.fixup.unbind import make_plan as make_unbind_plan
from nix_harden.fixup.verify import expected, verify
from nix_harden.model import Edit, File, Held, Loadable, Object, PathAction
from nix_harden.reading.elf import (
    read_contents,
    read_loadable,
    read_object,
    read_stale,
    read_symbols,
    read_table,
    read_unedited,
)
from nix_harden.settings import Settings, from_environ

SECONDS = 2.0
MEMORY = 256 << 20
STORE = "/nix/store"


class Hang(BaseException):
    """An input that took longer than SECONDS."""


class Target:
    """What is done with each input: read it, plan it, take it for what patchelf wrote."""

    def __init__(self, directory: Path, made: dict[str, bytes]) -> None:
        output = directory / "store" / "0123456789abcdefghijklmnopqrstuv-it"
        self.made = made
        self.paths = {}
        for name, data in made.items():
            machine, file = name.removesuffix(" without sections").split()
            place = {"app": "bin/app", "static": "bin/static"}.get(file, f"lib/{file}.so.1")
            path = output / machine / place
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(data)
            self.paths[name] = str(path)
        self.old = str(directory / "old")
        self.scratch = str(directory)
        self.data = b""
        words = {
            "NIX_STORE": str(output.parent),
            "NIX_HARDEN_OUTPUTS": f"out={output}",
            "NIX_HARDEN_INPUTS": str(output),
        }
        self.settings: Settings = from_environ(words, {})
        self.edits = {name: self._edit(data) for name, data in made.items()}
        self.counts: collections.Counter[str] = collections.Counter()

    def _edit(self, data: bytes) -> Edit:
        Path(self.old).write_bytes(data)
        obj = read_object(self.old)
        assert obj is not None
        return Edit((self.old,), obj, None, (), PathAction.KEEP)

    def read(self, path: str) -> Object | None:
        """Read the input in each way; an error must be MalformedElf."""
        found = None
        with contextlib.suppress(MalformedElf):
            found = read_object(path)
        for read in (read_contents, read_loadable, read_symbols, lambda path: read_stale(path, STORE)):
            with contextlib.suppress(MalformedElf):
                read(path)
        self.counts["read" if found else "refused"] += 1
        return found

    def plan(self, path: str, obj: Object) -> None:
        """Plan both ways, and say what would be expected of patchelf."""
        file = File("out", (path,), obj)
        loadable = Loadable(obj, "ET_DYN", 0, ())  # what a plan of one file asks is in its object
        catalog = Catalog(self.settings, Read((file,), {path: loadable}, (), (), ((path, True),)))
        plans = [make_unbind_plan([file], {}, catalog, self.settings, Held())]
        with contextlib.suppress(HardenError):
            plans.append(make_plan([file], catalog, self.settings, Held()))
        for plan in plans:
            for edit in plan.edits:
                expected(edit)
                self.counts["planned"] += 1
                self.place(path, edit)

        self.place(path, shortened(obj))

    def place(self, path: str, edit: Edit) -> None:
        """Make an edit in place, and read it again as the writer does."""
        with contextlib.suppress(MalformedElf):
            table = read_table(path)
            writes = place(table, edit) if table is not None else None
            if writes is None:
                return
            changed = bytearray(self.data)
            for each in writes:
                changed[each.position : each.position + len(each.data)] = each.data
            assert len(changed) == len(self.data), "in place means that nothing is added"
            Path(self.old).write_bytes(changed)
            try:
                verify(edit, read_unedited(path), self.old, moved=False)
                self.counts["in place"] += 1
            except HardenError:
                self.counts["in place, refused"] += 1

    def reread(self, name: str) -> None:
        """Give the input to the writer as what patchelf wrote; it must keep the old file, or take the whole new one."""
        old = self.made[name]
        Path(self.old).write_bytes(old)
        try:
            writer.write(self.edits[name], writer.Workshop(self.scratch, "patchelf", STORE))
        except HardenError:
            kept = old
            self.counts["kept"] += 1
        else:
            kept = blanked(self.data, Path(self.old).read_bytes())
            self.counts["replaced"] += 1
        assert Path(self.old).read_bytes() == kept, "neither the old file nor the new one"

    def patchelf(self, argv: list[str]) -> str:
        Path(argv[-2]).write_bytes(self.data)
        return ""

    def be_patchelf(self) -> None:
        """Stand in for patchelf from now on."""
        setattr(writer, "run", self.patchelf)  # noqa: B010
        setattr(writer, "place", lambda _table, _edit: None)  # noqa: B010

    def all(self, name: str, data: bytes) -> None:
        """Do all this with an input in the place of the seed `name`."""
        self.data = data
        path = self.paths[name]
        Path(path).write_bytes(data)
        try:
            obj = self.read(path)
            if obj is not None:
                self.plan(path, obj)
                self.reread(name)
        finally:
            Path(path).write_bytes(self.made[name])


def shortened(obj: Object) -> Edit:
    """An edit that has room wherever it can be made: every name loses its first character, and a RUNPATH all of them."""
    needed = tuple((name, name[1:]) for name in dict.fromkeys(obj.needed) if len(name) > 1)
    soname = obj.soname[1:] if obj.soname and len(obj.soname) > 1 else None
    action = PathAction.EMPTY if obj.runpath else PathAction.KEEP
    return Edit((obj.path,), obj, soname, needed, action)


def blanked(data: bytes, found: bytes) -> bytes:
    """`data` as the writer may have changed it, which only blanks strings."""
    return (
        bytes(new if new == ord("X") else old for old, new in zip(data, found, strict=True)) if data != found else data
    )


def on_alarm(*_: object) -> None:
    raise Hang


def run(inputs: int, number: int, finds: Path) -> tuple[collections.Counter[str], dict[str, int]]:
    """Run so many inputs; what was done, and each kind of find with how often it came. The first of each kind is kept in `finds`."""
    found: dict[str, int] = {}
    with workplace() as directory:
        made = seeds.make(directory / "seeds")
        target = Target(directory, made)
        target.be_patchelf()
        mutator = mutate.Mutator(mutate.all_seeds(made), number)
        signal.signal(signal.SIGALRM, on_alarm)
        began = time.monotonic()
        for index in range(inputs):
            name, data = mutator.input()
            guarded(target, name, data, found, finds)
            if index % 20000 == 19999:
                rate = index / (time.monotonic() - began)
                print(
                    f"{index + 1} inputs, {rate:.0f}/s, {dict(target.counts)}, {_peak() >> 20} MiB, finds: {found}",
                    flush=True,
                )
    return target.counts, found


def guarded(target: Target, name: str, data: bytes, found: dict[str, int], finds: Path) -> None:
    """Do it within SECONDS, and keep what raises anything."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.all(name, data)
    except (Exception, Hang) as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _keep(error, data, found, finds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _keep(error: BaseException, data: bytes, found: dict[str, int], finds: Path) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if "nix_harden" in frame.filename] or frames
    kind = f"{type(error).__name__} in {Path(mine[-1].filename).name}:{mine[-1].name}:{mine[-1].lineno}"
    if kind not in found:
        finds.mkdir(parents=True, exist_ok=True)
        path = finds / hashlib.sha256(kind.encode()).hexdigest()[:12]
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(kind + "\n" + "".join(traceback.format_exception(error)))
        print(f"find: {kind}, input in {path}", flush=True)
    found[kind] = found.get(kind, 0) + 1


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    inputs, number, finds = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts, found = run(inputs, number, finds)
    print(
        f"{inputs} mutated inputs from seed {number}: {dict(counts)}; at most {_peak() >> 20} MiB; finds: {found or 'none'}"
    )
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
