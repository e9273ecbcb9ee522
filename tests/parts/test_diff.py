"""Two builds are compared part by part: what is the same, what lies elsewhere alone, what really changed."""

import subprocess
from pathlib import Path

import pytest
from support.schema import check
from support.source import function
from support.store import Store

from nix_harden.parts import instructions
from nix_harden.parts.compare import compare

SOURCE = 'int other(int); int a = 1; int *p = &a; const char *names[] = {"x", "y"}; int f(void) { return other(*p); }'


def build(store: Store, name: str, source: str = SOURCE, *flags: str) -> Path:
    common = ["-Wl,--build-id=none", "-Wl,--allow-shlib-undefined"]
    return store.package(name).library("libf.so.1", source, flags=[*common, *flags])


def verdicts(store: Store, first: Path, second: Path, status: int = 1) -> dict[str, tuple[str, int]]:
    said = check("diff", store.call("diff", first, second, "--json", status=status).out)
    return {each["part"]: (each["verdict"], each["differs"]) for each in said["parts"]}


def test_two_builds_of_one_source(store: Store) -> None:
    """Nothing differs, and the status is 0."""
    found = verdicts(store, build(store, "one"), build(store, "two"), status=0)
    assert {verdict for verdict, _ in found.values()} == {"same"}
    assert {"text", "dynsym", "strings", "header"} <= found.keys()


def test_what_lies_elsewhere(store: Store) -> None:
    """Segments on other pages: symbols, relocations and the words that these write differ by addresses alone."""
    found = verdicts(store, build(store, "one"), build(store, "two", SOURCE, "-Wl,-z,max-page-size=0x10000"))
    for part in ("dynsym", "relocations", "dynamic", "header"):
        assert found[part] == ("addresses", 0), part
    for part in ("strings", "rodata", "gnu.hash"):
        assert found[part] == ("same", 0), part
    assert found["segments"][0] == "changed"  # they are aligned otherwise


def test_what_really_changed(store: Store) -> None:
    """One string of the data, and a library more."""
    more = store.package("m").library("libm1.so.1", function("m1", 1))
    first = build(store, "one")
    second = store.package("two").library(
        "libf.so.1",
        SOURCE.replace('"y"', '"z"'),
        needs=[more],
        flags=["-Wl,--build-id=none", "-Wl,--allow-shlib-undefined", "-Wl,--no-as-needed"],
        rpath=[store.libc],
    )
    found = verdicts(store, first, second)
    assert found["rodata"] == ("changed", 1)
    assert found["needed"] == ("only in the second", 0)
    assert found["text"][0] in ("same", "changed")
    line = next(each for each in store.call("diff", first, second, status=1).out.splitlines() if " rodata " in each)
    assert line.split() == ["changed", "rodata", "4", "→", "4", "1", "byte"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_part_that_one_has(store: Store, order: int) -> None:
    files = [build(store, "one"), build(store, "two", SOURCE, "-g")]
    first, second = files[::order]
    found = verdicts(store, first, second)
    assert found["debug_info"] == ("only in the second" if order == 1 else "only in the first", 0)


def test_what_is_no_elf_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert "is no ELF file" in store.call("diff", build(store, "one"), tmp_path / "text", status=2).err


CODE = """
    int other(int); int data[4] = {{1}};
    int f(int x) {{ return other(x) + data[x] + {added}; }}"""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_instructions(store: Store, machine: str) -> None:
    """Those that reach the same elsewhere differ by addresses; another operand is another instruction."""
    made = []
    for number, (page, added) in enumerate([(0x1000, 100), (0x100000, 100), (0x1000, 101)]):
        path = store.package(str(number)).path / "libf.so"
        words = ["clang", f"--target={machine}-linux-gnu", "-fuse-ld=lld", "-nostdlib", "-shared", "-fPIC", "-O1"]
        words += ["-Wl,--build-id=none", f"-Wl,-z,max-page-size={page}", "-x", "c", "-", "-o", str(path)]
        subprocess.run(words, input=CODE.format(added=added), text=True, check=True)
        made.append(path)
    assert verdicts(store, made[0], made[1])["text"] == ("addresses", 0)
    assert verdicts(store, made[0], made[2])["text"] == ("changed", 1)


def test_without_the_library_that_reads_x86(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instructions are compared as bytes, and that is said."""
    paths = [str(build(store, "one")), str(build(store, "two", SOURCE, "-Wl,-z,max-page-size=0x10000"))]
    monkeypatch.setattr(instructions, "LIBRARY", "not_there")
    rows = {row.part: row.verdict for row in compare(*paths)}
    assert rows["text"] == "changed"
    assert not instructions.available("X86_64")
