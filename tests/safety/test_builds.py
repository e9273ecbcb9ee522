"""What linkers, build systems and tools that read libraries make of absolute names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store
from support.trace import run

LISTED = {"LD_TRACE_LOADED_OBJECTS": "1"}


@pytest.fixture
def it(store: Store) -> Package:
    return store.package("it")


@pytest.fixture
def liba(store: Store) -> Path:
    return store.package("liba").library("liba.so.1", function("a", 1), links=["liba.so"])


def link(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gcc", "-x", "c", "-", "-x", "none", *words],
        input=prints("b"),
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )


def test_a_library_that_a_library_needs_is_found_at_link_time_without_rpath_link(store: Store, liba: Path) -> None:
    """bfd looks for what a library needs, too. A bare name needs -rpath-link, an absolute one nothing."""
    b, later = store.package("libb"), store.package("later")
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[])
    words = (libb, "-fuse-ld=bfd", f"-Wl,--dynamic-linker={store.loader},-rpath={store.libc}", "-o", later.path / "app")
    before = link(*words)
    assert "liba.so.1, needed by" in before.stderr
    assert "not found (try using -rpath or -rpath-link)" in before.stderr
    store.harden(store.package("liba"))
    store.harden(b, inputs=[store.package("liba")])
    after = link(*words)
    assert (after.returncode, after.stderr) == (0, "")


def test_a_linker_that_searches_the_host_passes_over_what_binds_its_libc(store: Store) -> None:
    """Of two files of one name bfd first takes one that names libc as it does; a bare NEEDED beside it finds that, and nothing else changes."""
    b, another, later = store.package("libb"), store.package("another"), store.package("later")
    liba = store.package("liba").library("liba.so.1", 'int atoi(const char *); int a(void) { return atoi("1"); }')
    # as a host's directories may hold one
    hosts = another.library("liba.so.1", 'int atoi(const char *); int other(void) { return atoi("1"); }')
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[liba.parent, hosts.parent, store.libc])
    words = (libb, "-fuse-ld=bfd", f"-Wl,--dynamic-linker={store.loader},-rpath={store.libc}", "-o", later.path / "app")
    assert link(*words).returncode == 0
    store.harden(store.package("liba"), options=["--mode", "needed"])
    after = link(*words)
    assert after.returncode != 0
    assert "undefined reference to `a'" in after.stderr
    assert link(*words, "-Wl,--allow-shlib-undefined").returncode == 0
    store.harden(b, inputs=[store.package("liba")], options=["--mode", "needed"])
    assert link(*words).returncode == 0


def test_a_linkers_sysroot_is_not_put_before_an_absolute_name(store: Store, liba: Path, tmp_path: Path) -> None:
    """A cross linker finds the file at the very path that will be loaded: a store path means the same in every build."""
    b = store.package("libb")
    libb = b.library("libb.so.1", function("b", 10, ["a"]), needs=[liba], rpath=[])
    store.harden(store.package("liba"), b)
    root, main = tmp_path / "sysroot", tmp_path / "main.o"
    root.mkdir()
    subprocess.run(
        ["gcc", "-x", "c", "-c", "-", "-o", main],
        input="int b(void); int f(void) { return b(); }",
        text=True,
        check=True,
    )
    words: list[str | Path] = ["ld.bfd", f"--sysroot={root}", "-e", "f", "-o", tmp_path / "app", main, libb]
    words += [store.libc / "libc.so.6", store.loader]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"LC_ALL": "C"} | os.environ)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cmake_export_still_leads_to_the_library_and_what_links_by_it_is_bound(store: Store, it: Package) -> None:
    """The exported file names the library's path and its old SONAME; the linker takes the name from the library itself."""
    a, work = store.package("liba"), store.path.parent / "work"
    interpreter = f"-Wl,--dynamic-linker={store.loader},-rpath={store.libc}"

    def build(name: str, prefix: Path, text: str, source: str) -> None:
        directory = work / name
        directory.mkdir(parents=True)
        (directory / "CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.13)\nproject({name} C)\n{text}")
        (directory / f"{name}.c").write_text(source)
        options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib", f"-DCMAKE_PREFIX_PATH={a.path}"]
        options += [f"-DCMAKE_EXE_LINKER_FLAGS={interpreter}", "-DCMAKE_INSTALL_RPATH_USE_LINK_PATH=ON"]
        below = str(directory / "b")
        for words in (["-S", str(directory), "-B", below, *options], ["--build", below], ["--install", below]):
            subprocess.run(["cmake", *words], check=True, capture_output=True)

    export = "set_target_properties(a PROPERTIES VERSION 1.0 SOVERSION 1)\ninstall(TARGETS a EXPORT a-config DESTINATION lib)\n"
    build(
        "a",
        a.path,
        f"add_library(a SHARED a.c)\n{export}install(EXPORT a-config DESTINATION lib/cmake/a)\n",
        function("a", 1),
    )
    store.harden(a)
    targets = "".join(path.read_text() for path in (a.lib / "cmake/a").iterdir())
    assert 'IMPORTED_SONAME_NOCONFIG "liba.so.1"' in targets
    text = "find_package(a CONFIG REQUIRED)\nadd_executable(it it.c)\ntarget_link_libraries(it a)\ninstall(TARGETS it DESTINATION bin)\n"
    build("it", it.path, text, prints("a"))
    program = it.bin / "it"
    assert names(program).needed[0] == f"{a.lib}/liba.so.1"
    store.harden(it, inputs=[a])
    assert run(program).said == (0, "1\n", "")
    assert run(program).misses == ()


def test_ldd_prints_a_bound_library_without_an_arrow(store: Store, it: Package, liba: Path) -> None:
    """What reads words, as g-ir-scanner of nixpkgs does, finds the path in both; what reads `name => path` finds it before alone."""
    program = it.program("app", prints("a"), needs=[liba])
    before = run(program, environ=LISTED).out
    store.harden(it)
    after = run(program, environ=LISTED).out
    arrow = re.compile(r"^\tliba\.so\.1 => (\S+) ", re.MULTILINE)
    word = re.compile(r"(?:^|\s)(/\S*/liba\.so\S*)")
    assert arrow.findall(before) == word.findall(before) == [str(liba)]
    assert (arrow.findall(after), word.findall(after)) == ([], [str(liba)])
    assert after.startswith("\tlinux-vdso") or str(liba) in after.splitlines()[0]


def test_find_library_of_python_answers_a_name_that_can_be_opened(store: Store, liba: Path) -> None:
    """It links with `ld` and reads the SONAME; both the bare and the absolute one are arguments for CDLL."""
    code = "import ctypes, ctypes.util; name = ctypes.util.find_library('a'); print(name, ctypes.CDLL(name).a())"
    environ = {"LD_LIBRARY_PATH": str(liba.parent), "PATH": os.environ["PATH"]}

    def ask() -> str:
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        return done.stdout

    assert ask() == "liba.so.1 1\n"
    store.harden(store.package("liba"))
    assert ask() == f"{liba} 1\n"


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_ldconfig_makes_links_for_bare_sonames_alone(store: Store, it: Package, mode: str) -> None:
    """Whatever is collected for an FHS environment has to keep its SONAMEs: hardenNeededMode = "needed"."""
    liba = it.library("liba.so.1", function("a", 1))
    store.harden(it, options=["--mode", mode])
    fhs = store.path.parent / "fhs"
    fhs.mkdir()
    (fhs / "liba-real.so.1.2").write_bytes(liba.read_bytes())
    subprocess.run(["/sbin/ldconfig", "-n", fhs], capture_output=True, check=True)
    assert (fhs / "liba.so.1").is_symlink() == (mode == "needed")


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_foreign_object_shares_a_loaded_library_in_mode_needed_and_else_brings_its_own(
    store: Store, it: Package, liba: Path, mode: str
) -> None:
    """As in steam-run, nix-ld or an FHS environment: liba is loaded by its path, then a prebuilt plugin asks for liba.so.1."""
    fhs = store.package("fhs")
    other = fhs.library("liba.so.1", function("a", 2))
    plugin = fhs.plugin("prebuilt.so", function("p", 0, ["a"]), needs=[other])
    program = it.program("app", opens(str(plugin), "p", calls=["a"]), needs=[liba])
    before = run(program)
    assert before.files("liba") == [str(liba)]
    store.harden(store.package("liba"), it, options=["--mode", mode])
    after = run(program)
    assert after.out == before.out == "1\n", "symbols come from the first in either mode"
    assert after.files("liba") == [str(liba), *([str(other)] if mode == "soname" else [])]


def test_readers_that_know_libraries_by_their_base_names_see_the_same(store: Store, it: Package, liba: Path) -> None:
    """readelf, ldd, dl_iterate_phdr: the last part of every name is what it was."""
    source = """
        #define _GNU_SOURCE
        #include <link.h>
        #include <stdio.h>
        #include <string.h>
        int a(void);
        static int tell(struct dl_phdr_info *info, size_t size, void *data) {
          const char *base = strrchr(info->dlpi_name, '/');
          if (base) puts(base + 1);
          return 0;
        }
        int main(void) { a(); return dl_iterate_phdr(tell, 0); }"""
    program = it.program("app", source, needs=[liba])
    before, needed = run(program).out, names(program).needed
    assert "liba.so.1\n" in before
    store.harden(store.package("liba"), it)
    assert run(program).out == before
    assert tuple(os.path.basename(name) for name in names(program).needed) == needed
    assert os.path.basename(names(liba).soname or "") == "liba.so.1"


def test_a_packager_that_joins_directories_and_names_fails_on_absolute_ones_until_unhardened(
    store: Store, it: Package, liba: Path, tmp_path: Path
) -> None:
    """dpkg-shlibdeps, for who makes a .deb of a closure; auditwheel, linuxdeploy and rpm's find-requires look for bare names, too."""
    (tmp_path / "debian").mkdir()
    (tmp_path / "debian/control").write_text("Source: x\n\nPackage: x\nArchitecture: any\n")
    (tmp_path / "debian/shlibs.local").write_text("liba 1 liba1\nlibc 6 libc6\n")
    program = it.program("app", prints("a"), needs=[liba])

    def ask() -> subprocess.CompletedProcess[str]:
        words = ["dpkg-shlibdeps", "-O", f"-l{liba.parent}", f"-l{store.libc}", f"-e{program}"]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ask().stdout == "shlibs:Depends=liba1, libc6\n"
    store.harden(store.package("liba"), it)
    assert f"cannot find library {liba}" in ask().stderr
    store.call("unharden", str(it.path), str(store.package("liba").path))
    assert ask().stdout == "shlibs:Depends=liba1, libc6\n"


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_ld_profile_knows_a_library_by_its_bare_soname(store: Store, it: Package, liba: Path, mode: str) -> None:
    """glibc's own profiler (sprof) compares the variable with SONAMEs, and makes a file name of it, which a path cannot be."""
    lazy = ["-Xlinker", "-z", "-Xlinker", "lazy"]
    libb = store.package("libb").library("libb.so.1", function("b", 1, ["a"]), needs=[liba], flags=lazy)
    program = it.program("app", prints("b"), needs=[libb], flags=lazy)
    profile = store.path.parent / "libb.so.1.profile"
    environ = {"LD_PROFILE": "libb.so.1", "LD_PROFILE_OUTPUT": str(profile.parent)}
    run(program, environ=environ)
    assert profile.is_file()
    profile.unlink()
    for name in ("libb", "it"):
        store.harden(store.package(name), options=["--mode", mode])
    assert run(program, environ=environ).said == (0, "2\n", "")
    assert profile.is_file() == (mode == "needed")


@pytest.mark.parametrize(
    ("mode", "hardened", "copies"),
    [("needed", False, 1), ("needed", True, 2), ("soname", False, 2), ("soname", True, 2)],
)
def test_a_plugin_of_another_build_shares_a_library_only_by_its_bare_name(
    store: Store, mode: str, hardened: bool, copies: int
) -> None:
    """Its own search leads to another file of that SONAME: the loaded one answers while NEEDED and SONAME are both bare."""
    core, again, it, other = (store.package(name) for name in ("core", "core-again", "it", "plugin"))
    library, second = (each.library("libcore.so.1", function("core", 1)) for each in (core, again))
    plugin = other.plugin("plugin.so", function("plugged", 0, ["core"]), needs=[second])
    program = it.program("app", opens(str(plugin), "plugged", calls=["core"]), needs=[library])
    assert run(program).files("libcore") == [str(library)]
    for package in (core, again, it, *([other] if hardened else [])):
        store.harden(package, options=["--mode", mode])
    assert run(program).said == (0, "1\n", "")
    assert run(program).files("libcore") == [str(library), str(second)][:copies]
