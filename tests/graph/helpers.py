"""Look at a closure, and ask the program's own loader what is in it."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.source import function, prints
from support.store import Store, patchelf

from nix_harden.graphing.graph import look
from nix_harden.graphing.values import Arrow, Picture, Role, Vertex
from nix_harden.loading.graph import DLOPEN

LISTED = re.compile(r"\t(?:(.*) => )?(/.*) \(0x[0-9a-f]+\)")
NOT_FOUND = re.compile(r"\t(.*) => not found")
# `_dl_map_object` says who asks, for what it opens and not for what is there already; a path is said in full.
ASKED = re.compile(r"^ *\d+:\tfile=(.*) \[\d+\];  needed by (.*) \[\d+\]")


def picture(store: Store, *roots: Path) -> Picture:
    return look([str(root) for root in roots], store=str(store.path))


def objects(drawn: Picture) -> set[str]:
    """The paths of what is mapped at start, the roots apart."""
    return {
        vertex.path for vertex in drawn.vertices if not vertex.root and vertex.role not in (Role.MISSING, Role.OPENED)
    }


def missing(drawn: Picture) -> set[str]:
    return {vertex.path for vertex in drawn.vertices if vertex.role is Role.MISSING}


def listing(program: Path) -> tuple[set[str], set[str]]:
    """The files that the program's loader maps, links followed, and the names that it does not find (ld.so(8))."""
    lines = _traced(program, {}).stdout.splitlines()
    found = {os.path.realpath(match[2]) for line in lines if (match := LISTED.fullmatch(line))}
    return found, {match[1] for line in lines if (match := NOT_FOUND.fullmatch(line))}


def asked(program: Path) -> set[tuple[str, str]]:
    """Who had what opened, as the loader says it: pairs of the asker's real path and the name."""
    lines = _traced(program, {"LD_DEBUG": "files"}).stderr.splitlines()
    return {(os.path.realpath(match[2]), match[1]) for line in lines if (match := ASKED.match(line))}


def _traced(program: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program],
        env={"LD_TRACE_LOADED_OBJECTS": "1", **environ},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


def named(drawn: Picture, label: str) -> Vertex:
    (found,) = (vertex for vertex in drawn.vertices if vertex.label == label)
    return found


def between(drawn: Picture, source: str, target: str) -> list[Arrow]:
    """The arrows from one label to another."""
    labels = {vertex.id: vertex.label for vertex in drawn.vertices}
    return [arrow for arrow in drawn.arrows if (labels[arrow.source], labels[arrow.target]) == (source, target)]


def edges(drawn: Picture) -> set[tuple[str, str]]:
    labels = {vertex.id: vertex.label for vertex in drawn.vertices}
    return {(labels[arrow.source], labels[arrow.target]) for arrow in drawn.arrows if arrow.tag != DLOPEN}


def world(store: Store) -> Path:
    """A program whose closure has names of every kind: bare and bound, found by SONAME, missing, and two files of one SONAME."""
    press = store.package("press-1.2").library("libpress.so.1", function("press", 1))
    other = store.package("press-1.3").library("libpress.so.1", function("press", 2))
    gone = store.package("gone").library("libgone.so.3", function("gone", 3))
    paint = store.package("paint").library("libpaint.so.16", function("paint", 1, ["press"]), needs=[press])
    image = store.package("image").library("libimage.so.6", function("image", 1, ["press"]), needs=[other])
    extra = store.package("image").library("libimagex.so.6", function("imagex", 1, ["image"]), needs=[image, gone])
    loose = ["-Wl,--unresolved-symbols=ignore-all"]
    needs = [paint, image, extra]
    program = store.package("viewer").program("viewer", prints("paint", "image", "imagex"), needs=needs, flags=loose)
    gone.unlink()
    patchelf("--replace-needed", press.name, press, paint)
    patchelf("--replace-needed", other.name, other, image)
    return program
