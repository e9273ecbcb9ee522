"""`nix-harden trace` as a command: what it prints and draws, what it refuses, and its exit status."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from freeze.test_wrappers import binary_wrapper, shell_wrapper
from start.helpers import refused, trace
from start.test_counts import chain
from support.source import function, prints
from support.store import REPOSITORY, Store

SVG = "{http://www.w3.org/2000/svg}"


def test_before_and_after_stand_side_by_side(store: Store) -> None:
    """A frozen copy beside its program: names, both figures and their ratio in one line."""
    program = chain(store)
    frozen = store.path / "frozen"
    store.call("freeze", program, "-o", frozen)
    done = store.call("trace", "--against", program, frozen)
    before, after = (each["failed_lookups"] for each in trace(store, "--against", program, frozen))
    lines = done.out.splitlines()
    assert lines[:2] == [f"before: {program}", f"after: {frozen}"]
    assert after == 0
    assert next(line.split()[-3:] for line in lines if line.startswith("lookups that failed  ")) == [
        str(before),
        "0",
        "0",
    ]
    assert next(line.split()[-1] for line in lines if line.startswith("libraries mapped")) == "1.00"
    assert any(line.split()[0] == str(store.package("empty").lib) for line in lines if line)


def test_colours_are_for_terminals_without_no_color(store: Store) -> None:
    program = chain(store)
    command = [sys.executable, "-m", "nix_harden", "trace", str(program)]

    def on_a_terminal(**environ: str) -> bytes:
        ours, theirs = pty.openpty()
        subprocess.run(
            command, cwd=REPOSITORY, env=store.environ | {"TERM": "xterm"} | environ, stdout=theirs, check=True
        )
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
        os.close(ours)
        return said

    assert b"\x1b[" in on_a_terminal()
    assert b"\x1b[" not in on_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in store.call("trace", program).out


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize("make", [shell_wrapper, binary_wrapper])
def test_a_wrapper_is_run_until_it_starts_its_program(store: Store, make: Callable[[Path, Path], Path]) -> None:
    """The image that is meant is said, and what the wrapper sets takes effect."""
    lib = store.package("a").library("liba.so.1", function("a", 1))
    hidden = store.package("app").program(".app-wrapped", prints("a"), needs=[lib])
    wrapper = make(hidden.parent / "app", hidden)
    (found,) = trace(store, wrapper)
    assert (found["image"], found["wrappers"]) == (str(hidden), [str(wrapper)])
    assert str(lib) in found["libraries"]
    assert store.call("trace", wrapper).out.splitlines()[0] == f"{wrapper}; {hidden}, which it starts, is traced"


def test_what_a_wrapper_sets_takes_effect(store: Store) -> None:
    lib = store.package("a").library("liba.so.1", function("a", 1))
    other = store.package("other").library("liba.so.1", function("a", 2))
    hidden = store.package("app").program(".app-wrapped", prints("a"), needs=[lib])
    wrapper = hidden.parent / "app"
    wrapper.write_text(f'#! /bin/bash -e\nexport LD_LIBRARY_PATH={other.parent}\nexec -a "$0" "{hidden}"  "$@" \n')
    wrapper.chmod(0o755)
    (found,) = trace(store, wrapper)
    assert str(other) in found["libraries"]
    assert str(lib) not in found["libraries"]


def test_any_launcher_is_run_until_it_becomes_the_image_that_is_named(store: Store, tmp_path: Path) -> None:
    """Also by several execs; where it never does, that is said."""
    program = chain(store)
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ncd / && exec env A=b {program}\n")
    script.chmod(0o755)
    (found,) = trace(store, "--image", program, script)
    assert (found["image"], found["wrappers"]) == (str(program), [str(script)])
    assert found["failed_lookups"] == trace(store, program)[0]["failed_lookups"]
    said = refused(store, "--image", program, "/bin/true", status=3)
    assert said == f"nix-harden: error: /bin/true: ended before it became {program}: it ended with status 0"


def test_what_cannot_be_traced_is_refused(store: Store, tmp_path: Path) -> None:
    """With one sentence, and as a wrong argument."""
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/python3\n")
    script.chmod(0o755)
    text = tmp_path / "text"
    text.write_text("words")
    text.chmod(0o755)
    special = tmp_path / "special"
    shutil.copy("/bin/true", special)
    special.chmod(0o4755)
    plain = tmp_path / "plain"
    shutil.copy("/bin/true", plain)
    plain.chmod(0o644)
    library = store.package("a").library("liba.so.1", function("a", 1))
    for path, words in {
        script: "is a script, and no wrapper of nixpkgs'; trace its interpreter /usr/bin/python3",
        text: "is no ELF file",
        special: "is set-user-ID",
        plain: "may not be executed",
        tmp_path: "is no file",
        tmp_path / "nothing": "is not there",
        library: "is a shared library",
    }.items():
        assert f"{path}: {words}" in refused(store, path, status=2)
    assert "is no program in PATH" in refused(store, "no-such-program", status=2)
    assert refused(store, "--against", tmp_path / "nothing", "/bin/true", status=2)


def test_without_strace_it_says_what_to_install(store: Store, tmp_path: Path) -> None:
    said = refused(store, "/bin/true", status=3, path=str(tmp_path))
    assert said.startswith("nix-harden: error: strace: is not there; install it")


def test_a_start_that_fails_is_an_error_with_the_loaders_words(store: Store) -> None:
    program = chain(store)
    (store.package("c").lib / "libc1.so.1").unlink()
    said = refused(store, program, status=3)
    assert f"{program}: did not come to its own first instruction: it ended with status 127: " in said
    assert "libc1.so.1: cannot open shared object file" in said


def test_arguments_are_the_programs(store: Store) -> None:
    """Whatever they look like, once the program is named."""
    (found,) = trace(store, chain(store), "--json", "--delay", "-x")
    assert found["arguments"] == ["--json", "--delay", "-x"]


def test_instructions_are_counted_by_valgrind(store: Store) -> None:
    """Symbol lookup and relocation are parts of what the loader spends; static programs have none, which is said."""
    (found,) = trace(store, "--instructions", chain(store))
    spent = found["instructions"]
    assert 0 < spent["relocation"] + spent["symbol_lookup"] < spent["total"]
    static = store.package("app").program("static", "int main(void) { return 0; }", flags=["-static"])
    (found,) = trace(store, "--instructions", static)
    assert found["instructions"] is None
    assert set(found["why_not"]) == {"linking", "instructions"}


def test_without_valgrind_its_row_says_so(store: Store, tmp_path: Path) -> None:
    """And all other figures are there."""
    (tmp_path / "strace").symlink_to(str(shutil.which("strace")))
    done = store.call("trace", "--json", "--instructions", chain(store), environ={"PATH": str(tmp_path)})
    (found,) = json.loads(done.out)["programs"]
    assert found["why_not"] == {"instructions": "valgrind is not there"}
    assert found["failed_lookups"] > 0


def test_the_picture_is_whole_and_holds_the_figures(store: Store, tmp_path: Path) -> None:
    """An SVG that is well formed whatever a name holds, with the counts of the JSON in it."""
    program = chain(store)
    odd = program.with_name("a<b & 'c'")
    program.rename(odd)
    file = tmp_path / "start.svg"
    before, _ = trace(store, "--delay", "1ms", "--svg", file, "--against", odd, odd)
    root = ElementTree.parse(file).getroot()
    words = ["".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")]
    assert root.tag == f"{SVG}svg"
    assert words[0] == "How a<b & 'c' begins, with 4 libraries"
    assert f"before: {before['failed_lookups']:,} failed lookups, {before['system_calls']:,} system calls" in words
    assert "liba.so.1" in words
    assert "empty/lib" in words
    paths = {each.get("class") for each in root.iter(f"{SVG}path") if each.get("d")}
    assert {"failed", "call", "relocation", "constructors", "axis"} <= paths
    assert str(tmp_path) not in file.read_text()


def test_a_picture_that_cannot_be_written_is_an_error(store: Store, tmp_path: Path) -> None:
    done = store.call("trace", "--svg", tmp_path / "none" / "a.svg", "/bin/true", status=2)
    assert "nix-harden: error: --svg: " in done.err


def test_json_is_one_document(store: Store) -> None:
    """Whatever the program's libraries print when they are initialized."""
    source = '#include <stdio.h>\n__attribute__((constructor)) static void b(void) { puts("{"); fflush(stdout); } int a(void) { return 1; }'
    lib = store.package("a").library("liba.so.1", source)
    program = store.package("app").program("app", prints("a"), needs=[lib])
    done = store.call("trace", "--json", program)
    assert json.loads(done.out)["version"] == 1
    assert done.err == ""
