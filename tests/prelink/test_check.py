"""prelink --check: whether the table still fits, and if not, which object differs."""

import json
import subprocess
from pathlib import Path

import pytest
from prelink.helpers import prelink
from support.schema import check
from support.source import function, prints
from support.store import Store


@pytest.fixture
def program(store: Store) -> Path:
    b = store.package("b").library("libb.so.1", function("b", 2))
    a = store.package("a").library("liba.so.1", function("a", 1, ["b"]), needs=[b])
    return prelink(store, store.package("app").program("app", prints("a"), needs=[a]))


def differences(store: Store, program: Path) -> list[str]:
    """What is said of a program whose module is out of its way."""
    done = store.call("prelink", "--check", program, "--json", status=1)
    seen = check("prelink", done.out)
    assert seen["at_work"] is False
    assert seen["fits"] is False
    found: list[str] = json.loads(done.out)["differences"]
    return found


def test_a_program_whose_table_fits(store: Store, program: Path) -> None:
    assert "fits, and is at work" in store.call("prelink", "--check", program).out


def test_another_build_of_a_library(store: Store, program: Path) -> None:
    a = store.package("a").lib / "liba.so.1"
    b = store.package("b").lib / "libb.so.1"
    a.unlink()
    store.package("a").library("liba.so.1", function("more", 3) + function("a", 1, ["b"]), needs=[b])
    assert differences(store, program) == [f"{a} is not the file that the table was made for"]


def test_one_library_more(store: Store, program: Path) -> None:
    b = store.package("b").lib / "libb.so.1"
    c = store.package("c").library("libc1.so.1", function("c", 3))
    b.unlink()
    store.package("b").library("libb.so.1", function("b", 2, ["c"]), needs=[c])
    assert f"{c} is loaded, and the table does not know it" in differences(store, program)


def test_one_library_less(store: Store, program: Path) -> None:
    a, b = (store.package(name).lib / f"lib{name}.so.1" for name in "ab")
    a.unlink()
    store.package("a").library("liba.so.1", function("a", 1))
    assert f"{b} is not loaded any longer" in differences(store, program)


def test_a_changed_program(store: Store, program: Path) -> None:
    subprocess.run(["strip", program], check=True)
    assert differences(store, program) == [f"{program} was changed since the table was made"]


def test_a_damaged_table(store: Store, program: Path) -> None:
    module = Path(f"{program}.prelink.so")
    data = bytearray(module.read_bytes())
    data[-20] ^= 1
    module.write_bytes(data)
    said = store.call("prelink", "--check", program, status=1).err
    assert f"its module {module} has no whole table of this version" in said


def test_no_module(store: Store, program: Path) -> None:
    Path(f"{program}.prelink.so").unlink()
    assert "cannot be read: No such file or directory" in store.call("prelink", "--check", program, status=1).err


def test_a_program_that_is_not_prelinked(store: Store, program: Path) -> None:
    assert "it names no module" in store.call("prelink", "--check", store.package("app").bin / "app", status=1).err
