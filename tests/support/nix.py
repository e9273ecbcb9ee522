"""How every test and the demo call Nix: as root without build users, offline, whatever /etc/nix says."""

import os

CONFIG = """
experimental-features = nix-command flakes
build-users-group =
substituters =
sandbox = false
cores = 2
"""


def environment() -> dict[str, str]:
    """The environment for a Nix command."""
    return {**os.environ, "NIX_CONFIG": CONFIG}
