"""Real programs bind as our resolver says, and bind the same in a proven order, which passes fewer libraries."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from freeze.bindings import resolved, said
from freeze.helpers import run
from real import debstore
from support.store import Store

pytestmark = pytest.mark.xdist_group("debian order")

# Of each program its package, its path there, what it is run with, and the names that no SONAME answers.
PROGRAMS = {
    "ffmpeg": ("ffmpeg", "bin/ffmpeg", "-version"),
    "convert": ("imagemagick-6.q16", "bin/convert-im6.q16", "-version"),
    "git": ("git", "bin/git", "--version"),
    "curl": ("curl", "bin/curl", "--version"),
    "python": ("python3.11-minimal", "bin/python3.11", "--version"),
}


@pytest.fixture(scope="module")
def debian() -> Iterator[debstore.Store]:
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = Path(temporary)
        yield debstore.build(dest, [package for package, *_ in PROGRAMS.values()], debstore.default_cache())


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_lookup_is_bound_as_the_loader_binds_it(debian: debstore.Store, name: str) -> None:
    package, path, *_ = PROGRAMS[name]
    program = debian.path(package) / path
    bound = said(program)
    assert len(bound) > 300
    assert resolved(program) == bound


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_a_proven_order_it_binds_and_says_the_same(debian: debstore.Store, tmp_path: Path, name: str) -> None:
    package, path, argument = PROGRAMS[name]
    program, out = debian.path(package) / path, tmp_path / "out" / name
    out.parent.mkdir()
    words: list[str | Path] = [
        "freeze",
        program,
        "-o",
        out,
        "--order",
        "proven",
        "--json",
    ]
    told = json.loads(Store(debian.directory, debian.path("libc6")).call(*words).out)
    assert told["bindings_compared"] > 300
    assert told["ordering"]["passed"] <= 1
    names = {str(out): str(program)}
    after = {(names.get(by, by), names.get(to, to), what) for by, to, what in said(out)}
    assert after == said(program)
    assert run(out, argument).said == run(program, argument).said


def test_a_wide_program_gains_more_than_half(debian: debstore.Store) -> None:
    program = debian.path("ffmpeg") / "bin/ffmpeg"
    done = Store(debian.directory, debian.path("libc6")).call("freeze", "--explain-order", "--json", program)
    assert json.loads(done.out)["ordering"]["passed"] < 0.5
