"""`python -m nix_harden` is the command `nix-harden`."""

from nix_harden.cli import main

if __name__ == "__main__":
    main()
