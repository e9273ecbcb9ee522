"""Compile C for other machines by clang, link it by their own linkers, run it under qemu-user with a copy of their glibc."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.store import REPOSITORY, Package, Store

OPENED = re.compile(r'open(?:at)?\((?:AT_FDCWD,)?"([^"]*)".*\) = (\S+)')
NEVER_A_LIBRARY = ("/etc/ld.so.preload", "/etc/ld.so.cache")


@dataclass(frozen=True)
class Machine:
    """One target: its loader, the directory of Debian's glibc for it, and the tools that make and run its programs."""

    name: str
    target: str
    loader: str
    libraries: Path
    emulator: str
    linker: tuple[str, ...]
    flags: tuple[str, ...] = ()


def _cross(name: str, target: str, loader: str, emulator: str, *flags: str) -> Machine:
    return Machine(name, target, loader, Path("/usr", target, "lib"), emulator, (f"{target}-ld",), flags)


I386 = Machine("i386", "i386-linux-gnu", "ld-linux.so.2", Path("/usr/lib32"), "qemu-i386", ("ld", "-melf_i386"))
AARCH64 = _cross("aarch64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "qemu-aarch64")
ARMHF = _cross("armhf", "arm-linux-gnueabihf", "ld-linux-armhf.so.3", "qemu-arm", "-mfloat-abi=hard")
RISCV64 = _cross(
    *("riscv64", "riscv64-linux-gnu", "ld-linux-riscv64-lp64d.so.1", "qemu-riscv64", "-march=rv64gc", "-mabi=lp64d")
)
PPC64EL = _cross("ppc64el", "powerpc64le-linux-gnu", "ld64.so.2", "qemu-ppc64le")
S390X = _cross("s390x", "s390x-linux-gnu", "ld64.so.1", "qemu-s390x")
MACHINES = (I386, AARCH64, ARMHF, RISCV64, PPC64EL, S390X)


@dataclass(frozen=True)
class Ran:
    """One run under qemu: what the program said, the libraries that were opened, in order, and those looked for in vain."""

    status: int
    out: str
    err: str
    opened: tuple[str, ...]
    misses: tuple[str, ...]

    @property
    def behaviour(self) -> tuple[object, ...]:
        return self.status, self.out, self.err, self.opened


@dataclass(frozen=True)
class World:
    """A store with the glibc of one other machine in it."""

    store: Store
    machine: Machine
    libc: Package
    linker: tuple[str, ...]

    @classmethod
    def create(cls, store: Store, machine: Machine, linker: Sequence[str] = ()) -> "World":
        libc = store.package(f"glibc-{machine.name}")
        libc.lib.mkdir(exist_ok=True)
        for name in (machine.loader, "libc.so.6", "libm.so.6", "libgcc_s.so.1"):
            shutil.copy(machine.libraries / name, libc.lib / name)
            (libc.lib / name).chmod(0o755)
        return cls(store, machine, libc, tuple(linker) or machine.linker)

    @property
    def loader(self) -> Path:
        return self.libc.lib / self.machine.loader

    @property
    def unwinder(self) -> Path:
        return self.libc.lib / "libgcc_s.so.1"

    def library(
        self,
        package: Package,
        file: str,
        source: str,
        *,
        needs: Sequence[Path] = (),
        versions: str = "",
        soname: bool = True,
        flags: Sequence[str] = (),
    ) -> Path:
        """Link a library; `versions` is its version script."""
        words: list[object] = ["-shared", *(["-soname", file] if soname else [])]
        if versions:
            script = package.path.parent / f"{file}.map"
            script.write_text(versions)
            words += ["--version-script", script]
        return self._link(package.lib / file, source, words, needs, flags=flags)

    def program(
        self,
        package: Package,
        file: str,
        source: str,
        *,
        needs: Sequence[Path] = (),
        kind: str = "-pie",
        flags: Sequence[str] = (),
        linked: Sequence[object] = (),
        path: Sequence[object] | None = None,
    ) -> Path:
        start = self.machine.libraries / ("Scrt1.o" if kind == "-pie" else "crt1.o")
        return self._link(
            package.bin / file,
            source,
            [kind, f"--dynamic-linker={self.loader}", start, *linked],
            needs,
            flags=flags,
            search=path,
        )

    def _link(
        self,
        path: Path,
        source: str,
        words: Sequence[object],
        needs: Sequence[Path],
        *,
        flags: Sequence[str],
        search: Sequence[object] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        item = path.with_suffix(".o")
        compiler = ["clang", f"--target={self.machine.target}", *self.machine.flags]
        position = "-fno-pie" if "-no-pie" in words else "-fPIC"
        run([*compiler, "-O1", "-w", "-c", "-xc", "-", "-o", item, position, *flags], source)
        directories = [need.parent for need in (*needs, self.loader)] if search is None else search
        places = ":".join(dict.fromkeys(map(str, directories)))
        libraries = self.machine.libraries
        run(
            [
                *(*self.linker, "-o", path, "--eh-frame-hdr", "--enable-new-dtags", "-rpath", places, "--no-as-needed"),
                *(*words, libraries / "crti.o", item, *needs, self.libc.lib / "libc.so.6"),
                *(libraries / "libc_nonshared.a", "--as-needed", self.loader, self.unwinder, libraries / "crtn.o"),
            ]
        )
        item.unlink()
        return path

    def run(self, program: Path, *words: object) -> Ran:
        log = self.store.path.parent / f"{program.name}.qemu"
        done = subprocess.run(
            [self.machine.emulator, "-strace", "-D", log, program, *map(str, words)],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
            check=False,
        )
        calls = [match for line in log.read_text().splitlines() if (match := OPENED.search(line))]
        log.unlink()
        calls = [match for match in calls if match[1] not in NEVER_A_LIBRARY]
        opened = dict.fromkeys(os.path.realpath(match[1]) for match in calls if match[2] != "-1")
        misses = tuple(match[1] for match in calls if match[2] == "-1")
        return Ran(done.returncode, done.stdout, done.stderr, tuple(opened), misses)


def run(words: Sequence[object], source: str | None = None) -> None:
    done = subprocess.run(
        list(map(str, words)),
        input=source,
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr


def executed(store: Store, *words: object) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """Run `nix-harden` under strace: what it tried to execute, by file name, and how it ended."""
    log = store.path.parent / "execve"
    command = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve,execveat", "-o"]
    command += [str(log), sys.executable, "-m", "nix_harden", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=store.environ)
    found = re.findall(r'execve(?:at)?\(.*?"([^"]*)"', log.read_text())
    log.unlink()
    return found, done
