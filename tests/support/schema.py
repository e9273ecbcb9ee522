"""Check JSON that a command prints against its schema in nix_harden/schemas, which documents it."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[2] / "nix_harden" / "schemas"


def _registry() -> Registry[Any]:
    """All schemas by the names under which one refers to another."""
    read = ((path.name, json.loads(path.read_text())) for path in SCHEMAS.iterdir())
    return Registry().with_resources((name, Resource.from_contents(contents)) for name, contents in read)


def check(name: str, text: str) -> Any:
    """The value of a JSON document that nix_harden/schemas/NAME.json allows; the schema itself is checked too."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    value = json.loads(text)
    Draft202012Validator(schema, registry=_registry()).validate(value)
    return value
