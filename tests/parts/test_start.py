"""A program starts from its parts, and does what it does from its file."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from foreign.cross import AARCH64, World
from musl.muslstore import Musl, uses_libc
from prelink.helpers import lookups, prelink
from support.schema import check
from support.source import PTHREAD_EXIT, function, opens, prints
from support.store import LINKERS, Store, Words

from nix_harden.native import compiled

FAILED = 127
MAPS = """
    #include <stdio.h>
    #include <unistd.h>
    int main(void) {
      char line[4096];
      ssize_t size = readlink("/proc/self/exe", line, sizeof line - 1);
      line[size] = 0;
      puts(line);
      FILE *maps = fopen("/proc/self/maps", "r");
      while (fgets(line, sizeof line, maps)) fputs(line, stdout);
      return 0;
    }"""
# Exceptions through frames of the program, thread-local variables in threads, a signal, fork and exec, and what it ends with.
MUCH = r"""
    #include <csignal>
    #include <cstdio>
    #include <cstdlib>
    #include <stdexcept>
    #include <string>
    #include <sys/wait.h>
    #include <thread>
    #include <unistd.h>
    static thread_local int mine = 40;
    static volatile sig_atomic_t caught;
    static void deep(int n) { if (!n) throw std::runtime_error("thrown"); deep(n - 1); }
    struct Before { Before() { puts("before main"); } ~Before() { puts("after main"); } } before;
    int main(int count, char **words) {
      setvbuf(stdout, nullptr, _IONBF, 0);
      if (count > 2) { printf("again: %s %s %s\n", words[0], words[1], getenv("GIVEN")); return 3; }
      try { deep(20); } catch (const std::exception &e) { puts(e.what()); }
      int theirs = 0;
      std::thread([&] { mine += 2; theirs = mine; }).join();
      printf("%d %d\n", mine, theirs);
      signal(SIGUSR1, [](int) { caught = 1; });
      raise(SIGUSR1);
      printf("%d %s\n", (int) caught, words[1]);
      int status;
      if (pid_t child = fork()) waitpid(child, &status, 0);
      else execl("/proc/self/exe", "another name", "x", "y", nullptr);
      printf("%d\n", WEXITSTATUS(status));
      return 7;
    }"""


def split(store: Store, program: Path) -> Path:
    """What starts a program from its parts."""
    out = program.parent.with_name(f"{program.name}-parts")
    said = check("split", store.call("split", program, "-o", out, "--json").out)
    assert said["program"] == str(out / program.name), said["why_not"]
    return out / program.name


def not_started(store: Store, program: Path) -> str:
    """Why it does not start from parts, which are there."""
    out = program.parent.with_name(f"{program.name}-parts")
    said = store.call("split", program, "-o", out).err
    assert (out / f"{program.name}.text").exists()
    assert not (out / program.name).exists()
    assert "warning" in said
    return said


def run(*words: Words, environ: Mapping[str, str] | None = None, **how: object) -> tuple[int, str, str]:
    done = subprocess.run(  # type: ignore[call-overload]
        words, env={"LC_ALL": "C", **(environ or {})}, capture_output=True, text=True, check=False, **how
    )
    return done.returncode, done.stdout, done.stderr


def refused(program: Path) -> str:
    status, out, err = run(program)
    assert (status, out) == (FAILED, ""), err
    return err


def simple(store: Store, source: str | None = None, flags: Sequence[str] = (), **how: object) -> Path:
    a = store.package("a").library("liba.so.1", function("a", 1))
    return store.package("app").program("app", source or prints("a"), needs=[a], flags=flags, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_dynamic_programs(store: Store, kind: str, linker: str) -> None:
    """Of each linker, which cut segments in their own ways, at a fixed address and at none."""
    program = simple(store, flags=[kind], linker=linker)
    assert run(split(store, program)) == run(program) == (0, "1\n", "")


@pytest.mark.parametrize("kind", ["-static", "-static-pie"])
def test_static_programs(store: Store, kind: str) -> None:
    program = store.package("app").program("app", PTHREAD_EXIT + function("a", 5), flags=[kind], rpath=[])
    start = split(store, program)
    assert run(start) == run(program) == (0, "5\n", "")
    start.with_name("app.needed").write_text("libc.so.6\n")
    assert refused(start) == f"{start}.needed: the program is static, and loads no library; leave it empty\n"


def test_musl(store: Store) -> None:
    """The other loader takes over as well, and the names that it is given."""
    musl = Musl.create(store)
    a = musl.library(store.package("a"), "liba.so.1", uses_libc("a", 4))
    program = musl.program(store.package("app"), "app", prints("a"), needs=[a])
    start = split(store, program)
    assert run(start) == run(program) == (0, run(program)[1], "")
    needed = start.with_name("app.needed")
    needed.write_text(needed.read_text().replace("liba.so.1", str(a)))
    assert run(start) == run(program)


@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_what_programs_do(store: Store, kind: str) -> None:
    """Constructors, exceptions, threads, thread-local variables, signals, fork, exec, arguments, environment and exit status."""
    runtimes = store.compiler_runtimes()
    needs = [runtimes.lib / "libstdc++.so.6", runtimes.lib / "libgcc_s.so.1"]
    program = store.package("app").program("app", MUCH, needs=needs, compiler="g++", flags=[kind, "-pthread"])
    start = split(store, program)
    before, now = (run(each, "an argument", environ={"GIVEN": "value"}) for each in (program, start))
    assert now == before
    assert before[0] == 7
    assert "thrown\n40 42\n1 an argument\nbefore main\nagain: another name x value\nafter main\n3\n" in before[1]


def test_libraries_that_are_opened(store: Store) -> None:
    """By dlopen, in the search path of the program."""
    b = store.package("b").library("libb.so.1", function("b", 2))
    program = store.package("app").program("app", opens("libb.so.1", "b"), rpath=[b.parent, store.libc])
    assert run(split(store, program)) == run(program) == (0, "2\n", "")


@pytest.mark.parametrize("kind", ["-pie", "-no-pie", "-static", "-static-pie"])
def test_what_started_it_is_gone(store: Store, kind: str) -> None:
    """/proc/self/exe is what people called, and no code of it is left; large parts are mapped from their files."""
    source = MAPS + 'const char large[40000] = {1}; __asm__(".text\\n.fill 40000, 1, 0x90\\n");'
    flags = [kind, "-Wl,--whole-archive", "-Wl,--no-whole-archive"]
    program = store.package("app").program("app", source, flags=flags, rpath=[] if "static" in kind else None)
    start = split(store, program)
    status, out, _ = run(start)
    exe, *maps = out.splitlines()
    assert (status, exe) == (0, str(start))
    assert [line for line in maps if line.endswith(str(start)) and "x" in line.split()[1]] == []
    for part, rights in (("text", "r-xp"), ("rodata", "r--p")):
        assert [line.split()[1] for line in maps if line.endswith(f"{start}.{part}")] == [rights]


def test_a_directory_that_moves(store: Store, tmp_path: Path) -> None:
    """What starts it finds its parts beside itself, through links too."""
    start = split(store, simple(store))
    moved = tmp_path / "elsewhere" / "x"
    moved.parent.mkdir()
    shutil.copytree(start.parent, moved)
    shutil.rmtree(start.parent)
    (tmp_path / "link").symlink_to(moved / "app")
    assert run(tmp_path / "link") == run("./app", cwd=moved) == (0, "1\n", "")


Change = Callable[[str, Store], str]
B = "int b(void);"
CHANGES: Mapping[str, tuple[Change, str]] = {
    "a path": (lambda text, store: text.replace("liba.so.1", f"{store.package('a').lib}/liba.so.1"), "1\n"),
    "all paths": (
        lambda text, store: text.replace("liba.so.1", f"{store.package('a').lib}/liba.so.1").replace(
            "libc.so.6", f"{store.libc}/libc.so.6"
        ),
        "1\n",
    ),
    "another": (lambda text, store: text.replace("liba.so.1", f"{store.package('other').lib}/libother.so.1"), "2\n"),
    "one more, first": (lambda text, store: f"# a remark\n{store.package('other').lib}/libother.so.1\n\n{text}", "2\n"),
    "one more, last": (lambda text, store: f"{text}{store.package('other').lib}/libother.so.1 # and why", "1\n"),
    "many more": (
        lambda text, store: text + "".join(f"{store.package('many').lib}/libm{number}.so\n" for number in range(40)),
        "1\n",
    ),
    "another order": (lambda text, store: "".join(f"{line}\n" for line in reversed(text.split())), "1\n"),
    "escaped": (lambda text, store: text.replace("liba", r"lib\x61"), "1\n"),
    "without a last newline": (lambda text, store: text.replace("liba.so.1", "./liba.so.1").rstrip(), "1\n"),
}


@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
@pytest.mark.parametrize("what", CHANGES)
def test_names_are_those_of_this_moment(store: Store, what: str, kind: str) -> None:
    """What NEEDED says is what is loaded, at each start."""
    program = simple(store, flags=[kind])
    store.package("other").library("libother.so.1", function("a", 2))
    many = store.package("many")
    for number in range(40):
        many.plugin(f"libm{number}.so", function(f"m{number}", number))
    start = split(store, program)
    change, says = CHANGES[what]
    part = start.with_name("app.needed")
    text = part.read_text()
    part.write_text(change(text, store))
    assert run(start, cwd=store.package("a").lib) == (0, says, "")
    if "more" in what:
        traced = run(start, environ={"LD_TRACE_LOADED_OBJECTS": "1"})[1]
        assert len([line for line in traced.splitlines() if store.path.name in line]) > 3
    part.write_text(text)
    assert run(start) == (0, "1\n", "")


def test_no_name_at_all(store: Store) -> None:
    """A program may need nothing, and be given something."""
    source = 'void _start(void) { __asm__ volatile("mov $60, %eax\\n mov $9, %edi\\n syscall"); }'
    program = store.package("app").program("app", source, flags=["-nostdlib", "-pie"])
    start = split(store, program)
    assert run(start) == run(program) == (9, "", "")
    constructor = '__attribute__((constructor)) static void c(void) { __asm__ volatile("mov $60, %eax\\n mov $5, %edi\\n syscall"); }'
    library = store.package("c").library("libc.so", constructor, flags=["-nostdlib"])
    start.with_name("app.needed").write_text(f"{library}\n")
    assert run(start) == (5, "", "")


def test_a_name_that_versions_are_needed_of(store: Store) -> None:
    """It may become another, and not go."""
    start = split(store, simple(store))
    part = start.with_name("app.needed")
    part.write_text("liba.so.1\n")
    assert (
        refused(start)
        == f"{part}: a name is gone of which the program needs versions; leave it, or write another in its place\n"
    )
    part.write_text(f"{store.libc}/libc.so.6\nliba.so.1\nlibm.so.6\n")
    assert run(start) == (0, "1\n", "")
    part.write_text("")
    assert "a name is gone" in refused(start)


def test_a_name_that_is_not_there(store: Store) -> None:
    """The program's own loader says what it says of any program."""
    start = split(store, simple(store))
    part = start.with_name("app.needed")
    part.write_text(part.read_text().replace("liba.so.1", "libgone.so.1"))
    assert "libgone.so.1: cannot open shared object file" in refused(start)


def test_bytes_that_are_changed(store: Store) -> None:
    """They are what runs."""
    start = split(store, simple(store, prints("a").replace("%d", "now: %d")))
    part = start.with_name("app.rodata")
    part.write_bytes(part.read_bytes().replace(b"now", b"new"))
    assert run(start) == (0, "new: 1\n", "")


def test_parts_that_cannot_be_honoured(store: Store) -> None:
    """Another text, another size, none: refused by name, and what to do is said."""
    start = split(store, simple(store))
    cases: list[tuple[str, Callable[[bytes], bytes], str]] = [
        ("dynamic", lambda data: data.replace(b"RUNPATH /", b"RUNPATH //"), "it says something else than when"),
        ("strings", lambda data: data.replace(b"printf", b"pr1ntf"), "it says something else than when"),
        ("segments", lambda data: data + b"\n", "it says something else than when"),
        ("text", lambda data: data + b"\n", "it is longer or shorter than when"),
        ("rodata", lambda data: data[:-1], "it is longer or shorter than when"),
    ]
    for part, change, problem in cases:
        path = start.with_name(f"app.{part}")
        whole = path.read_bytes()
        path.write_bytes(change(whole))
        assert path.read_bytes() != whole
        assert refused(start).startswith(f"{path}: {problem}")
        path.unlink()
        assert refused(start) == f"{path}: it cannot be opened; put it back, or split the program again\n"
        path.write_bytes(whole)
    assert run(start) == (0, "1\n", "")


def test_parts_that_it_does_not_need(store: Store) -> None:
    """What is not loaded may be changed, or go."""
    start = split(store, simple(store))
    for part in ("sections", "symtab", "strtab", "comment", "parts"):
        start.with_name(f"app.{part}").unlink()
    assert run(start) == (0, "1\n", "")


def test_a_store_path_that_becomes_another(store: Store) -> None:
    """Nix overwrites hashes in all files of an output alike; the program starts as before."""
    program = simple(store)
    start = split(store, program)
    old = store.package("a").path
    new = old.with_name(old.name.translate(str.maketrans("0123456789", "1234567890")))
    old.rename(new)
    for path in start.parent.iterdir():
        path.write_bytes(path.read_bytes().replace(os.fsencode(old), os.fsencode(new)))
    assert run(program)[0] == FAILED
    assert run(start) == (0, "1\n", "")


def test_set_user_id(store: Store) -> None:
    """Neither a program that is, nor one that became it."""
    program = simple(store)
    program.chmod(0o4755)
    assert "it is set-user-ID or set-group-ID, and its parts" in not_started(store, program)
    shutil.rmtree(program.parent.with_name("app-parts"))
    program.chmod(0o755)
    start = split(store, program)
    for directory in (start, *start.parents):
        directory.chmod(directory.stat().st_mode | 0o755)
    start.chmod(0o4755)
    done = subprocess.run([start], capture_output=True, text=True, check=False, user=65534)
    if os.statvfs(start).f_flag & os.ST_NOSUID:
        assert done.stdout == "1\n"
    else:
        assert done.returncode == FAILED
        assert (
            done.stderr
            == f"{start}: it is set-user-ID or has capabilities, and its parts may be anybody's; start the program that `nix-harden join` makes\n"
        )


@pytest.mark.parametrize(
    "flags",
    [["-Wl,-z,max-page-size=0x200000"], ["-Wl,-z,noseparate-code"], ["-Wl,-Ttext-segment=0x10000000", "-no-pie"]],
)
def test_where_segments_lie(store: Store, flags: list[str]) -> None:
    """On larger pages, several on one page of the file, far away."""
    program = simple(store, flags=flags)
    start = split(store, program)
    assert run(start) == run(program) == (0, "1\n", "")
    start.with_name("app.needed").write_text(f"{store.package('a').lib}/liba.so.1\nlibc.so.6\n")
    assert run(start) == (0, "1\n", "")


@pytest.mark.parametrize(
    "tool",
    [["strip"], ["strip", "--strip-all"], ["objcopy", "--strip-debug"], ["patchelf", "--set-rpath", "/x"]],
    ids=" ".join,
)
def test_tools_that_go_by_sections_leave_it_alone(store: Store, tool: list[str]) -> None:
    """What lies behind its segments is in no section, and would be lost; nixpkgs strips all that it finds."""
    start = split(store, simple(store))
    whole = start.read_bytes()
    program = shutil.which(tool[0]) or str(Path(sys.executable).with_name(tool[0]))
    subprocess.run([program, *tool[1:], start], capture_output=True, check=False)
    assert start.read_bytes() == whole
    assert run(start) == (0, "1\n", "")


def test_what_is_no_program(store: Store) -> None:
    """A library is taken apart, and nothing is said of starting it."""
    library = store.package("a").library("liba.so.1", function("a", 1))
    out = library.parent / "parts"
    said = check("split", store.call("split", library, "-o", out, "--json").out)
    assert (said["program"], said["why_not"]) == (None, None)


def test_a_machine_that_nothing_starts(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nix_harden.parts.split import split

    monkeypatch.setattr(compiled, "COMPILED", str(tmp_path))
    done = split(str(simple(store)), str(tmp_path / "parts"))
    assert done.program is None
    assert "nothing here starts programs of X86_64 from parts; compile it once with" in str(done.why_not)


def test_tables_that_lead_nowhere(store: Store) -> None:
    """A program that can only be kept as bytes is not started from them: no part says what it needs."""
    program = simple(store)
    data = bytearray(program.read_bytes())
    image = subprocess.run(["readelf", "-SW", program], capture_output=True, text=True, check=True).stdout
    (row,) = (line.split("]")[1].split() for line in image.splitlines() if ".gnu.version_r" in line)
    place = int(row[3], 16)
    data[place + 8 : place + 12] = b"\xff\xff\xff\x7f"  # vn_aux
    program.write_bytes(data)
    out = program.parent.with_name("app-parts")
    said = check("split", store.call("split", program, "-o", out, "--json").out)
    assert said["program"] is None
    assert "a needed version" in said["why_not"]
    assert sorted(path.name for path in out.iterdir()) == ["app.parts", "app.rest"]


def test_a_stack_that_code_runs_on(store: Store) -> None:
    """The kernel makes it as the program says."""
    source = MAPS.replace("fputs(line, stdout)", 'strstr(line, "[stack]") && fputs(line, stdout)').replace(
        "#include <stdio.h>", "#include <stdio.h>\n#include <string.h>"
    )
    for flag, rights in (("execstack", "rwxp"), ("noexecstack", "rw-p")):
        program = store.package(flag).program(flag, source, flags=["-Wl,-z," + flag])
        for each in (program, split(store, program)):
            assert run(each)[1].splitlines()[1].split()[1] == rights


def test_join_is_what_it_was(store: Store, tmp_path: Path) -> None:
    """What is beside the parts so that they start, and the zeros before large ones, is no byte of the file."""
    program = store.package("app").program("app", MAPS + "const char large[40000] = {1}; char other[9000] = {2};")
    start = split(store, program)
    assert start.with_name("app.rodata").stat().st_size > 40000
    store.call("join", start.parent, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == program.read_bytes()


def test_a_prelinked_program(store: Store) -> None:
    """The module finds in memory what it was made for, and is at work."""
    libraries = [
        store.package(f"w{number}").library(
            f"libw{number}.so.1", "".join(f"int w{number}_{each}(void) {{ return 1; }}" for each in range(60))
        )
        for number in range(12)
    ]
    calls = [f"w{number}_{each}" for number in range(12) for each in range(60)]
    program = store.package("app").program("app", prints(*calls), needs=libraries)
    prelinked = prelink(store, program)
    start = split(store, prelinked)
    assert run(start) == run(program)
    assert lookups(start) == lookups(prelinked) < lookups(program)


@pytest.mark.parametrize("kind", ["-pie", "-no-pie"])
def test_aarch64(store: Store, kind: str) -> None:
    """Under qemu-user with that machine's loader; and the names of this moment."""
    world = World.create(store, AARCH64)
    a = world.library(store.package("a"), "liba.so.1", function("a", 1))
    text = 'const char large[200000] = {1}; __asm__(".text\\n.fill 50000, 4, 0xd503201f\\n");'
    program = world.program(store.package("app"), "app", text + prints("a"), needs=[a], kind=kind)
    start = split(store, program)
    assert world.run(start).behaviour[:3] == world.run(program).behaviour[:3] == (0, "1\n", "")
    needed = start.with_name("app.needed")
    needed.write_text(needed.read_text().replace("liba.so.1", str(a)))
    ran = world.run(start)
    assert (ran.status, ran.out, ran.err) == (0, "1\n", "")
    assert re.search(r"liba\.so\.1", "\n".join(world.run(start).opened))
