"""A report's values as one HTML page that needs no network; nothing in a path can become markup or run."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nix_harden.reporting.page import contents, heading, verdict
from nix_harden.reporting.values import Drawing
from nix_harden.saying.templates import fill, missing
from nix_harden.saying.words import human, printable

PAGES = Path(__file__).with_name("pages")
STYLE, TABLES = "report.css", "tables.js"


def render(page: Mapping[str, Any], drawing: Drawing | None, no_graph: str) -> str:
    """A report as HTML. `drawing` is None where `no_graph` says why there is none.

    Raises ToolError where this installation lacks a part.
    """
    values = {
        "page": page,
        "heading": heading(page),
        "verdict": verdict(page),
        "contents": contents(page),
        "drawing": drawing,
        "no_graph": no_graph,
    }
    return page_of("report", values)


def page_of(command: str, values: Mapping[str, Any]) -> str:
    """A page of the template and the script of that command, and the values `heading`, `verdict`, `page` and what the template asks for.

    Raises ToolError where this installation lacks a part.
    """
    try:
        style, *scripts = ((PAGES / each).read_text(encoding="utf-8") for each in (STYLE, TABLES, f"{command}.js"))
    except OSError as error:
        raise missing(Path(error.filename), command) from error
    script = "\n".join(['"use strict";', "(() => {", *scripts, "})();", ""])
    more = {
        "command": command,
        "title": f"{values['heading']} · nix-harden {command}",
        "policy": policy(style, script),
        "style": style,
        "script": script,
    }
    filters: dict[str, Callable[..., object]] = {"bytes": human, "thousands": thousands, "printable": printable}
    return fill(PAGES / f"{command}.html.j2", {**values, **more}, command, filters=filters)


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
