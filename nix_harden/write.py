"""Carry out a plan: each file is written aside, read again, compared with its edit, and only then put in place by rename(2)."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from nix_harden.elf import read_contents, read_object, read_stale
from nix_harden.errors import HardenError, MalformedElf, ReadError, SeveralErrors, ToolError, WriteError
from nix_harden.model import COPY, Edit, Object, PathAction
from nix_harden.patchelf import arguments
from nix_harden.process import run


def write_all(edits: Sequence[Edit], program: str, jobs: int, store: str) -> None:
    """Make every edit with the patchelf at `program`, `jobs` at once.

    A file whose edit fails stays as it was, the others are done; then SeveralErrors tells of all.
    """
    errors: list[HardenError] = []
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as scratch, ThreadPoolExecutor(max_workers=jobs) as pool:

        def attempt(edit: Edit) -> None:
            try:
                write(edit, program, scratch, store)
            except HardenError as error:
                errors.append(error)

        try:
            list(pool.map(attempt, edits))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if errors:
        raise SeveralErrors(tuple(sorted(errors, key=str)))


def write(edit: Edit, program: str, scratch: str, store: str) -> None:
    """Replace one file, and every hard link to it, by its edited copy: mode, owner and times are kept.

    Paths of `store` in strings that the edit has put out of use are blanked: Nix would take them for references.
    The copy is made in `scratch`, and brought beside the file only where rename(2) does not lead from there to it: so a kill
    leaves nothing in an output but, there, what the next run clears away. Raises WriteError; the file is then whole and old, and no copy stays behind.
    """
    path = edit.paths[0]
    copies: list[str] = []
    replaced: list[str] = []
    try:
        place = scratch if _is_linked(path, scratch) else os.path.dirname(path)
        copy = _temporary(scratch)
        copies.append(copy)
        run([program, *arguments(edit), "--output", copy, path])
        _blank(copy, store)
        _verify(edit, copy)
        if place != scratch:
            made, copy = copy, _temporary(place)
            copies.append(copy)
            shutil.copyfile(made, copy)
            os.unlink(made)
            copies.remove(made)
        status = os.lstat(path)
        os.chown(copy, status.st_uid, status.st_gid)
        shutil.copystat(path, copy)
        for _ in edit.paths[1:]:
            link = _temporary(place)
            copies.append(link)
            os.unlink(link)
            os.link(copy, link)
        for link, name in zip(copies, edit.paths, strict=True):
            os.replace(link, name)
            replaced.append(name)
    except OSError as error:
        raise WriteError(path, error.strerror or str(error), tuple(replaced)) from error
    except (ToolError, MalformedElf, ReadError) as error:
        raise WriteError(path, str(error)) from error
    finally:
        for copy in copies:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(copy)


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


def _is_linked(path: str, directory: str) -> bool:
    """Whether both lie in one mount, where link(2) and rename(2) work; asked by a link, as no device number tells."""
    probe = _temporary(directory)
    os.unlink(probe)
    try:
        os.link(path, probe)
    except OSError:
        return False
    os.unlink(probe)
    return True


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
        "kind": before.kind,
        "interpreter": before.interpreter,
        "soname": edit.soname or before.soname,
        "needed": tuple(names.get(name, name) for name in before.needed),
        "runpath": runpath,
        "rpath": rpath,
        "filters": before.filters,
        "version_files": tuple(names.get(name, name) for name in before.version_files),
        "opens_libraries": before.opens_libraries,
    }


def _verify(edit: Edit, copy: str) -> None:
    """Read the edited copy and compare it with what was asked for: the strings named, and all others untouched."""
    after = read_object(copy)
    if after is None:
        raise WriteError(edit.paths[0], "patchelf left no ELF file")
    _compare(edit, after)
    old, new = read_contents(edit.paths[0]), read_contents(copy)
    if old is None or new is None or old.spoilt(new):
        raise WriteError(edit.paths[0], "patchelf changed a symbol's or version's name, or a flag")


def _compare(edit: Edit, after: Object) -> None:
    for field, wanted in expected(edit).items():
        if (found := getattr(after, field)) != wanted:
            raise WriteError(edit.paths[0], f"patchelf left {field} {found!r} instead of {wanted!r}")
    if (
        stray := set(after.version_files)
        - set(after.needed)
        - (set(edit.before.version_files) - set(edit.before.needed))
    ):
        raise WriteError(
            edit.paths[0], f"version needs of {', '.join(sorted(stray))} match no NEEDED, so ld.so would abort"
        )
