"""An output to be harmed while it is written, and what may be found in it afterwards."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.source import function, prints
from support.store import REPOSITORY, Package, Store

from nix_harden.model import COPY

Files = dict[str, bytes]
LINKED = "bin/linked"
MTIME = 1_234_567_890_000_000_000
WHERE = ["beside the outputs", "on another file system"]


@contextmanager
def scratch(store: Store, where: str) -> Iterator[Path]:
    """A TMPDIR from which link(2) reaches the outputs, or one from which it does not."""
    other = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=store.path.parent if where == WHERE[0] else other) as directory:
        if where == WHERE[1]:
            assert os.stat(directory).st_dev != os.stat(store.path).st_dev, "no second file system to test with"
        yield Path(directory)


@dataclass(frozen=True)
class Written:
    """An output, its files before and after one whole run, and how to run again."""

    package: Package
    old: Files
    new: Files
    tmpdir: Path

    @property
    def arguments(self) -> list[str]:
        return ["fixup", "--output", f"out={self.package.path}", "--jobs", "2"]

    @property
    def environ(self) -> dict[str, str]:
        return {**self.package.store.environ, "TMPDIR": str(self.tmpdir), "PYTHONPATH": str(REPOSITORY / "tests")}

    def restore(self) -> None:
        """Make every file the old one again, with its time, and the hard link a link again."""
        for name, data in self.old.items():
            path = self.package.path / name
            if name == LINKED:
                path.unlink()
                path.hardlink_to(self.package.bin / "app0")
            elif path.read_bytes() != data:
                path.write_bytes(data)
            os.utime(path, ns=(MTIME, MTIME))

    def program(self, *words: str) -> list[str]:
        return [sys.executable, "-m", *words, *self.arguments]

    def finish(self) -> None:
        """A second run must make every file new and leave no other entry."""
        done = subprocess.run(
            self.program("nix_harden"), cwd=REPOSITORY, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert files(self.package) == self.new

    def check(self, *, leftovers: bool) -> int:
        """Every file must be whole, the old or the new; no other entry may be there but copies that the next run removes. How many are new."""
        found = files(self.package)
        strays = found.keys() - self.old.keys()
        assert not strays or leftovers, strays
        assert all(os.path.basename(name).startswith(COPY) for name in strays), strays
        for name, data in self.old.items():
            assert found[name] in (data, self.new[name]), f"{name} is neither the old file nor the new one"
            assert (self.package.path / name).stat().st_mtime_ns == MTIME
        return sum(found[name] == self.new[name] for name in self.old)


def files(package: Package) -> Files:
    """The bytes of every entry that is no directory."""
    return {
        str(path.relative_to(package.path)): path.read_bytes() for path in package.path.rglob("*") if not path.is_dir()
    }


def written(store: Store, tmpdir: Path, *, programs: int, links: bool = False) -> Written:
    """Two libraries and so many programs, hardened once and then made old again."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    it.program("app0", prints("a", "b"), needs=[libb, liba])
    for number in range(1, programs):
        (it.bin / f"app{number}").write_bytes((it.bin / "app0").read_bytes())
    if links:
        (it.path / LINKED).hardlink_to(it.bin / "app0")
    old = files(it)
    store.harden(it)
    done = Written(it, old, files(it), tmpdir)
    assert all(done.new[name] != data for name, data in old.items())
    done.restore()
    return done
