"""Carry out a plan: each file is edited aside, read again, compared with its edit, and only then put in place by rename(2)."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from nix_harden.elf import Contents, read_edited, read_stale, read_table, read_unedited
from nix_harden.errors import HardenError, MalformedElf, ReadError, SeveralErrors, ToolError, WriteError
from nix_harden.fixup.patchelf import arguments, find
from nix_harden.fixup.place import place, reorder
from nix_harden.fixup.workers import share
from nix_harden.model import COPY, Edit, Kind, Object, PathAction, StringTable, Write
from nix_harden.process import run
from nix_harden.settings import Settings

FICLONE = 0x40049409  # <linux/fs.h>
LARGEST_COPY = 1 << 30
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>

Unedited = tuple[StringTable | None, Contents | None]
# glibc has it since 2.28, musl since 1.2.6
_renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)


@dataclass(frozen=True)
class Workshop:
    """Where copies are made, and with what: the directory `scratch`, a patchelf, and the store whose paths must not stay behind.

    `linked` says of each directory that was asked for whether rename(2) leads there from `scratch`.
    """

    scratch: str
    patchelf: str
    store: str
    linked: dict[str, bool] = field(default_factory=dict)

    def reaches(self, path: str) -> bool:
        """Whether a file in `scratch` can take the place of that at `path`; asked by a link, as no device number tells."""
        directory = os.path.dirname(path)
        if directory not in self.linked:
            probe = _temporary(self.scratch)
            os.unlink(probe)
            try:
                os.link(path, probe)
            except OSError:
                self.linked[directory] = False
            else:
                os.unlink(probe)
                self.linked[directory] = True
        return self.linked[directory]


def write_all(edits: Sequence[Edit], settings: Settings) -> int:
    """Make every edit, `settings.jobs` at once, and answer how many were made in place.

    A file whose edit fails stays as it was, the others are done; then SeveralErrors tells of all. Raises ToolError before anything
    is written where a file needs patchelf, and there is none that may be used.
    """
    program = _patchelf(edits, settings)
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch:
        workshop = Workshop(scratch, program, settings.store)

        def attempt(edit: Edit) -> bool | HardenError:
            try:
                return write(edit, workshop)
            except HardenError as error:
                return error

        done = share(attempt, edits, settings.jobs)
    if errors := [each for each in done if isinstance(each, HardenError)]:
        raise SeveralErrors(tuple(sorted(errors, key=str)))
    return done.count(True)


def _patchelf(edits: Sequence[Edit], settings: Settings) -> str:
    """The patchelf to call; where there is none that may be used, none is needed, or ToolError is raised."""
    try:
        return find(settings.patchelf)
    except ToolError:
        if any(in_place(edit, read_unedited(edit.paths[0])) is None for edit in edits):
            raise
        return ""


def write(edit: Edit, workshop: Workshop) -> bool:
    """Replace one file, and every hard link to it, by its edited copy, and answer whether it was edited in place.

    Mode, owner and times are kept. Where the strings have no room the copy is what patchelf makes of the file.
    The copy is made in the workshop, and brought beside the file only where rename(2) does not lead from there to it: so a kill
    leaves nothing in an output but, there, what the next run clears away. Raises WriteError; the file is then whole and old, and
    no copy stays behind.
    """
    path = edit.paths[0]
    copies: list[str] = []
    replaced: list[str] = []
    try:
        before = read_unedited(path)
        writes = in_place(edit, before)
        directory = workshop.scratch if workshop.reaches(path) else os.path.dirname(path)
        copy = _temporary(directory if writes is not None else workshop.scratch)
        copies.append(copy)
        _edit(edit, before, writes, workshop, copy)
        if os.path.dirname(copy) != directory:
            made, copy = copy, _temporary(directory)
            copies.append(copy)
            clone(made, copy)
            os.unlink(made)
            copies.remove(made)
        status = os.lstat(path)
        os.chown(copy, status.st_uid, status.st_gid)
        shutil.copystat(path, copy)
        for _ in edit.paths[1:]:
            link = _temporary(directory)
            copies.append(link)
            os.unlink(link)
            os.link(copy, link)
        for link, name in zip(copies, edit.paths, strict=True):
            _exchange(link, name)
            replaced.append(name)
    except OSError as error:
        raise WriteError(path, error.strerror or str(error), tuple(replaced)) from error
    except (ToolError, MalformedElf, ReadError) as error:
        raise WriteError(path, str(error)) from error
    finally:
        for copy in copies:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)
    return writes is not None


def write_copy(edit: Edit, target: str, settings: Settings, check: Callable[[str], None]) -> int:
    """Make the edited copy of a file appear at `target` by rename(2), with the mode of the file; answer its size in bytes.

    `check` looks at the copy before it takes the place, and refuses it by what it raises. Raises WriteError, ToolError; what was at
    `target` is then as it was, and no copy stays behind.
    """
    path = edit.paths[0]
    before = read_unedited(path)
    writes = in_place(edit, before)
    program = find(settings.patchelf) if writes is None else ""
    workshop = Workshop(os.path.dirname(target) or ".", program, settings.store)
    try:
        copy = _temporary(workshop.scratch)
    except OSError as error:
        raise WriteError(target, error.strerror or str(error)) from error
    try:
        _edit(edit, before, writes, workshop, copy)
        os.chmod(copy, stat.S_IMODE(os.stat(path).st_mode))
        check(copy)
        size = os.stat(copy).st_size
        os.replace(copy, target)
    except OSError as error:
        raise WriteError(target, error.strerror or str(error)) from error
    except (ToolError, MalformedElf, ReadError) as error:
        raise WriteError(target, str(error)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
    return size


def _edit(edit: Edit, before: Unedited | None, writes: tuple[Write, ...] | None, workshop: Workshop, copy: str) -> None:
    """Make `copy`, which is there and empty, what the edit asks for, and read it again.

    What patchelf has put out of use is blanked where it holds a path of the store: Nix would take it for a reference.
    """
    path = edit.paths[0]
    if writes is not None:
        clone(path, copy)
        _apply(writes, copy)
    else:
        run([workshop.patchelf, *arguments(edit), "--output", copy, path])
    if edit.order is not None and (table := read_table(copy)) is not None:
        _apply(reorder(table, edit.order), copy)
    if writes is None:
        _blank(copy, workshop.store)
    verify(edit, before, copy)


def in_place(edit: Edit, before: Unedited | None) -> tuple[Write, ...] | None:
    """What is to be written where nothing moves; None where there is no room, or the table may not be edited."""
    table = before[0] if before is not None else None
    return place(table, edit) if table is not None else None


def clone(source: str, target: str) -> None:
    """Make an existing empty file a copy of another: sharing its blocks where the file system can (ioctl_ficlone(2)), else within the kernel."""
    with open(source, "rb") as old, open(target, "r+b") as new:
        with contextlib.suppress(OSError):
            fcntl.ioctl(new, FICLONE, old.fileno())
            return
        with contextlib.suppress(OSError):  # what it refuses or leaves is read and written
            while os.copy_file_range(old.fileno(), new.fileno(), LARGEST_COPY):
                pass
        shutil.copyfileobj(old, new, 1 << 20)


def _exchange(copy: str, path: str) -> None:
    """Put `copy` in the place of `path` at once, and what was there in the place of `copy`, or nowhere where that cannot be done.

    What is renamed over another file ext4 writes out first (ext4(5), auto_da_alloc), which takes longer than all the rest;
    what is exchanged with it (rename(2), RENAME_EXCHANGE) it does not.
    """
    sys.audit("os.rename", copy, path, -1, -1)  # as of os.replace
    arguments = AT_FDCWD, os.fsencode(copy), AT_FDCWD, os.fsencode(path), RENAME_EXCHANGE
    if _renameat2 is None or _renameat2(*arguments):
        os.replace(copy, path)


def _apply(writes: Sequence[Write], path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        for each in writes:
            file.seek(each.position)
            file.write(each.data)


def _blank(path: str, store: str) -> None:
    with open(path, "r+b") as file:
        for offset, length in read_stale(path, store):
            file.seek(offset)
            file.write(b"X" * length)


def remove_leftovers(paths: Sequence[str]) -> None:
    """Delete the copies that a killed run left in an output. Raises WriteError."""
    for path in paths:
        try:
            os.unlink(path)
        except OSError as error:
            raise WriteError(path, f"a copy that a killed run left cannot be deleted: {error.strerror}") from error


def _temporary(directory: str) -> str:
    descriptor, name = tempfile.mkstemp(prefix=COPY, dir=directory)
    os.close(descriptor)
    return name


def expected(edit: Edit) -> dict[str, object]:
    """What an object must read as once `edit` is made, for every field that an edit may touch."""
    before, names = edit.before, dict(edit.needed)
    runpath, rpath = before.runpath, before.rpath
    if edit.action is PathAction.EMPTY:
        runpath = ""
    elif edit.action is PathAction.SET:
        runpath, rpath = (runpath, edit.search_path) if edit.rpath else (edit.search_path, rpath)
    return {
        "abi": before.abi,
        "kind": Kind.LIBRARY if before.kind is Kind.PLUGIN and edit.soname is not None else before.kind,
        "interpreter": before.interpreter,
        "soname": edit.soname or before.soname,
        "needed": edit.needed_after,
        "runpath": runpath,
        "rpath": rpath,
        "filters": before.filters,
        "version_files": tuple(names.get(name, name) for name in before.version_files),
        "opens_libraries": before.opens_libraries,
    }


def verify(edit: Edit, before: Unedited | None, copy: str) -> None:
    """Read the edited copy and compare it with what was asked for: the strings named, and all others untouched."""
    edited = read_edited(copy)
    if edited is None:
        raise WriteError(edit.paths[0], "the edit left no ELF file")
    after, new = edited
    old = before[1] if before is not None else None
    _compare(edit, after)
    if old is None or new is None or old.spoilt(new):
        raise WriteError(edit.paths[0], "the edit changed a symbol's or version's name, or a flag")


def _compare(edit: Edit, after: Object) -> None:
    for name, wanted in expected(edit).items():
        if (found := getattr(after, name)) != wanted:
            raise WriteError(edit.paths[0], f"the edit left {name} {found!r} instead of {wanted!r}")
    if (
        stray := set(after.version_files)
        - set(after.needed)
        - (set(edit.before.version_files) - set(edit.before.needed))
    ):
        raise WriteError(
            edit.paths[0], f"version needs of {', '.join(sorted(stray))} match no NEEDED, so ld.so would abort"
        )
