"""Templates of this package, filled in; the only importer of jinja2."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from nix_harden.errors import ToolError


def fill(
    template: Path,
    values: Mapping[str, Any],
    command: str,
    *,
    filters: Mapping[str, Callable[..., object]] | None = None,
    is_markup: bool = True,
    **how: Any,
) -> str:
    """A template with values in it, none of which can become markup; `how` is more for jinja2.Environment.

    Raises ToolError for the subcommand that this installation lacks the template of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        autoescape=is_markup,
        trim_blocks=True,
        lstrip_blocks=True,
        **how,
    )
    environment.filters |= dict(filters or {})
    # ASCII alone, so that no name is left that UTF-8 cannot hold
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "separators": (",", ":")}
    try:
        found = environment.get_template(template.name)
    except jinja2.TemplateNotFound as error:
        raise missing(template, command) from error
    return found.render(values)


def missing(file: Path, command: str) -> ToolError:
    """What is said of a file of this package that is not there."""
    return ToolError(f"nix-harden {command}", f"{file} is missing from this installation")
