"""What a program asks of its loader as it runs has the same answer, bound by a module or by ld.so."""

import subprocess
from pathlib import Path

import pytest
from prelink.helpers import assert_same, is_at_work, prelink, run
from support.source import function, opens, prints
from support.store import Store

SAYS = "#include <stdio.h>\n"
FINDS = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n"


def constructs(name: str, more: str = "") -> str:
    return f"""
        int puts(const char *);
        __attribute__((constructor)) static void begin(void) {{ puts("+{name}"); }}
        __attribute__((destructor)) static void end(void) {{ puts("-{name}"); }}
        int {name}(void) {{ return 0; }} {more}"""


def test_constructors_run_in_the_same_order(store: Store) -> None:
    """And destructors, in a closure where the order of loading is not that of needs."""
    d = store.package("d").library("libd.so.1", constructs("d"))
    c = store.package("c").library("libc1.so.1", constructs("c"), needs=[d])
    b = store.package("b").library("libb.so.1", constructs("b"), needs=[c])
    a = store.package("a").library("liba.so.1", constructs("a"), needs=[b, d])
    source = store.package("app").program("app", prints("a", "d", "c"), needs=[d, a, c])
    assert_same(prelink(store, source), source)


def test_the_next_of_a_name(store: Store) -> None:
    """dlsym(3), RTLD_NEXT and RTLD_DEFAULT."""
    under = store.package("under").library("libunder.so.1", function("f", 1))
    next_one = 'int f(void) { int (*next)(void) = dlsym(RTLD_NEXT, "f"); return 10 + next(); }'
    over = store.package("over").library("libover.so.1", FINDS + next_one, needs=[under])
    main = FINDS + 'int f(void); int main(void) { printf("%d %d\\n", f(), dlsym(RTLD_DEFAULT, "f") == f); return 0; }'
    source = store.package("app").program("app", main, needs=[over, under])
    assert_same(prelink(store, source), source)


def test_the_objects_that_a_program_sees(store: Store) -> None:
    """dl_iterate_phdr(3) and dladdr(3) tell of the program and its libraries, and not of the module, and every tag says what it said."""
    main = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <link.h>
        #include <stdio.h>
        #include <string.h>
        int a(void);
        static int each(struct dl_phdr_info *info, size_t size, void *data) {
          puts(info->dlpi_name);
          for (int i = 0; i < info->dlpi_phnum; i++)
            if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
              for (ElfW(Dyn) *tag = (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr); tag->d_tag; tag++)
                if (tag->d_tag == DT_RELASZ || tag->d_tag == DT_RELACOUNT || tag->d_tag == DT_PLTRELSZ)
                  printf("%lx %lu\\n", tag->d_tag, tag->d_un.d_val);
          return 0;
        }
        int main(void) {
          Dl_info info;
          dl_iterate_phdr(each, 0);
          printf("%s %s\\n", dladdr(a, &info) ? info.dli_fname : "?", info.dli_sname);
          return 0;
        }"""
    a = store.package("a").library("liba.so.1", function("a", 1))
    source = store.package("app").program("app", main, needs=[a])
    assert_same(prelink(store, source), source)


def test_exceptions_go_through_libraries(store: Store) -> None:
    runtimes = store.compiler_runtimes()
    libraries = [runtimes.lib / "libstdc++.so.6", runtimes.lib / "libgcc_s.so.1"]
    throws = '#include <stdexcept>\nint a() { throw std::runtime_error("thrown"); }'
    a = store.package("a").library("liba.so.1", throws, needs=libraries, compiler="g++")
    main = """
        #include <cstdio>
        #include <stdexcept>
        int a();
        int main() { try { a(); } catch (const std::exception &e) { puts(e.what()); } return 0; }"""
    source = store.package("app").program("app", main, needs=[a, *libraries], compiler="g++")
    assert_same(prelink(store, source), source)


def test_a_unique_symbol_is_that_of_the_process(store: Store) -> None:
    """STB_GNU_UNIQUE: what is opened later, by RTLD_DEEPBIND, shares the variable of the start."""
    source = 'inline int &shared() { static int x = 0; return x; } extern "C" int %s() { return ++shared(); }'
    a = store.package("a").library("liba.so.1", source % "a", compiler="g++")
    late = store.package("late").library("liblate.so.1", source % "late", compiler="g++")
    opened = opens(str(late), "late", "RTLD_NOW | RTLD_DEEPBIND", calls=["a"])
    app = store.package("app").program("app", opened, needs=[a])
    assert run(app).out == "2\n"
    assert_same(prelink(store, app), app)


@pytest.mark.parametrize("flags", ["RTLD_NOW", "RTLD_LAZY | RTLD_GLOBAL"])
def test_what_is_opened_later_finds_what_it_found(store: Store, flags: str) -> None:
    """A library that needs one of the start, by name, and one more; closed, and opened again."""
    a = store.package("a").library("liba.so.1", function("a", 1))
    more = store.package("more").library("libmore.so.1", function("more", 10))
    late = store.package("late").library("liblate.so.1", function("late", 100, ["a", "more"]), needs=[a, more])
    main = (
        FINDS
        + f"""
        int a(void);
        int main(void) {{
          for (int i = 0; i < 2; i++) {{
            void *handle = dlopen("{late}", {flags});
            printf("%d %d\\n", a(), ((int (*)(void))dlsym(handle, "late"))());
            dlclose(handle);
          }}
          return 0;
        }}"""
    )
    source = store.package("app").program("app", main, needs=[a])
    assert_same(prelink(store, source), source)


def test_a_forked_process_goes_on(store: Store) -> None:
    main = """
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int a(void);
        int main(int n, char **words) {
          int status;
          if (n > 1) return a() + 1;
          if (!fork()) execl(words[0], words[0], "again", (char *)0);
          wait(&status);
          printf("%d\\n", WEXITSTATUS(status));
          return 0;
        }"""
    a = store.package("a").library("liba.so.1", function("a", 4))
    source = store.package("app").program("app", main, needs=[a])
    assert_same(prelink(store, source), source)


def test_gdb_stops_in_a_library(store: Store) -> None:
    """It knows the libraries of the program, at their places, and breaks where it is told."""
    a = store.package("a").library("liba.so.1", function("a", 4), flags=["-g"])
    source = store.package("app").program("app", prints("a"), needs=[a], flags=["-g"])
    program = prelink(store, source)
    words = [
        "-ex",
        "set breakpoint pending on",
        "-ex",
        "break a",
        "-ex",
        "run",
        "-ex",
        "backtrace",
        "-ex",
        "info sharedlibrary",
    ]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *words, program], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert "#0  a ()" in done.stdout, done.stdout + done.stderr
    assert "in main" in done.stdout
    assert str(a) in done.stdout


def test_a_program_at_a_fixed_address_with_threads(store: Store) -> None:
    """TLS of the program and of a library, in threads that are started by another library."""
    a = store.package("a").library("liba.so.1", "__thread int t = 1; int a(void) { return t++; }")
    main = """
        #include <pthread.h>
        #include <stdio.h>
        int a(void);
        static __thread int mine = 40;
        static void *f(void *x) { a(); return (void *)(long)(a() + mine++); }
        int main(void) {
          long sum = 0;
          for (int i = 0; i < 4; i++) { pthread_t p; void *r; pthread_create(&p, 0, f, 0); pthread_join(p, &r); sum += (long)r; }
          printf("%ld %d\\n", sum, mine);
          return 0;
        }"""
    source = store.package("app").program("app", main, needs=[a], flags=["-no-pie", "-fno-pie"])
    assert_same(prelink(store, source), source)


def test_a_program_that_searches_is_answered(store: Store) -> None:
    """Names that are searched for are found at once: no lookup of a file fails before main."""
    far = [store.package(f"d{number}") for number in range(5)]
    a = store.package("a").library("liba.so.1", function("a", 4))
    rpath = [*(each.lib for each in far), a.parent, store.libc]
    source = store.package("app").program("app", prints("a"), needs=[a], rpath=rpath)
    program = prelink(store, source)
    assert_same(program, source)

    def misses(path: Path) -> int:
        words = ["strace", "-f", "-e", "trace=openat", str(path)]
        return subprocess.run(words, capture_output=True, text=True, check=False).stderr.count("ENOENT")

    assert misses(source) > 0
    assert misses(program) == 0


def test_a_hardened_program_is_prelinked(store: Store) -> None:
    """What is bound by path already is bound by address as well, and in place where there is room."""
    package = store.package("a")
    a = package.library("liba.so.1", function("a", 4))
    app = store.package("app")
    source = app.program("app", prints("a"), needs=[a])
    store.harden(package)
    store.harden(app, inputs=[package])
    program = prelink(store, source)
    assert_same(program, source)


def test_in_place(store: Store) -> None:
    """The program itself names the module beside it."""
    a = store.package("a").library("liba.so.1", function("a", 4))
    source = store.package("app").program("app", prints("a"), needs=[a])
    plain = store.path / "plain"
    plain.write_bytes(source.read_bytes())
    plain.chmod(0o755)
    store.call("prelink", "--in-place", source)
    assert run(source) == run(plain)
    assert is_at_work(source, plain)
