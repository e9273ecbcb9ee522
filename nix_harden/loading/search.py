"""Where ld.so looks for a bare NEEDED of one object, as ld.so(8) and glibc's elf/dl-load.c say; pure."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nix_harden.model import Abi, Object
from nix_harden.names import DRIVERS, MUSL
from nix_harden.settings import matches

# What AT_PLATFORM or glibc's own processor detection (sysdeps/x86/cpu-features.c) may answer for $PLATFORM.
PLATFORMS = {
    "EM_X86_64": ("haswell", "xeon_phi", "x86_64"),
    "EM_386": ("i686", "i586", "i486", "i386"),
    "EM_AARCH64": ("aarch64",),
}
# Where NixOS puts the libraries of the system's own graphics drivers, before those of the store.
DRIVER_DIRECTORIES = ("/run/opengl-driver/lib", "/run/opengl-driver-32/lib")
# What nuke-refs and remove-references-to leave of a store path: a hash of nothing but e.
NUKED = re.compile(r"/e{32}-")
MUSL_VOID = re.compile(r"\$(?!ORIGIN|\{ORIGIN\})")
# The value of $LIB in glibc's loader, beside the names of the tokens: behind them, or before them on POWER.
LIB_TOKEN = re.compile(rb"\0LIB\0+(lib[^\0]*)\0|\0(lib[^\0]*)\0+ORIGIN\0+PLATFORM\0")
# Below the store: an entry of a search path that is there for its length alone, see the hook. It leads nowhere.
ROOM = "nix-harden-needed-room"
TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")


@dataclass(frozen=True, slots=True)
class Place:
    """One directory of a search path, expanded, and how it came there. It is "" for the current directory."""

    directory: str
    how: str


def is_musl(obj: Object) -> bool:
    """Whether musl's loader loads the object: it says so by its interpreter, or by its C library."""
    return any(matches(MUSL, os.path.basename(name)) for name in (*obj.needed, obj.interpreter or "") if name)


def platforms(abi: Abi, text: str) -> tuple[str, ...]:
    """The values that $PLATFORM may have, or one that matters to nothing where `text` does not use it."""
    if any("PLATFORM" in match.groups() for match in TOKEN.finditer(text)):
        return PLATFORMS.get(abi.machine, ("",))
    return ("",)


def own_text(obj: Object) -> tuple[str, str]:
    """The search path string that counts and the name of its tag: DT_RPATH only where there is no DT_RUNPATH."""
    if obj.runpath is not None:
        return obj.runpath, "RUNPATH"
    return obj.rpath or "", "RPATH"


def without_room(text: str, store: str) -> str:
    """A search path without the entries by which the hook makes linkers leave room."""
    return joined(
        [entry for entry in (text.split(":") if text else ()) if not f"{entry}/".startswith(f"{store}/{ROOM}/")]
    )


def joined(entries: Sequence[str]) -> str:
    """The search path of these entries; an empty one by itself, the current directory, is written twice, since "" is no search path."""
    return ":" if list(entries) == [""] else ":".join(entries)


def expand(text: str, origin: str, lib: str, platform: str) -> str:
    """Dynamic string tokens replaced, in both spellings; any other use of `$` stays as it is (ld.so(8))."""
    values = {"ORIGIN": origin, "LIB": lib, "PLATFORM": platform}
    return TOKEN.sub(lambda match: values[match[1] or match[2]], text)


def places(obj: Object, origin: str, lib: str, platform: str) -> tuple[Place, ...]:
    """The object's own search path in the loader's order, each directory once.

    An empty string is no search path; an empty entry in one is the current directory. An entry whose token has no known
    value ("") might be any directory, and stands as "" too. musl knows $ORIGIN alone, and takes no path that says another.
    """
    text, tag = own_text(obj)
    if not text or (is_musl(obj) and MUSL_VOID.search(text)):
        return ()
    known = {"ORIGIN": True, "LIB": bool(lib), "PLATFORM": bool(platform)}
    entries = (
        expand(entry, origin, lib, platform) if all(known[m[1] or m[2]] for m in TOKEN.finditer(entry)) else ""
        for entry in text.split(":")
    )
    return tuple(dict.fromkeys(Place(_trim(entry), tag) for entry in entries))


def _trim(entry: str) -> str:
    return "/" if entry and not entry.strip("/") else entry.rstrip("/")


def is_pure(place: Place, name: str, store: str) -> bool:
    """Whether it is settled what `name` means in the directory: it lies in the store, or holds the system's drivers alone."""
    if place.directory in DRIVER_DIRECTORIES:
        return matches(DRIVERS, name) is None
    return os.path.normpath(place.directory).startswith(store + "/")
