"""Make the ELF file again of its parts, and what people have changed in them: names by the project's own writer, all else byte by byte.

from nix_harden.parts.join import join
done = join("./hello-parts", "./hello")
"""

import contextlib
import glob
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nix_harden.errors import NotJoined, ReadError, ToolError, UsageError, WriteError
from nix_harden.fixup.patchelf import find
from nix_harden.fixup.write import write_copy
from nix_harden.freezing.copies import check_parent, made_directory
from nix_harden.model import Edit, PathAction
from nix_harden.parts.forms import Strings, Unread, escape, meant, unescape
from nix_harden.parts.manifest import load
from nix_harden.parts.pieces import DYNAMIC, INTERPRETER, MANIFEST, NEEDED, TITLED, Piece
from nix_harden.parts.split import CHUNK, NAMED
from nix_harden.parts.text import heading, unsay
from nix_harden.process import run
from nix_harden.reading.elf import read_object
from nix_harden.saying.progress import Progress, quietly
from nix_harden.settings import Settings, from_environ


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts say of names: those of NEEDED, SONAME and search path, and the interpreter; None for what stays as it was."""

    needed: tuple[str, ...] | None
    soname: str | None
    search_path: str | None
    rpath: bool
    interpreter: str | None


@dataclass(frozen=True, slots=True)
class Joined:
    """A file that was made of parts: its path, its size in bytes, and the names in it that are others than when it was split."""

    file: str
    size: int
    names: Names


def join(place: str, out: str, *, settings: Settings | None = None, progress: Progress = quietly) -> Joined:
    """Write to `out` the file that the parts in `place` are of, a directory or the program there that starts from them.

    Raises UsageError, ReadError, and NotJoined for a part, with its line, that cannot be honoured; what was at `out` is whole then.
    """
    settings = settings or from_environ(os.environ, {})
    target = os.path.abspath(out)
    check_parent(target, "--output")
    if os.path.isdir(target):
        raise UsageError("--output", f"{out} is a directory; say the name of a file in it")
    parts = _Parts(place)
    with made_directory(os.path.dirname(target)):
        try:
            return _write(parts, target, settings, progress)
        except OSError as error:
            raise WriteError(out, error.strerror or str(error)) from error


def _write(parts: "_Parts", target: str, settings: Settings, progress: Progress) -> Joined:
    names = parts.names()
    descriptor, aside = tempfile.mkstemp(prefix=".nix-harden-", dir=os.path.dirname(target))
    try:
        with open(descriptor, "wb") as file:
            for piece in parts.manifest.pieces:
                for data in parts.bytes_of(piece):
                    progress(file.tell(), parts.manifest.size, piece.part)
                    file.write(data)
        os.chmod(aside, parts.manifest.mode)
        _rename(aside, names, parts, settings)
        size = os.stat(aside).st_size
        os.replace(aside, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    return Joined(target, size, names)


def _manifest(place: str) -> str:
    """The manifest in a directory of one, or that beside the program that starts from the parts."""
    if not os.path.isdir(place):
        found = f"{place}.{MANIFEST}"
        if not os.path.exists(found):
            raise UsageError(
                place, f"is no directory, and no {os.path.basename(found)} is beside it; say what split has made"
            )
        return found
    every = glob.glob(os.path.join(glob.escape(place), f"*.{MANIFEST}"), include_hidden=True)
    if len(every) != 1:
        which = "no file" if not every else f"{len(every)} files"
        advice = "say a directory that split has made, or the program in it"
        raise UsageError(place, f"has {which} that end in .{MANIFEST}; {advice}")
    return every[0]


class _Parts:
    """The parts in a directory, or of a program there. Raises UsageError, ReadError where they are none."""

    def __init__(self, place: str) -> None:
        manifest = _manifest(place)
        self.directory = os.path.dirname(manifest)
        try:
            self.manifest = load(self._read(manifest))
        except (ValueError, KeyError, TypeError) as error:
            raise NotJoined(
                manifest, None, f"it is no manifest of this version: {error}", "split the file again"
            ) from error
        self._strings: dict[str, Strings] = {}
        self._used: dict[str, int] = {}
        self._titled: dict[str, dict[int, tuple[int, list[str]]]] = {}
        self._wanted: Counter[str] = Counter()
        for each in self.manifest.pieces:
            if each.form == "bytes":
                self._wanted[each.part] += each.lead + each.size
        self._lines: dict[str, list[str]] = {}

    def path(self, part: str) -> str:
        return os.path.join(self.directory, f"{self.manifest.name}.{part}")

    def _read(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return file.read()
        except OSError as error:
            raise ReadError(path, error.strerror or str(error)) from error

    def lines(self, part: str) -> list[str]:
        if part not in self._lines:
            self._lines[part] = self._read(self.path(part)).removesuffix("\n").split("\n")
        return self._lines[part]

    def strings(self, part: str) -> Strings:
        if part not in self._strings:
            piece = next((each for each in self.manifest.pieces if (each.part, each.form) == (part, "strings")), None)
            data = b"".join(self.bytes_of(piece)) if piece is not None else b""
            self._strings[part] = Strings.of(data)
        return self._strings[part]

    def bytes_of(self, piece: Piece) -> Iterator[bytes]:
        """The bytes of a piece, as many as it had. Raises NotJoined, ReadError."""
        if piece.form == "zero":
            yield from (bytes(min(CHUNK, piece.size - at)) for at in range(0, piece.size, CHUNK))
        elif piece.form == "bytes":
            yield from self._bytes(piece)
        else:
            yield self._text(piece)

    def _bytes(self, piece: Piece) -> Iterator[bytes]:
        path, start = self.path(piece.part), self._used.get(piece.part, 0) + piece.lead
        wanted = self._wanted[piece.part]
        self._used[piece.part] = start + piece.size
        try:
            with open(path, "rb") as file:
                if (size := os.fstat(file.fileno()).st_size) != wanted:
                    problem = f"it has {size} bytes, and {wanted} are wanted"
                    raise NotJoined(path, None, problem, "bytes may be changed, and none added or taken away")
                file.seek(start)
                yield from (file.read(min(CHUNK, piece.size - at)) for at in range(0, piece.size, CHUNK))
        except OSError as error:
            raise ReadError(path, error.strerror or str(error)) from error

    def _text(self, piece: Piece) -> bytes:
        assert self.manifest.kind is not None
        path, (first, lines) = self.path(piece.part), self._of(piece)
        if piece.part == DYNAMIC:
            lines = self._unnamed(lines)
        if (
            piece.part == INTERPRETER and len(unescape(lines[0])) >= piece.size
        ):  # what has no room is patchelf's to write
            lines = [self.manifest.interpreter or escape(b"")]
        try:
            data = unsay(piece, self.manifest.kind, self.strings(piece.names), lines, list(self.manifest.needed))
        except Unread as error:
            raise NotJoined(path, first + error.line, error.why, "put it as it was, or split the file again") from error
        if len(data) != piece.size:
            problem = f"its lines are {len(data)} bytes, and {piece.size} are wanted"
            raise NotJoined(path, None, problem, "what is there may be changed, and nothing added or taken away")
        return data

    def _of(self, piece: Piece) -> tuple[int, list[str]]:
        """The lines of a piece, and how many are before them in its part."""
        if piece.part not in TITLED:
            return 0, self.lines(piece.part)
        if piece.part not in self._titled:
            self._titled[piece.part] = self._below_titles(piece.part)
        return self._titled[piece.part][piece.offset]

    def _below_titles(self, part: str) -> dict[int, tuple[int, list[str]]]:
        """The same of each piece of a part of several, by its offset in the file."""
        lines, pieces = self.lines(part), [each for each in self.manifest.pieces if each.part == part]
        titles = [heading(each) for each in pieces]
        starts = [number for number, line in enumerate(lines) if line.startswith("[")]
        if [lines[number] for number in starts] != titles:
            problem = f"its tables are {', '.join(titles)}, each below its name"
            raise NotJoined(self.path(part), None, problem, "put them as they were")
        ends = [*starts[1:], len(lines)]
        return {
            piece.offset: (start + 1, lines[start + 1 : end])
            for piece, start, end in zip(pieces, starts, ends, strict=True)
        }

    def _unnamed(self, lines: list[str]) -> list[str]:
        """The tags with the names that were there; those that were not are left out."""
        found = []
        for line in lines:
            tag = line.partition(" ")[0]
            if tag not in NAMED:
                found.append(line)
            elif tag in self.manifest.texts:
                found.append(f"{tag} {self.manifest.texts[tag]}")
        return found

    def names(self) -> Names:
        """What the parts say of names that may change. Raises NotJoined."""
        was = self.manifest
        needed = tuple(words[0] for _, words in meant(self.lines(NEEDED))) if self._has(NEEDED) else ()
        tags: dict[str, str] = {}
        if any(each.form == "dynamic" for each in was.pieces):
            for number, words in meant(self.lines(DYNAMIC)):
                if words[0] in NAMED:
                    if len(words) != 2:
                        raise NotJoined(
                            self.path(DYNAMIC), number, "a name is wanted behind the tag", "write one, without spaces"
                        )
                    tags.setdefault(words[0], words[1])
            for tag in was.texts:
                if tag not in tags:
                    problem = f"{tag} is gone, and no tag can be taken away"
                    raise NotJoined(
                        self.path(DYNAMIC), None, problem, f"put it back; `{tag} {escape(b'')}` is an empty one"
                    )
        elif needed != was.needed:
            raise NotJoined(self.path(NEEDED), None, "the file has no dynamic section", "leave the names as they were")
        changed = {tag: _text(word) for tag, word in tags.items() if word != was.texts.get(tag)}
        if len(changed.keys() & {"RPATH", "RUNPATH"}) == 2:
            raise NotJoined(self.path(DYNAMIC), None, "both RPATH and RUNPATH are changed", "change one of them")
        has_interpreter = any(each.part == INTERPRETER for each in was.pieces)
        interpreter = self.lines(INTERPRETER)[0] if has_interpreter else was.interpreter
        if interpreter is not None and interpreter != was.interpreter and not interpreter.startswith("/"):
            advice = "write the absolute path of a loader"
            raise NotJoined(self.path(INTERPRETER), 1, f"{interpreter!r} is no absolute path", advice)
        return Names(
            tuple(map(_text, needed)) if needed != was.needed else None,
            changed.get("SONAME"),
            changed.get("RPATH", changed.get("RUNPATH")),
            "RPATH" in changed,
            _text(interpreter) if interpreter is not None and interpreter != was.interpreter else None,
        )

    def _has(self, part: str) -> bool:
        return os.path.exists(self.path(part))


def _text(word: str) -> str:
    return os.fsdecode(unescape(word.partition("@")[0]))


def _rename(path: str, names: Names, parts: _Parts, settings: Settings) -> None:
    """Give the file at `path` the names. Raises NotJoined, WriteError, ToolError."""
    if names == Names(None, None, None, False, None):
        return
    before = read_object(path)
    assert before is not None
    if names.interpreter not in (None, before.interpreter):
        run([find(settings.patchelf), "--set-interpreter", str(names.interpreter), path])
    if names.needed is None and names.soname is None and names.search_path is None:
        return
    wanted = before.needed if names.needed is None else names.needed
    pairs = _renamed(before.needed, wanted)
    for gone in dict.fromkeys(name for name in before.needed if name not in wanted and name not in dict(pairs)):
        if gone in before.version_files:
            problem = f"{gone} is gone, and the file needs versions of it"
            raise NotJoined(parts.path(NEEDED), None, problem, "leave it, or write another name in its place")
        run([find(settings.patchelf), "--remove-needed", gone, path])
    before = read_object(path)
    assert before is not None
    renamed = tuple(dict(pairs).get(name, name) for name in before.needed)
    order = None if renamed == wanted else wanted
    action = PathAction.KEEP if names.search_path is None else PathAction.SET if names.search_path else PathAction.EMPTY
    edit = Edit((path,), before, names.soname, pairs, action, names.search_path or "", names.rpath, order)
    try:
        write_copy(edit, path, settings, lambda _: None)
    except (WriteError, ToolError) as error:
        problem = f"the names cannot be written: {error}"
        raise NotJoined(parts.path(NEEDED), None, problem, "write others") from error


def _renamed(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Which names became which: what stands in the place of another in a list as long, or else has its base name."""
    gone = [name for name in dict.fromkeys(old) if name not in new]
    come = [name for name in dict.fromkeys(new) if name not in old]
    if len(old) == len(new):
        pairs = dict(zip(old, new, strict=True))
        return tuple((name, pairs[name]) for name in gone if pairs[name] in come)
    bases = {os.path.basename(name): name for name in come}
    return tuple((name, bases[os.path.basename(name)]) for name in gone if os.path.basename(name) in bases)
