"""Other machines: 32 bits and big-endian objects are read, bound and run; what differs in ABI is never mixed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run


def test_32_bit_programs_are_bound_and_run(store: Store) -> None:
    """With the host's own loader, whose libc is outside the store and stays bare."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1), flags=["-m32"], rpath=[])
    program = it.program("app", prints("a"), needs=[liba], flags=["-m32"], rpath=[it.lib])
    before = run(program)
    assert before.said == (0, "1\n", "")
    store.harden(it)
    after = run(program)
    assert names(program).needed == (str(liba), "libc.so.6")
    assert names(liba).soname == str(liba)
    assert after.behaviour == before.behaviour
    assert not [miss for miss in after.misses if "liba" in miss]


def test_a_32_and_a_64_bit_program_of_one_package_find_each_their_library(store: Store) -> None:
    it = store.package("it")
    programs = []
    for directory, flags in (("lib", []), ("lib32", ["-m32"])):
        liba = it.library("liba.so.1", function("a", len(flags)), flags=flags, directory=directory, rpath=[])
        path = [it.path / "lib", it.path / "lib32", *([store.libc] if not flags else [])]
        programs.append(it.program(f"app{directory}", prints("a"), needs=[liba], flags=flags, rpath=path))
    before = [run(program) for program in programs]
    assert [ran.out for ran in before] == ["0\n", "1\n"]
    store.harden(it)
    assert [run(program).behaviour for program in programs] == [ran.behaviour for ran in before]
    assert [names(program).needed[0] for program in programs] == [
        f"{it.path}/{lib}/liba.so.1" for lib in ("lib", "lib32")
    ]


@dataclass(frozen=True)
class Machine:
    """A big-endian machine: its binutils, its loader, its qemu, and programs in its assembly that need no C library.

    `library` defines a() = 7; `program` ends with what a() returns as its status.
    """

    prefix: str
    loader: str
    qemu: str
    library: str
    program: str


S390X = Machine(
    "s390x-linux-gnu",
    "ld64.so.1",
    "qemu-s390x",
    ".align 2\n.globl a\n.type a,@function\na: lghi %r2,7\n br %r14\n",
    ".align 2\n.globl _start\n_start: brasl %r14,a@PLT\n lghi %r1,248\n svc 0\n",
)
POWERPC = Machine(
    "powerpc-linux-gnu",
    "ld.so.1",
    "qemu-ppc",
    ".align 2\n.globl a\n.type a,@function\na: li 3,7\n blr\n",
    ".align 2\n.globl _start\n_start: bl a@plt\n li 0,234\n sc\n",
)


@pytest.fixture(params=[S390X, POWERPC], ids=["s390x", "powerpc"])
def machine(request: pytest.FixtureRequest) -> Machine:
    machine: Machine = request.param
    return machine


def build(machine: Machine, path: Path, source: str, *flags: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    item = path.with_suffix(".o")
    subprocess.run([f"{machine.prefix}-as", "-o", item], input=source, text=True, check=True)
    subprocess.run([f"{machine.prefix}-ld", "--no-warn-rwx-segments", "-o", path, item, *map(str, flags)], check=True)
    item.unlink()
    return path


def runs(machine: Machine, program: Path) -> tuple[int, list[str]]:
    """The program's status, and the libraries that its loader looked for in vain."""
    done = subprocess.run([machine.qemu, "-strace", program], capture_output=True, text=True, check=False)
    opens = [line for line in done.stderr.splitlines() if "open" in line and "errno=" in line]
    return done.returncode, [line.split('"')[1] for line in opens if "ld.so.preload" not in line]


def foreign(store: Store, machine: Machine) -> tuple[Package, Path, Path]:
    it = store.package("it")
    loader = it.path / "libexec" / machine.loader
    loader.parent.mkdir()
    host = Path("/usr", machine.prefix, "lib", machine.loader)
    loader.write_bytes(host.read_bytes())
    loader.chmod(0o755)
    liba = build(machine, it.lib / "liba.so.1", machine.library, "-shared", "-soname", "liba.so.1")
    program = build(
        *(machine, it.bin / "app", machine.program, liba, f"--dynamic-linker={loader}"),
        *("-pie", "-rpath", it.lib, "--enable-new-dtags"),
    )
    return it, liba, program


def test_big_endian_objects_are_bound_and_run(store: Store, machine: Machine) -> None:
    it, liba, program = foreign(store, machine)
    status, misses = runs(machine, program)
    assert status == 7
    assert misses
    store.harden(it)
    assert names(liba).soname == str(liba)
    assert names(program).needed == (str(liba),)
    assert names(program).runpath == ""
    assert runs(machine, program) == (7, [])


@pytest.mark.parametrize("room", [False, True])
def test_a_file_that_patchelf_spoils_is_left_or_bound_in_place(store: Store, room: bool) -> None:
    """patchelf 0.19.3 writes the first segment of a big-endian ET_EXEC in the wrong byte order. A dropped RUNPATH leaves room."""
    it, liba, program = foreign(store, S390X)
    loader = f"--dynamic-linker={it.path}/libexec/{S390X.loader}"
    build(S390X, program, S390X.program, liba, loader, "-no-pie", "-rpath", it.lib, "--enable-new-dtags")
    before = program.read_bytes()
    answer = store.harden(it, options=[] if room else ["--keep-runpath"])
    assert (program.read_bytes() == before) == (not room)
    assert (f"{program}: stays as it is: it has no room" in answer.err) == (not room)
    assert runs(S390X, program)[0] == 7


def test_objects_of_two_machines_are_never_mixed(store: Store) -> None:
    """The first directory of the search path holds a library for the other machine."""
    it, liba, program = foreign(store, S390X)
    other = store.package("other")
    build(POWERPC, other.lib / "liba.so.1", POWERPC.library, "-shared", "-soname", "liba.so.1")
    path = ["-pie", "-rpath", f"{other.lib}:{it.lib}", "--enable-new-dtags"]
    program = build(S390X, program, S390X.program, liba, f"--dynamic-linker={it.path}/libexec/{S390X.loader}", *path)
    assert runs(S390X, program)[0] == 7
    store.harden(it)
    assert names(program).needed == (str(liba),)
    assert runs(S390X, program) == (7, [])
