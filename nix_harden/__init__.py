"""Bind the shared libraries of a Nix derivation by absolute store path."""

__version__ = "0.2.0"
