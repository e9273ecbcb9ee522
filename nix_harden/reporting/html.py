"""A report's values as one HTML page that needs no network; nothing in a path can become markup or run."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from nix_harden.errors import ToolError
from nix_harden.reporting.page import Drawing, contents, heading, verdict
from nix_harden.words import human, printable

PAGES = Path(__file__).with_name("pages")
TEMPLATE, STYLE, SCRIPT = "report.html.j2", "report.css", "report.js"


def render(page: Mapping[str, Any], drawing: Drawing | None, no_graph: str) -> str:
    """The page as HTML. `drawing` is None where `no_graph` says why there is none.

    Raises ToolError where this installation lacks a part.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bytes": human, "thousands": thousands, "printable": printable}
    # ASCII alone, so that no name is left that UTF-8 cannot hold
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "separators": (",", ":")}
    try:
        style, script = ((PAGES / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
        template = environment.get_template(TEMPLATE)
    except (OSError, jinja2.TemplateNotFound) as error:
        raise ToolError("nix-harden report", f"a part of {PAGES} is missing from this installation") from error
    return template.render(
        page=page,
        title=f"{heading(page)} · nix-harden report",
        heading=heading(page),
        verdict=verdict(page),
        contents=contents(page),
        policy=policy(style, script),
        style=style,
        script=script,
        drawing=drawing,
        no_graph=no_graph,
    )


def policy(style: str, script: str) -> str:
    """The content security policy: this style and this script, and nothing from anywhere (CSP level 2, "hash-source")."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def thousands(number: int) -> str:
    return f"{number:,}"
