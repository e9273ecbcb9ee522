"""What is changed in the parts means what it says: the file has it, and runs with it; what cannot be honoured is refused by its line."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.dynamic import names
from support.schema import check
from support.source import function, prints
from support.store import Store
from support.trace import run


@pytest.fixture
def app(store: Store) -> Path:
    """A program, its only library, and its parts beside it."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    program = store.package("app").program("app", prints("a"), needs=[a])
    store.call("split", program, "-o", program.parent / "parts")
    return program


def change(app: Path, part: str, old: str, new: str) -> None:
    """As sed does, all over a part."""
    path = app.parent / "parts" / f"app.{part}"
    text = path.read_text()
    assert re.search(old, text, re.MULTILINE)
    path.write_text(re.sub(old, new, text, flags=re.MULTILINE))


def joined(store: Store, app: Path) -> Path:
    out = app.with_name("new") / "out"  # a directory that is made
    said = check("join", store.call("join", app.parent / "parts", "-o", out, "--json").out)
    assert said["size"] == out.stat().st_size
    return out


def test_a_program_is_hardened_by_sed(store: Store, app: Path) -> None:
    """A name becomes a path, the search path nothing, and version needs follow."""
    change(app, "needed", r"^liba\.so\.1$", str(store.package("a").lib / "liba.so.1"))
    change(app, "needed", r"^libc\.so\.6$", str(store.libc / "libc.so.6"))
    change(app, "dynamic", r"^RUNPATH .*$", r"RUNPATH \\")
    out = joined(store, app)
    assert names(out).needed == (str(store.package("a").lib / "liba.so.1"), str(store.libc / "libc.so.6"))
    assert names(out).runpath == ""
    ran = run(out)
    assert ran.said == (0, "1\n", "")
    assert ran.misses == ()


def test_a_file_without_section_headers(store: Store, app: Path) -> None:
    """Segments and tags say where the names are; they are written where there is room, and else refused: patchelf goes by sections."""
    data = bytearray(app.read_bytes())
    data[40:48] = bytes(8)  # e_shoff
    data[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
    app.write_bytes(data)
    shutil.rmtree(app.parent / "parts")
    store.call("split", app, "-o", app.parent / "parts")
    first, _, second = (names(app).runpath or "").partition(":")
    change(app, "dynamic", r"^RUNPATH .*$", f"RUNPATH {second}:{first}")
    out = joined(store, app)
    assert (names(out).needed, names(out).runpath) == (("liba.so.1", "libc.so.6"), f"{second}:{first}")
    assert run(out).said == (0, "1\n", "")
    change(app, "needed", r"^liba\.so\.1$", str(store.package("a").lib / "liba.so.1"))
    assert re.match(": the names cannot be written: ", refused(store, app, "needed"))


@pytest.mark.parametrize("number", [1, 2])
def test_names_are_added(store: Store, app: Path, number: int) -> None:
    more = [store.package("m").library(f"libm{each}.so.1", function(f"m{each}", each)) for each in range(number)]
    path = app.parent / "parts" / "app.needed"
    path.write_text("".join(f"{each}\n" for each in more) + path.read_text())
    out = joined(store, app)
    assert names(out).needed == (*map(str, more), "liba.so.1", "libc.so.6")
    ran = run(out)
    assert ran.said == (0, "1\n", "")
    assert [ran.files(each.name) for each in more] == [[str(each)] for each in more]


def test_a_name_is_taken_away(store: Store, app: Path) -> None:
    more = store.package("m").library("libmore.so.1", function("more", 1))
    path = app.parent / "parts" / "app.needed"
    path.write_text(f"{more}\n{path.read_text()}")
    first = joined(store, app)
    second = first.with_name("second")
    store.call("split", first, "-o", second)
    (second / "out.needed").write_text("liba.so.1\nlibc.so.6\n")
    store.call("join", second, "-o", app)
    assert names(app).needed == ("liba.so.1", "libc.so.6")
    assert run(app).said == (0, "1\n", "")


def test_names_in_another_order(store: Store, app: Path) -> None:
    (app.parent / "parts" / "app.needed").write_text("libc.so.6\nliba.so.1\n")
    out = joined(store, app)
    assert names(out).needed == ("libc.so.6", "liba.so.1")
    assert run(out).said == (0, "1\n", "")


def test_another_interpreter(store: Store, app: Path) -> None:
    loader = store.package("loader").lib / ("l" * 200) / "ld.so"
    loader.parent.mkdir(parents=True)
    loader.symlink_to(store.loader)
    change(app, "interpreter", ".+", str(loader))
    out = joined(store, app)
    said = subprocess.run(["readelf", "-lW", out], capture_output=True, text=True, check=True).stdout
    assert f"[Requesting program interpreter: {loader}]" in said
    assert run(out).said == (0, "1\n", "")


def test_a_shorter_interpreter_is_written_where_the_old_one_was(store: Store, app: Path, tmp_path: Path) -> None:
    """Nothing else of the file is another."""
    change(app, "interpreter", ".+", "/ld.so")
    before, after = app.read_bytes(), joined(store, app).read_bytes()
    place = before.index(os.fsencode(store.loader))
    length = len(os.fsencode(store.loader))
    assert after == before[:place] + b"/ld.so".ljust(length, b"\0") + before[place + length :]


def test_soname_and_search_path_that_were_not_there(store: Store, tmp_path: Path) -> None:
    plugin = store.package("p").plugin("p.so", function("p", 1), rpath=[])
    store.call("split", plugin, "-o", tmp_path / "parts")
    with (tmp_path / "parts" / "p.so.dynamic").open("a") as file:
        file.write("SONAME libp.so.1\nRUNPATH /opt/a:/opt/b\\x20c\n")
    store.call("join", tmp_path / "parts", "-o", tmp_path / "out")
    assert (names(tmp_path / "out").soname, names(tmp_path / "out").runpath) == ("libp.so.1", "/opt/a:/opt/b c")


def test_a_symbol_and_bytes_of_their_size(store: Store, app: Path) -> None:
    """What is neither a name nor of another size is written as it stands."""
    change(app, "dynsym", r"^a GLOBAL:FUNC", "a WEAK:FUNC")
    rodata = app.parent / "parts" / "app.rodata"
    rodata.write_bytes(rodata.read_bytes().replace(b"%d\n", b"%x\n"))
    out = joined(store, app)
    said = subprocess.run(["readelf", "--dyn-syms", "-W", out], capture_output=True, text=True, check=True).stdout
    assert re.search(r"FUNC +WEAK +DEFAULT +UND a$", said, re.MULTILINE)
    assert b"%x\n" in out.read_bytes()
    assert len(out.read_bytes()) == len(app.read_bytes())


REFUSED = {
    "a word that is none": (
        "dynsym",
        r"^a GLOBAL:FUNC",
        "a GLOBBAL:FUNC",
        r":\d+: binding:type: 'GLOBBAL:FUNC' is none",
    ),
    "a name that is nowhere": ("dynsym", r"^a GL", "no GL", r":\d+: name: 'no' is in no string table of the file"),
    "a word more": ("segments", r"^(LOAD .*)$", r"\1 0x0", r":\d+: it has 9 words, and 8 are wanted"),
    "a line less": ("segments", r"^LOAD .*\n", "", r": its lines are \d+ bytes, and \d+ are wanted"),
    "a tag without value": ("dynamic", r"^DEBUG .*$", "DEBUG", r":\d+: it has 1 words, and 2 are wanted"),
    "a search path less": ("dynamic", r"^RUNPATH .*\n", "", r": RUNPATH is gone, and no tag can be taken away"),
    "a search path of nothing": ("dynamic", r"^RUNPATH .*$", "RUNPATH", r":\d+: a name is wanted behind the tag"),
    "a field of two words": ("header", r"^type DYN$", "type 5 6", r":3: the fields are"),
    "a number too large": ("header", r"^type DYN$", "type 0x10000", r":\d+: a number does not fit its place"),
    "another table": (
        "relocations",
        r"^\[.rela.plt\]$",
        "[.rela.p]",
        r": its tables are \[\.rela\.dyn\], \[\.rela\.plt\]",
    ),
    "a longer string": ("strings", r"^a$", "longer", r": its lines are \d+ bytes"),
    "a name with versions less": (
        "needed",
        r"^libc\.so\.6\n",
        "",
        r": libc\.so\.6 is gone, and the file needs versions",
    ),
    "a version of no file": (
        "version-needs",
        r"^file libc\.so\.6\n",
        "",
        r":\d+: a file and its name are wanted, or a version",
    ),
    "a note of odd digits": (
        "notes",
        r"^GNU 0x3 .",
        "GNU 0x3 ",
        r":\d+: an owner, a type and hexadecimal digits are wanted",
    ),
    "no path": ("interpreter", r"^.*$", "ld.so", r":1: 'ld\.so' is no absolute path"),
    "another version": ("parts", r'"version": 1', '"version": 2', r": it is no manifest of this version"),
}


def refused(store: Store, app: Path, part: str) -> str:
    """The one sentence on a part, after which what was at OUT is there, and nothing else."""
    out = app.with_name("out")
    out.write_text("old")
    (line,) = store.call("join", app.parent / "parts", "-o", out, status=1).err.splitlines()
    assert f"/parts/app.{part}:" in line
    assert "nothing was written; " in line
    assert out.read_text() == "old"
    assert [each.name for each in app.parent.iterdir() if each.name.startswith(".")] == []
    return line.partition(f"/parts/app.{part}")[2]


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_honoured(store: Store, app: Path, what: str) -> None:
    """One sentence with the part, and the line where it is one."""
    part, old, new, said = REFUSED[what]
    change(app, part, old, new)
    assert re.match(said, refused(store, app, part))


def test_bytes_of_another_size(store: Store, app: Path) -> None:
    with (app.parent / "parts" / "app.text").open("ab") as file:
        file.write(b"\x90")
    assert re.match(r": it has \d+ bytes, and \d+ are wanted", refused(store, app, "text"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'"size": \d+', '"size": 7'),
        (r'"name": "app"', '"name": "../parts/app"'),
        (r'"bits": 64', '"bits": 65'),
        (r'\[0, 64, "header", "header"', '[0, 64, "header", "heading"'),
        (r'\[0, 64, "header"', '[0, 63, "header"'),
        (r'\[0, 64, "header"', '[0, 64, "/etc/passwd"'),
        (r'"mode": ', '"mod": '),
        (r"^\{", "["),
    ],
)
def test_a_manifest_that_means_nothing(store: Store, app: Path, old: str, new: str) -> None:
    path = app.parent / "parts" / "app.parts"
    text = path.read_text()
    path.write_text(re.sub(old, new, text, count=1))
    assert path.read_text() != text
    said = store.call("join", app.parent / "parts", "-o", app.with_name("out"), status=1).err
    assert "app.parts: it is no manifest of this version: " in said
    assert not app.with_name("out").exists()


def test_directories_that_are_no_parts(store: Store, app: Path, tmp_path: Path) -> None:
    assert "has no file that end in .parts" in store.call("join", tmp_path, "-o", tmp_path / "out", status=2).err
    parts = app.parent / "parts"
    (parts / "other.parts").write_text("{}")
    assert "has 2 files that end in .parts" in store.call("join", parts, "-o", tmp_path / "out", status=2).err
    (parts / "other.parts").unlink()
    os.unlink(parts / "app.rodata")
    assert "app.rodata: cannot be read: No such file" in store.call("join", parts, "-o", tmp_path / "out", status=3).err
    assert "is a directory" in store.call("join", parts, "-o", tmp_path, status=2).err
    assert not (tmp_path / "out").exists()


def test_one_of_several_programs_in_a_directory(store: Store, tmp_path: Path) -> None:
    """It is said by what starts it; hidden ones are found as well."""
    programs = [store.package(name).program(name, prints()) for name in ("one", ".two")]
    there = tmp_path / "bin"
    for program in programs:
        store.call("split", program, "-o", tmp_path / "parts")
        shutil.copytree(tmp_path / "parts", there, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "parts")
    assert "has 2 files that end in .parts" in store.call("join", there, "-o", tmp_path / "out", status=2).err
    assert "no gone.parts is beside it" in store.call("join", there / "gone", "-o", tmp_path / "out", status=2).err
    for program in programs:
        store.call("join", there / program.name, "-o", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == program.read_bytes()
