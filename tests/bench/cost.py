"""What the hook costs a build, each figure beside the target that it has to meet.

    cost.py [--quick]

Ratios are of medians of runs that alternate. As root, the disk's cache is dropped for the cold rows, and a file of 1 GiB is bound on a
file system that clones, made for it in a loop device, too.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as pytest has it

from bench.ways import relocate
from real import debstore
from support import room
from support.store import REPOSITORY

PACKAGES = ("ffmpeg",)
MiB, GiB = 1 << 20, 1 << 30
ROUNDS = 3
CLONING = {"xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}
START = "import sys; sys.path.insert(0, {library!r}); from nix_harden.cli import main; main()"
DROP = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Row:
    """A target, its limit, the figure with what it was made of, and whether it is met; None where that cannot be said here."""

    target: str
    limit: str
    figure: str
    met: bool | None


@dataclass(frozen=True)
class Ran:
    """One run of a program: seconds of wall time, bytes read and written by rchar and wchar of proc_pid_io(5), peak of its memory."""

    seconds: float
    moved: int
    peak: int
    said: str


class Hook:
    """The program as the hook starts it: compiled beforehand, isolated."""

    def __init__(self, top: Path) -> None:
        library = top / "library"
        shutil.copytree(REPOSITORY / "nix_harden", library / "nix_harden", ignore=shutil.ignore_patterns("__pycache__"))
        words = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(library)]
        subprocess.run([sys.executable, *words], check=True)
        self.argv = [sys.executable, "-I", "-c", START.format(library=str(library)), "fixup"]

    def run(self, output: Path, *words: str | Path, building: bool = True) -> Ran:
        """Harden `output`, a path of its parent as the store, in a Nix build or outside of any."""
        environ = {"NIX_STORE": str(output.parent)}
        if building:
            environ |= {"NIX_BUILD_TOP": str(output.parent), "out": str(output)}
        return run([*self.argv, "--output", f"out={output}", *words], environ)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers of small files")
    quick = parser.parse_args().quick
    print(f"{'target'.ljust(58)} {'limit'.rjust(10)}  {'met'.ljust(6)}  measured")
    for row in rows(quick=quick):
        met = {True: "met", False: "missed", None: "-"}[row.met]
        print(f"{row.target.ljust(58)} {row.limit.rjust(10)}  {met.ljust(6)}  {row.figure}", flush=True)
    return 0


def rows(*, quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="nix-harden-bench-") as name:
        top = Path(name)
        hook = Hook(top)
        yield without_elf(hook, top, 3 if quick else 31)
        yield from linear(hook, top, (20, 40) if quick else (1000, 5000, 20000))
        yield from large(hook, top, 8 * MiB if quick else GiB)
        if not quick:
            yield from throughput(hook, top)


def without_elf(hook: Hook, top: Path, rounds: int) -> Row:
    """A derivation of text files against the start of Python."""
    store = top / "texts"
    package = store / f"{'t' * 32}-texts"
    package.mkdir(parents=True)
    for number in range(100):
        (package / f"{number}.txt").write_text(str(number))
    mine, pythons = alternate(
        rounds,
        lambda: hook.run(package).seconds,
        lambda: run([sys.executable, "-c", "pass"], {}).seconds,
    )
    ratio = mine / pythons
    figure = f"{ratio:.2f} ({mine * 1000:.0f} ms to {pythons * 1000:.0f} ms)"
    return Row("no ELF file, × python3 -c pass", "≤ 4", figure, ratio <= 4)


def linear(hook: Hook, top: Path, counts: Sequence[int]) -> Iterator[Row]:
    """So many small libraries, each with room and two names to bind: time a file, and memory."""
    each: dict[int, Ran] = {}
    for count in counts:
        store = top / f"many{count}"
        each[count] = hook.run(*many(store, count))
        assert f"{count} files written, {count} in place" in each[count].said, each[count].said
        shutil.rmtree(store)
    first, last = counts[0], counts[-1]
    times = {count: each[count].seconds / count for count in counts}
    figure = ", ".join(f"{count}: {times[count] * 1000:.2f} ms" for count in counts)
    yield Row(
        f"time a file at {last} files, × that at {first}",
        "≤ 1.2",
        f"{times[last] / times[first]:.2f} ({figure})",
        times[last] <= 1.2 * times[first],
    )
    peaks = ", ".join(f"{count}: {each[count].peak / MiB:.0f} MiB" for count in counts)
    yield Row(f"peak of memory at {last} files", "≤ 100 MiB", peaks, each[last].peak <= 100 * MiB)


def many(store: Path, count: int) -> tuple[Path, str, str]:
    """A store with one package of so many libraries in directories of a hundred, all copies of one but for the SONAME; what hardens it."""
    dependency, package = store / f"{'d' * 32}-dep" / "lib", store / f"{'m' * 32}-many"
    library = _link(store, dependency, "libmany-000000.so.1", "int a(void) { return 1; }")
    data = library.read_bytes()
    library.unlink()
    for number in range(count):
        directory = package / f"{number // 100:04}"
        directory.mkdir(parents=True, exist_ok=True)
        name = f"libmany-{number:06}.so.1"
        (directory / name).write_bytes(data.replace(b"libmany-000000.so.1", name.encode()))
    return package, "--input", str(dependency.parent)


def large(hook: Hook, top: Path, size: int) -> Iterator[Row]:
    """One name in a library of `size` bytes with room: in a build, and outside of one, where a copy is made.

    Of that, what is moved where files are cloned, and elsewhere the time against cp.
    """
    yield from _large(hook, top / "large", size, 3, building=True)
    yield from _large(hook, top / "large", size, 3, building=False)
    for name, make in CLONING.items():
        if os.geteuid() == 0 and shutil.which(make[0]):
            image, place = top / f"{name}.image", top / name
            place.mkdir()
            with image.open("wb") as file:
                file.truncate(4 * size + 512 * MiB)
            subprocess.run([*make, image], check=True, stdout=subprocess.DEVNULL)
            mounted = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, check=False)
            if mounted.returncode:
                yield Row(
                    f"one name in {size // MiB} MiB on {name}", "< 5 MiB", "a loop device cannot be mounted here", None
                )
                continue
            try:
                yield from _large(hook, place / "large", size, 1, building=False)
            finally:
                subprocess.run(["umount", place], check=True)
                image.unlink()


def _large(hook: Hook, store: Path, size: int, rounds: int, *, building: bool) -> Iterator[Row]:
    dependency, package = store / f"{'d' * 32}-dep" / "lib", store / f"{'l' * 32}-large"
    source = f"int a(void) {{ return 1; }} const char data[{size}] = {{1}};"
    library = _link(store, dependency, "liblarge.so.1", source)
    (package / "lib").mkdir(parents=True)
    origin = library.rename(store / "origin")
    target = package / "lib" / "liblarge.so.1"
    moved = []

    def bind() -> float:
        subprocess.run(["cp", "--reflink=auto", origin, target], check=True)
        os.sync()  # or writing that back is timed, too
        ran = hook.run(package, "--input", dependency.parent, building=building)
        assert "1 file written, 1 in place" in ran.said, ran.said
        moved.append(ran.moved)
        return ran.seconds

    def copy() -> float:
        os.sync()
        return run(["cp", "--reflink=never", origin, store / "copy"], {}).seconds

    mine, copying = alternate(rounds, bind, copy)
    stat = subprocess.run(["stat", "-f", "-c", "%T", store], capture_output=True, text=True, check=True)
    what = f"one name in {size // MiB} MiB on {stat.stdout.strip()}"
    if building:
        yield Row(f"{what}, in a build", "< 0.1 s", f"{mine * 1000:.0f} ms, {max(moved) / MiB:.2f} MiB", mine < 0.1)
    elif min(moved) < size:
        figure = f"{max(moved) / MiB:.2f} MiB, {mine * 1000:.0f} ms ({mine / copying:.2f} of cp)"
        yield Row(f"{what}, read and written", "< 5 MiB", figure, max(moved) < 5 * MiB)
    else:
        ratio = mine / copying
        yield Row(f"{what}, × cp", "≤ 1.2", f"{ratio:.2f} ({mine:.2f} s to {copying:.2f} s)", ratio <= 1.2)
    shutil.rmtree(store)


def _link(store: Path, dependency: Path, name: str, source: str) -> Path:
    """A library with room that needs one of the package at `dependency`."""
    dependency.mkdir(parents=True)
    needs = ["-L", str(dependency), "-l:libd.so.1", f"-Wl,--no-as-needed,-rpath,{dependency}:{room.entry(store)}"]
    sources: tuple[tuple[str, str, list[str]], ...] = (
        ("libd.so.1", "int d(void) { return 1; }", []),
        (name, source, needs),
    )
    for soname, text, flags in sources:
        words = [
            "-x",
            "c",
            "-",
            "-shared",
            "-fPIC",
            "-nostdlib",
            "-o",
            str(dependency / soname),
            f"-Wl,-soname,{soname}",
        ]
        subprocess.run(["gcc", *words, "-x", "none", *flags], input=text, text=True, check=True)
    return dependency / name


@dataclass(frozen=True)
class Trial:
    """Debian's files, all in one output, to be hardened with `options`; made anew for each run, with the disk's cache dropped if `cold`."""

    hook: Hook
    origin: Path
    work: Path
    options: Sequence[str]
    cold: bool
    building: bool

    def mine(self) -> Ran:
        self._prepare()
        return self.hook.run(self.work / "store", *self.options, building=self.building)

    def patchelfs(self) -> float:
        """The seconds of one `patchelf --set-soname` process a file, on all processors."""
        self._prepare()
        files = [path for path in debstore.elf_files(self.work / "store") if debstore.read_dynamic(path)]
        self._drop()
        argv = ["xargs", "-0", "-n1", f"-P{len(os.sched_getaffinity(0))}", debstore.patchelf(), "--set-soname", "x"]
        begin = time.perf_counter()
        subprocess.run(argv, input="\0".join(map(str, files)), text=True, stderr=subprocess.DEVNULL, check=False)
        return time.perf_counter() - begin

    def _prepare(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        relocate(self.origin, self.work)
        os.sync()
        self._drop()

    def _drop(self) -> None:
        if self.cold:
            DROP.write_text("3")


def throughput(hook: Hook, top: Path) -> Iterator[Row]:
    """Several hundred real files against patchelf, with room and where the search path has to stay, so that there is none."""
    bare, roomy = top / "b", top / "r"
    debstore.build(bare, PACKAGES, debstore.default_cache())
    relocate(bare, roomy)
    room.leave(debstore.load(roomy).elf_files(), roomy)
    temperatures = (False, True) if os.access(DROP, os.W_OK) else (False,)
    kinds: tuple[tuple[Path, list[str], float, str, bool], ...] = (
        (roomy, [], 1.5, "room", True),
        (roomy, [], 2.0, "room, outside a build", False),
        (bare, ["--keep-runpath"], 0.8, "no room", True),
    )
    for origin, options, limit, what, building in kinds:
        for cold in temperatures:
            trial = Trial(hook, origin, top / "w", options, cold, building)
            runs = [(trial.mine(), trial.patchelfs()) for _ in range(ROUNDS)]
            mine = statistics.median(each.seconds for each, _ in runs)
            theirs = statistics.median(seconds for _, seconds in runs)
            said = next(line for line in runs[-1][0].said.splitlines() if "written" in line).partition(": ")[2]
            yield Row(
                f"as fast as xargs patchelf, {what}{', cold' if cold else ''}",
                f"≥ {limit}",
                f"{theirs / mine:.2f} ({mine:.1f} s to {theirs:.1f} s; {said})",
                theirs >= limit * mine,
            )


def alternate(rounds: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """The medians of both, run in turn."""
    pairs = [(one(), other()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def run(argv: Sequence[str | Path], environ: Mapping[str, str]) -> Ran:
    """Run to the end; what proc_pid_io(5) says is read when it has ended and before it is gone."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv,
            env={"PATH": os.environ["PATH"], **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - begin
        fields = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode(errors="replace")
    assert process.returncode == 0, words
    return Ran(seconds, int(fields["rchar"]) + int(fields["wchar"]), usage.ru_maxrss << 10, words)


if __name__ == "__main__":
    sys.exit(main())
