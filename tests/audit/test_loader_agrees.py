"""The rules of `nix_harden.loading.loader` against ld.so itself, which is the oracle: names, files and order must be equal."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit import worlds
from audit.helpers import run
from real import debstore

from nix_harden.loading.audit import Audit
from nix_harden.loading.disk import DiskReader, Loaders, read_loader
from nix_harden.loading.graph import Family, Found, How
from nix_harden.loading.loader import walk
from nix_harden.process import ask

ENOUGH = 2000
PACKAGES = "netpbm vlc-plugin-base apache2-bin swh-plugins postgresql-15 samba-libs gstreamer1.0-plugins-bad".split()
OWN = ("/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu")
WORLDS = 48
Record = Callable[[str, object], None]


def disagreements(audit: Audit) -> list[str]:
    return [f"{each.path}: {each.message}" for each in audit.findings if each.check == "loader-disagrees"]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[debstore.Store]:
    top = tmp_path_factory.mktemp("debian")
    yield debstore.build(top, PACKAGES, debstore.default_cache())
    shutil.rmtree(top)


@pytest.mark.xdist_group("debian-audit")
def test_a_store_of_debians_files(debian: debstore.Store, record_property: Record) -> None:
    """At least 2,000 real files laid out as a store, every library found by a RUNPATH: no difference."""
    begin = time.monotonic()
    audit = run(debian.directory, store=debian.directory)
    record_property("compared with ld.so", f"{audit.compared} files of a store, in {time.monotonic() - begin:.1f} s")
    assert disagreements(audit) == []
    assert audit.compared >= ENOUGH


@pytest.mark.xdist_group("debian-audit")
def test_the_machines_own_files(record_property: Record) -> None:
    """Every program and library of this machine, most of them found by ld.so.cache: no difference."""
    begin = time.monotonic()
    audit = run(*map(Path, OWN))
    record_property(
        "compared with ld.so", f"{audit.compared} files of this machine, in {time.monotonic() - begin:.1f} s"
    )
    assert disagreements(audit) == []
    assert audit.compared >= 300


@pytest.mark.parametrize("first", range(0, WORLDS, 12))
def test_random_worlds(first: int, tmp_path: Path) -> None:
    """Random names, search paths, links, variants and obstacles: no difference."""
    compared = 0
    for seed in range(first, first + 12):
        world = worlds.make(tmp_path / str(seed), seed)
        audit = run(*world.roots)
        assert disagreements(audit) == [], seed
        compared += audit.compared
    assert compared > 12 * 5


def test_what_is_compiled_into_the_loader(tmp_path: Path) -> None:
    """The directories, the cache and $LIB that are read from a loader's bytes are those that it says itself."""
    path = "/lib64/ld-linux-x86-64.so.2"
    loader = read_loader(path, DiskReader())
    assert loader is not None
    said = ask([path, "--list-diagnostics"], {}, 10).out
    for number, directory in enumerate(loader.directories):
        assert f'path.system_dirs[{number:#x}]="{directory}"' in said
    assert f"path.system_dirs[{len(loader.directories):#x}]" not in said
    assert f'dl_dst_lib="{loader.lib}"' in said
    assert loader.cache_path == "/etc/ld.so.cache"
    cached = sum(map(len, loader.cache.values()))
    assert (
        cached
        == len(subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout.splitlines())
        - 2
    )


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/usr/s390x-linux-gnu/lib/ld64.so.1", "/lib/s390x-linux-gnu/"),
        ("/usr/powerpc-linux-gnu/lib/ld.so.1", "/lib/powerpc-linux-gnu/"),
    ],
)
def test_loaders_of_other_machines(path: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled into a foreign loader is read without running anything."""
    monkeypatch.setattr("nix_harden.process.ask", lambda *_: pytest.fail("something was run"))
    loader = read_loader(path, DiskReader())
    assert loader is not None
    assert loader.directories[0] == first
    assert loader.variants == ()


def test_foreign_programs_are_walked_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for another machine has a graph, and no loader is run; why is said."""
    lib, program, empty = tmp_path / "libf.so.1", tmp_path / "program", tmp_path / "empty.o"
    subprocess.run(["s390x-linux-gnu-as", "-o", empty, "-"], input=b"", check=True)
    ld: list[str | Path] = ["s390x-linux-gnu-ld", "--no-as-needed", empty, "-o"]
    subprocess.run([*ld, lib, "-shared", "-soname", lib.name], check=True)
    interpreter = "/usr/s390x-linux-gnu/lib/ld64.so.1"
    subprocess.run(
        [*ld, program, lib, "-pie", "-e", "0", "-rpath", tmp_path, f"--dynamic-linker={interpreter}"], check=True
    )
    monkeypatch.setattr("nix_harden.process.ask", lambda *_: pytest.fail("something was run"))
    reader = DiskReader()
    seen = reader.open(str(program))
    assert isinstance(seen, Found)
    loader = Loaders(reader, None).of(seen.loadable.object)
    assert loader is not None
    graph = walk(str(program), loader, reader)
    assert graph is not None
    hows = {edge.name: edge.how for edge in graph.edges}
    assert hows["libf.so.1"] is How.RUNPATH
    (root,) = run(program).roots
    assert not root.compared
    assert "another machine" in root.why_not


def test_untrusted_files_are_not_run(tmp_path: Path) -> None:
    """A set-user-ID program, or one of another user, is given to no loader."""
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    program.chmod(0o4755)
    assert run(program).roots[0].why_not == "set-user-ID or set-group-ID"
    if os.geteuid() == 0:
        program.chmod(0o755)
        os.chown(program, 12345, 12345)
        assert "another user" in run(program).roots[0].why_not


def test_musl(tmp_path: Path) -> None:
    """musl's rules: RPATH of whoever asked, no SONAME match, one copy of each inode; its own loader says the same."""
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
    musl = ["musl-gcc", "-xc", "-", "-xnone"]

    def link(path: Path, source: str, *words: str | Path) -> Path:
        subprocess.run([*musl, "-o", path, *words], input=source.encode(), check=True)
        return path

    shared = ("-shared", "-fPIC", "-Wl,-z,noseparate-code")
    f = link(tmp_path / "a/libf.so", "int f(void) { return 1; }", *shared, "-Wl,-soname,libf.so")
    (tmp_path / "b/libf2.so").symlink_to(f)
    g = link(
        tmp_path / "b/libg.so",
        "int f(void); int g(void) { return f(); }",
        *shared,
        f,
        "-Wl,-soname,libg.so",
        "-Wl,-rpath,$ORIGIN/../a",
    )
    program = link(
        tmp_path / "program",
        "int g(void), f(void); int main(void) { return g() - f(); }",
        g,
        f,
        f"-Wl,-rpath,{tmp_path}/b",
    )
    missing = link(tmp_path / "missing", "int f(void); int main(void) { return f(); }", f)
    for path, lost in ((program, True), (missing, True), (g, False)):
        audit = run(path)
        assert disagreements(audit) == [], path
        assert any(each.check == "missing-target" for each in audit.findings) is lost
    loader = read_loader("/lib/ld-musl-x86_64.so.1", DiskReader())
    assert loader is not None
    assert loader.family is Family.MUSL
