"""The disk as loaders see it: files by the paths that they open, what is compiled into a loader, and which one loads an object."""

import errno
import functools
import glob
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nix_harden.errors import HardenError, MalformedElf, ToolError
from nix_harden.loading.cache import CacheEntry, parse_cache
from nix_harden.loading.graph import CURRENT_DIRECTORY, Family, Found, Loader, Reader, Seen, Unloadable, Unopened
from nix_harden.loading.loader import walk
from nix_harden.loading.musl import MUSL_DIRECTORIES
from nix_harden.loading.search import LIB_TOKEN
from nix_harden.model import Abi, Kind, Loadable, Object
from nix_harden.reading.elf import RELR_VERSION, read_loadable
from nix_harden.reading.image import MAGIC

SYSTEM_DIRECTORIES = re.compile(rb"(?<![\x20-\x7e])((?:/[\x21-\x7e]+/\0)+)")
CACHE_PATH = re.compile(rb"\0(/[\x21-\x7e]*ld\.so\.cache)\0")
DIAGNOSTIC = re.compile(r'^([\w.\[\]]+)=(?:"(.*)"|(.*))$', re.MULTILINE)
LEGACY = re.compile(r"^  (\S+) \((.*)searched\)$", re.MULTILINE)
SECONDS = 20.0  # no loader takes so long to list what it maps
LOADERS_BESIDE = (
    "ld-linux*.so.*",
    "ld64.so.*",
    "ld.so.*",
    "ld-musl-*.so.*",
)  # beside the C library of every architecture
SYSTEM_INTERPRETERS = {
    ("EM_X86_64", 64): "/lib64/ld-linux-x86-64.so.2",
    ("EM_X86_64", 32): "/libx32/ld-linux-x32.so.2",
    ("EM_386", 32): "/lib/ld-linux.so.2",
    ("EM_AARCH64", 64): "/lib/ld-linux-aarch64.so.1",
    ("EM_ARM", 32): "/lib/ld-linux-armhf.so.3",
    ("EM_RISCV", 64): "/lib/ld-linux-riscv64-lp64d.so.1",
    ("EM_S390", 64): "/lib/ld64.so.1",
    ("EM_PPC64", 64): "/lib64/ld64.so.2",
    ("EM_PPC", 32): "/lib/ld.so.1",
}


class DiskReader:
    """The file system as the loader sees it; everything is asked of it at most once. `read` answers what is in a file."""

    def __init__(self, read: Callable[[str], Loadable | None] = read_loadable) -> None:
        self._contents = read
        self._seen: dict[str, Seen] = {}
        self._read: dict[tuple[int, int], Loadable | Unloadable | Unopened] = {}
        self._directories: dict[str, bool] = {}
        self._writable: dict[str, str | None] = {}

    def open(self, path: str) -> Seen:
        if path not in self._seen:
            self._seen[path] = self._open(os.path.join(CURRENT_DIRECTORY, path))
        return self._seen[path]

    def _open(self, path: str) -> Seen:
        try:
            status = os.stat(path)
        except OSError as error:
            return Unopened(error.errno or errno.EIO)
        except ValueError:  # a NUL byte
            return Unopened(errno.ENOENT)
        if not stat.S_ISREG(status.st_mode):
            return Unloadable("cannot read file data: it is no regular file")
        identity = (status.st_dev, status.st_ino)
        real = os.path.realpath(path)
        if identity not in self._read:
            self._read[identity] = self._read_file(real)
        content = self._read[identity]
        return Found(identity, real, content) if isinstance(content, Loadable) else content

    def _read_file(self, real: str) -> Loadable | Unloadable | Unopened:
        try:
            return self._contents(real) or Unloadable("invalid ELF header")
        except MalformedElf as error:
            return Unloadable(f"malformed ELF: {error.reason}")
        except HardenError:
            return Unopened(errno.EACCES)

    def is_directory(self, path: str) -> bool:
        if path not in self._directories:
            self._directories[path] = os.path.isdir(os.path.join(CURRENT_DIRECTORY, path))
        return self._directories[path]

    def writable_at(self, path: str) -> str | None:
        if path not in self._writable:
            self._writable[path] = _writable_at(os.path.join(CURRENT_DIRECTORY, path))
        return self._writable[path]


def _writable_at(path: str) -> str | None:
    at = os.path.realpath(path)
    last = True  # whoever may create the entry decides; above it, only who may replace an entry
    while True:
        try:
            mode = os.stat(at).st_mode
        except OSError:
            mode = None
        if mode is not None:
            if mode & stat.S_IWOTH and (last or not mode & stat.S_ISVTX):
                return at
            last = False
        if at == os.path.dirname(at):
            return None
        at = os.path.dirname(at)


@functools.cache
def host_abi() -> Abi:
    """The ABI of the machine's own programs, which is that of this Python."""
    loadable = read_loadable(os.path.realpath("/proc/self/exe"))
    assert loadable is not None
    return loadable.object.abi


def distrust(path: str, abi: Abi) -> str | None:
    """Why a file is not to be given to, or run as, a real loader; None where it may be.

    A loader that lists maps what it is given, and is itself a program that whoever owns it chose.
    """
    if abi != host_abi():
        return f"for another machine ({abi})"
    try:
        status = os.stat(path)
    except OSError as error:
        return error.strerror or str(error)
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "set-user-ID or set-group-ID"
    if status.st_uid not in (0, os.geteuid()):
        return f"owned by another user ({status.st_uid})"
    if status.st_mode & stat.S_IWOTH:
        return "writable by everybody"
    return None


def read_loader(path: str, reader: Reader) -> Loader | None:
    """What is compiled into the loader at `path`; None where there is no loader.

    The strings are read from its bytes, so that it works for any machine, and says nothing of the processor.
    """
    seen = reader.open(path)
    if not isinstance(seen, Found):
        return None
    obj = seen.loadable.object
    try:
        with open(seen.real, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if b"/etc/ld-musl-" in data:
        return Loader(path, seen.real, obj.abi, Family.MUSL, directories=_musl_directories(path))
    runs = [match[1].split(b"\0")[:-1] for match in SYSTEM_DIRECTORIES.finditer(data)]
    directories = max(runs, key=len, default=[])
    cache = CACHE_PATH.search(data)
    lib = LIB_TOKEN.search(data)
    cache_path = os.fsdecode(cache[1]) if cache else None
    return Loader(
        path,
        seen.real,
        obj.abi,
        Family.GLIBC,
        obj.soname,
        tuple(map(os.fsdecode, directories)),
        cache_path,
        _read_cache(cache_path, obj.abi),
        os.fsdecode(lib[1] or lib[2]) if lib else "lib",
        asks_for_relr=RELR_VERSION.encode() in data,
    )


def on_this_processor(loader: Loader) -> Loader:
    """A loader with the processor as it sees it: which subdirectories suit it, only a native loader can say, and it is asked."""
    if loader.family is Family.MUSL or distrust(loader.real, loader.abi) is not None:
        return loader
    found = _processor(loader.real)
    return replace(
        loader,
        platform=found.platform,
        variants=found.variants,
        hwcap=found.hwcap,
        platform_bit=found.platform_bit,
    )


def _read_cache(path: str | None, abi: Abi) -> dict[str, tuple[CacheEntry, ...]]:
    try:
        with open(path or "", "rb") as file:
            return parse_cache(file.read(), abi.little_endian)
    except (OSError, struct.error):
        return {}


def _musl_directories(path: str) -> tuple[str, ...]:
    """The directories of etc/ld-musl-ARCH.path, two above the loader, else those compiled in."""
    name = os.path.basename(path).removesuffix(".so.1")
    prefix = os.path.dirname(os.path.dirname(path)).rstrip("/")
    try:
        with open(f"{prefix}/etc/{name}.path", "rb") as file:
            return tuple(os.fsdecode(entry) for entry in re.split(rb"[:\n]+", file.read()) if entry)
    except OSError as error:
        return MUSL_DIRECTORIES if error.errno == errno.ENOENT else ()


@dataclass(frozen=True)
class _Processor:
    """What a loader makes of the processor: AT_PLATFORM, the subdirectories that it tries, and the bits of ld.so.cache."""

    platform: str | None = None
    variants: tuple[str, ...] = ()
    hwcap: int = 0
    platform_bit: int = 0


@functools.cache
def _processor(path: str) -> _Processor:
    """Ask a native glibc loader (ld.so(8), --list-diagnostics since 2.33, --help)."""
    from nix_harden.process import ask

    try:
        diagnostics = ask([path, "--list-diagnostics"], {}, SECONDS)
        help_text = ask([path, "--help"], {}, SECONDS)
    except ToolError:
        return _Processor()
    if diagnostics.status:
        return _Processor()
    values = {
        match[1]: match[2] if match[2] is not None else match[3] for match in DIAGNOSTIC.finditer(diagnostics.out)
    }
    named = [name for name in values.get("dl_hwcaps_subdirs", "").split(":") if name]
    active = int(values.get("dl_hwcaps_subdirs_active", "0"), 0)
    variants = [f"glibc-hwcaps/{name}" for bit, name in enumerate(named) if active >> bit & 1]
    _, _, legacy = help_text.out.partition("Legacy HWCAP subdirectories")
    variants += _legacy_variants([(match[1], match[2]) for match in LEGACY.finditer(legacy)])
    platform_bit = int(values.get("dl_string_platform", "0"), 0)
    return _Processor(
        values.get("dl_platform") or None,
        tuple(variants),
        int(values.get("dl_hwcap", "0"), 0),
        1 << platform_bit if 0 < platform_bit < 64 else 0,
    )


def _legacy_variants(listed: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The paths of `_dl_important_hwcaps` before 2.37: every choice of the names, `tls` and the platform first."""
    rows = sorted(listed, key=lambda row: (row[0] != "tls", "AT_PLATFORM" not in row[1]))
    names = [name for name, _ in rows]  # one may be there twice, as a platform and as a capability
    for choice in range((1 << len(names)) - 1, 0, -1):
        yield "/".join(name for place, name in enumerate(names) if choice >> (len(names) - 1 - place) & 1)


class Loaders:
    """Chooses the loader of each root: its interpreter; for a library the one given, that beside the libc which it finds, or the system's."""

    def __init__(self, reader: Reader, given: str | None) -> None:
        self.reader, self.given = reader, given
        self._loaders: dict[str, Loader | None] = {}
        self.preferred: dict[Abi, str] = {}

    def at(self, path: str) -> Loader | None:
        if path not in self._loaders:
            loader = read_loader(path, self.reader)
            self._loaders[path] = loader and on_this_processor(loader)
        return self._loaders[path]

    def of(self, obj: Object) -> Loader | None:
        """The loader of an object, or None where there is none on this machine."""
        if obj.interpreter is not None and obj.kind is Kind.PROGRAM:
            return self.at(obj.interpreter)
        if self.given is not None and (loader := self.at(self.given)) is not None and loader.abi == obj.abi:
            return loader
        paths = [self._beside_libc(obj), self.preferred.get(obj.abi)]
        paths.append(SYSTEM_INTERPRETERS.get((obj.abi.machine, obj.abi.bits)))
        loaders = (self.at(path) for path in paths if path is not None)
        return next((loader for loader in loaders if loader is not None and loader.abi == obj.abi), None)

    def _beside_libc(self, obj: Object) -> str | None:
        """The loader in the directory of the libc.so.6 that the library's own names and search paths lead to, if any do."""
        bare = Loader("", "", obj.abi)
        graph = walk(obj.path, bare, self.reader)
        for edge in graph.edges if graph is not None else ():
            if os.path.basename(edge.name) == "libc.so.6" and edge.target is not None and graph is not None:
                return _beside(graph.nodes[edge.target].real, obj.abi, self.reader)
        return None


def _beside(libc: str, abi: Abi, reader: Reader) -> str | None:
    for pattern in LOADERS_BESIDE:
        for path in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(libc)), pattern))):
            seen = reader.open(path)
            if isinstance(seen, Found) and seen.loadable.object.abi == abi:
                return path
    return None


def elf_files(paths: Iterable[str]) -> Iterator[str]:
    """The ELF files at and below the paths, each inode once, by their real paths and in byte order below each.

    Links are followed where they are given, not below. Raises FileNotFoundError for a path that is not there.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for each in _files(os.path.realpath(path, strict=True)):
            try:
                status = os.lstat(each)
                if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with open(each, "rb", buffering=0) as file:
                    magic = file.read(len(MAGIC))
            except OSError:
                continue
            if magic == MAGIC:
                yield each


def _files(top: str) -> Iterator[str]:
    if not os.path.isdir(top):
        yield top
        return
    for directory, directories, names in os.walk(top):
        directories.sort(key=os.fsencode)
        for name in sorted(names, key=os.fsencode):
            yield os.path.join(directory, name)
