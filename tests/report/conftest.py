"""What the tests of reports share: a small world with one of everything, and a browser."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser, browser
from support.schema import check
from support.source import function, prints
from support.store import Store, patchelf


@dataclass(frozen=True)
class World:
    """A store with a program and its page.

    `app` needs libf (bound), libg (bare, found by RUNPATH), libc and libgone, which is not there; libg needs another libf than the
    program has, of the same SONAME; `plain` needs nothing but libc, and has a
    directory in its search path that is not there.
    """

    store: Store
    app: Path
    plain: Path
    libraries: dict[str, Path]
    values: dict[str, Any]
    page: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, glibc_template: Path) -> World:
    top = tmp_path_factory.mktemp("world")
    store = Store.create(top / "store", glibc_template)
    first = store.package("f-1").library("libf.so.1", function("f", 1))
    second = store.package("f-2").library("libf.so.1", function("f", 2))
    bound = store.package("bound").library("libbound.so.1", function("bound", 1), soname=None)
    gone = store.package("gone").library("libgone.so.1", function("gone", 1))
    libg = store.package("g").library("libg.so.1", function("g", 1, ["f"]), needs=[second])
    package = store.package("app")
    app = package.program("app", prints("f", "g", "bound", "gone"), needs=[first, libg, bound, gone])
    plain = package.program("plain", prints(), rpath=[store.path / "nowhere", store.libc])
    gone.unlink()
    patchelf("--replace-needed", "libf.so.1", first, "--replace-needed", "libbound.so.1", bound, app)
    patchelf("--replace-needed", "libf.so.1", second, libg)
    page = top / "page.html"
    done = store.call("report", package.path, "-o", page, "--json")
    values = check("report", done.out)
    libraries = {"f": first, "other f": second, "bound": bound, "g": libg}
    return World(store, app, plain, libraries, values, page)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def held(page: Path) -> Any:
    """The values that a page holds."""
    text = page.read_text()
    begin = text.index('<script type="application/json" id="data">') + len('<script type="application/json" id="data">')
    return json.loads(text[begin : text.index("</script>", begin)])
