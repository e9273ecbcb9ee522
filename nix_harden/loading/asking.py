"""What real loaders say that they would map; they are run, and nothing of what they load is."""

import re

from nix_harden.loading.disk import SECONDS
from nix_harden.loading.graph import Family, Graph
from nix_harden.process import Answer, ask

LISTED = re.compile(r"\t(?:(.*?) => )?(.*?) \(0x[0-9a-f]+\)")
NOT_FOUND = re.compile(r"\t(.*) => not found")
KERNELS_OWN = ("linux-vdso.so.1", "linux-vdso32.so.1", "linux-vdso64.so.1", "linux-gate.so.1")


def ask_loader(graph: Graph) -> Answer:
    """What the real loader of a graph says that it would map. Raises ToolError."""
    loader = graph.loader
    if loader.family is Family.MUSL:
        return ask([loader.path, "--list", graph.root], {}, SECONDS)
    return ask([loader.path, graph.root], {"LD_TRACE_LOADED_OBJECTS": "1"}, SECONDS)


def parse_listing(out: str) -> tuple[tuple[str, str | None], ...]:
    """The (name, path) pairs of a loader's list, a path of None where it says not found; the kernel's own library is left out."""
    rows: list[tuple[str, str | None]] = []
    for line in out.splitlines():
        if match := NOT_FOUND.fullmatch(line):
            rows.append((match[1], None))
        elif (match := LISTED.fullmatch(line)) and match[2] not in KERNELS_OWN:
            rows.append((match[1] or match[2], match[2]))
    return tuple(rows)
