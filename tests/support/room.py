"""Room in string tables, as linkers leave it under the hook."""

from collections.abc import Iterable
from pathlib import Path

from real import debstore

from nix_harden.loading.search import ROOM
from nix_harden.settings import TABLE
from support.store import patchelf

RESERVE = int(next(setting.default or "0" for setting in TABLE if setting.name == "reserve"))


def entry(store: Path, size: int = RESERVE) -> str:
    """The entry that the hook has linkers add to search paths."""
    text = f"{store}/{ROOM}"
    while len(text) < size:
        text += "/" + "0" * 200
    return text


def leave(files: Iterable[Path], store: Path) -> None:
    """What linkers under the hook would have left in files that have a search path: bytes of one that is shorter now."""
    for path in files:
        dynamic = debstore.read_dynamic(path)
        if dynamic is not None and dynamic.search:
            text = ":".join(dynamic.search)
            patchelf("--set-rpath", f"{text}:{entry(store)}", path)
            patchelf("--set-rpath", text, path)
