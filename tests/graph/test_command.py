"""`nix-harden graph` as a command: its forms, what it says, and its exit status."""

import os
import stat
from pathlib import Path

import pytest
from freeze.test_wrappers import shell_wrapper
from graph.helpers import world
from support.schema import check
from support.source import function, prints
from support.store import Store, patchelf


@pytest.fixture
def program(store: Store) -> Path:
    return world(store)


@pytest.mark.parametrize(
    ("ending", "begins"),
    [
        (".dot", b"digraph "),
        (".gv", b"digraph "),
        (".svg", b"<?xml"),
        (".SVG", b"<?xml"),
        (".png", b"\x89PNG\r\n"),
        (".mmd", b"flowchart LR\n"),
        (".json", b'{\n  "version": 1'),
    ],
)
def test_the_ending_says_the_form(ending: str, begins: bytes, store: Store, program: Path, tmp_path: Path) -> None:
    out = tmp_path / f"picture{ending}"
    done = store.call("graph", program, "-o", out)
    assert out.read_bytes().startswith(begins)
    assert done.out == ""
    assert done.err == "nix-harden: 9 nodes and 9 edges\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert list(tmp_path.glob(".nix-harden-*")) == []


def test_on_standard_output_it_is_dot_unless_another_is_asked_for(store: Store, program: Path) -> None:
    assert store.call("graph", program).out.startswith("digraph ")
    assert store.call("graph", "--format", "mermaid", program).out.startswith("flowchart ")
    assert check("graph", store.call("graph", "--json", program).out)["version"] == 1


def test_an_unknown_ending_is_refused_and_a_form_settles_it(store: Store, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "picture.bmp"
    assert "ends in none of .dot" in store.call("graph", program, "-o", out, status=2).err
    assert not out.exists()
    store.call("graph", "--format", "dot", program, "-o", out)
    assert out.read_bytes().startswith(b"digraph ")


def test_without_graphviz_there_is_a_sentence_and_nothing_is_written(
    store: Store, program: Path, tmp_path: Path
) -> None:
    out = tmp_path / "picture.svg"
    out.write_text("old")
    done = store.call("graph", program, "-o", out, environ={"PATH": str(tmp_path)}, status=3)
    assert "dot: is not on PATH; install Graphviz for SVG and PNG" in done.err
    assert len(done.err.splitlines()) == 1
    assert out.read_text() == "old"
    store.call("graph", program, "-o", tmp_path / "picture.dot", environ={"PATH": str(tmp_path)})


def test_a_failing_graphviz_is_a_sentence_and_nothing_is_written(store: Store, program: Path, tmp_path: Path) -> None:
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\ncat >/dev/null\necho 'cannot do it' >&2\nexit 3\n")
    fake.chmod(0o755)
    out = tmp_path / "picture.svg"
    done = store.call("graph", program, "-o", out, environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, status=3)
    assert f"{fake}: failed with status 3: cannot do it" in done.err
    assert not out.exists()


def test_places_that_hold_no_file_are_refused(store: Store, program: Path, tmp_path: Path) -> None:
    assert "is a directory" in store.call("graph", program, "--format", "dot", "-o", tmp_path, status=2).err
    assert "is no directory" in store.call("graph", program, "-o", tmp_path / "no" / "p.dot", status=2).err
    store.call("graph", program, "--format", "dot", "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_a_link_is_written_through(store: Store, program: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "link.dot", tmp_path / "target"
    link.symlink_to(target)
    store.call("graph", program, "-o", link)
    assert link.is_symlink()
    assert target.read_text().startswith("digraph ")


def test_why(store: Store, program: Path) -> None:
    done = store.call("graph", "--json", "--why", "libgone*", program)
    assert {node["label"] for node in check("graph", done.out)["nodes"]} == {"viewer", "libimagex.so.6", "libgone.so.3"}
    assert done.err == "nix-harden: 3 nodes and 2 edges of 9 and 9\n"
    refused = store.call("graph", "--why", "libnever.so.1", program, status=1)
    assert (
        refused.err
        == "nix-harden: error: libnever.so.1: nothing in the closure is it; nix-harden graph --json lists what there is\n"
    )


def test_a_path_means_the_file_that_its_links_lead_to(store: Store, program: Path) -> None:
    """Libraries are known by their links; so is what is said on the command line."""
    paint = store.package("paint").lib / "libpaint.so.16"
    paint.rename(paint.with_name("libpaint.so.16.2"))
    paint.symlink_to("libpaint.so.16.2")
    for path in (paint, paint.with_name("libpaint.so.16.2")):
        assert "viewer → libpaint.so.16 (RUNPATH)" in store.call("why", program, path).out
        value = check("graph", store.call("graph", "--json", "--why", path, program).out)
        assert {node["label"] for node in value["nodes"]} == {"viewer", "libpaint.so.16"}


def test_depth(store: Store, program: Path) -> None:
    value = check("graph", store.call("graph", "--json", "--depth", "0", program).out)
    assert [(node["label"], node["left_out_below"]) for node in value["nodes"]] == [("viewer", 4)]
    assert "--depth: is a number of edges" in store.call("graph", "--depth", "-1", program, status=2).err


def test_what_is_left_out_is_said(store: Store) -> None:
    """A wide closure: twelve libraries of which each needs all before it."""
    libraries: list[Path] = []
    for number in range(12):
        calls = [f"f{other}" for other in range(number)]
        source = function(f"f{number}", 1, calls)
        libraries.append(store.package(f"l{number}").library(f"libl{number}.so.1", source, needs=libraries))
    program = store.package("wide").program("wide", prints("f11"), needs=libraries)
    drawn, whole = store.call("graph", program), store.call("graph", "--all-edges", program)
    left_out = drawn.err.split("; ")[1].split()[0]
    assert f"{left_out} edges are not drawn, as longer ways imply them: --all-edges draws them" in drawn.err
    assert "not drawn" not in whole.err
    assert whole.out.count(" -> ") - drawn.out.count(" -> ") == int(left_out) > 60


def test_a_wrapper_means_what_it_starts(store: Store, program: Path) -> None:
    wrapper = shell_wrapper(program.with_name("wrapped"), program)
    assert store.call("graph", "--json", wrapper).out == store.call("graph", "--json", program).out


def test_what_loads_nothing_is_a_sentence(store: Store, tmp_path: Path) -> None:
    static = store.package("s").program("static", "int main(void) { return 0; }", flags=["-static"], rpath=())
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    text = tmp_path / "text"
    text.write_text("text")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (static, "it is static and loads no libraries"),
        (script, "it is a script, which /bin/sh runs"),
        (text, "it is no ELF file"),
        (tmp_path / "empty", "there are no dynamic ELF files in it"),
    ):
        done = store.call("graph", path, status=1)
        assert (
            done.err
            == f"nix-harden: error: {path}: {words}; say a dynamic program or library, or a directory with some\n"
        )
    assert "No such file" in store.call("graph", tmp_path / "nowhere", status=3).err


def test_where_the_loader_stops_it_is_said(store: Store) -> None:
    lib = store.package("f").library("libf.so.1", function("f", 1))
    program = store.package("app").program("app", prints("f"), needs=[lib])
    lib.write_text("no ELF at all, but long enough to be read as one" * 10)
    done = store.call("graph", "--json", program)
    assert "its loader stops: " in done.err
    assert len(check("graph", done.out)["remarks"]) == 1


def test_mermaid_says_where_it_has_too_many_edges(store: Store) -> None:
    """500 is what Mermaid draws where nobody allows more."""
    libraries: list[Path] = []
    for number in range(34):
        source = function(f"f{number}", 1)
        libraries.append(store.package(f"l{number}").library(f"libl{number}.so.1", source, needs=libraries))
    options = ("--format", "mermaid", "--all-edges")
    assert "warning: Mermaid draws 500 edges" in store.call("graph", *options, libraries[-1]).err
    assert "warning" not in store.call("graph", *options, libraries[20]).err


def test_store_paths_are_those_that_files_name(store: Store) -> None:
    """Text, ELF and links count, also where the store had another place; a path's own name and what is not in the store do not."""
    lib = store.package("lib").library("libf.so.1", function("f", 1))
    program = store.package("app").program("app", prints("f"), needs=[lib])
    data, linked = store.package("data"), store.package("linked")
    (data.path / "file").write_text(f"see {store.package('doc').path}/x and {store.path}/{'0' * 32}-gone\n")
    (linked.path / "file").write_text(f"/moved/store/{store.package('far').path.name}/x")
    (program.parent / "data").symlink_to(data.path / "file")
    (program.parent / "directory").symlink_to(linked.path)
    store.package("apart")
    value = check("graph", store.call("graph", "--store-paths", "--json", program).out)
    labels = {node["id"]: node["label"] for node in value["nodes"]}
    assert {(labels[edge["source"]], labels[edge["target"]]) for edge in value["edges"]} >= {
        ("app", "lib"),
        ("app", "data"),
        ("app", "linked"),
        ("app", "glibc"),
        ("lib", "glibc"),
        ("data", "doc"),
        ("linked", "far"),
    }
    assert set(labels.values()) == {"app", "lib", "data", "linked", "doc", "far", "glibc"}
    assert [node["label"] for node in value["nodes"] if node["root"]] == ["app"]
    (app,) = (node for node in value["nodes"] if node["label"] == "app")
    assert app["size"] == program.stat().st_size
    assert "it is not in the store" in store.call("graph", "--store-paths", "/bin/sh", status=1).err


def test_the_loader_of_a_library_can_be_said(store: Store) -> None:
    """It decides in which directories a bare name is looked for last."""
    package = store.package("alone")
    source = 'int puts(const char *); int a(void) { return puts(""); }'
    lib = package.library("liba.so.1", source, rpath=())
    patchelf("--remove-rpath", lib)
    inside = check("graph", store.call("graph", "--json", "--loader", store.loader, lib).out)
    outside = check("graph", store.call("graph", "--json", lib).out)
    # the directory that is compiled into the store's loader holds hard links of what is in the store
    for value, expected in ((inside, True), (outside, False)):
        (libc,) = (node["path"] for node in value["nodes"] if node["label"] == "libc.so.6")
        assert os.path.samefile(libc, store.libc / "libc.so.6") is expected
