"""Settings and messages: options and variables say the same, and every bad value gets one sentence that names it."""

import json
import re
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run

from nix_harden import settings


@pytest.fixture
def it(store: Store) -> Package:
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    it.program("app", prints("a"), needs=[liba])
    return it


def refused(store: Store, *words: object, **environ: str) -> str:
    """The one sentence of a usage error."""
    answer = store.fixup(*map(str, words), environ=environ, status=2)
    assert answer.out == ""
    [line] = answer.err.splitlines()
    assert line.startswith("nix-harden: error: ")
    return line.removeprefix("nix-harden: error: ")


def test_the_log_says_what_was_bound_and_what_was_left_and_why(store: Store, it: Package) -> None:
    cuda = store.package("driver").library("libcuda.so.1", function("cuda", 1))
    for name in ("one", "two"):
        it.program(name, prints("cuda"), needs=[cuda])
    it.plugin("plug.so", function("plug", 1))
    answer = store.harden(it)
    number, rest = answer.err.split("\n", 1)
    assert re.fullmatch(
        r"nix-harden-needed: \d files written, \d in place and \d by patchelf, which added [\d.]+ KiB", number
    )
    assert rest == (
        "nix-harden-needed: it: 1 library, 3 programs, 1 plugin; 4 names bound, 2 left bare: libcuda.so.1 (driver library) ×2\n"
    )
    assert answer.out == ""


def test_each_output_with_elf_files_has_its_line_in_the_order_given(store: Store, it: Package) -> None:
    empty, absent, other = store.package("empty"), store.package("absent"), store.package("other")
    absent.path.rmdir()
    other.library("libz.so.1", function("z", 1))
    answer = store.harden(empty, other, it, absent)
    assert [line.split(": ")[1] for line in answer.err.splitlines()[1:]] == ["other", "it"]


def test_nothing_to_harden_is_said_in_one_line(store: Store) -> None:
    empty, absent = store.package("empty"), store.package("absent")
    absent.path.rmdir()
    assert store.harden(empty, absent).err == "nix-harden-needed: no ELF files in empty, absent\n"


def test_names_that_were_bound_before_are_told_apart(store: Store, it: Package) -> None:
    first = store.harden(it).err
    assert "already" not in first
    number = first.split("; ")[1].split()[0]
    assert store.harden(it).err.endswith(f"; 0 names bound ({number} already)\n")


def test_a_file_that_is_left_alone_is_said_with_its_rule(store: Store, it: Package) -> None:
    with (it.bin / "app").open("ab") as program:
        program.write(b"payload")
    assert "; 1 file left alone: app (appended data)" in store.harden(it).err


def test_one_name_that_many_files_lack_is_one_warning(store: Store, it: Package) -> None:
    gone = store.package("gone").library("libgone.so.1", function("g", 1))
    for number in range(3):
        it.program(f"lost{number}", prints("g"), needs=[gone], rpath=[])
    gone.unlink()
    warnings = [line for line in store.harden(it).err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert f"{it.bin}/lost0: libgone.so.1 stays bare and in 2 more files: not found" in warnings[0]


def test_a_c_library_that_is_not_in_sight_is_one_warning(store: Store) -> None:
    """For all libraries of a package without a program, and all names of it; with the C library among the inputs there is none."""
    package = store.package("libraries")
    for number in range(3):
        source = f'int puts(const char *); {function("f", number, ["g"])} int g(void) {{ return puts(""); }}'
        package.library(f"lib{number}.so.1", source, rpath=[], flags=["-lm"] if number else [])
    (warning,) = (line for line in store.harden(package).err.splitlines() if "warning" in line)
    words = "libc.so.6, libm.so.6 stay bare and in 2 more files: not found: no C library is in sight"
    assert f"{package.lib}/lib0.so.1: {words}" in warning
    libc = Package(store, store.glibc)
    assert "warning" not in store.harden(package, inputs=[libc]).err


def test_a_part_of_the_c_library_that_alone_is_missing_is_said_by_its_name(store: Store, it: Package) -> None:
    old = store.package("old").library("libnsl.so.1", function("n", 1))
    it.library("libn.so.1", function("m", 1, ["n"]), needs=[old])
    old.unlink()
    (warning,) = (line for line in store.harden(it).err.splitlines() if "warning" in line)
    assert "libnsl.so.1 stays bare: not found (tried: " in warning
    assert "C library" not in warning


def test_many_directories_are_counted_and_listed_for_those_who_ask(store: Store, it: Package) -> None:
    """What one of them refused is said all the same."""
    gone = store.package("gone").library("libgone.so.1", function("g", 1))
    places = [store.path / f"place{number}" for number in range(130)]
    places[7].mkdir()
    (places[7] / "libgone.so.1").write_text("words")
    program = it.program("lost", prints("g"), needs=[gone], rpath=[*places, store.libc])
    gone.unlink()
    lines = store.harden(it, options=["--verbose"]).err.splitlines()
    (warning,) = (line for line in lines if "warning" in line)
    words = f"(tried: {places[7]} (not an ELF file); 130 directories without it, which --verbose or NIX_DEBUG=1 lists)"
    assert warning.endswith(f"{program}: libgone.so.1 stays bare: not found {words}")
    (reason,) = (line for line in lines if "NEEDED libgone" in line)
    missing = [str(place) for place in places if str(place) not in reason]
    assert missing == [], reason


def test_a_binding_that_nothing_needs_is_said(store: Store, it: Package) -> None:
    answer = store.harden(it, options=["--bind", f"libtypo.so.1={it.lib}/liba.so.1"])
    assert "warning: hardenNeededBind names libtypo.so.1, which no file here needs" in answer.err


def test_verbose_says_each_reason(store: Store, it: Package) -> None:
    lines = store.harden(it, options=["--verbose"]).err.splitlines()
    assert f"{it.lib}/liba.so.1: SONAME liba.so.1 -> {it.lib}/liba.so.1 (library)" in lines
    assert f"{it.bin}/app: NEEDED liba.so.1 -> {it.lib}/liba.so.1 (RUNPATH)" in lines
    assert f"{it.bin}/app: search path empty (nothing is searched for any more)" in lines


def test_an_output_that_is_one_file(store: Store, it: Package) -> None:
    """As `runCommand` makes where $out is the program itself."""
    program = Package(store, store.path).program(
        "0123456789-single", prints("a"), needs=[it.lib / "liba.so.1"], directory="."
    )
    store.fixup("--output", f"out={program}")
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


SAME = [
    (["--mode", "needed"], {"NIX_HARDEN_MODE": "needed"}),
    (["--exclude", "app", "--exclude", "*.so.9"], {"NIX_HARDEN_EXCLUDE": "app\n*.so.9\n"}),
    (["--exclude", "app", "*.so.9"], {"NIX_HARDEN_EXCLUDE": "\napp\n\n*.so.9"}),
    (["--keep-runpath"], {"NIX_HARDEN_KEEP_RUNPATH": "1"}),
    (["--json"], {"NIX_HARDEN_JSON": "true"}),
    (["--verbose"], {"NIX_HARDEN_VERBOSE": "1"}),
    (["--dry-run"], {"NIX_HARDEN_DRY_RUN": "1"}),
    (["--strict", "--exclude", "liba.so.1"], {"NIX_HARDEN_STRICT": "1", "NIX_HARDEN_EXCLUDE": "liba.so.1"}),
    (["--jobs", "1"], {"NIX_BUILD_CORES": "1"}),
]


@pytest.mark.parametrize(("options", "environ"), SAME, ids=[option[0] for option, _ in SAME])
def test_options_and_variables_say_the_same(
    store: Store, it: Package, options: list[str], environ: dict[str, str]
) -> None:
    saved = {path: path.read_bytes() for path in it.path.rglob("*") if path.is_file()}
    first = store.harden(it, options=options)
    bytes_of_first = {path: path.read_bytes() for path in saved}
    for path, data in saved.items():
        path.write_bytes(data)
    assert store.harden(it, environ=environ) == first
    assert {path: path.read_bytes() for path in saved} == bytes_of_first


def test_outputs_inputs_and_bindings_come_from_variables_one_a_line(store: Store, it: Package) -> None:
    """As the hook says everything."""
    one, two = store.package("one"), store.package("two")
    for value, package in enumerate((one, two)):
        package.library("libz.so.1", function("z", value))
    program = it.program("z", prints("z"), needs=[one.lib / "libz.so.1"], rpath=[])
    environ = {
        "NIX_HARDEN_OUTPUTS": f"out={it.path}\ndev={store.package('dev').path}\n",
        "NIX_HARDEN_INPUTS": f"{one.path}\n{two.path}",
        "NIX_HARDEN_BIND": f"libz.so.1={two.lib}/libz.so.1",
    }
    answer = store.fixup(environ=environ)
    assert "out: 1 library, 2 programs" in answer.err
    assert run(program).said == (0, "1\n", "")


def test_an_option_goes_before_its_variable(store: Store, it: Package) -> None:
    store.harden(it, options=["--mode", "soname"], environ={"NIX_HARDEN_MODE": "needed"})
    assert names(it.lib / "liba.so.1").soname == f"{it.lib}/liba.so.1"


def test_the_store_is_nix_store_else_slash_nix_store(store: Store, it: Package) -> None:
    said = refused(store, "--output", f"out={it.path}", NIX_STORE="")
    assert said == f"--output out: {it.path} is not in the store /nix/store; set NIX_STORE to the store that holds it"


BAD = [
    ("NIX_HARDEN_MODE", "both", "hardenNeededMode (as NIX_HARDEN_MODE)", "soname or needed"),
    ("NIX_HARDEN_STRICT", "perhaps", "hardenNeededStrict (as NIX_HARDEN_STRICT)", "perhaps"),
    ("NIX_HARDEN_KEEP_RUNPATH", "2", "hardenNeededKeepRunpath (as NIX_HARDEN_KEEP_RUNPATH)", "2"),
    ("NIX_HARDEN_PRELINK", "often", "hardenNeededPrelink (as NIX_HARDEN_PRELINK)", "often"),
    ("NIX_HARDEN_PRELINK_FROM", "few", "hardenNeededPrelinkFrom (as NIX_HARDEN_PRELINK_FROM)", "few"),
    ("NIX_HARDEN_BIND", "libz.so.1", "hardenNeededBind (as NIX_HARDEN_BIND)", "LIBRARY=/absolute/path"),
    ("NIX_HARDEN_BIND", "libz.so.1=relative", "hardenNeededBind (as NIX_HARDEN_BIND)", "LIBRARY=/absolute/path"),
    ("NIX_HARDEN_BIND", "=/x", "hardenNeededBind (as NIX_HARDEN_BIND)", "LIBRARY=/absolute/path"),
    ("NIX_HARDEN_BIND", "lib/libz.so.1=/x", "hardenNeededBind (as NIX_HARDEN_BIND)", "bare name"),
    ("NIX_HARDEN_BIND", "a.so=/x\na.so=/y", "hardenNeededBind (as NIX_HARDEN_BIND)", "keep one"),
    ("NIX_HARDEN_RESERVE", "much", "hardenNeededReserve (as NIX_HARDEN_RESERVE)", "not a number of bytes"),
    ("NIX_BUILD_CORES", "many", "NIX_BUILD_CORES", "not a number of jobs"),
    ("NIX_BUILD_CORES", "-1", "NIX_BUILD_CORES", "not a number of jobs"),
    ("NIX_HARDEN_INPUTS", "relative", "NIX_HARDEN_INPUTS", "not an absolute path"),
    ("NIX_HARDEN_DRY_RUN", "maybe", "NIX_HARDEN_DRY_RUN", "neither true"),
    ("NIX_STORE", "relative/store", "NIX_STORE", "not an absolute path"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[0]}={case[1]!r}")
def test_a_bad_value_of_a_variable_is_one_sentence_that_names_the_attribute(
    store: Store, it: Package, case: tuple[str, str, str, str]
) -> None:
    variable, value, named, why = case
    before = (it.bin / "app").read_bytes()
    said = refused(store, "--output", f"out={it.path}", **{variable: value})
    assert said.startswith(f"{named}: ")
    assert why in said
    assert (it.bin / "app").read_bytes() == before


def test_every_attribute_and_variable_with_a_form_has_a_bad_value_above() -> None:
    """Globs and the path of patchelf take any text."""
    free = {settings.Form.GLOBS, settings.Form.PATH}
    checked = {row.variable for row in settings.TABLE if row.form not in free and row.form is not settings.Form.OUTPUTS}
    assert checked - {row[0] for row in BAD} == {"NIX_HARDEN_JSON", "NIX_HARDEN_VERBOSE"}, "switches as the others"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--mode", "both"], "--mode"),
        (["--jobs", "x"], "--jobs"),
        (["--input", "relative"], "--input"),
        (["--output", "relative"], "--output"),
        (["--output", "out=relative"], "--output"),
        (["--bind", "nonsense"], "--bind"),
    ],
)
def test_a_bad_option_names_itself(store: Store, words: list[str], named: str) -> None:
    assert refused(store, *words).startswith(f"{named}: ")


def test_no_output_is_a_bad_call(store: Store) -> None:
    assert refused(store).startswith("NIX_HARDEN_OUTPUTS: no output to harden; say --output")


def test_bindings_to_what_no_other_machine_has_are_refused(store: Store, it: Package, tmp_path: Path) -> None:
    outside = Package(store, tmp_path / "outside").library("libz.so.1", function("z", 1))
    words = ["--output", f"out={it.path}", "--bind"]
    assert refused(store, *words, f"libz.so.1={outside}").startswith("--bind libz.so.1: ")
    assert "is not a file" in refused(store, *words, f"libz.so.1={it.path}/not-there")


def test_a_binding_to_a_file_that_the_loader_would_refuse_is_said(store: Store, it: Package) -> None:
    small = store.package("small").library("liba.so.1", function("a", 9), flags=["-m32"], rpath=[])
    before = (it.bin / "app").read_bytes()
    answer = store.harden(it, options=["--bind", f"liba.so.1={small}"], status=2)
    assert f"--bind liba.so.1 (hardenNeededBind): {small} cannot be what it means: for 32-bit" in answer.err
    assert (it.bin / "app").read_bytes() == before


def test_a_binding_to_a_program_is_refused(store: Store, it: Package) -> None:
    """ld.so says "cannot dynamically load position-independent executable"."""
    answer = store.harden(it, options=["--bind", f"liba.so.1={it.bin}/app"], status=2)
    assert "not a shared library" in answer.err


def test_an_unknown_option_is_usage(store: Store, it: Package) -> None:
    answer = store.fixup("--nonsense", status=2)
    assert "--nonsense" in answer.err


def test_a_bad_attribute_is_named_before_any_file_is_read(store: Store, it: Package) -> None:
    (it.lib / "libbroken.so").write_bytes(b"\x7fELF")
    said = refused(store, "--output", f"out={it.path}", NIX_HARDEN_MODE="x")
    assert "malformed" not in said


def test_statuses_are_those_that_help_says(store: Store, it: Package) -> None:
    """0 done, 1 findings under --strict, 2 usage, 3 a tool failed."""
    assert "0 done 1 findings: under --strict" in " ".join(store.fixup("--help").out.split())
    assert store.harden(it, environ={"NIX_HARDEN_PATCHELF": "/not/there"}, status=None).status == 3
    assert store.harden(it, options=["--mode", "x"], status=None).status == 2
    (it.lib / "libbroken.so").write_bytes(b"\x7fELF")
    assert store.harden(it, options=["--strict"], status=None).status == 1
    assert store.harden(it, status=None).status == 0


def test_an_output_that_cannot_be_read_is_named(store: Store, it: Package) -> None:
    """A path too long for the system stands for what the super-user may not read."""
    path = f"{store.path}/{'x' * 300}"
    answer = store.fixup("--output", f"out={path}", status=None)
    assert answer.status in (0, 2, 3)
    assert "out" in answer.err


def test_json_goes_out_even_where_paths_are_not_utf_8(store: Store, it: Package) -> None:
    odd = Path(str(it.lib) + "/lib\udcff.so")
    odd.write_bytes((it.lib / "liba.so.1").read_bytes())
    plan = json.loads(store.harden(it, options=["--json"]).out)
    assert str(odd) in [file["path"] for file in plan["files"]]
