"""nixpkgs' wrappers are followed to the program that they start."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from freeze.helpers import freeze, refused, run
from support.source import function, prints
from support.store import Store

# As nixpkgs' makeDocumentedCWrapper prints it, shortened.
DOCSTRING = r"""
# ------------------------------------------------------------------------------------
# The C-code for this binary wrapper has been generated using the following command:


makeCWrapper %s \
    --inherit-argv0 \
    --set 'VARIABLE' 'value'


# (Use `nix-shell -p makeBinaryWrapper` to get access to makeCWrapper in your shell)
# ------------------------------------------------------------------------------------


"""


@pytest.fixture(params=["app", "an app's"])
def hidden(request: pytest.FixtureRequest, store: Store) -> Path:
    lib = store.package("a").library("liba.so.1", function("a", 5))
    return store.package("app").program(f".{request.param}-wrapped", prints("a"), needs=[lib])


def shell_wrapper(path: Path, target: Path) -> Path:
    """As nixpkgs' makeShellWrapper writes it."""
    path.write_text(f'#! /bin/bash -e\nexport VARIABLE=\'value\'\nexec -a "$0" "{target}"  --flag "$@" \n')
    path.chmod(0o755)
    return path


def binary_wrapper(path: Path, target: Path) -> Path:
    """As nixpkgs' makeBinaryWrapper compiles it."""
    quoted = "'" + str(target).replace("'", "'\\''") + "'"
    text = (DOCSTRING % quoted).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    source = (
        "#include <unistd.h>\n#include <stdlib.h>\n"
        f'int main(int argc, char **argv) {{ putenv("VARIABLE=value"); return execv("{target}", argv); }}\n'
        f'const char * DOCSTRING = "{text}";'
    )
    subprocess.run(["gcc", "-x", "c", "-", "-Os", "-o", path], input=source, text=True, check=True)
    return path


@pytest.mark.parametrize("make", [shell_wrapper, binary_wrapper])
def test_a_wrapper_is_followed_and_said(store: Store, hidden: Path, make: Callable[[Path, Path], Path]) -> None:
    """OUT is the wrapped program, without what the wrapper sets, and that is said."""
    wrapper = make(hidden.parent / "app", hidden)
    out = store.path / "out"
    done = freeze(store, wrapper, out)
    assert f"{wrapper} is a wrapper; what was frozen is {hidden}, which it starts" in done.err
    assert run(out).said == run(hidden).said
    assert run(out).misses == ()


@pytest.mark.parametrize("make", [shell_wrapper, binary_wrapper])
def test_in_place_a_wrapper_stays_and_starts_the_frozen_program(
    store: Store, hidden: Path, make: Callable[[Path, Path], Path]
) -> None:
    wrapper = make(hidden.parent / "app", hidden)
    before, bytes_before = run(wrapper), wrapper.read_bytes()
    assert any(Path(path).name.startswith("lib") for path in run(hidden).misses)
    store.call("freeze", "--in-place", wrapper)
    assert wrapper.read_bytes() == bytes_before
    assert run(wrapper).said == before.said
    assert run(hidden).misses == ()


def test_wrappers_of_wrappers(store: Store, hidden: Path) -> None:
    inner = binary_wrapper(hidden.parent / ".app-wrapped_", hidden)
    outer = shell_wrapper(hidden.parent / "app", inner)
    out = store.path / "out"
    assert f"what was frozen is {hidden}" in freeze(store, outer, out).err
    assert run(out).said == run(hidden).said


def test_wrappers_that_start_each_other(store: Store) -> None:
    one = store.package("app").path / "one"
    shell_wrapper(one, one)
    assert "wrappers start each other" in refused(store, one)


def test_what_a_wrapper_starts_is_judged_itself(store: Store) -> None:
    package = store.package("app")
    script = package.path / ".app-wrapped"
    script.write_text("#! /bin/sh\necho hello\n")
    line = refused(store, shell_wrapper(package.path / "app", script))
    assert f"{script}: not frozen, nothing was written: it is a script" in line
