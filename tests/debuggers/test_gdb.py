"""gdb: threads are listed, and breakpoints in a hardened library are hit, by function, by line and by separate debug files."""

import re
import subprocess
from pathlib import Path

import pytest
from debuggers.threads import build, gdb
from support.dynamic import names
from support.store import Store


@pytest.mark.parametrize("where", ["deep", "work.c:2"])
def test_a_breakpoint_in_a_hardened_library(store: Store, where: str) -> None:
    it = store.package("it")
    work, app = build(it)
    commands = [
        *("break main", "run", "delete", f"break {where}", "continue", "info threads", "bt", "print value"),
        *("info sharedlibrary", "finish", "continue"),
    ]
    before = gdb(app, commands)
    text = "\n".join(before)
    assert text.count(" Thread …") >= 4, text
    assert "Thread debugging using libthread_db enabled" in text
    assert "work.c:2" in text
    assert f" {work}" in text
    store.harden(it)
    assert names(work).soname == str(work)
    assert names(app).needed[0] == str(work)
    after = gdb(app, commands)
    assert sorted(after) == sorted(before)


def test_a_pending_breakpoint_of_a_library_not_loaded_yet(store: Store) -> None:
    it = store.package("it")
    _, app = build(it)
    commands = ["set breakpoint pending on", "break deep", "run", "bt", "continue"]
    before = gdb(app, commands)
    assert any("deep (value=20) at " in line and "work.c:2" in line for line in before), before
    store.harden(it)
    assert sorted(gdb(app, commands)) == sorted(before)


def test_separate_debug_information_by_build_id(store: Store) -> None:
    """As nixpkgs' separateDebugInfo leaves it: the hook touches no debug file, and the build id stays the library's."""
    it, debug = store.package("it"), store.package("debug")
    work, app = build(it)
    files = [separate(path, debug.path) for path in (work, app)]
    contents = [path.read_bytes() for path in files]
    commands = ["break main", "run", "break work.c:2", "continue", "bt", "info source"]
    assert 'Function "main" not defined.' in gdb(app, commands)
    before = gdb(app, commands, debug.lib / "debug")
    assert any("deep (value=20) at " in line and "work.c:2" in line for line in before), before
    store.harden(it, debug)
    assert [path.read_bytes() for path in files] == contents
    assert names(work).soname == str(work)
    assert sorted(gdb(app, commands, debug.lib / "debug")) == sorted(before)


def separate(path: Path, debug: Path) -> Path:
    """Move the debug information of a file to where gdb looks for its build id."""
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    match = re.search(r"Build ID: (..)(\w+)", notes)
    assert match is not None
    file = debug / "lib/debug/.build-id" / match[1] / f"{match[2]}.debug"
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["objcopy", "--only-keep-debug", path, file], check=True)
    subprocess.run(["strip", "--strip-all", path], check=True)
    return file
