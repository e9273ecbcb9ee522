"""How every test and the demo call Nix: as root without build users, offline, whatever /etc/nix says."""

import os

import pytest

CONFIG = """
experimental-features = nix-command flakes
build-users-group =
substituters =
sandbox = false
cores = 2
"""


# Nix builds in a store elsewhere, and programs see one there, by another root directory; CI is root.
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only the super-user may change the root directory")


def environment() -> dict[str, str]:
    """The environment for a Nix command."""
    return {**os.environ, "NIX_CONFIG": CONFIG}
