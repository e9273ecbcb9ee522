"""References: what a derivation does not let its outputs refer to is refused before a byte is written, with file and name."""

import json
from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, prints
from support.store import Package, Store
from support.trace import run


@pytest.fixture
def it(store: Store) -> Package:
    """A library that needs nothing but its own output, where its SONAME is absolute."""
    it = store.package("it")
    it.library("liba.so.1", function("a", 1), flags=["-nostdlib"])
    return it


def attributes(tmp_path: Path, **values: object) -> dict[str, str]:
    """The environment of a derivation with structured attributes."""
    file = tmp_path / ".attrs.json"
    file.write_text(json.dumps(values))
    return {"NIX_ATTRS_JSON_FILE": str(file)}


def test_a_library_may_not_refer_to_itself_where_nothing_is_allowed(store: Store, it: Package) -> None:
    liba = it.lib / "liba.so.1"
    before = liba.read_bytes()
    answer = store.harden(it, environ={"allowedReferences": ""}, status=1)
    assert (
        f"{liba}: SONAME would be {liba}, a reference of it to itself, which allowedReferences does not allow; "
        'add "it" to it, or set hardenNeededMode = "needed"' in answer.err
    )
    assert liba.read_bytes() == before


def test_mode_needed_adds_no_reference_to_itself(store: Store, it: Package) -> None:
    store.harden(it, environ={"allowedReferences": ""}, options=["--mode", "needed"])
    assert names(it.lib / "liba.so.1").soname == "liba.so.1"


@pytest.mark.parametrize("written", ["name", "path"])
def test_what_is_allowed_is_bound(store: Store, it: Package, written: str) -> None:
    allowed = "it" if written == "name" else str(it.path)
    store.harden(it, environ={"allowedReferences": allowed})
    assert names(it.lib / "liba.so.1").soname == str(it.lib / "liba.so.1")


@pytest.mark.parametrize(
    ("attribute", "value", "refused"),
    [
        ("allowedReferences", "", True),
        ("allowedRequisites", "", False),
        ("disallowedReferences", "it", True),
        ("disallowedReferences", "", False),
        ("disallowedRequisites", "it", False),
    ],
)
def test_an_outputs_own_path_is_a_reference_and_no_requisite(
    store: Store, it: Package, attribute: str, value: str, refused: bool
) -> None:
    """As Nix counts them where attributes are variables."""
    answer = store.harden(it, environ={attribute: value}, status=1 if refused else 0)
    assert ("a reference of it to itself" in answer.err) == refused


@pytest.mark.parametrize("attribute", ["allowedReferences", "allowedRequisites"])
def test_structured_attributes_say_it_in_output_checks(
    store: Store, it: Package, tmp_path: Path, attribute: str
) -> None:
    """The variable of that name then says nothing, and a requisite may be the output itself."""
    environ = attributes(tmp_path, outputChecks={"it": {attribute: []}, "dev": {}})
    answer = store.harden(it, environ={"allowedReferences": "it", **environ}, status=1)
    assert f"which outputChecks.it.{attribute} does not allow" in answer.err
    store.harden(it, environ={"allowedReferences": "", **attributes(tmp_path, outputChecks={})})


def test_references_that_nix_does_not_look_for_are_not_refused(store: Store, it: Package, tmp_path: Path) -> None:
    checks = {"it": {"allowedReferences": list[str]()}}
    store.harden(it, environ=attributes(tmp_path, outputChecks=checks, unsafeDiscardReferences={"it": True}))
    assert names(it.lib / "liba.so.1").soname == str(it.lib / "liba.so.1")


def test_a_forbidden_input_is_named_with_the_name_that_would_bring_it(store: Store) -> None:
    liba = store.package("liba").library("liba.so.1", function("a", 1))
    it = store.package("it")
    program = it.program("app", prints("a"), needs=[liba])
    environ = {"disallowedReferences": str(store.package("liba").path)}
    answer = store.harden(it, environ=environ, status=1)
    assert (
        f"{program}: NEEDED liba.so.1 would be {liba}, a reference of it to {store.package('liba').path}, "
        "which disallowedReferences forbids; leave the name bare with hardenNeededExclude" in answer.err
    )
    store.harden(it, environ=environ, options=["--exclude", "liba.so.1"])
    assert run(program).said == (0, "1\n", "")


def test_attributes_are_found_in_the_build_directory_too(store: Store, it: Package, tmp_path: Path) -> None:
    """Nix 2.8 names the file as it is seen from outside of its sandbox. In neither place, Nix alone keeps the limits."""
    attributes(tmp_path, outputChecks={"it": {"allowedReferences": []}})
    environ = {"NIX_ATTRS_JSON_FILE": "/outside/.attrs.json", "NIX_BUILD_TOP": str(tmp_path)}
    assert "of it to itself" in store.harden(it, environ=environ, status=1).err
    store.harden(it, environ={**environ, "NIX_BUILD_TOP": "/elsewhere"})


def test_attributes_that_cannot_be_read_are_named(store: Store, it: Package, tmp_path: Path) -> None:
    file = tmp_path / "attributes.json"
    file.write_text("{")
    answer = store.harden(it, environ={"NIX_ATTRS_JSON_FILE": str(file)}, status=2)
    assert f"NIX_ATTRS_JSON_FILE: {file} cannot be read" in answer.err
