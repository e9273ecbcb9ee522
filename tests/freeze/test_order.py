"""freeze --order proven: libraries that answer most come first, nothing binds differently, and what changes is said."""

import itertools
import os
import random
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from foreign.cross import AARCH64, World
from freeze.bindings import graph_of, resolved, said, symbols_of
from freeze.helpers import bindings, freeze, listing, refused, run
from musl.muslstore import Musl
from support.glibc import HOST
from support.schema import check
from support.source import function, prints
from support.store import Store, patchelf

from nix_harden.errors import NotFrozen
from nix_harden.freezing import ordering
from nix_harden.freezing.ordering import arrange

INITIALISED = re.compile(r"calling init: (\S+)$", re.MULTILINE)


def library(store: Store, name: str, source: str, needs: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
    return store.package(name).library(f"lib{name}.so.1", source, needs=needs, flags=flags)


def program(store: Store, calls: Sequence[str], needs: Sequence[Path], extra: str = "") -> Path:
    return store.package("app").program("app", extra + prints(*calls), needs=needs)


def many(name: str, count: int = 400) -> str:
    """A library's source with so many functions that look each other up."""
    functions = "".join(f"int {name}{index}(void) {{ return {index}; }}" for index in range(count))
    calls = "+".join(f"{name}{index}()" for index in range(count))
    return f"{functions} int {name}(void) {{ return {calls}; }}"


def constructs(name: str, more: str = "") -> str:
    """A library that says its name when it starts; the compiler's own constructor is in each."""
    return f"""
        int puts(const char *);
        __attribute__((constructor)) static void begin(void) {{ puts("{name}"); }}
        int {name}(void) {{ return 0; }} {more}"""


def proven(store: Store, source: Path, *options: str) -> tuple[Path, list[str], dict[str, object]]:
    """The program in the proven order, which says and binds the same as before; the names of its libraries; what was said of it."""
    out = store.path / "out" / source.name
    out.parent.mkdir(exist_ok=True)
    told = check("freeze", freeze(store, source, out, "--order", "proven", "--json", *options).out)
    assert run(out).said == run(source).said
    assert bindings(out, source) == bindings(source, source)
    assert [path for path in told["libraries"] if "/" in path] == [
        path for path in listing(out) if path != str(store.loader)
    ]
    return out, [os.path.basename(path) for path in listing(out)], told


def test_what_answers_most_comes_first(store: Store) -> None:
    b = library(store, "b", many("b"))
    a = library(store, "a", function("a", 1, ["b"]), [b])
    app = program(store, ["a"], [a])
    assert [os.path.basename(path) for path in listing(app)].index("libb.so.1") > 0
    _, names, told = proven(store, app)
    assert names[0] == "libb.so.1"
    order = told["ordering"]
    assert isinstance(order, dict)
    assert order["mean_place"] < order["mean_place_before"]
    assert order["passed"] < 1


def test_two_that_define_one_symbol_keep_their_order(store: Store) -> None:
    """Whatever they answer, and also where nobody asks yet."""
    first = library(store, "first", function("same", 1) + function("f", 1))
    second = library(store, "second", function("same", 2) + many("g"))
    _, names, told = proven(store, program(store, ["f", "g"], [first, second]))
    assert names.index("libfirst.so.1") < names.index("libsecond.so.1")
    order = told["ordering"]
    assert isinstance(order, dict)
    assert {"first": str(first), "second": str(second), "why": "both define same"} in order["kept"]


def test_versions_do_not_tell_definitions_apart(store: Store) -> None:
    """Code that asks without a version may come later."""

    def versioned(name: str, node: str, more: str) -> Path:
        script = store.path / node
        script.write_text(f"{node} {{ global: *; }};")
        return library(store, name, function("same", 1) + more, flags=[f"-Wl,--version-script={script}"])

    first, second = versioned("first", "V1", function("f", 1)), versioned("second", "V2", many("g"))
    _, names, _ = proven(store, program(store, ["f", "g"], [first, second]))
    assert names.index("libfirst.so.1") < names.index("libsecond.so.1")


def test_what_is_opened_later_binds_the_same(store: Store) -> None:
    """A plugin asks the libraries that are there for what nobody asked for before."""
    first = library(store, "first", function("same", 1) + function("f", 1))
    second = library(store, "second", function("same", 2) + many("g"))
    plugin = store.package("plugin").plugin("plugin.so", function("p", 10, ["same"]))
    opens = f"""
        #include <dlfcn.h>
        #include <stdio.h>
        int f(void), g(void);
        int main(void) {{
          void *handle = dlopen("{plugin}", RTLD_NOW);
          printf("%d %d %d\\n", f(), g(), ((int (*)(void))dlsym(handle, "p"))());
          return 0;
        }}"""
    app = store.package("app").program("app", opens, needs=[first, second])
    assert run(app).out == "1 79800 11\n"
    proven(store, app)


def test_an_allocator_stays_before_the_c_library(store: Store) -> None:
    source = "void *malloc(unsigned long n); void free(void *p) {} int taken(void) { return 1; }"
    allocator = library(
        store,
        "alloc",
        source + "char room[1 << 20]; unsigned long used; void *malloc(unsigned long n)"
        "{ used = used + 15 & -16; void *p = room + used; used += n; return p; }"
        "void *calloc(unsigned long n, unsigned long m) { return malloc(n * m); }"
        "void *realloc(void *p, unsigned long n) { return malloc(n); }",
    )
    a = library(store, "a", many("a"))
    _, names, _ = proven(store, program(store, ["a", "taken"], [a, allocator]))
    assert names[0] == "liba.so.1"
    assert names.index("liballoc.so.1") < names.index("libc.so.6")


def test_two_of_one_soname_keep_their_order(store: Store) -> None:
    """A bare name that is opened later is answered by the first that bears it."""
    one = library(store, "one", function("x", 1))
    two = library(store, "two", many("y"))
    app = program(store, ["x", "y"], [one, two])
    for path in (one, two):
        patchelf("--replace-needed", path.name, path, app)
        patchelf("--set-soname", "libx.so.1", path)
    _, names, _ = proven(store, app)
    assert names.index("libone.so.1") < names.index("libtwo.so.1")


def test_the_last_that_is_to_start_first_stays_the_last(store: Store) -> None:
    """The loader knows one such library, the last that it loaded (DF_1_INITFIRST), and starts it before all others."""
    one = library(store, "one", constructs("one"), flags=["-Wl,-z,initfirst"])
    two = library(store, "two", constructs("two", many("heavy")), flags=["-Wl,-z,initfirst"])
    app = program(store, ["one", "two", "heavy"], [one, two])
    assert run(app).out.startswith("two\none\n")
    proven(store, app)


def test_what_a_library_finds_behind_itself_stays_there(store: Store) -> None:
    """RTLD_NEXT looks from the caller on, so that what it asks for, by a name that it holds, may not come before it."""
    finds = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        int wrapped(void) { int (*next)(void) = dlsym(RTLD_NEXT, "heavy3"); return next ? next() : -1; }"""
    caller = library(store, "caller", finds)
    heavy = library(store, "heavy", many("heavy"))
    app = program(store, ["wrapped", "heavy"], [caller, heavy])
    assert run(app).out == "3\n79800\n"
    _, names, _ = proven(store, app)
    assert names.index("libcaller.so.1") < names.index("libheavy.so.1")


def test_what_a_library_does_not_find_behind_itself_stays_before_it(store: Store) -> None:
    """RTLD_NEXT that finds nothing goes on doing so: who defines the name lies before the caller, and may not come behind."""
    finds = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        int wrapped(void) { return dlsym(RTLD_NEXT, "hook") != 0; }"""
    hook = library(store, "hook", "int hook(void) { return 1; }")
    caller = library(store, "caller", finds + many("heavy"))
    app = program(store, ["wrapped", "heavy"], [hook, caller])
    assert run(app).out.startswith("0\n")
    _, names, _ = proven(store, app)
    assert names.index("libhook.so.1") < names.index("libcaller.so.1")


def test_a_sanitizer_stays_the_first(store: Store) -> None:
    """It stops a program in which it is not."""
    package = store.compiler_runtimes()
    asan = package.lib / "libasan.so.8"
    shutil.copy(HOST / asan.name, asan)
    patchelf("--set-rpath", f"{package.lib}:{store.libc}", asan)
    heavy = library(store, "heavy", many("heavy", 9000))
    path = [heavy.parent, package.lib, store.libc]
    app = store.package("app").program("app", prints("heavy"), needs=[heavy], rpath=path, flags=["-fsanitize=address"])
    out = store.path / "out"
    freeze(store, app, out, "--order", "proven")
    done = subprocess.run([out], env={"ASAN_OPTIONS": "detect_leaks=0"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sum(range(9000))}\n", "")


def test_a_resolver_is_called_after_its_library_is_relocated_or_the_order_is_refused(store: Store) -> None:
    """The loader calls the resolver of an IFUNC as it relocates who asks; without a NEEDED, the order of loading alone protects it."""
    source = """
        static int one(void) { return 1; } extern int (*table)(void);
        static void *choose(void) { return table; }
        int f(void) __attribute__((ifunc("choose")));
        int (*table)(void) = one;"""
    b = library(store, "b", source + many("b"))
    a = store.package("a").library("liba.so.1", "int f(void); int (*p)(void) = f; int a(void) { return p(); }")
    needs = [a, b]
    app = program(store, ["a", "b"], needs)
    assert run(app).out == "1\n79800\n"
    line = refused(store, app, "--order", "proven")
    assert f"{a} calls the resolver of f in {b}, on which it does not depend" in line
    assert line.endswith("freeze it with --order loader")
    other = store.package("other").program("app", prints("a", "b"), needs=needs[::-1])
    assert run(other).said != run(app).said


def test_a_unique_symbol_is_that_of_the_first_to_ask_or_the_order_is_refused(store: Store) -> None:
    """Where two find different ones, the loader takes for the whole process what is asked for first."""
    symbols = ".type one, %gnu_unique_object; .globl one; .data; one: .long {}; .size one, 4; .text;"
    now, symbolic = ((30).to_bytes(8, "little") + flags.to_bytes(8, "little") for flags in (8, 10))

    def unique(name: str, value: int, more: str, *flags: str) -> Path:
        source = f'asm("{symbols.format(value)}"); extern int one; int {name}(void) {{ return one; }}'
        return library(store, name, source + more, flags=flags)

    front = unique("front", 1, "")
    late = unique("late", 2, "", "-Wl,-z,now")
    late.write_bytes(late.read_bytes().replace(now, symbolic))
    asks = library(store, "asks", "extern int one; int asks(void) { return one; }" + many("heavy"), [front])
    app = program(store, ["front", "asks", "late", "heavy"], [front, late, asks])
    assert run(app).out == "1\n1\n1\n79800\n"
    assert "the unique symbol one of" in refused(store, app, "--order", "proven")


@pytest.mark.parametrize("tunable", ["", "glibc.rtld.dynamic_sort=1"])
@pytest.mark.parametrize("seed", range(6))
def test_constructors_are_sorted_as_by_the_loader(store: Store, seed: int, tunable: str) -> None:
    """By either of its algorithms, with circles and without: as relocation goes, which decides over resolvers and unique symbols."""
    chance = random.Random(seed)
    names = [f"l{number}" for number in range(9)]
    paths = {name: library(store, name, function(name, 1)) for name in names}
    for name in names:
        for other in chance.sample(names, chance.randrange(4)):
            if other != name:
                patchelf("--add-needed", other and f"lib{other}.so.1", paths[name])
        patchelf("--set-rpath", ":".join(str(path.parent) for path in paths.values()) + f":{store.libc}", paths[name])
    app = program(store, names[:4], [paths[name] for name in names[:4]])
    graph = graph_of(app)
    sort = ordering.started_originally if tunable else ordering.started
    order = sort(range(len(graph.nodes)), ordering.needs_of(graph))
    environ = {"LD_DEBUG": "files", **({"GLIBC_TUNABLES": tunable} if tunable else {})}
    done = subprocess.run([app], env=environ, capture_output=True, text=True, check=True)
    called = [path for path in INITIALISED.findall(done.stderr) if path != str(store.loader)]
    assert [graph.nodes[number].path for number in order if graph.nodes[number].path in called] == called
    assert len(called) > 5


def test_constructors_that_change_their_order_are_named(store: Store) -> None:
    """And no others: what a library needs starts before it as ever."""
    b = library(store, "b", constructs("b"))
    c = library(store, "c", constructs("c", many("heavy")))
    a = library(store, "a", constructs("a", "int b(void); int calls(void) { return b(); }"), [b])
    app = program(store, ["a", "b", "c", "heavy"], [a, b, c])
    out = store.path / "out"
    done = freeze(store, app, out, "--order", "proven", "--json", "--explain-order")
    told = check("freeze", done.out)["ordering"]["constructors"]
    before, after = (run(path).out.splitlines()[:3] for path in (app, out))
    assert before != after
    changed = [
        {
            "before": f"{store.package(first).lib}/lib{first}.so.1",
            "now_after": f"{store.package(second).lib}/lib{second}.so.1",
        }
        for first, second in itertools.combinations(before, 2)
        if after.index(first) > after.index(second)
    ]
    assert told == changed
    assert f"the constructors of {len(changed)} pair" in done.err


def test_explaining_writes_nothing(store: Store) -> None:
    b = library(store, "b", many("b"))
    app = program(store, ["a"], [library(store, "a", function("a", 1, ["b"]), [b])])
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    done = store.call("freeze", "--explain-order", app)
    assert before == {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    assert done.err == ""
    assert re.search(r"\n +2 +\d +\d+  .*/libb\.so\.1\n", done.out)
    told = check("freeze", store.call("freeze", "--explain-order", "--json", app).out)["ordering"]
    assert [os.path.basename(each["path"]) for each in told["objects"]][:2] == ["app", "libb.so.1"]
    assert f"on average by object {told['mean_place_before']:.1f} of 5" in done.out


def test_without_a_place_to_write_it_is_a_wrong_argument(store: Store) -> None:
    app = program(store, [], [])
    assert "say the file to write" in store.call("freeze", app, status=2).err
    assert "say the file to write" in store.call("freeze", app, "--order", "proven", status=2).err


def test_another_machine_and_a_cycle_of_needs(store: Store) -> None:
    """Nothing is run for it."""
    world = World.create(store, AARCH64)
    package = store.package("it")
    b = world.library(package, "libb.so.1", many("b"))
    a = world.library(package, "liba.so.1", function("a", 1, [f"b{number}" for number in range(400)]), needs=[b])
    app = world.program(package, "app", prints("a"), needs=[a])
    patchelf("--add-needed", "liba.so.1", b)
    before = world.run(app)
    out = package.bin / "frozen"
    told = check("freeze", freeze(store, app, out, "--order", "proven", "--json").out)
    assert told["libraries"][0] == str(b)
    assert told["why_not_compared"].startswith("for another machine")
    after = world.run(out)
    assert (after.status, after.out) == (before.status, before.out)
    assert said(out, AARCH64.emulator) == resolved(out)


def test_freezing_again_finds_the_order_that_is_there(store: Store) -> None:
    """The same bytes: a proven order is as good as the program's own."""
    b = library(store, "b", many("b"))
    app = program(store, ["a"], [library(store, "a", function("a", 1, ["b"]), [b])])
    once, _, _ = proven(store, app)
    twice = store.path / "twice"
    freeze(store, once, twice, "--order", "proven")
    assert twice.read_bytes() == once.read_bytes()


def cost(weights: Sequence[int], order: Sequence[int]) -> int:
    return sum(weights[number] * place for place, number in enumerate(order, 1))


def cases() -> list[tuple[list[int], list[tuple[int, int]]]]:
    chance = random.Random(1)
    found = []
    for _ in range(60):
        weights = [chance.choice([0, 1, 2, 5, 9]) for _ in range(6)]
        pairs = [pair for pair in itertools.combinations(range(6), 2) if chance.random() < 0.25]
        found.append((weights, pairs))
    return found


def best(weights: Sequence[int], pairs: Sequence[tuple[int, int]]) -> int:
    def allowed(order: Sequence[int]) -> bool:
        place: Mapping[int, int] = {number: index for index, number in enumerate(order)}
        return all(place[first] < place[second] for first, second in pairs)

    return min(cost(weights, order) for order in itertools.permutations(range(6)) if allowed(order))


def test_arrangements_keep_all_pairs_and_are_near_the_best() -> None:
    """The exact optimum for joining trees, where each number is the first of one pair at most; within a tenth of it elsewhere."""
    exact = 0
    for weights, pairs in cases():
        order = arrange(weights, pairs)
        assert sorted(order) == list(range(6))
        assert all(order.index(first) < order.index(second) for first, second in pairs)
        least = best(weights, pairs)
        assert cost(weights, order) <= 1.1 * least
        if len({first for first, _ in pairs}) == len(pairs):
            assert cost(weights, order) == least
            exact += 1
    assert exact > 5


def test_equals_keep_their_order() -> None:
    assert arrange([3, 3, 3, 3], []) == [0, 1, 2, 3]
    assert arrange([0, 0, 9, 0], [(1, 2)]) == [1, 2, 0, 3]


def test_the_proof_is_no_word_of_the_sorting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sorting that forgets a pair is found out by the resolution of every symbol."""
    first = library(store, "first", function("same", 1))
    second = library(store, "second", function("same", 2) + many("g"))
    app = program(store, ["same", "g"], [first, second])
    graph = graph_of(app)
    monkeypatch.setattr(ordering, "find_holds", lambda *_: iter(()))
    with pytest.raises(NotFrozen, match=f"same of {app} would bind to another library"):
        ordering.sort(graph, symbols_of(graph))


def test_musl_has_no_such_order(store: Store) -> None:
    """Its loader compares no SONAMEs, so that there is no lift to sort; nothing is written."""
    musl = Musl.create(store)
    app = musl.program(store.package("app"), "app", prints())
    assert "glibc's" in refused(store, app, "--order", "proven")
    assert "glibc's" in store.call("freeze", "--explain-order", app, status=1).err
