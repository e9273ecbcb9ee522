"""What is split is joined to the same bytes, whatever the file."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import debstore
from support.schema import check
from support.source import function, prints
from support.store import Store, Words

from nix_harden.errors import HardenError
from nix_harden.parts.join import join
from nix_harden.parts.split import split

LARGEST = 4 << 20
SEEDS = 6
MUTATED = 1_000_000 if "NIX_HARDEN_TORTURE" in os.environ else 360
PLACES = {
    "programs": ("/usr/bin", 4),
    "libraries": ("/usr/lib/x86_64-linux-gnu", 6),
    "objects": ("/usr/lib/gcc", 1),
    "32 bits": ("/usr/lib32", 6),
    "arm, 32 bits": ("/usr/arm-linux-gnueabihf/lib", 4),
    "powerpc, 32 bits, big-endian": ("/usr/powerpc-linux-gnu/lib", 4),
    "s390x, 64 bits, big-endian": ("/usr/s390x-linux-gnu/lib", 4),
    "riscv64": ("/usr/riscv64-linux-gnu/lib", 4),
}


def elf_files(top: str, step: int) -> Iterator[str]:
    """Every so many-th ELF file below a directory that is not too large, once."""
    found = [path for path in sorted(debstore.elf_files(Path(top))) if path.stat().st_size < LARGEST]
    yield from map(str, found[::step])


def again(path: str | Path, top: Path) -> bytes:
    """The bytes of a file that is made of the parts of another."""
    parts, out = top / "parts", top / "out"
    top.mkdir(exist_ok=True)
    for old in (*(parts.iterdir() if parts.exists() else ()), *([out] if out.exists() else [])):
        old.unlink()
    split(str(path), str(parts))
    join(str(parts), str(out))
    return out.read_bytes()


@pytest.mark.parametrize("what", PLACES)
def test_files_of_this_system(what: str, tmp_path: Path) -> None:
    files = list(elf_files(*PLACES[what]))
    assert len(files) > 2
    assert [path for path in files if again(path, tmp_path) != Path(path).read_bytes()] == []


def program(store: Store, *flags: str) -> Path:
    a = store.package("a").library("liba.so.1", function("a", 1))
    return store.package("app").program("app", prints("a"), needs=[a], flags=flags)


@pytest.mark.parametrize(
    "tool",
    [
        ["strip", "--strip-all"],
        ["objcopy", "--only-keep-debug"],
        ["objcopy", "--compress-debug-sections"],
        ["sh", "-c", 'echo "data behind the file" >> "$0"'],
        ["sh", "-c", 'truncate -s -100 "$0"'],
        ["sh", "-c", 'truncate -s 30 "$0"'],
        ["sh", "-c", 'printf "\\0\\0\\0\\0\\0\\0\\0\\0" | dd of="$0" bs=1 seek=40 conv=notrunc status=none'],
    ],
    ids=["stripped", "debug", "compressed debug", "appended", "cut short", "next to nothing", "no section headers"],
)
def test_what_tools_make_of_a_file(store: Store, tool: list[str], tmp_path: Path) -> None:
    path = program(store, "-g")
    subprocess.run([*tool, path], check=True)
    assert again(path, tmp_path) == path.read_bytes()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_mutated_files(store: Store, seed: int, tmp_path: Path) -> None:
    """Wherever a header, a table or a string leads, the bytes come back."""
    chance = random.Random(seed)
    path = program(store)
    whole = path.read_bytes()
    mutated = tmp_path / "mutated"
    tables = range(int.from_bytes(whole[40:48], "little"), len(whole))
    for _ in range(MUTATED // SEEDS):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            place = chance.choice((range(4, 64), range(64, 1200), tables, range(len(data))))
            data[chance.choice(place)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, *b"\n\r #", chance.randrange(256)))
        mutated.write_bytes(data)
        assert again(mutated, tmp_path) == data


def test_names_that_are_no_words(store: Store, tmp_path: Path) -> None:
    """Ends of lines, spaces and bytes that are no text, in a symbol and in a version that people are told of beside it."""
    path = program(store)
    for number, odd in enumerate((b"\r", b"\n", b" # ", b"\xff", b"\x85")):
        path.write_bytes(path.read_bytes().replace(b"\0printf\0", b"\0" + odd.ljust(6, b"x") + b"\0"))
        path.write_bytes(path.read_bytes().replace(b"\0GLIBC_2.2.5\0", b"\0" + odd.ljust(11, b"y") + b"\0"))
        assert again(path, tmp_path / str(number)) == path.read_bytes()
        path = program(store)


def test_mode_and_links(store: Store, tmp_path: Path) -> None:
    """The file has the permission bits of that which a link leads to, and the parts its name."""
    path = program(store)
    path.chmod(0o751)
    (tmp_path / "link").symlink_to(path)
    split(str(tmp_path / "link"), str(tmp_path / "parts"))
    assert {each.name.partition(".")[0] for each in (tmp_path / "parts").iterdir()} == {"app"}
    join(str(tmp_path / "parts"), str(tmp_path / "out"))
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o751


def test_parts_are_what_is_said(store: Store, tmp_path: Path) -> None:
    """The command says every part, each with its size and form; what people read is text."""
    said = check("split", store.call("split", program(store), "-o", tmp_path / "parts", "--json").out)
    there = {
        str(path): path.stat().st_size for path in (tmp_path / "parts").iterdir() if path.suffix not in ("", ".parts")
    }
    assert {each["path"]: each["size"] for each in said["parts"]} == there
    forms = {Path(each["path"]).name.partition(".")[2]: each["form"] for each in said["parts"]}
    assert (forms["text"], forms["rodata"], forms["needed"]) == ("bytes", "bytes", "names")
    assert (tmp_path / "parts" / "app.needed").read_text() == "liba.so.1\nlibc.so.6\n"
    assert "a GLOBAL:FUNC DEFAULT UNDEF 0x0 0x0\n" in (tmp_path / "parts" / "app.dynsym").read_text()
    assert "printf GLOBAL:FUNC DEFAULT UNDEF 0x0 0x0 # GLIBC_2.2.5\n" in (tmp_path / "parts" / "app.dynsym").read_text()
    assert "R_X86_64_JUMP_SLOT:" in (tmp_path / "parts" / "app.relocations").read_text()
    assert "file libc.so.6\nversion GLIBC_2.2.5 " in (tmp_path / "parts" / "app.version-needs").read_text()
    assert "[.note.gnu.build-id]\n# owner type description\nGNU 0x3 " in (tmp_path / "parts" / "app.notes").read_text()
    assert [name for name in forms if name.startswith("section-")] == []


def test_versions_that_a_library_defines(store: Store, tmp_path: Path) -> None:
    """Each with its name, and that which it follows."""
    script = tmp_path / "versions"
    script.write_text("V1 { global: a; local: *; }; V2 { } V1;")
    library = store.package("a").library("liba.so.1", function("a", 1), flags=[f"-Wl,--version-script={script}"])
    split(str(library), str(tmp_path / "parts"))
    lines = (tmp_path / "parts" / "liba.so.1.version-definitions").read_text().splitlines()
    names = [line for line in lines if line.startswith("name ")]
    assert names == ["name liba.so.1", "name V1", "name V2", "name V1"]
    assert "a GLOBAL:FUNC DEFAULT" in (tmp_path / "parts" / "liba.so.1.dynsym").read_text()
    assert again(library, tmp_path / "again") == library.read_bytes()


def test_two_splits_are_the_same(store: Store, tmp_path: Path) -> None:
    path = program(store)
    for name in ("one", "two"):
        split(str(path), str(tmp_path / name))
    one, two = ({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_memory_does_not_grow_with_a_section(store: Store, tmp_path: Path) -> None:
    """A library of 300 MiB is split and joined in less than 200."""
    source = store.package("large").path / "large.s"
    source.parent.mkdir(exist_ok=True)
    source.write_text(".data\n.globl large\nlarge: .byte 1\n.fill 300 << 20, 1, 2\n")
    library = tmp_path / "liblarge.so"
    subprocess.run(["gcc", "-shared", "-nostdlib", source, "-o", library], check=True)
    code = (
        "import resource, sys\n"
        "from nix_harden.parts.join import join\n"
        "from nix_harden.parts.split import split\n"
        "split(sys.argv[1], sys.argv[2])\n"
        "join(sys.argv[2], sys.argv[3])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    words: list[Words] = [sys.executable, "-c", code, library, tmp_path / "parts", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 << 10
    assert subprocess.run(["cmp", library, tmp_path / "out"], check=False).returncode == 0


def test_tables_of_many_rows(store: Store, tmp_path: Path) -> None:
    """They are written in blocks, and read as one: columns are named once, and each symbol has its own version beside it."""
    text = "".join(f"int f{number}(void) {{ return {number}; }}" for number in range(20_000))
    pointers = "".join(f"(void *) f{number}," for number in range(20_000))
    script = tmp_path / "versions"
    first = [f"f{number}" for number in range(2000)]
    script.write_text(f"V1 {{ global: {'; '.join(first)}; }}; V2 {{ global: f*; }};")
    library = store.package("f").library(
        "libf.so.1", f"{text} void *all[] = {{{pointers}}};", flags=[f"-Wl,--version-script={script}"]
    )
    split(str(library), str(tmp_path / "parts"))
    for part in ("dynsym", "symtab"):
        lines = (tmp_path / "parts" / f"libf.so.1.{part}").read_text().splitlines()
        assert len([line for line in lines if line.startswith("#")]) == 1
        assert len(lines) > 20_000
    versions = {
        line.split(" ")[0]: line.rpartition(" # ")[2]
        for line in (tmp_path / "parts" / "libf.so.1.dynsym").read_text().splitlines()
        if line.startswith("f")
    }
    assert versions == {f"f{number}": "V1" if number < 2000 else "V2" for number in range(20_000)}
    assert again(library, tmp_path / "again") == library.read_bytes()


def test_what_is_done_is_told(store: Store, tmp_path: Path) -> None:
    """Of both ways how many bytes are behind, never fewer than before, in which part."""
    path = program(store)
    told: list[tuple[int, int, str]] = []

    def tell(done: int, total: int, what: str) -> None:
        told.append((done, total, what))

    for work in (
        lambda: split(str(path), str(tmp_path / "parts"), progress=tell),
        lambda: join(str(tmp_path / "parts"), str(tmp_path / "out"), progress=tell),
    ):
        told.clear()
        work()
        assert {total for _, total, _ in told} == {path.stat().st_size}
        assert [done for done, *_ in told] == sorted(done for done, *_ in told)
        assert {"text", "dynsym"} <= {what for *_, what in told}


def test_what_is_no_elf_file(store: Store, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    for path in (text, tmp_path, tmp_path / "gone"):
        with pytest.raises(HardenError):
            split(str(path), str(tmp_path / "parts"))
    assert not (tmp_path / "parts").exists()
    assert "is no ELF file; say a program" in store.call("split", text, "-o", tmp_path / "parts", status=2).err


def test_a_directory_that_is_not_empty(store: Store, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    path = program(store)
    split(str(path), str(tmp_path / "parts"))
    said = store.call("split", path, "-o", tmp_path / "parts", status=2).err
    assert "is there and no empty directory" in said
