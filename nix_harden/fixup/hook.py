"""Render the stdenv setup hook from the table of settings; by jinja2."""

import shlex
from pathlib import Path

import jinja2

from nix_harden.errors import ToolError
from nix_harden.search import ROOM
from nix_harden.settings import TABLE

TEMPLATES = Path(__file__).parents[1] / "hooks"
TEMPLATE = "nix-harden-needed.sh.j2"


def render(program: str) -> str:
    """The hook as bash text: it calls `program`, an absolute path, with the attributes of TABLE as environment.

    Raises ToolError where this installation lacks the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="<#",  # jinja2's own begins every ${#array[@]}
        comment_end_string="#>",
        autoescape=False,
    )
    try:
        template = environment.get_template(TEMPLATE)
    except jinja2.TemplateNotFound as error:
        raise ToolError("nix-harden hook", f"{TEMPLATES / TEMPLATE} is missing from this installation") from error
    attributes = [setting for setting in TABLE if setting.attribute]
    reserve = next(setting.default for setting in TABLE if setting.name == "reserve")
    return template.render(program=shlex.quote(program), attributes=attributes, room=ROOM, reserve=reserve)
