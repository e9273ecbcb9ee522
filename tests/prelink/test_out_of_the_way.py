"""Where anything is not what the table was made for, ld.so does all as it always has, and says nothing more than it would."""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from prelink.helpers import INTERFACE, assert_out_of_the_way, assert_same, is_at_work, lookups, prelink, run
from support.source import function, prints
from support.store import Store

from nix_harden.prelinking import module, table


def build(store: Store, value: int = 4, name: str = "a") -> Path:
    return store.package(name).library("liba.so.1", function("a", value) + function("b", 7, ["a"]))


@pytest.fixture
def source(store: Store) -> Path:
    return store.package("app").program("app", prints("a", "b"), needs=[build(store)])


@pytest.fixture
def program(store: Store, source: Path) -> Path:
    made = prelink(store, source)
    assert_same(made, source)
    return made


def test_a_preloaded_library_interposes(store: Store, source: Path, program: Path) -> None:
    """LD_PRELOAD: what it defines is what the program and its libraries get."""
    preloaded = store.package("p").library("libp.so.1", function("a", 40))
    assert_out_of_the_way(program, source, {"LD_PRELOAD": str(preloaded)})
    assert run(program, environ={"LD_PRELOAD": str(preloaded)}).out == "40\n47\n"


def test_a_library_of_the_program_may_be_preloaded(store: Store, program: Path, source: Path) -> None:
    environ = {"LD_PRELOAD": str(store.libc / "libc.so.6")}
    assert run(program, environ=environ) == run(source, environ=environ)


def test_ld_library_path_finds_another(store: Store, source: Path, program: Path) -> None:
    """What it finds wins, as for any program whose names are not bound."""
    other = build(store, 50, "other")
    assert_out_of_the_way(program, source, {"LD_LIBRARY_PATH": str(other.parent)})
    assert run(program, environ={"LD_LIBRARY_PATH": str(other.parent)}).out == "50\n57\n"


def test_ld_library_path_that_finds_nothing_changes_nothing(source: Path, program: Path, tmp_path: Path) -> None:
    """Names are searched for again, and addresses are those of the table."""
    environ = {"LD_LIBRARY_PATH": str(tmp_path)}
    assert run(program, environ=environ) == run(source, environ=environ)
    assert is_at_work(program, source, environ)


@pytest.mark.parametrize("variable", ["LD_DYNAMIC_WEAK", "LD_ORIGIN_PATH", "LD_PROFILE"])
def test_variables_that_change_the_rules(source: Path, program: Path, variable: str) -> None:
    environ = {variable: "/nowhere", "LD_PROFILE_OUTPUT": "/nowhere"}
    assert run(program, environ=environ) == run(source, environ=environ)
    assert not is_at_work(program, source, environ)


def test_another_audit_module_sees_what_is_bound(store: Store, source: Path, program: Path) -> None:
    """A module of LD_AUDIT that asks for every binding gets them all."""
    code = """
        #define _GNU_SOURCE
        #include <link.h>
        #include <stdio.h>
        unsigned la_version(unsigned version) { return version; }
        unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie) { return LA_FLG_BINDTO | LA_FLG_BINDFROM; }
        uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned n, uintptr_t *a, uintptr_t *b, unsigned *flags, const char *name) {
          if (name[0] == 'a' && !name[1]) fprintf(stderr, "bound %s\\n", name);
          return symbol->st_value;
        }"""
    auditor = store.package("auditor").plugin("auditor.so", code)
    environ = {"LD_AUDIT": str(auditor)}
    assert run(program, environ=environ) == run(source, environ=environ)
    assert "bound a" in run(program, environ=environ).err


def test_started_by_its_loader_as_a_command(store: Store, source: Path, program: Path) -> None:
    """ld.so(8) given the program, also with what it preloads."""
    preloaded = store.package("p").library("libp.so.1", function("a", 40))
    for words in ([], ["--preload", str(preloaded)], ["--library-path", str(store.libc)]):
        assert run(store.loader, *words, program) == run(store.loader, *words, source)


def test_under_valgrind(source: Path, program: Path) -> None:
    """It preloads. What it has glibc free at the end it finds fault with wherever there is any audit module, as with LD_AUDIT."""
    done = subprocess.run(
        ["valgrind", "-q", "--run-libc-freeres=no", "--error-exitcode=9", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, run(source).out)


def test_a_program_with_a_sanitizer(store: Store) -> None:
    """AddressSanitizer interposes the C library's own functions; its report is what it was."""
    runtimes = store.compiler_runtimes()
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    asan = runtimes.lib / "libasan.so.8"
    shutil.copy(os.path.realpath(found.stdout.strip()), asan)
    main = "#include <stdlib.h>\nint main(void) { char *p = malloc(4); free(p); return p[1]; }"
    needs = [asan, *(runtimes.lib / name for name in ("libstdc++.so.6", "libgcc_s.so.1"))]
    source = store.package("app").program("app", main, needs=needs, flags=["-fsanitize=address"])
    program = prelink(store, source)
    for path in (source, program):
        assert "heap-use-after-free" in run(path, environ={"ASAN_OPTIONS": "detect_leaks=0"}).err


def test_a_replaced_library_is_noticed(store: Store, source: Path, program: Path) -> None:
    """Another build at the same path: its functions lie elsewhere, and are found there."""
    (store.package("a").lib / "liba.so.1").unlink()
    store.package("a").library("liba.so.1", function("more", 1) * 1 + function("b", 70, ["a"]) + function("a", 60))
    assert_out_of_the_way(program, source, {})
    assert run(program).out == "60\n130\n"


def renamed(store: Store, name: str) -> None:
    """Give a package another hash, and overwrite the old one in every file of the store, as Nix does."""
    old = store.package(name).path
    new = store.path / f"{'z' * 32}-{name}"
    old.rename(new)
    for path in [each for each in store.path.rglob("*") if each.is_file() and not each.is_symlink()]:
        data = path.read_bytes()
        if (changed := data.replace(os.fsencode(old.name), os.fsencode(new.name))) != data:
            path.write_bytes(changed)


def test_a_store_path_that_has_another_hash_is_what_it_was(store: Store, source: Path, program: Path) -> None:
    """Nix finds the hash of an output when it is built, or moves it aside, and overwrites the first in all files: the table fits on."""
    renamed(store, "a")
    assert_same(program, source)
    assert store.call("prelink", "--check", program).out.endswith("fits, and is at work\n")


def test_another_library_under_another_hash_is_noticed(store: Store, source: Path, program: Path) -> None:
    """A graft: what takes the place is another build."""
    (store.package("a").lib / "liba.so.1").unlink()
    store.package("a").library("liba.so.1", function("more", 1) + function("b", 70, ["a"]) + function("a", 60))
    renamed(store, "a")
    assert_out_of_the_way(program, source, {})
    assert run(program).out == "60\n130\n"


@pytest.mark.parametrize("at", [0, 1, 31])
def test_a_hash_that_is_cut_off_is_a_damage(store: Store, source: Path, program: Path, at: int) -> None:
    """A path that ends within the hash may lead to what is there, such as the store: none is made of it."""
    name = os.fsencode(store.package("a").path.name)
    with_table(program, lambda data: data.replace(name, name[:at] + b"\0" + name[at + 1 :]))
    assert_out_of_the_way(program, source, {})


def test_a_replaced_library_without_build_id_is_noticed(store: Store) -> None:
    """Two builds whose headers, segments and dynamic sections are equal, and whose functions have changed places."""
    flags = ["-Wl,--build-id=none"]
    one, two = ("int a(void) { return 1; }", "int b(void) { return 2; }")
    a = store.package("a").library("liba.so.1", one + two, flags=flags)
    source = store.package("app").program("app", prints("a", "b"), needs=[a])
    program = prelink(store, source)
    assert run(program).out == "1\n2\n"
    a.unlink()
    store.package("a").library("liba.so.1", two + one, flags=flags)
    assert run(program).out == "1\n2\n"
    assert not is_at_work(program, source)


def test_a_missing_library_is_missed_as_ever(store: Store, source: Path, program: Path) -> None:
    (store.package("a").lib / "liba.so.1").unlink()
    now, before = run(program), run(source)
    assert now.status == before.status == 127
    assert "liba.so.1: cannot open shared object file" in now.err
    assert now.err.replace(str(program), "") == before.err.replace(str(source), "")


def test_a_library_that_moved_is_found_where_it_is(store: Store) -> None:
    """Of two directories that bear the name the first has lost it: the search goes on, as without the table."""
    one, two = build(store, 1, "one"), build(store, 2, "two")
    source = store.package("app").program("app", prints("a"), needs=[one], rpath=[one.parent, two.parent, store.libc])
    program = prelink(store, source)
    assert run(program).out == "1\n"
    one.unlink()
    assert run(program).out == run(source).out == "2\n"


def test_another_glibc(store: Store, source: Path, program: Path) -> None:
    """Its loader and its libc.so.6 are objects like any other: changed in a byte of their headers, they are not those of the table."""
    for name in ("libc.so.6", store.loader.name):
        path = store.libc / name
        data = bytearray(path.read_bytes())
        path.unlink()
        struct.pack_into("<Q", data, 40, 0)  # e_shoff, which no loader reads
        path.write_bytes(data)
        path.chmod(0o755)
        assert_out_of_the_way(program, source, {})


def test_a_changed_program(source: Path, program: Path) -> None:
    """strip(1) afterwards: not the file that the table was made for."""
    subprocess.run(["strip", program], check=True)
    assert_out_of_the_way(program, source, {})


def test_another_version_of_the_format(source: Path, program: Path) -> None:
    with_table(program, lambda data: table.MAGIC[:-1] + b"2" + data[8:])
    assert_out_of_the_way(program, source, {})


def test_no_module(source: Path, program: Path) -> None:
    """ld.so says that it is not there, as for any audit module, and starts the program."""
    Path(f"{program}.prelink.so").unlink()
    assert run(program).out == run(source).out
    assert "cannot be loaded as audit interface" in run(program).err


def with_table(program: Path, change: object) -> None:
    path = Path(f"{program}.prelink.so")
    data = path.read_bytes()
    found = module.detach(data)
    assert found is not None
    path.write_bytes(module.exchange(data, change(found)))  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_table_is_not_used(source: Path, program: Path, seed: int) -> None:
    """Whatever bytes of it are others, the program does what it did, with nothing of the table."""
    chance = random.Random(seed)
    path = Path(f"{program}.prelink.so")
    whole = path.read_bytes()
    before, expected = lookups(source), run(source)

    def damage(data: bytes) -> bytes:
        found = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 16))):
            at = chance.randrange(len(found))
            found[at] = chance.choice((0, 255, found[at] ^ 1 << chance.randrange(8), chance.randrange(256)))
        return bytes(found)

    for _ in range(60):
        path.write_bytes(whole)
        with_table(program, damage)
        assert run(program) == expected
        if path.read_bytes() != whole:
            assert lookups(program) == before + INTERFACE


def test_a_table_that_is_cut_off_is_not_used(source: Path, program: Path) -> None:
    """As a copy that broke off: the pages behind the file's end are not there to be read, and ld.so would not map them."""
    path = Path(f"{program}.prelink.so")
    whole = path.read_bytes()
    found = module.detach(whole)
    assert found is not None
    expected = run(source)
    for size in (len(whole) - 1, len(whole) - len(found) // 2, len(whole) - len(found) + 8):
        path.write_bytes(whole[:size])
        assert run(program).out == expected.out


def test_a_process_with_more_privileges_ignores_it(source: Path, program: Path) -> None:
    """AT_SECURE: ld.so takes no audit module with a slash, and the search path is still that of the program."""
    program.chmod(0o4755)
    shutil.chown(program, user="nobody")
    environ: Mapping[str, str] = {"LD_DEBUG": "statistics"}
    done = run(program, environ=environ)
    assert done.out == run(source).out
