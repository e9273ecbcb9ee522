"""Bind the shared libraries of a Nix derivation by absolute store path."""

__version__ = "0.1.0"
