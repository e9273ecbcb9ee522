"""Debian's programs, frozen in each way, do the same work and search for nothing; no library of theirs is touched."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from real import debstore
from real.debstore import Store
from real.observe import closure, environment, failing_opens, run
from real.programs import EXTENSIONS, SQL
from support.schema import check

pytestmark = pytest.mark.xdist_group("debian frozen")

PACKAGES = ("ruby3.1", "sqlite3", "curl")
# A program, what it is given, and what it reads.
WORKS: Mapping[str, tuple[tuple[str, ...], bytes]] = {
    "ruby3.1": (("-e", EXTENSIONS), b""),
    "sqlite3": (("-batch", ":memory:"), SQL),
    "curl": (("-s", "file:///etc/os-release"), b""),
}
WAYS = ("lift", "closure", "relative")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        top = Path(temporary)
        top.chmod(0o755)
        yield debstore.build(top, PACKAGES, debstore.default_cache())


def freeze(program: Path, out: Path, *options: str | Path) -> dict[str, object]:
    out.parent.mkdir(mode=0o755)
    done = subprocess.run(
        [sys.executable, "-m", "nix_harden", "freeze", program, "-o", out, "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = check("freeze", done.stdout)
    return told


def contents(store: Store) -> str:
    found = hashlib.sha256()
    for path in store.elf_files():
        found.update(path.read_bytes())
    return found.hexdigest()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WORKS)
def test_a_frozen_program_does_the_same(store: Store, name: str, way: str) -> None:
    top = store.directory.parent / f"{name}-{way}"
    program = store.path(name) / "bin" / name
    options: Mapping[str, list[str | Path]]
    options = {"lift": [], "closure": ["--closure", top / "lib"], "relative": ["--closure", top / "lib", "--relative"]}
    before = contents(store)
    told = freeze(program, top / name, *options[way])
    assert contents(store) == before
    compared = told["bindings_compared"]
    assert isinstance(compared, int)
    assert compared > 300
    if way == "relative":
        top = Path(shutil.move(top, top.with_name(f"{top.name}-moved")))
    words, stdin = WORKS[name]
    home = store.directory.parent / "home"
    ran = [run([path, *words], environment(store, home), home, stdin) for path in (program, top / name)]
    assert ran[0] == ran[1]
    assert ran[0].stdout
    assert failing_opens(store.loader, program) > 50
    assert failing_opens(store.loader, top / name) == 0
    copies = [path for path in closure(store.loader, top / name).files if path.startswith(f"{top}/lib/")]
    assert len(copies) == (0 if way == "lift" else len(list((top / "lib").iterdir())))


def test_a_run_shows_what_ruby_opens(store: Store) -> None:
    """Extension modules by their paths, from a real run; they stay, and go on working with the copy of libruby."""
    program, top = store.path("ruby3.1") / "bin" / "ruby3.1", store.directory.parent / "observed"
    home = store.directory.parent / "home"
    top.mkdir(mode=0o755)
    words: list[str | Path]
    words = [program, "-o", top / "ruby3.1", "--closure", top / "lib", "--json", "--observe", "--", "-e", EXTENSIONS]
    done = subprocess.run(
        [sys.executable, "-m", "nix_harden", "freeze", *words],
        env=environment(store, home) | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    opened = check("freeze", done.stdout)["opened"]
    modules = [entry["path"] for entry in opened if entry["path"] and "/ruby/3.1.0/" in entry["path"]]
    assert len(modules) > 15
    assert {entry["evidence"] for entry in opened} == {"seen in a run"}
    maps = 'require "openssl"; puts File.read("/proc/self/maps").scan(%r{/\\S*/libruby\\S*}).uniq'
    ran = run([top / "ruby3.1", "-e", maps], environment(store, home), home)
    assert re.fullmatch(rf"{top}/lib/libruby\S*\n", ran.stdout.decode())
