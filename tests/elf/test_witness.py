"""Write: pyelftools reads what was written, after this project's own reader, and what either reads otherwise than it was asked is undone."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import LINKERS, Package, Store

from nix_harden.errors import WriteError
from nix_harden.fixup import report, verify, witness, write
from nix_harden.model import Edit, PathAction, Write
from nix_harden.reading.elf import read_contents, read_object
from nix_harden.settings import from_environ


@pytest.fixture
def it(store: Store) -> Package:
    """Two libraries of which one has versions, and a program with room."""
    it = store.package("it")
    script = store.path.parent / "map"
    script.write_text("VERS_1 { a; };")
    liba = it.library("liba.so.1", function("a", 1), flags=[f"-Wl,--version-script={script}"])
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    it.program("app", prints("a", "b"), needs=[libb, liba], rpath=[it.lib, store.libc, f"{store.path}/{'r' * 300}"])
    return it


def edit(it: Package) -> Edit:
    obj = read_object(str(it.bin / "app"))
    assert obj is not None
    needed = tuple((name, f"{it.lib}/{name}") for name in obj.needed if name.startswith("lib") and "libc" not in name)
    return Edit((obj.path,), obj, None, needed, PathAction.EMPTY)


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("flags", [[], ["-Wl,--hash-style=sysv"], ["-m32", "-nostdlib"]], ids=["", "sysv", "32 bits"])
def test_both_readers_see_the_same(store: Store, linker: str, flags: list[str]) -> None:
    it = store.package("it")
    script = store.path.parent / "map"
    script.write_text("VERS_1 { a; }; VERS_2 { c; } VERS_1;")
    liba = it.library(
        "liba.so.1", f"{function('a', 1)}{function('c', 2)}", flags=[*flags, f"-Wl,--version-script={script}"]
    )
    rpath = [it.lib] if "-m32" in flags else None
    libb = it.library("libb.so.1", function("b", 1, ["a"]), needs=[liba], linker=linker, flags=flags, rpath=rpath)
    for path in (liba, libb):
        seen, obj, contents = witness.look(str(path)), read_object(str(path)), read_contents(str(path))
        assert obj is not None
        assert contents is not None
        for name in ("interpreter", "soname", "needed", "rpath", "runpath", "version_files"):
            assert getattr(seen, name) == getattr(obj, name), name
        assert seen.versions == contents.version_names
        assert seen.loaded == tuple((each.offset, each.address, each.size) for each in contents.loaded)
    assert witness.look(str(liba)).versions == ("liba.so.1", "VERS_1", "VERS_2", "VERS_1")


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "NEEDED": lambda data: data.replace(b"/libb.so.1\0", b"/libc.so.1\0"),
    "a version": lambda data: data.replace(b"VERS_1\0", b"VERS_2\0"),
    "the interpreter": lambda data: data.replace(b"ld-linux-x86-64.so.2\0", b"ld-linux-x86-64.so.3\0", 1),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_the_first_reader_passes_the_second_refuses(
    it: Package, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever is wrong in the reader that also decided what to write."""
    program = it.bin / "app"
    before, asked = program.read_bytes(), edit(it)
    put = write._put

    def spoil(writes: tuple[Write, ...], descriptor: int) -> None:
        put(writes, descriptor)
        with open(f"/proc/self/fd/{descriptor}", "r+b") as file:
            data = SPOILT[what](file.read())
            file.seek(0)
            file.write(data)

    monkeypatch.setattr(write, "_put", spoil)
    monkeypatch.setattr(verify, "_compare", lambda *_: None)
    monkeypatch.setattr("nix_harden.reading.elf.Contents.spoilt", lambda *_: False)
    with pytest.raises(WriteError, match="pyelftools reads "):
        write.write(asked, write.Workshop(str(it.store.path.parent), "patchelf", str(it.store.path)))
    assert program.read_bytes() == before


def test_a_file_that_pyelftools_cannot_read_is_written_and_said(it: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has limits of its own; the first reader decides then."""

    def look(_: str) -> witness.Seen:
        raise witness.Blind("EnumError")

    monkeypatch.setattr(witness, "look", look)
    environ = {"NIX_STORE": str(it.store.path), "NIX_BUILD_CORES": "1"}
    done = write.write_all([edit(it)], from_environ(environ, {}))
    assert names(it.bin / "app").needed[0] == f"{it.lib}/libb.so.1"
    (warning, _) = report.written(done)
    assert f"warning: {it.bin}/app: " in warning
    assert "pyelftools fails on it (EnumError)" in warning


@pytest.mark.parametrize("cut", [0, 3, 20, 64, 100, 400, 1000])
def test_a_file_that_is_cut_short_is_not_read(it: Package, cut: int) -> None:
    program = it.bin / "app"
    program.write_bytes(program.read_bytes()[:cut])
    with pytest.raises(witness.Blind):
        witness.look(str(program))


def test_pyelftools_is_imported_only_where_something_is_edited(store: Store, it: Package) -> None:
    """Most derivations have nothing to edit."""
    code = (
        "import sys\nfrom nix_harden.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: print('elftools' in sys.modules)"
    )
    for expected in ("True\n", "False\n"):
        words = [sys.executable, "-c", code, "fixup", "--output", f"out={it.path}", "--jobs", "1"]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=store.environ)
        assert done.stdout == expected
