"""Render the stdenv setup hook from the table of settings."""

import shlex
from pathlib import Path
from typing import Any

from nix_harden.loading.search import ROOM
from nix_harden.saying.templates import fill
from nix_harden.settings import TABLE

TEMPLATES = Path(__file__).parents[1] / "hooks"
TEMPLATE = "nix-harden-needed.sh.j2"


def render(program: str) -> str:
    """The hook as bash text: it calls `program`, an absolute path, with the attributes of TABLE as environment.

    Raises ToolError where this installation lacks the template.
    """
    attributes = [setting for setting in TABLE if setting.attribute]
    reserve = next(setting.default for setting in TABLE if setting.name == "reserve")
    values = {"program": shlex.quote(program), "attributes": attributes, "room": ROOM, "reserve": reserve}
    how: dict[str, Any] = {
        "keep_trailing_newline": True,
        "comment_start_string": "<#",  # jinja2's own begins every ${#array[@]}
        "comment_end_string": "#>",
    }
    return fill(TEMPLATES / TEMPLATE, values, "hook", is_markup=False, **how)
