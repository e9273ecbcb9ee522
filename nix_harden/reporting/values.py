"""What a report is made of, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from nix_harden.graphing.values import Picture
from nix_harden.loading.audit import Audit
from nix_harden.loading.graph import Graph
from nix_harden.loading.lookups import Lookups


@dataclass(frozen=True, slots=True)
class Observed:
    """How many files a loader looked for in vain while it was watched, or why it was not."""

    failed: int | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A row of a picture's legend: what a colour means, and how often it is there; `line` is the way of an edge, None for a file."""

    words: str
    number: int
    colour: str
    line: str | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture as an svg element, its number of edges, how many were left out as longer ways imply them, and its legend."""

    svg: str
    edges: int
    implied: int
    key: tuple[Key, ...]


@dataclass(frozen=True)
class Survey:
    """All that was asked of the disk and of the loaders for a report.

    `sizes` are bytes by the real path of each object; `lookups` and `observed` are told by root.
    """

    paths: tuple[str, ...]
    store: str
    audit: Audit
    graphs: tuple[Graph, ...]
    sizes: Mapping[str, int]
    lookups: Mapping[str, Lookups]
    observed: Mapping[str, Observed]
    picture: Picture
