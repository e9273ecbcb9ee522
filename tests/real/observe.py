"""Harden a store as a user would, and watch what its programs do and what its loader maps, before and after.

ld.so is the oracle: asked to list an object's closure (what ldd(1) does) it resolves every name and runs none of the object, so
that every failing open under strace is the loader's own.
"""

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from real.debstore import Package, Store, load

T = TypeVar("T")

LISTING = {"LC_ALL": "C", "LD_TRACE_LOADED_OBJECTS": "1"}  # unlike --list, it goes on past a name found nowhere
TIMEOUT = 30
BUDGET = 0.5  # seconds of runs that go into a wall time
ROUNDS = 3
NOBODY = 65534
GEMS = """# No variable of Ruby's own says where its default gems are.
def Gem.default_dir = ENV.fetch("GEM_DEFAULT")
def Gem.default_specifications_dir = File.join(default_dir, "specifications", "default")
"""
SEARCHING = re.compile(r"\((?:RPATH|RUNPATH) from file (.*)\)$", re.MULTILINE)
FAILED_OPEN = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)".*\) = -1 E')
LISTED = re.compile(r"\t(?:(?P<name>\S.*) => )?(?P<path>/.*?|not found)(?: \(0x[0-9a-f]+\))?$")


@dataclass(frozen=True)
class Outcome:
    """What a run of a program showed: its exit status (negative: the signal), and both streams."""

    status: int | str
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Closure:
    """What the loader maps for one object: the files in its order, and the names that it found nowhere."""

    files: tuple[str, ...]
    missing: frozenset[str]
    status: int


class Trial:
    """A store in two states, as it was and hardened, of which one at a time lies at the path that its files name."""

    def __init__(self, dest: Path, harden: Callable[[Store], dict[str, str]] | None = None) -> None:
        """Harden the store in DEST, package by package or by another function; a copy of it as it was is kept beside."""
        self.dest = dest
        self.store = load(dest)
        self.aside = dest / "aside"
        shutil.rmtree(self.aside, ignore_errors=True)
        shutil.copytree(self.store.directory, self.aside, symlinks=True)
        self.log = (harden or harden_each)(self.store)

    @contextlib.contextmanager
    def unhardened(self) -> Iterator[None]:
        """Within, the store is as it was before."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def both(self, look: Callable[[], T]) -> tuple[T, T]:
        """What `look` sees before and after."""
        with self.unhardened():
            before = look()
        return before, look()

    def _swap(self) -> None:
        between = self.dest / "between"
        self.store.directory.rename(between)
        self.aside.rename(self.store.directory)
        between.rename(self.aside)


def harden_each(store: Store) -> dict[str, str]:
    """Harden each package in dependency order with the command line; what it said, by package.

    Raises CalledProcessError, after printing those words, where a run fails.
    """
    return {package.name: fixup(store, package) for package in store.packages}


def fixup(store: Store, package: Package, *options: str) -> str:
    """One run of `nix_harden fixup` on one package, with the dependencies' closure as inputs; what it said."""
    inputs = [word for path in package.deps for word in ("--input", path)]
    argv = [sys.executable, "-m", "nix_harden", "fixup", "--output", f"out={package.path}", *inputs, *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NIX_")}
    done = subprocess.run(
        argv, env=environment | {"NIX_STORE": str(store.directory)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stderr


def closure(loader: Path, path: Path) -> Closure:
    """The object closure of a program or library, by its own loader's word."""
    done = subprocess.run([loader, path], capture_output=True, check=False, env=LISTING)
    return read_listing(os.fsdecode(done.stdout), done.returncode)


def read_listing(text: str, status: int) -> Closure:
    """The loader's answer, each file by its real path, without the loader and the kernel's own object."""
    files, missing = [], set()
    for line in text.splitlines():
        match = LISTED.match(line)
        if match is None:
            continue
        if match["path"] == "not found":
            missing.add(match["name"])
        else:
            files.append(os.path.realpath(match["path"]))
    own = [file for file in files if not os.path.basename(file).startswith("ld-linux")]
    return Closure(tuple(dict.fromkeys(own)), frozenset(missing), status)


def failing_opens(loader: Path, path: Path) -> int:
    """How many files the loader tries to open in vain before it would start `path`."""
    argv = ["strace", "-qq", "-e", "trace=open,openat", "-e", "signal=none", "-E", "LD_TRACE_LOADED_OBJECTS=1"]
    done = subprocess.run(
        [*argv, "--", loader, path],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        env={"LC_ALL": "C"},
    )
    opens = [match for line in done.stderr.splitlines() if (match := FAILED_OPEN.search(line))]
    return sum(".so" in os.path.basename(match[1]) for match in opens)


def searching(loader: Path, path: Path) -> set[str]:
    """The base names of the objects whose search path the loader walks before it would start `path`, by its own word."""
    said = subprocess.run([loader, path], capture_output=True, check=False, env={**LISTING, "LD_DEBUG": "libs"})
    return {os.path.basename(name) for name in SEARCHING.findall(os.fsdecode(said.stdout + said.stderr))}


def environment(store: Store, home: Path) -> dict[str, str]:
    """What programs of a store need to find their data in it rather than on the host; `home` is theirs to write."""
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    (home / "gems.rb").write_text(GEMS)

    def places(pattern: str) -> str:
        found = (str(path) for package in store.packages for path in sorted(Path(package.path).glob(pattern)))
        return ":".join(found)

    return {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PATH": places("bin"),
        "XDG_DATA_DIRS": places("share"),
        "RUBYLIB": ":".join(map(places, ("lib/ruby/3.*", "lib/ruby/vendor_ruby", "lib/ruby/vendor_ruby/3.*"))),
        "RUBYOPT": f"-r{home}/gems.rb",
        "GEM_DEFAULT": places("lib/ruby/gems/3.*"),
        "GEM_PATH": ":".join(map(places, ("lib/ruby/gems/3.*", "*/rubygems-integration/*"))),
        "MAGIC": places("lib/file/magic.mgc"),
        "OPENSSL_MODULES": places("lib/ossl-modules"),
    }


def run(argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, stdin: bytes = b"") -> Outcome:
    """Run a program to its end, or for TIMEOUT seconds; as nobody where we are root, since it may be any program."""
    who = NOBODY if os.geteuid() == 0 else None
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            env=env,
            cwd=cwd,
            timeout=TIMEOUT,
            check=False,
            user=who,
            group=who,
            extra_groups=None if who is None else [],
        )
    except subprocess.TimeoutExpired as error:
        return Outcome("timeout", error.stdout or b"", error.stderr or b"")
    except OSError as error:
        return Outcome(f"not started: {error.strerror}", b"", b"")
    return Outcome(done.returncode, done.stdout, done.stderr)


def median_times(
    trial: Trial, argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, stdin: bytes
) -> tuple[float, float]:
    """The median wall time in seconds of a program before and after, of runs that alternate until BUDGET seconds are spent."""
    before: list[float] = []
    after: list[float] = []
    while sum(before) + sum(after) < BUDGET or len(after) < ROUNDS:
        with trial.unhardened():
            before.append(wall_time(argv, env, cwd, stdin))
        after.append(wall_time(argv, env, cwd, stdin))
    return statistics.median(before), statistics.median(after)


def wall_time(argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, stdin: bytes = b"") -> float:
    """The seconds from a program's start to its end; what it prints goes nowhere."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        start = time.perf_counter()
        # With inherited descriptors Python starts the program by vfork(2), which does not copy its own page tables.
        subprocess.run(
            argv,
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            cwd=cwd,
            close_fds=False,
            check=False,
        )
        return time.perf_counter() - start
