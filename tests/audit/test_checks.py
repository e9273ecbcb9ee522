"""Each named check has a case that it finds and one, as near to it as can be, that it does not."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from audit.helpers import found, run, worst
from prelink.helpers import prelink
from support.bytes import AARCH64, E_MACHINE, poke
from support.source import function, prints
from support.store import Package, Store, patchelf

from nix_harden.loading.checks import CHECKS
from nix_harden.loading.findings import Severity


def library(package: Package, file: str = "libf.so.1", value: int = 1, **how: object) -> Path:
    return package.library(file, function("f", value), **how)  # type: ignore[arg-type]


def app(store: Store, *needs: Path, calls: str = "f", **how: object) -> Path:
    return store.package("app").program("app", prints(calls), needs=needs, **how)  # type: ignore[arg-type]


def test_bare_name(store: Store) -> None:
    """A bare name that is searched for is a warning, the loader's own name a note, an absolute name nothing."""
    lib = library(store.package("f"))
    program = app(store, lib)
    bare = found("bare-name", store, program)
    assert {(each.subject, each.severity, each.reason) for each in bare if each.path == str(program)} == {
        ("libf.so.1", Severity.WARNING, "not bound"),
        ("libc.so.6", Severity.WARNING, "not bound"),
    }
    assert [each.severity for each in bare if each.subject.startswith("ld-linux")] == [Severity.NOTE]
    patchelf("--replace-needed", "libf.so.1", lib, "--replace-needed", "libc.so.6", store.libc / "libc.so.6", program)
    assert [each for each in found("bare-name", store, program) if each.path == str(program)] == []


def test_bare_name_that_may_be_overridden(store: Store) -> None:
    """A directory outside the store that comes first in the search path is a reason to stay bare."""
    lib = library(store.package("f"))
    program = app(store, lib, rpath=["/run/opengl-driver/lib", lib.parent, store.libc])
    reasons = {each.subject: each.reason for each in found("bare-name", store, program) if each.path == str(program)}
    assert reasons == {"libf.so.1": "may be overridden", "libc.so.6": "may be overridden"}


@pytest.mark.parametrize("mark", ["__glDispatchInit", "of a driver"])
def test_bare_name_of_a_dispatcher(store: Store, mark: str) -> None:
    """What looks for drivers itself is bound as any library; a driver of that name stays the system's to exchange."""
    source = function("gl", 1) + f'const char *mark(void) {{ return "{mark}"; }}'
    lib = store.package("gl").library("libGL.so.1", source)
    [bare] = [each for each in found("bare-name", store, app(store, lib, calls="gl")) if each.subject == "libGL.so.1"]
    driver = (Severity.NOTE, "driver library")
    assert (bare.severity, bare.reason) == (driver if mark == "of a driver" else (Severity.WARNING, "not bound"))


def test_bare_name_of_a_loaded_library(store: Store) -> None:
    """A bare name that the SONAME of a loaded library answers is told apart: another program would search for it."""
    lib = library(store.package("f"))
    user = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[lib])
    program = app(store, lib, user, calls="g")
    patchelf("--replace-needed", "libf.so.1", lib, program)
    reasons = {(Path(each.path).name, each.subject): each.reason for each in found("bare-name", store, program)}
    assert reasons["libg.so.1", "libf.so.1"] == "loaded before"


def test_missing_target(store: Store) -> None:
    """A name that leads to no file says where it was looked for."""
    lib = library(store.package("f"))
    program = app(store, lib)
    assert found("missing-target", store, program) == []
    lib.unlink()
    (missing,) = found("missing-target", store, program)
    assert missing.severity is Severity.ERROR
    assert str(lib) in missing.message


def test_missing_in_a_library_alone(store: Store) -> None:
    """What a library alone lacks is a warning, and nothing where a program of the same audit brings it along."""
    lib = library(store.package("f"))
    user = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[lib], rpath=[store.libc])
    assert worst(found("missing-target", store, user)) is Severity.WARNING
    program = app(store, lib, user, calls="g")
    assert found("missing-target", store, user, program) == []


def test_foreign_target(store: Store) -> None:
    """A name that only a library of another architecture bears."""
    lib = library(store.package("f"))
    program = app(store, lib)
    assert found("foreign-target", store, program) == []
    poke(lib, E_MACHINE, AARCH64.to_bytes(2, "little"))
    (foreign,) = found("foreign-target", store, program)
    assert "AARCH64" in foreign.message
    assert found("missing-target", store, program) == []


def test_loader_stops(store: Store) -> None:
    """A file that is no library at all ends the search; ld.so stops there too."""
    lib = library(store.package("f"))
    program = app(store, lib)
    assert found("loader-stops", store, program) == []
    lib.write_bytes(b"no library\n" * 100)
    (stop,) = found("loader-stops", store, program)
    assert str(lib) in stop.message


def test_interpreter(store: Store) -> None:
    """A program whose interpreter is gone cannot start."""
    program = app(store, library(store.package("f")))
    assert found("interpreter", store, program) == []
    patchelf("--set-interpreter", store.path / "gone/lib/ld.so", program)
    (gone,) = found("interpreter", store, program)
    assert "is not there" in gone.message


def test_malformed(store: Store) -> None:
    """A file that begins as ELF and breaks off."""
    lib = library(store.package("f"))
    assert found("malformed", store, lib) == []
    os.truncate(lib, 40)
    assert worst(found("malformed", store, lib)) is Severity.ERROR


def test_soname_twice(store: Store) -> None:
    """The diamond: two libraries bound to different files of one SONAME, which no search path can settle."""
    first, second = library(store.package("f1")), library(store.package("f2"), value=2)
    a = store.package("a").library("liba.so.1", function("a", 1, ["f"]), needs=[first])
    b = store.package("b").library("libb.so.1", function("b", 1, ["f"]), needs=[second])
    program = app(store, a, b, calls="a")
    assert found("soname-twice", store, program) == []  # the first to be loaded answers both
    patchelf("--replace-needed", "libf.so.1", first, a)
    patchelf("--replace-needed", "libf.so.1", second, b)
    (twice,) = found("soname-twice", store, program)
    assert str(first) in twice.message
    assert str(second) in twice.message


def test_libc_and_interpreter(store: Store) -> None:
    """libc of another store path than the interpreter's."""
    program = app(store, library(store.package("f")))
    assert found("libc-and-interpreter", store, program) == []
    other = store.package("other-glibc")
    other.lib.mkdir()
    shutil.copy(store.libc / "libc.so.6", other.lib)
    patchelf("--replace-needed", "libc.so.6", other.lib / "libc.so.6", program)
    assert worst(found("libc-and-interpreter", store, program)) is Severity.ERROR


def test_version_name(store: Store) -> None:
    """Version needs of a name that no NEEDED bears: glibc aborts, or is lucky."""
    script = store.path / "versions.map"
    script.write_text("F_1 { global: f; };\n")
    lib = library(store.package("f"), flags=[f"-Wl,--version-script={script}"])
    program = app(store, lib)
    assert found("version-name", store, program) == []
    patchelf("--remove-needed", "libf.so.1", program)
    patchelf("--add-needed", lib, program)
    (aborts,) = found("version-name", store, program)
    assert aborts.severity is Severity.ERROR
    user = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[lib])
    lucky = store.package("lucky").program("lucky", prints("g"), needs=[user])
    patchelf("--remove-needed", "libf.so.1", user)
    patchelf("--add-needed", lib, user)
    patchelf("--add-needed", "libf.so.1", "--set-rpath", f"{lib.parent}:{user.parent}:{store.libc}", lucky)
    assert worst(found("version-name", store, lucky)) is Severity.WARNING


def test_soname_elsewhere(store: Store) -> None:
    """A copy of a hardened library still bears the original's SONAME."""
    package = store.package("f")
    lib = library(package, soname=str(package.lib / "libf.so.1"))
    assert found("soname-elsewhere", store, lib) == []
    copy = store.package("copy").lib / "libf.so.1"
    copy.parent.mkdir()
    shutil.copy(lib, copy)
    (elsewhere,) = found("soname-elsewhere", store, copy)
    assert elsewhere.subject == str(lib)


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        ("runpath-relative", "lib/private"),
        ("runpath-empty", ""),
        ("runpath-missing", "/nowhere/lib"),
        ("build-directory", "/build/source/lib"),
    ],
)
def test_runpath(check: str, bad: str, store: Store) -> None:
    """A bad entry of a search path, found in RUNPATH and RPATH alike; $ORIGIN is no relative one."""
    lib = library(store.package("f"))
    program = app(store, lib, rpath=[lib.parent, store.libc, "$ORIGIN"])
    assert found(check, store, program) == []
    for tag in ([], ["--force-rpath"]):
        patchelf(*tag, "--set-rpath", f"{lib.parent}:{bad}:{store.libc}", program)
        (entry,) = found(check, store, program)
        assert entry.subject == bad


def test_runpath_of_the_driver(store: Store) -> None:
    """The driver's directory may be missing: it is the system's to bring."""
    lib = library(store.package("f"))
    program = app(store, lib, rpath=[lib.parent, store.libc, "/run/opengl-driver/lib"])
    assert worst(found("runpath-missing", store, program)) is Severity.NOTE


def test_runpath_writable(store: Store) -> None:
    """A directory into which everybody may write, or which everybody may make, lets anyone choose the library."""
    lib = library(store.package("f"))
    shared = store.path / "shared"
    shared.mkdir()
    program = app(store, lib, rpath=[lib.parent, store.libc, shared])
    assert found("runpath-writable", store, program) == []
    shared.chmod(0o1777)
    (entry,) = found("runpath-writable", store, program)
    assert entry.subject == str(shared)
    shared.chmod(0o755)
    patchelf("--set-rpath", f"{lib.parent}:{store.libc}:/tmp/made-by-anyone/lib", program)
    (entry,) = found("runpath-writable", store, program)
    assert "/tmp is writable" in entry.message


def test_needed_relative(store: Store) -> None:
    """A NEEDED that is a path relative to the current directory; one with $ORIGIN is not."""
    lib = library(store.package("f"))
    program = app(store, lib)
    patchelf("--replace-needed", "libf.so.1", f"$ORIGIN/../../{lib.parent.parent.name}/lib/libf.so.1", program)
    assert found("needed-relative", store, program) == []
    assert found("missing-target", store, program) == []
    patchelf("--replace-needed", f"$ORIGIN/../../{lib.parent.parent.name}/lib/libf.so.1", "./libf.so.1", program)
    assert worst(found("needed-relative", store, program)) is Severity.ERROR


def with_note(lib: Path, entries: object) -> None:
    """Put a .note.dlopen into a PT_NOTE segment, by linking it in as an assembler source does."""
    text = json.dumps(entries)
    source = lib.with_suffix(".s")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    source.write_text(
        f"""
        .section .note.dlopen, "a", @note
        .balign 4
        .long 4, 2f-1f, 0x407c0c0a
        .asciz "FDO"
        1: .asciz "{escaped}"
        2: .balign 4
        .section .note.GNU-stack, "", @progbits
        """
    )
    subprocess.run(["gcc", "-c", "-o", lib.with_suffix(".o"), source], check=True)


def test_dlopen_note(store: Store) -> None:
    """What a dlopen note names is looked for as dlopen would; only a required one that is not found is a warning."""
    lib = library(store.package("f"))
    note = store.path / "note"
    entry = {"soname": ["libf.so.1", "libf.so.0"], "feature": "f", "priority": "required"}
    with_note(note, [entry])
    plain = store.package("plain").library("libp.so.1", function("p", 1), rpath=[lib.parent])
    assert found("dlopen-note", store, plain) == []
    opener = store.package("opener").library(
        "libo.so.1", function("o", 1), rpath=[lib.parent], flags=[str(note.with_suffix(".o"))]
    )
    (opened,) = found("dlopen-note", store, opener)
    assert opened.severity is Severity.NOTE
    assert str(lib) in opened.message
    lib.unlink()
    (lost,) = found("dlopen-note", store, opener)
    assert lost.severity is Severity.WARNING


def test_loader_disagrees(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the rules here are not those of the loader, the comparison says so."""
    lib = library(store.package("f"))
    user = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[lib], rpath=[store.libc])
    program = app(store, lib, user, calls="g", tag="RPATH")
    assert found("loader-disagrees", store, program) == []
    monkeypatch.setattr("nix_harden.loading.glibc.Glibc.match", lambda self, name: None)
    done = run(program, store=store.path)
    assert [each.check for each in done.findings if each.severity is Severity.ERROR].count("loader-disagrees") == 1


def test_a_program_that_is_bound_throughout_passes(store: Store) -> None:
    """The C library is left as it is: its own bare names are notes."""
    program = store.package("app").program("app", prints("sin"), flags=["-Xlinker", "--no-as-needed", "-lm"])
    store.harden(store.package("app"))
    done = run(program, store=store.path)
    assert worst(list(done.findings)) is Severity.NOTE
    assert {each.reason for each in done.findings if each.check == "bare-name"} <= {"C library", "the loader itself"}


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_libraries_that_need_each_other_are_loaded_once(store: Store, mode: str) -> None:
    """The loader knows the file that it was given when another names it by path."""
    it, stub = store.package("it"), store.package("stub").library("libb.so.1", function("b", 1))
    liba = it.library("liba.so.1", function("a", 1, ["b"]), needs=[stub], rpath=[it.lib, store.libc])
    it.library("libb.so.1", function("b", 1) + " int a(void); int c(void) { return a(); }", needs=[liba])
    stub.unlink()
    store.harden(it, options=["--mode", mode])
    assert found("soname-twice", store, it.path) == []


def test_a_verdict_on_a_library_does_not_depend_on_company(store: Store) -> None:
    """The C library names an interpreter of its own and lists its loader under that name, alone or beside a program."""
    program = store.package("app").program("app", prints("getpid"))
    libc = store.libc / "libc.so.6"
    alone = [each for each in run(libc, store=store.path).findings if each.path == str(libc)]
    together = [each for each in run(program, store.glibc, store=store.path).findings if each.path == str(libc)]
    assert [(each.check, each.subject) for each in alone] == [(each.check, each.subject) for each in together]


def test_packed_relocations_without_their_version(store: Store) -> None:
    """glibc refuses DT_RELR of what does not need GLIBC_ABI_DT_RELR, since it would not know how to refuse it before 2.36."""
    source = 'int puts(const char *); const char *words[] = {"a", "b"}; int main(void) { return puts(words[0]) < 0; }'
    app = store.package("app")
    bad = app.program("bad", source, linker="lld", flags=["-pie", "-Wl,--pack-dyn-relocs=relr"])
    good = app.program("good", source, flags=["-pie", "-Wl,-z,pack-relative-relocs"])
    assert subprocess.run([bad], capture_output=True, check=False).returncode == 127
    assert subprocess.run([good], capture_output=True, check=False).returncode == 0
    assert [each.path for each in found("loader-stops", store, bad, good)] == [str(bad)]


def test_an_abi_version_that_the_kernel_does_not_look_at(store: Store) -> None:
    """AppImage marks its programs in EI_ABIVERSION: the kernel starts them, and the loader opens no library with such a mark."""
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    program = store.package("app").program("app", prints("a"), needs=[liba])
    for path, good in ((program, True), (liba, False)):
        data = bytearray(path.read_bytes())
        data[8:11] = b"AI\2"
        path.write_bytes(data)
        status = subprocess.run([program], capture_output=True, check=False).returncode
        assert (status == 0) == good
        assert (found("loader-stops", store, program) == []) == good


def test_prelinked(store: Store) -> None:
    """A note where a program's module fits; a warning for each difference where it does not; nothing of another audit module."""
    program = prelink(store, app(store, library(store.package("f"))))
    [fits] = found("prelinked", store, program)
    assert fits.severity is Severity.NOTE
    subprocess.run(["strip", program], check=True)
    [stale] = found("prelinked", store, program)
    assert stale.severity is Severity.WARNING
    assert f"{program} was changed since the table was made" in stale.message
    other = store.package("other").plugin("other.so", "unsigned la_version(unsigned version) { return version; }")
    audited = app(store, library(store.package("f")), flags=[f"-Wl,--audit,{other}"])
    assert found("prelinked", store, audited) == []


def test_in_parts(store: Store, tmp_path: Path) -> None:
    """What starts a program from its parts loads what a text says: no other command answers for it."""
    program = app(store, library(store.package("f")))
    store.call("split", program, "-o", tmp_path / "parts")
    start = tmp_path / "parts" / "app"
    [finding] = found("in-parts", store, start)
    assert f"loads what {start}.needed says then" in finding.message
    assert found("in-parts", store, program) == []
    for words in (["freeze", "-o", tmp_path / "out"], ["prelink", "-o", tmp_path / "out"], ["trace"]):
        said = store.call(*words, start, status=None)
        assert said.status
        assert "program that `nix-harden join` makes of it" in said.err


@pytest.mark.parametrize("names", ["other.so", "other.so:/nowhere/other.so"])
def test_an_audit_module_that_is_searched_for_is_nobody_s_here(store: Store, names: str) -> None:
    """No module of this project is named so, whatever file of that name lies in the current directory."""
    assert found("prelinked", store, app(store, library(store.package("f")), flags=[f"-Wl,--audit,{names}"])) == []


def test_a_module_that_is_damaged_or_gone(store: Store) -> None:
    """Of a path in DT_AUDIT that leads to nothing, ld.so says at each start that it ignores it; whose it was nobody can know."""
    program = prelink(store, app(store, library(store.package("f"))))
    module = Path(f"{program}.prelink.so")
    data = bytearray(module.read_bytes())
    data[-20] ^= 1
    module.write_bytes(data)
    [damaged] = found("prelinked", store, program)
    assert (damaged.severity, "its table is damaged" in damaged.message) == (Severity.WARNING, True)
    module.unlink()
    [gone] = found("prelinked", store, program)
    assert gone.severity is Severity.WARNING
    assert f"{module}: cannot be read: No such file or directory" in gone.message
    assert str(module) in subprocess.run([program], capture_output=True, text=True, check=True).stderr


def test_every_check_has_a_case() -> None:
    """No row of the table is without a test here."""
    text = Path(__file__).read_text()
    assert [check.name for check in CHECKS if f'"{check.name}"' not in text] == []
