"""The programs of outputs, prelinked where they lie once their names are bound: which, where their modules go, and what is said of the others."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from prelink.helpers import assert_same, lookups, run
from support import schema
from support.source import function, prints
from support.store import Hardened, Package, Store

ALL = ["--prelink", "--prelink-from", "0"]


def build(store: Store, *, name: str = "app", file: str = "app") -> Path:
    """A program of a package, and a library of another that calls one of a third: names that the program does not say."""
    last = store.package("b").library("libb.so.1", function("b", 3))
    a = store.package("a").library("liba.so.1", function("a", 1, ["b"]), needs=[last])
    return store.package(name).program(file, prints("a"), needs=[a])


def module_of(program: Path, package: Package) -> Path:
    return package.path / "nix-support/prelink" / f"{program.relative_to(package.path)}.so"


def harden(store: Store, *options: str, environ: Mapping[str, str] | None = None, status: int = 0) -> Hardened:
    return store.harden(store.package("app"), options=options, environ=environ, status=status)


def test_a_program_is_prelinked_once_it_is_bound(store: Store, tmp_path: Path) -> None:
    """It names its module, which is at work, and the log says both figures."""
    program = build(store)
    before = Path(shutil.copy(program, tmp_path / "before"))
    said = harden(store, *ALL).err
    assert_same(program, before)
    assert module_of(program, store.package("app")).is_file()
    assert f"{program}: " in said
    assert "proved: " in said
    assert "nix-harden-needed: app: 1 program prelinked\n" in said
    needed = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    assert f"[{store.package('a').lib}/liba.so.1]" in needed
    assert f"Audit library: [{module_of(program, store.package('app'))}]" in needed


def test_without_being_asked_it_is_not(store: Store) -> None:
    build(store)
    assert "prelinked" not in harden(store).err
    assert not (store.package("app").path / "nix-support").exists()


def test_one_that_gains_too_little_is_left_and_the_rule_said(store: Store) -> None:
    """From as many lookups on as it does, it is prelinked: the number is ld.so's own, but for the few that it does for itself."""
    program = build(store)
    data = program.read_bytes()
    said = harden(store, "--prelink").err
    start = "nix-harden-needed: app: 0 programs prelinked, 1 left as it is: bin/app (too little to gain: "
    assert start in said
    number = int(said.partition(start)[2].split()[0])
    assert f"{number} lookups); hardenNeededPrelinkFrom is 500\n" in said
    assert number <= lookups(program, environ={"LD_BIND_NOW": "1"}) <= number + 8
    assert not (store.package("app").path / "nix-support").exists()
    program.write_bytes(data)
    assert "0 programs prelinked" in harden(store, "--prelink", "--prelink-from", str(number + 1)).err
    assert "1 program prelinked" in harden(store, "--prelink", "--prelink-from", str(number)).err


def test_wrapped_programs_and_those_in_any_directory_are_programs(store: Store, tmp_path: Path) -> None:
    """Modules of programs of one name, in different directories, lie apart; a wrapper starts what was prelinked."""
    app = store.package("app")
    program = build(store, file=".app-wrapped")
    other = app.program("app", prints("a"), needs=[store.package("a").lib / "liba.so.1"], directory="libexec/deep")
    before = Path(shutil.copy(program, tmp_path / "before"))
    wrapper = app.bin / "app"
    wrapper.write_text(f'#!/bin/bash -e\nexport A=1\nexec -a "$0" "{program}"  "$@"\n')
    wrapper.chmod(0o755)
    assert "app: 2 programs prelinked\n" in harden(store, *ALL).err
    for each in (program, other):
        assert module_of(each, app).is_file()
        assert_same(each, before)
    assert run(wrapper).out == run(before).out
    assert sorted(os.listdir(app.bin)) == [".app-wrapped", "app"]


def test_hard_links_stay_one_file(store: Store) -> None:
    program = build(store)
    (program.parent / "other").hardlink_to(program)
    assert "1 program prelinked" in harden(store, *ALL).err
    assert os.path.samefile(program, program.parent / "other")
    assert sorted(os.listdir(program.parent)) == ["app", "other"]
    assert run(program.parent / "other").out == run(program).out


def test_what_has_no_use_for_a_module_is_left_with_a_line(store: Store) -> None:
    """Static programs, those that are excluded, those that name one; a script names nothing, and is no program to a loader."""
    app = store.package("app")
    build(store)
    for flag in ("-static", "-static-pie"):
        app.program(flag[1:], "int main(void) { return 0; }", flags=[flag])
    build(store, file="named")
    build(store, file="mine")
    build(store, file="two:names")
    (app.bin / "script").write_text("#!/bin/sh\n")
    store.call("prelink", "--in-place", app.bin / "named", "--table", app.path / "elsewhere.so")
    said = harden(store, *ALL, "--exclude", "bin/mine").err
    left = f"bin/mine (excluded: bin/mine), bin/named (audited: {app.path}/elsewhere.so), bin/static (static), bin/static-pie (static), bin/two:names (colon)\n"
    assert f"app: 1 program prelinked, 5 left as they are: {left}" in said


def test_what_cannot_be_prelinked_is_as_it_was_and_strict_refuses_it(store: Store) -> None:
    """A program whose loader does not start it: here, one that is bound later to what nothing defines."""
    a = store.package("a").library("liba.so.1", function("a", 1) + "int gone(void) { return 1; }")
    source = "int gone(void); int main(int count, char **words) { return count > 9 ? gone() : 0; }"
    program = store.package("app").program("app", source, needs=[a])
    a.unlink()
    store.package("a").library("liba.so.1", function("a", 1))
    for options in ([], ["--strict"]):
        said = harden(store, *ALL, *options, status=len(options)).err
        assert (
            f"nix-harden-needed: warning: {program}: not prelinked, nothing was written: its loader does not start it"
            in said
        )
        assert "undefined symbol: gone" in said
        assert "/.nix-harden-" not in said
        assert "app: 0 programs prelinked, 1 left as it is: bin/app (cannot be prelinked)\n" in said
    assert "nix-harden: error: 1 finding, and hardenNeededStrict is set\n" in said
    assert run(program).status == 0
    assert not (store.package("app").path / "nix-support").exists()


def test_what_is_not_in_the_store_is_named_in_no_module(store: Store, tmp_path: Path) -> None:
    outside = Store.package(store, "a").library("liba.so.1", function("a", 1))
    shutil.copy(outside, tmp_path)
    outside.unlink()
    needs = [tmp_path / "liba.so.1"]
    store.package("app").program("app", prints("a"), needs=needs)
    assert f"bin/app (outside the store: {tmp_path}/liba.so.1)" in harden(store, *ALL).err


def test_a_library_that_the_processor_chooses_is_not_chosen_by_the_builders(store: Store) -> None:
    """A glibc-hwcaps directory beside a library: what is built may not depend on the machine that builds."""
    build(store)
    (store.package("b").lib / "glibc-hwcaps").mkdir()
    said = harden(store, *ALL).err
    assert f"bin/app (processor variants: {store.package('b').lib}/libb.so.1)" in said


@pytest.mark.parametrize(("attribute", "allows"), [("allowedReferences", True), ("disallowedReferences", False)])
def test_a_reference_that_is_not_allowed_is_not_made(store: Store, attribute: str, *, allows: bool) -> None:
    """The module names libraries that only other libraries refer to, as references of the output that Nix would refuse."""
    build(store)
    listed = [store.package("a").path, store.glibc, "app"] if allows else [store.package("b").path]
    said = harden(store, *ALL, environ={attribute: " ".join(map(str, listed))}).err
    assert f"bin/app (refused reference: {store.package('b').path}, by {attribute})" in said
    environ = {attribute.replace("References", "Requisites"): " ".join(map(str, listed))}
    assert "1 program prelinked" in harden(store, *ALL, environ=environ).err


def test_an_output_that_is_a_program_has_no_place_for_a_module(store: Store) -> None:
    program = build(store)
    alone = store.path / f"{'0' * 32}-alone"
    shutil.copy(program, alone)
    assert f"{alone.name}: 0 programs prelinked, 1 left as it is: . (alone)" in store.call(
        "prelink-outputs", "--prelink-from", "0", alone
    ).err  # fmt: skip


def test_a_finished_package_is_prelinked_without_being_bound(store: Store, tmp_path: Path) -> None:
    """Its names stay as they are; a second run changes nothing, and a dry run says what would be done."""
    program = build(store)
    app = store.package("app").path
    before = Path(shutil.copy(program, tmp_path / "before"))
    planned = store.call("prelink-outputs", "--prelink-from", "0", "--dry-run", app).err
    assert "bin/app (dry run: " in planned
    assert program.read_bytes() == before.read_bytes()
    said = store.call("prelink-outputs", "--prelink-from", "0", "--json", app)
    assert_same(program, before)
    (told,) = schema.check("modules", said.out)["programs"]
    assert (told["path"], told["left"], told["module"]) == (
        str(program),
        None,
        str(module_of(program, store.package("app"))),
    )
    once = program.read_bytes()
    again = store.call("prelink-outputs", "--prelink-from", "0", "--json", app)
    assert program.read_bytes() == once
    (told,) = schema.check("modules", again.out)["programs"]
    assert told["left"] == "audited"


def test_outputs_without_programs_say_so(store: Store) -> None:
    build(store)
    assert "no programs to prelink in " in store.call("prelink-outputs", store.package("a").path).err


def test_every_package_of_a_store_is_prelinked(store: Store, tmp_path: Path) -> None:
    """fixup-store does it once a package is bound."""
    program = build(store)
    before = Path(shutil.copy(program, tmp_path / "before"))
    said = store.call("fixup-store", *ALL, store.path, environ={"NIX_STORE": "/nix/store"}).err
    assert "-app: 1 program prelinked\n" in said
    assert_same(program, before)


def test_two_runs_give_the_same_bytes(store: Store, tmp_path: Path) -> None:
    program = build(store)
    module, made = module_of(program, store.package("app")), []
    shutil.copytree(store.package("app").path, tmp_path / "copy")
    for _ in range(2):
        shutil.rmtree(program.parents[1])
        shutil.copytree(tmp_path / "copy", program.parents[1])
        harden(store, *ALL)
        made.append((program.read_bytes(), module.read_bytes()))
    assert made[0] == made[1]
