"""What Nix promises of a package holds of a hardened one, in both modes; properties.nix says what is built."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from support.dynamic import names
from support.nix import ROOT

PACKAGES = str(Path(__file__).with_name("properties.nix"))
MODES = ("plain", "soname", "needed")
HARDENED = ("soname", "needed")
JOBS = ("--max-jobs", "2", "--cores", "2")
ADDRESSED = ("--option", "extra-experimental-features", "ca-derivations")
LISTED = re.compile(r"(/nix/store/\S+) \(0x")
INTERPRETER = re.compile(r"interpreter: (\S+)\]")

Nix = Callable[..., str]


def build(nix: Nix, *packages: str, words: Iterable[str] = ()) -> list[Path]:
    """The store paths of packages of properties.nix, in the order that they are asked for."""
    chosen = [word for package in packages for word in ("-A", package)]
    return [Path(line) for line in nix("nix-build", "--no-out-link", *JOBS, *words, PACKAGES, *chosen).split()]


def refused(nix: Nix, package: str) -> str:
    """What Nix and the build say where a package may not be built."""
    return nix("nix-build", "--no-out-link", *JOBS, PACKAGES, "-A", package, fails=True)


def execute(*words: str | Path, root: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with an empty environment, below another root directory if one is given."""
    inside = [shutil.which("chroot") or "", root] if root else []
    return subprocess.run([*inside, *words], env={}, capture_output=True, text=True, check=False)


def said(program: Path, root: str | None = None) -> tuple[int, str, str]:
    done = execute(program, root=root)
    return done.returncode, done.stdout, done.stderr


def libraries(program: Path, root: str | None = None) -> list[str]:
    """The files that its loader maps for a program, in its order."""
    segments = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True)
    loader = INTERPRETER.findall(segments.stdout)[0]
    done = execute(loader, "--list", program, root=root)
    assert done.returncode == 0, done.stderr
    return LISTED.findall(done.stdout)


def references(nix: Nix, path: Path, relation: str = "--references") -> set[str]:
    """The names of the other store paths that one refers to, without hashes: those of a plain and a hardened build differ."""
    answer = nix("nix-store", "--query", relation, str(path))
    return {os.path.basename(line)[33:] for line in answer.split() if line != str(path)}


def requisites(nix: Nix, path: Path) -> set[str]:
    """The same of all that it needs at run time."""
    return references(nix, path, "--requisites")


def test_building_again_elsewhere_gives_the_same_bytes(
    nix: Nix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C, C++ and several outputs, two builds at once and in another directory; what holds the place of its build is found out."""
    packages = [f"chain.{mode}.{name}" for mode in HARDENED for name in ("liba", "libb", "app")]
    packages += [f"several.{mode}.{output}" for mode in HARDENED for output in ("out", "lib", "dev")]
    before = build(nix, *packages)
    build(nix, "unstable")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert build(nix, *packages, words=["--check"]) == before
    answer = nix("nix-build", "--no-out-link", "--check", PACKAGES, "-A", "unstable", fails=True)
    assert "may not be deterministic" in answer


@pytest.mark.parametrize("mode", HARDENED)
@pytest.mark.parametrize(
    "package", ["chain.{}.liba", "chain.{}.libb", "chain.{}.app", "several.{}.out", "several.{}.lib"]
)
def test_a_closure_does_not_grow(nix: Nix, mode: str, package: str) -> None:
    """A library may refer to itself, and a name that led through a link into another store path leads there straight."""
    plain, hardened = build(nix, package.format("plain"), package.format(mode))
    assert requisites(nix, hardened) <= requisites(nix, plain)
    assert references(nix, hardened) <= requisites(nix, plain)
    assert references(nix, plain) <= references(nix, hardened), "the build itself has cut its search paths"


@pytest.mark.parametrize("mode", HARDENED)
def test_a_closure_shrinks_by_what_a_search_path_named_in_vain(nix: Nix, mode: str) -> None:
    plain, hardened = build(nix, "unshrunk.plain", f"unshrunk.{mode}")
    assert "unused" in references(nix, plain)
    assert references(nix, hardened) < references(nix, plain)
    assert requisites(nix, hardened) < requisites(nix, plain)
    assert "unused" not in requisites(nix, hardened)


@pytest.mark.parametrize(("package", "before", "after"), [("opener", "not found\n", "opened\n"), ("lost", "", "1\n")])
@pytest.mark.parametrize("mode", HARDENED)
def test_a_closure_grows_by_what_a_program_did_not_find(
    nix: Nix, mode: str, package: str, before: str, after: str
) -> None:
    """What a program needs or opens by a name that nothing answered is found among its inputs: the closure was not whole."""
    plain, hardened = build(nix, f"{package}.plain", f"{package}.{mode}")
    assert references(nix, hardened) == references(nix, plain) | {"a"}
    assert "a" not in references(nix, plain)
    assert said(plain / "bin" / package)[1] == before
    assert said(hardened / "bin" / package) == (0, after, "")


@pytest.mark.parametrize("mode", HARDENED)
def test_a_reference_that_a_build_removed_stays_removed(nix: Nix, mode: str) -> None:
    """What lies among the inputs was not to be referred to: the name stays bare."""
    plain, hardened = build(nix, "removed.plain", f"removed.{mode}")
    assert references(nix, hardened) == references(nix, plain)
    assert said(hardened / "bin/removed")[0] == said(plain / "bin/removed")[0] == 127


@pytest.mark.parametrize("mode", MODES)
def test_a_replacement_of_hashes_in_place_takes_effect(nix: Nix, mode: str) -> None:
    """The rewritten program loads the other library by every name, and nothing of its closure refers to the old one."""
    words = [f"{kind}.{mode}.{name}" for kind in ("chain", "replaced") for name in ("liba", "libb", "app")]
    liba, libb, app, new_liba, new_libb, new_app = build(nix, *words)
    assert said(app / "bin/app") == (0, "2\n", "")
    assert said(new_app / "bin/app") == (0, "42\n", "")
    assert f"{new_liba}/lib/liba.so.1" in libraries(new_app / "bin/app")
    soname = names(new_libb / "lib/libb.so.1").soname
    assert soname == (f"{new_libb}/lib/libb.so.1" if mode == "soname" else "libb.so.1")
    closure = nix("nix-store", "--query", "--requisites", str(new_app)).split()
    assert {str(new_liba), str(new_libb)} <= set(closure)
    assert not {str(liba), str(libb), str(app)} & set(closure)


@ROOT
@pytest.mark.parametrize("mode", MODES)
def test_an_optimised_store_is_whole_and_programs_load_the_same(nix: Nix, tmp_path: Path, mode: str) -> None:
    """In a store of its own: equal files become one, every hash is right, and a byte that changes is found out."""
    liba, app, several, twin = build(
        nix, f"chain.{mode}.liba", f"chain.{mode}.app", f"several.{mode}.out", f"twin.{mode}"
    )
    root = str(tmp_path / "root")
    store = ("--store", f"local?root={root}")
    paths = [str(path) for path in (app, several, twin)]
    nix("nix", "copy", "--no-check-sigs", "--to", f"local?root={root}", *paths)

    def inside(package: Path) -> Path:
        return Path(f"{root}{package}/lib/liba.so.1.0")

    assert inside(liba).stat().st_ino != inside(twin).stat().st_ino
    nix("nix-store", *store, "--optimise")
    nix("nix-store", *store, "--verify", "--check-contents")
    # An absolute SONAME is the one thing in which the two differ.
    assert (inside(liba).stat().st_ino == inside(twin).stat().st_ino) == (mode != "soname")
    for program in (app / "bin/app", several / "bin/several"):
        assert said(program, root=root) == said(program)
        assert libraries(program, root=root) == libraries(program)
    changed = inside(twin)
    changed.chmod(stat.S_IRUSR | stat.S_IWUSR)
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert "was modified" in nix("nix-store", *store, "--verify", "--check-contents", fails=True)


@pytest.mark.parametrize("mode", MODES)
def test_content_addressed_chains_build_run_and_are_the_same_again(nix: Nix, mode: str) -> None:
    """Another derivation of the same content gives the same paths: a library's own path in its SONAME is not counted as content."""
    packages = [f"addressed.{mode}.{name}" for name in ("liba", "libb", "app")]
    liba, libb, app = build(nix, *packages, words=ADDRESSED)
    assert build(nix, *packages, words=[*ADDRESSED, "--argstr", "variant", "again"]) == [liba, libb, app]
    for path in (liba, libb, app):
        assert '"ca":"fixed:r:sha256:' in nix("nix", *ADDRESSED, "path-info", "--json", str(path))
    if mode == "soname":
        assert names(libb / "lib/libb.so.1").soname == f"{libb}/lib/libb.so.1"
        assert str(libb) in nix("nix-store", "--query", "--references", str(libb)).split()
    assert said(app / "bin/app") == (0, "2\n", "")
    assert {f"{libb}/lib/libb.so.1", f"{liba}/lib/liba.so.1"} <= set(libraries(app / "bin/app"))


def test_a_library_that_may_refer_to_nothing_keeps_its_soname(nix: Nix) -> None:
    """allowedReferences = [ ] holds in mode needed, and in mode soname the hook says what stands against it and what to do."""
    (needed,) = build(nix, "alone.needed.nothing")
    assert nix("nix-store", "--query", "--references", str(needed)) == ""
    assert names(needed / "lib/libnothing.so.1").soname == "libnothing.so.1"
    answer = refused(nix, "alone.soname.nothing")
    assert "a reference of out to itself, which allowedReferences does not allow" in answer
    assert 'hardenNeededMode = "needed"' in answer
    (itself,) = build(nix, "alone.soname.itself")
    assert nix("nix-store", "--query", "--references", str(itself)).split() == [str(itself)]


def test_what_a_package_must_not_refer_to_may_be_in_the_search_path_that_hardening_drops(nix: Nix) -> None:
    assert "is not allowed to refer to the following paths" in refused(nix, "forbidden.plain")
    for program in build(nix, *(f"forbidden.{mode}" for mode in HARDENED)):
        assert said(program / "bin/forbidden") == (0, "2\n", "")
