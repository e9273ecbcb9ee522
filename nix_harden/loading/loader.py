"""What happens at run time: a program or library with all that its loader maps for it; pure over a reader.

The environment is taken to be empty, and the current directory to be `/`. Nothing here knows how this project chooses what to bind: the
audit compares the two.
"""

from collections.abc import Sequence

from nix_harden.loading.glibc import Glibc
from nix_harden.loading.graph import Family, Found, Graph, Loader, Reader
from nix_harden.loading.musl import Musl
from nix_harden.model import Kind


def walk(root: str, loader: Loader, reader: Reader, opens: Sequence[tuple[int, str]] = ()) -> Graph | None:
    """The graph of the program or library at the real path `root` under `loader`; None where nothing can be loaded there.

    `opens` are calls of dlopen(3) that are made, one after the other, once it is loaded: the place in Graph.nodes of the object that
    calls, and the name. What they load has its nodes behind all others and is not in the listing.
    """
    found = reader.open(root)
    if not isinstance(found, Found) or found.loadable.object.kind is Kind.OTHER:
        return None
    rules = Musl if loader.family is Family.MUSL else Glibc
    return rules(root, found, loader, reader).walk(opens)
