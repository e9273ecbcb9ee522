"""docs/safety.md has a row for every known way to break a program, and each names tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/safety.md").read_text()
COLUMNS = ["Case", "What happens", "What this project does", "What you may do", "Tests"]

# Every case that is known, by table: a row that is dropped or renamed is dropped or renamed here, too.
CASES = {
    "Loader": [
        "version needs left bare",
        "glibc before 2.28",
        "glibc's own SONAMEs",
        "libgcc_s",
        "dlopen by SONAME of a loaded library",
        "a name that another object has answered",
        "mixed closure, the same library twice",
        "symbols are still looked up globally",
        "LD_LIBRARY_PATH no longer overrides",
        "LD_PRELOAD loads in addition",
        "LD_PRELOAD of a bare name",
        "graphics and other driver libraries",
        "BLAS and LAPACK",
        "stub libraries",
        "builds for several processors",
        "filters and auxiliary filters",
        "musl does not compare SONAMEs",
        "musl's own libc",
        "set-user-ID programs",
        "the loader in NEEDED",
        "libc left bare",
        "interpreter and libc of different builds",
        "target gone at run time",
        "`--preload`, LD_AUDIT, dlmopen",
        "`-z nodefaultlib`",
        "`$ORIGIN` in NEEDED",
        "data beside a library in a tree of links",
    ],
    "Files and patchelf": [
        "size",
        "old store paths stay in the strings",
        "strings that share bytes",
        "adding and replacing names in one call",
        "strip after patchelf",
        "old patchelf",
        "static and static-pie programs",
        "position-independent programs",
        "no SONAME: plugins, extension modules",
        "SONAME is not the file name",
        "base names that tools see",
        "a link in another output",
        "hard links",
        "linker scripts, archives, text",
        "separate debug information",
        "other page sizes and machines",
        "Android's and CHERI's ELF",
        "very large files",
        "payloads, signatures, kernel modules",
        "files that patchelf cannot edit",
        "segments aligned to megabytes",
        "code that reads its own dynamic section",
        "build information of Go programs",
        "programs linked at a low address",
        "`--shrink-rpath` and absolute names",
    ],
    "Linkers and build systems": [
        "linkers copy an absolute SONAME",
        "what a library needs, at link time",
        "a linker that searches the host",
        "RUNPATH of what links to it",
        "links against the build tree",
        "CMake exports, libtool, pkg-config, Meson",
        "gobject-introspection",
        "`ctypes.util.find_library`",
        "packagers and readers of dependencies",
        "ldconfig",
        "plugins of another build: NSS, PAM, GIO, GStreamer, VST, LADSPA, browsers",
        "FHS environments, AppImage, steam-run, nix-ld",
        "copies of a hardened library",
        "Rust, Go, GHC, Zig, OCaml",
        "plugins of linkers",
    ],
    "Nix, NixOS and whole closures": [
        "scripted initrd (`extra-utils`)",
        "systemd initrd (`make-initrd-ng`)",
        "`nuke-refs`, `remove-references-to`, `allowedReferences`",
        "`replaceDependencies`",
        "content-addressed outputs",
        "`nix-store --optimise`",
        "several outputs",
        "edges inside a package",
        "a dependency without the hook",
        "switching it off",
        "two packages of one name in a search path",
        "autoPatchelf",
        "wrappers",
        "read-only files",
        "copied, bundled and moved closures",
        "LGPL",
    ],
    "Debuggers and profilers": [
        "valgrind",
        "gdb, thread_db, dyninst",
        "uftrace, perf, sanitizers",
        "the address sanitizer comes first",
        "LD_PROFILE and sprof",
    ],
}


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table by its heading, the heading of the columns first."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
        found[heading] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return found


def named_in(row: list[str]) -> list[str]:
    return re.findall(r"`([^`]+)`", row[-1])


ROWS = [row for table in tables().values() for row in table[1:]]


def test_each_known_case_has_its_row() -> None:
    assert {heading: [row[0] for row in table[1:]] for heading, table in tables().items()} == CASES


def test_each_row_says_all_and_names_a_test() -> None:
    for table in tables().values():
        assert table[0] == COLUMNS
        for row in table[1:]:
            assert len(row) == len(COLUMNS), row[0]
            assert all(row), row[0]
            assert named_in(row), row[0]


@pytest.mark.parametrize("name", sorted({name for row in ROWS for name in named_in(row)}))
def test_each_test_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    path = ROOT / file if file.startswith("nix/") else ROOT / "tests" / file
    assert path.is_file()
    if path.suffix == ".py":
        tree = ast.parse(path.read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_test_of_this_folder_is_named() -> None:
    """A test for safety that no row names would be missing from the page."""
    named = {name for row in ROWS for name in named_in(row)}
    for path in sorted((ROOT / "tests/safety").glob("test_*.py")):
        tree = ast.parse(path.read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        tests = {f"safety/{path.name}::{function}" for function in functions if function.startswith("test_")}
        assert tests <= named
