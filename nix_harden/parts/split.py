"""Take an ELF file apart into plain files: read it, cut it, say what people read as text, write.

from nix_harden.parts.split import split
done = split("/nix/store/…-hello/bin/hello", "./hello-parts")
"""

import os
import shutil
import stat
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nix_harden.errors import ReadError, UsageError, WriteError
from nix_harden.freezing.copies import check_parent, made_directory
from nix_harden.parts.forms import SHIFT, Kind, Strings, Unread, escape, meant, relocations
from nix_harden.parts.manifest import Manifest, dump
from nix_harden.parts.mapping import led
from nix_harden.parts.pieces import APPENDED, INTERPRETER, MANIFEST, NEEDED, REST, TITLED, Piece, cut, kind_of
from nix_harden.parts.start import NoStart, Starter
from nix_harden.parts.text import heading, row_size, say, unsay
from nix_harden.reading.image import Broken, Image
from nix_harden.saying.progress import Progress, quietly

CHUNK = 1 << 20
BY_ROWS = ("rel", "rela", "symbols")  # the forms of tables that may be large
ROWS = 1 << 14  # of such a table at once
ZEROS = bytes(CHUNK)
NAMED = ("SONAME", "RPATH", "RUNPATH")  # the texts of tags that may be changed


@dataclass(frozen=True, slots=True)
class Part:
    """A part: its file, its size in bytes, how it says its bytes, and of how many pieces of the file it has them."""

    path: str
    size: int
    form: str
    pieces: int


@dataclass(frozen=True, slots=True)
class Split:
    """A file that was taken apart: its real path, its size in bytes, and the parts in byte order of their names.

    `program` starts it from them; where it is None, `why_not` says why, and is None too for what is no program.
    """

    file: str
    size: int
    directory: str
    parts: tuple[Part, ...]
    program: str | None
    why_not: str | None


def split(path: str, directory: str, *, startable: bool = True, progress: Progress = quietly) -> Split:
    """Write the parts of the ELF file at `path` into `directory`, which is made, or holds nothing yet.

    Beside those of a program, if that is `startable`, lies what starts it from them. Raises UsageError, ReadError, WriteError; nothing is written then.
    """
    directory = _free(directory)
    source = os.path.realpath(path)
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or os.pread(descriptor, 4, 0) != b"\x7fELF":
            raise UsageError(path, "is no ELF file; say a program, a library, an object or a debug file")
        parent = os.path.dirname(directory)
        with made_directory(parent):
            aside = tempfile.mkdtemp(prefix=".nix-harden-", dir=parent)
            try:
                found, why_not = _write(
                    descriptor, status, os.path.basename(source), aside, startable=startable, progress=progress
                )
                os.chmod(aside, 0o755)
                os.rename(aside, directory)
            except BaseException:
                shutil.rmtree(aside)
                raise
    except OSError as error:
        raise WriteError(directory, error.strerror or str(error)) from error
    finally:
        os.close(descriptor)
    counts = Counter((each.part, each.form) for each in found.pieces if each.form != "zero")
    if os.path.exists(os.path.join(directory, f"{found.name}.{NEEDED}")):
        counts[NEEDED, "names"] = 0
    paths = {part: os.path.join(directory, f"{found.name}.{part}") for part, _ in counts}
    parts = [Part(paths[part], os.stat(paths[part]).st_size, form, number) for (part, form), number in counts.items()]
    ordered = tuple(sorted(parts, key=lambda each: os.fsencode(each.path)))
    program = os.path.join(directory, found.name)
    return Split(source, found.size, directory, ordered, program if os.path.exists(program) else None, why_not)


def _free(directory: str) -> str:
    """The absolute path of a directory that is not there, or holds nothing. Raises UsageError."""
    path = os.path.abspath(directory)
    check_parent(path, "--output")
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise UsageError("--output", f"{path} is there and no empty directory; say another name")
    return path


def _write(
    descriptor: int, status: os.stat_result, name: str, directory: str, *, startable: bool, progress: Progress
) -> tuple[Manifest, str | None]:
    """What was written, and why a program among it cannot start."""
    starter, why_not = None, None
    try:
        image = Image(descriptor)
        kind, pieces = kind_of(image), cut(image)
        starter, why_not = _starter(image) if startable else (None, None)
        if starter is not None:
            pieces = led(pieces, image.segments, starter.granule)
        writer = _Writer(descriptor, name, directory, kind, progress)
        for piece in pieces:
            writer.learn(piece)
        writer.versions = _versions(image)
    except Broken as error:  # whatever it is, it is bytes
        starter, why_not = None, why_not if starter is None else str(error)
        kind, pieces = None, (Piece(0, status.st_size, REST, "bytes"),)
        writer = _Writer(descriptor, name, directory, None, progress)
    done = tuple(writer.write(piece) for piece in pieces)
    found = Manifest(
        name,
        status.st_size,
        stat.S_IMODE(status.st_mode),
        kind,
        tuple(writer.needed),
        writer.texts,
        writer.interpreter,
        done,
    )
    if writer.needed or starter is not None:
        writer.put(NEEDED, "".join(f"{each}\n" for each in writer.needed))
    writer.put(MANIFEST, dump(found))
    if starter is not None:
        try:
            program = starter.make(done, directory, name)
        except (NoStart, Broken) as error:
            return found, str(error)
        with open(os.path.join(directory, name), "xb") as file:
            file.write(program)
            os.fchmod(file.fileno(), found.mode)
    return found, why_not


def _starter(image: Image) -> tuple[Starter | None, str | None]:
    """What starts a program, or why nothing does."""
    try:
        return Starter(image), None
    except (NoStart, Broken) as error:
        return None, str(error) or None


def _versions(image: Image) -> dict[int, str]:
    """The names of versions, as the parts say names, by their numbers in the version table."""
    dynamic = image.dynamic
    if dynamic is None or dynamic.empty:
        return {}
    needs = [version for need in dynamic.version_needs for version in need.versions]
    places = {each.index: each.name for each in needs}
    for each in dynamic.version_definitions:
        if each.names:
            places[each.version.index] = each.names[0]
    return {index: escape(os.fsencode(dynamic.string(place, "a version"))) for index, place in places.items()}


class _Writer:
    """The parts of one file while they are written, in the order of their pieces."""

    def __init__(self, descriptor: int, name: str, directory: str, kind: Kind | None, progress: Progress) -> None:
        self.descriptor, self.name, self.directory, self.kind = descriptor, name, directory, kind
        self.progress, self.size = progress, os.fstat(descriptor).st_size
        self.strings: dict[str, Strings] = {}
        self.symbols: dict[str, list[str]] = {}
        self.numbers: list[int] = []
        self.versions: dict[int, str] = {}
        self.needed: list[str] = []
        self.texts: dict[str, str] = {}
        self.interpreter: str | None = None

    def learn(self, piece: Piece) -> None:
        """Read what other pieces refer to."""
        if piece.form == "strings":
            data = self.read(piece)
            if data.endswith(b"\0"):  # or it is kept as bytes, and nothing says its strings when the file is joined
                self.strings[piece.part] = Strings.of(data)
        if piece.form == "versions" and self.kind is not None:
            rows = self.kind.rows("H", "H")
            self.numbers = [number for (number,) in rows.iter_unpack(self.read(piece)[: piece.size // 2 * 2])]

    def read(self, piece: Piece) -> bytes:
        return os.pread(self.descriptor, piece.size, piece.offset)

    def put(self, part: str, text: str) -> None:
        with open(self.file(part), "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)

    def file(self, part: str) -> str:
        return os.path.join(self.directory, f"{self.name}.{part}")

    def write(self, piece: Piece) -> Piece:
        """Add a piece to its part; as bytes where its form does not give them back."""
        self.progress(piece.offset, self.size, piece.part)
        if piece.form != "bytes" and self.write_text(piece):
            return piece
        if piece.part in (REST, APPENDED) and self.is_zero(piece):
            return Piece(piece.offset, piece.size, "", "zero", piece.title)
        part = piece.part if piece.form == "bytes" else f"section-{piece.part}"
        lead = piece.lead if piece.form == "bytes" else 0
        with open(self.file(part), "ab") as file:
            file.truncate(file.tell() + lead)
            file.writelines(self.chunks(piece))
        return Piece(piece.offset, piece.size, part, "bytes", piece.title, lead=lead)

    def write_text(self, piece: Piece) -> bool:
        """Add the lines of a piece to its part, block by block; nothing where they would not give its bytes back."""
        path = self.file(piece.part)
        before = os.path.getsize(path) if os.path.exists(path) else None
        for block in self.blocks(piece):
            self.progress(block.offset, self.size, piece.part)
            if (lines := self.said(block, piece)) is None:
                self.symbols.pop(piece.part, None)
                if before is not None:
                    os.truncate(path, before)
                elif block.offset != piece.offset:
                    os.unlink(path)
                return False
            title = [heading(piece)] if piece.part in TITLED else []
            # what names the columns stands once
            self.put(
                piece.part,
                "".join(f"{line}\n" for line in ((*title, *lines) if block.offset == piece.offset else lines[1:])),
            )
        return True

    def blocks(self, piece: Piece) -> Iterator[Piece]:
        """So many rows of a table each that memory does not grow with it; of any other form all at once."""
        assert self.kind is not None
        size = row_size(piece, self.kind) * ROWS if piece.form in BY_ROWS else piece.size
        for at in range(piece.offset, piece.end, size):
            yield replace(piece, offset=at, size=min(size, piece.end - at))

    def is_zero(self, piece: Piece) -> bool:
        return all(chunk == ZEROS[: len(chunk)] for chunk in self.chunks(piece))

    def chunks(self, piece: Piece) -> Iterator[bytes]:
        for at in range(piece.offset, piece.end, CHUNK):
            self.progress(at, self.size, piece.part)
            yield os.pread(self.descriptor, min(CHUNK, piece.end - at), at)

    def said(self, piece: Piece, whole: Piece) -> list[str] | None:
        """The lines of a piece, or of a block of it, None where they would not give its bytes back."""
        assert self.kind is not None
        data, names = self.read(piece), self.strings.get(piece.names, Strings.of(b""))
        try:
            lines, needed = say(piece, self.kind, names, data, self.notes(piece, whole, data))
            if unsay(piece, self.kind, names, lines, needed) != data:
                return None
        except (Unread, struct.error, ValueError):
            return None
        if piece.form == "symbols":
            self.symbols.setdefault(piece.part, []).extend(words[0] for _, words in meant(lines))
        if piece.form == "dynamic":
            self.needed = needed
            for line in lines:
                tag, _, word = line.partition(" ")
                if tag in NAMED:
                    self.texts.setdefault(tag, word)
        if piece.part == INTERPRETER:
            self.interpreter = lines[0]
        return lines

    def notes(self, piece: Piece, whole: Piece, data: bytes) -> list[str]:
        """Of each symbol its version, and of each relocation the name of its symbol."""
        if piece.form == "symbols" and piece.part == "dynsym" and self.kind is not None:
            size = row_size(piece, self.kind)
            first = (piece.offset - whole.offset) // size
            numbers = self.numbers[first : first + piece.size // size]
            return [self.versions.get(number & 0x7FFF, "") for number in numbers]
        symbols = self.symbols.get("dynsym", self.symbols.get("symtab", []))
        if piece.form not in ("rel", "rela") or self.kind is None:
            return []
        row, _ = relocations(self.kind, piece.form == "rela")
        places = [values[1] >> SHIFT[self.kind.bits] for values in row.iter_unpack(data)]
        return [symbols[place] if 0 < place < len(symbols) else "" for place in places]
