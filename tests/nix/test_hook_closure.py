"""What every hardened derivation has to wait for: a Python with pyelftools, patchelf and the program, and nothing that is for people."""

from nix.conftest import ROOT, Nix


def test_the_hook_brings_one_python_package(nix: Nix) -> None:
    (hook,) = nix(
        "nix-build",
        "--no-out-link",
        "--arg",
        "pkgs",
        f"import {ROOT}/nix/hostpkgs {{ }}",
        "-A",
        "nixHardenNeeded",
        str(ROOT),
    ).split()
    closure = nix("nix-store", "--query", "--requisites", hook)
    assert "-nix-harden-" in closure
    assert "-patchelf-" in closure
    assert "-pyelftools-" in closure
    assert not [name for name in ("jinja2", "rich", "pygments", "shtab") if name in closure]
