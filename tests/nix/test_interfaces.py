"""Whole package sets: what bad uses say, what the documentation says, and what the flake offers. nix/checks builds them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nix_harden.settings import MODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "interfaces.md").read_text()
BLOCKS = re.findall(r"^```nix\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LIB = """
let
  pkgs = import <nixpkgs> { };
  harden = (import ./default.nix { inherit pkgs; }).lib;
  built = overlay: ((pkgs.extend overlay).stdenv.mkDerivation { name = "x"; }).outPath;
in
"""

Nix = Callable[..., str]


@pytest.fixture(scope="module")
def nixpkgs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A set in nixpkgs' place: hostpkgs, with a package of a stdenv's and one that nobody may evaluate."""
    top = tmp_path_factory.mktemp("nixpkgs")
    (top / "default.nix").write_text(
        "{ overlays ? [ ], ... }@args: import %s (args // { overlays = [ (final: prev: {"
        ' openssl = final.stdenv.mkDerivation { pname = "openssl"; version = "1"; };'
        ' unfree = throw "unfree: refuses to be evaluated";'
        " }) ] ++ overlays; })" % (ROOT / "nix" / "hostpkgs")
    )
    return str(top)


def evaluate(nix: Nix, nixpkgs: str, expression: str, *, fails: bool = False) -> str:
    return nix(
        *("nix-instantiate", "--eval", "--strict", "--json", "-I", f"nixpkgs={nixpkgs}", "-E", expression), fails=fails
    )


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        ('built (harden.hardenEverything { mode = "sonames"; })', "mode: 'sonames' is no mode; use soname or needed"),
        ('harden.withOptions { mode = "sonames"; }', "mode: 'sonames' is no mode; use soname or needed"),
        ('built (harden.hardenEverything { except = [ "zlip" ]; })', "except: this package set has no 'zlip'"),
        ('built (harden.hardenEverything { except = [ "callPackage" ]; })', "except: 'callPackage' is no package"),
        (
            "built (harden.hardenEverything { except = [ 3 ]; })",
            "except: int is neither the name of a package nor a pre",
        ),
        ('built (harden.freezePackages [ "zlip" ])', "freezePackages: this package set has no 'zlip'"),
        ('built (harden.prelinkPackages [ "zlip" ])', "prelinkPackages: this package set has no 'zlip'"),
        ('built (harden.hardenPackages [ "zlip" ])', "hardenPackages: this package set has no 'zlip'"),
        (
            '(pkgs.extend (harden.hardenPackages [ "callPackage" ])).callPackage',
            "hardenPackages: 'callPackage' is no package",
        ),
        (
            '(harden.hardenPackage (pkgs.stdenv.mkDerivation { name = "glibc-1"; })).outPath',
            "glibc is not hardened (C library): it brings the loader",
        ),
        (
            '(harden.hardenPackage (pkgs.stdenv.mkDerivation { name = "x-1"; outputHash = "00"; })).outPath',
            "x is not hardened (fixed output): its hash is known beforehand",
        ),
        (
            '((harden.withOptions { except = [ "zlip" ]; }).hardenStdenv pkgs).mkDerivation { name = "x"; }',
            "except: this package set has no 'zlip'",
        ),
        (
            'pkgs.extend ((harden.withOptions { except = [ "zlip" ]; }).hardenPackages [ "openssl" ])',
            "except: this package set has no 'zlip'",
        ),
        (
            "pkgs.extend (final: prev: let stdenv = prev.stdenv.override { overrides = _: _: { inherit (prev) openssl; }; };"
            ' in harden.hardenPackages [ "openssl" ] final (prev // { inherit stdenv; }))',
            "hardenPackages: 'openssl' comes with the stdenv",
        ),
        ("harden.hardenEverything { excpt = [ ]; }", "called with unexpected argument 'excpt'"),
    ],
)
def test_a_bad_use_fails_at_evaluation_with_a_sentence_that_names_it(
    nix: Nix, nixpkgs: str, use: str, sentence: str
) -> None:
    """The error is one line of ours, before anything is built; only an unknown option is Nix's own."""
    whole = f"{LIB} let result = {use}; in if pkgs.lib.isDerivation (result.openssl or result) then (result.openssl or result).outPath else result"
    errors = evaluate(nix, nixpkgs, whole, fails=True)
    first = next(line for line in errors.splitlines() if line.startswith("error:"))
    assert sentence in first
    assert first.startswith("error: nix-harden-needed: ") or "excpt" in use


def test_a_package_that_refuses_evaluation_may_be_excepted(nix: Nix, nixpkgs: str) -> None:
    """A name in `except` is known by its attribute even where nothing else of the package can be asked."""
    expression = f'{LIB} built (harden.hardenEverything {{ except = [ "unfree" ]; }})'
    assert json.loads(evaluate(nix, nixpkgs, expression)).startswith("/nix/store/")


# `final` is no set at all: the stdenv of a set must not depend on it, as nixpkgs asks a stdenv what the set is made of.
@pytest.mark.parametrize(
    "stdenv", ["harden.hardenStdenv apple", '(harden.hardenEverything { } (throw "final") apple).stdenv']
)
def test_a_platform_without_elf_passes_through_with_one_warning(nix: Nix, nixpkgs: str, stdenv: str) -> None:
    """The stdenv of such a platform builds what it built before, and one line says so."""
    expression = f"""{LIB}
      let
        apple = pkgs // {{
          stdenv = pkgs.stdenv // {{ hostPlatform = {{ isElf = false; config = "aarch64-apple-darwin"; }}; }};
        }};
        stdenv = {stdenv};
        same = name: (stdenv.mkDerivation {{ inherit name; }}).drvPath == (pkgs.stdenv.mkDerivation {{ inherit name; }}).drvPath;
      in
      if same "x" && same "y" then throw "the same" else throw "not the same"
    """
    log = evaluate(nix, nixpkgs, expression, fails=True)
    assert log.count("nix-harden-needed: aarch64-apple-darwin has no ELF files; nothing is hardened for it") == 1
    assert "error: the same" in log


def test_modes_are_those_of_the_program(nix: Nix, nixpkgs: str) -> None:
    """nix/harden.nix knows the modes that nix_harden.settings knows."""
    assert json.loads(evaluate(nix, nixpkgs, f"{LIB} harden.modes")) == list(MODES)


def test_exceptions_are_documented_word_for_word(nix: Nix, nixpkgs: str) -> None:
    """docs/interfaces.md lists each exception of nix/exceptions.nix with its reason, in the order of the table."""
    rows = json.loads(evaluate(nix, nixpkgs, f"{LIB} map (rule: [ rule.name rule.reason ]) harden.exceptions"))
    table = PAGE.partition("| what | why |\n|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [f"| {name} | {reason} |" for name, reason in rows]


@pytest.mark.parametrize(
    ("block", "asked", "answer"),
    [
        (0, "(%s).openssl.hardenNeeded", {"mode": "needed"}),
        (1, "(%s).openssl.hardenNeeded", {"mode": "soname"}),
        (2, "(%s).openssl.hardenNeeded", {"mode": "needed"}),
        (3, "(%s).openssl.hardenNeeded", {"mode": "soname"}),
        (4, "(%s).hardenNeeded", {"mode": "soname"}),
        (5, "(import <nixpkgs> { overlays = [ (%s) ]; }).openssl.hardenNeeded", {"mode": "needed"}),
        (6, "(let flake = %s; in flake.inputs) != { }", True),
        (7, "(%s).openssl.unfrozen.name", "openssl-1"),
        (8, "(%s).unfrozen.name", "openssl-1"),
        (9, "(%s).openssl.unprelinked.name", "openssl-1"),
        (10, "(%s).unprelinked.name", "openssl-1"),
    ],
)
def test_documented_expressions_do_what_they_say(
    nix: Nix, nixpkgs: str, block: int, asked: str, answer: dict[str, str] | str | bool
) -> None:
    """Each block of docs/interfaces.md evaluates as it stands there, and hardens openssl in the mode that it names, freezes it or prelinks it."""
    assert len(BLOCKS) == 11
    assert json.loads(evaluate(nix, nixpkgs, asked % BLOCKS[block])) == answer


def test_the_readmes_expressions_are_tried(nix: Nix, nixpkgs: str) -> None:
    """What the README writes for a set and a part stands in docs/interfaces.md, too, and its module evaluates."""
    blocks = re.findall(r"^```nix\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    sets = [block for block in blocks if "import <nixpkgs>" in block]
    assert len(sets) == 2
    assert set(sets) <= set(BLOCKS)
    [module] = [block for block in blocks if "hardenNeeded.enable" in block]
    asked = f"let module = {module}; in [ module.hardenNeeded (map builtins.isFunction module.imports) ]"
    assert json.loads(evaluate(nix, nixpkgs, asked)) == [{"enable": True, "except": ["ffmpeg"]}, [True]]


def test_a_replaced_stdenv_is_the_one_of_the_set(nix: Nix, nixpkgs: str) -> None:
    """config.replaceStdenv hardens packages and brings the set without hardening, whose hook it takes."""
    expression = (
        f"{LIB} let set = {BLOCKS[2]}; in [ (set.openssl.drvPath != pkgs.openssl.drvPath) (set.unhardened.openssl.drvPath == pkgs.openssl.drvPath)"
        '(set.nixHardenNeeded.drvPath == ((import ./default.nix { inherit pkgs; }).nixHardenNeeded.override { mode = "needed"; }).drvPath) ]'
    )
    assert json.loads(evaluate(nix, nixpkgs, expression)) == [True, True, True]


def test_a_switched_off_set_is_the_plain_one(nix: Nix, nixpkgs: str) -> None:
    """`dontHardenNeeded = true` in a hardened set gives the derivations of the set that nobody hardened, and says why."""
    expression = (
        f"{LIB} let off = (pkgs.extend (harden.hardenEverything {{ }})).extend (_: _: {{ dontHardenNeeded = true; }}); in"
        " [ (off.openssl.drvPath == pkgs.openssl.drvPath) off.openssl.hardenNeeded.reason ]"
    )
    assert json.loads(evaluate(nix, nixpkgs, expression)) == [True, "off: the package set sets dontHardenNeeded"]


def test_every_flake_output_evaluates(nix: Nix, clean_checkout: Path) -> None:
    """`nix flake check --no-build` is content with packages, checks, overlays, modules, apps and shells, purely."""
    nix(
        *("nix", "flake", "check", "--no-build", f"path:{clean_checkout}", "--no-write-lock-file"),
        *("--override-input", "nixpkgs", f"path:{clean_checkout}/nix/hostpkgs"),
    )


def test_the_flake_hardens_as_default_nix_does(nix: Nix, clean_checkout: Path) -> None:
    """overlays.everything, lib and nixosModules of the flake are there, and a package gets the same hook from both."""
    expression = f"""
      let
        self = (import {clean_checkout}/flake.nix).outputs {{
          inherit self;
          nixpkgs = (import {clean_checkout}/nix/hostpkgs/flake.nix).outputs {{ self = null; }};
        }};
        pkgs = import {clean_checkout}/nix/hostpkgs {{ }};
        everything = pkgs.extend self.overlays.everything;
        package = set: set.stdenv.mkDerivation {{ name = "x"; }};
      in
      [
        (((self.lib.withOptions {{ mode = "needed"; }}).hardenPackage (package pkgs)).drvPath == (package everything).drvPath)
        (everything.nixHardenNeeded.drvPath == (self.packages.x86_64-linux.nixHardenNeeded.override {{ mode = "needed"; }}).drvPath)
        (builtins.isFunction self.nixosModules.default)
      ]
    """
    answers = nix("nix-instantiate", "--eval", "--strict", "--json", "-E", expression)
    assert json.loads(answers) == [True, True, True]
