"""Bind a finished program's whole object closure."""
