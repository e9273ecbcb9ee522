"""Carry out a plan: each file is edited aside, read again, compared with its edit, and only then put in place by rename(2).

In the outputs of a Nix build that runs, which a kill throws away, an edit that moves nothing is written straight into the file, and
what was there is put back where the reading does not agree.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nix_harden.errors import HardenError, MalformedElf, NotEdited, ReadError, SeveralErrors, ToolError, WriteError
from nix_harden.fixup.patchelf import arguments, find
from nix_harden.fixup.place import added_tag, new_tag, place, reorder, without_audit
from nix_harden.fixup.scratch import scratch_directory
from nix_harden.fixup.verify import Unedited, verify
from nix_harden.fixup.workers import share
from nix_harden.model import COPY, Edit, Write
from nix_harden.process import CAPABILITIES, run
from nix_harden.reading.elf import read_empty_last, read_stale, read_table, read_unedited
from nix_harden.settings import Settings

FICLONE, LARGEST_COPY = 0x40049409, 1 << 30  # <linux/fs.h>; bytes
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
# What ends a patchelf whatever file it is given: a signal from outside, and these words of strerror(3).
BY_OTHERS = tuple(-number for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM))
OF_THE_SYSTEM = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EROFS, errno.EACCES))
)

# glibc has it since 2.28, musl since 1.2.6
_renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)


@dataclass(frozen=True)
class Workshop:
    """Where copies are made, and with what: the directory `scratch`, a patchelf, and the store whose paths must not stay behind.

    `building` are the outputs of the build that runs. `linked` says of each directory that was asked for whether rename(2) leads
    there from `scratch`.
    """

    scratch: str
    patchelf: str
    store: str
    building: tuple[str, ...] = ()
    linked: dict[str, bool] = field(default_factory=dict)

    def is_built(self, path: str) -> bool:
        return any(path.startswith(output + "/") for output in self.building)

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one edit: whether it was made in place, the bytes that it added, and why pyelftools could not read it, if so."""

    in_place: bool
    added: int = 0
    blind: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of all edits; `refused` are the files that patchelf cannot edit, `blind` those that pyelftools cannot read."""

    outcomes: tuple[Outcome, ...]
    refused: tuple[NotEdited, ...]
    blind: tuple[tuple[str, str], ...]

    @property
    def in_place(self) -> int:
        return sum(each.in_place for each in self.outcomes)


def outputs_of_build(environ: Mapping[str, str], settings: Settings) -> tuple[str, ...]:
    """The outputs of the Nix build that this process belongs to, none outside of one: Nix throws them away where it is killed."""
    if not settings.build_top or not os.path.isdir(settings.build_top):
        return ()
    return tuple(output.path for output in settings.outputs if environ.get(output.name) == output.path)


def write_all(edits: Sequence[Edit], settings: Settings, building: tuple[str, ...] = ()) -> Written:
    """Make every edit, `settings.jobs` at once; those of files in `building` straight in the file where nothing moves.

    A file whose edit fails stays as it was, the others are done; then SeveralErrors tells of all. Raises ToolError before anything
    is written where a file needs patchelf, and there is none that may be used.
    """
    from nix_harden.fixup import witness  # noqa: F401  # once, before the workers fork

    program = _patchelf(edits, settings)
    with scratch_directory() as scratch, _writable({os.path.dirname(path) for edit in edits for path in edit.paths}):
        workshop = Workshop(scratch, program, settings.store, building)

        def attempt(edit: Edit) -> Outcome | HardenError:
            try:
                return write(edit, workshop)
            except HardenError as error:
                return error

        done = share(attempt, edits, settings.jobs)
    refused = tuple(each for each in done if isinstance(each, NotEdited))
    if errors := [each for each in done if isinstance(each, HardenError) and not isinstance(each, NotEdited)]:
        raise SeveralErrors(tuple(sorted(errors, key=str)))
    outcomes = [(edit, each) for edit, each in zip(edits, done, strict=True) if isinstance(each, Outcome)]
    blind = tuple((edit.paths[0], each.blind) for edit, each in outcomes if each.blind)
    return Written(tuple(each for _, each in outcomes), refused, blind)


def _patchelf(edits: Sequence[Edit], settings: Settings) -> str:
    """The patchelf to call; where there is none that may be used, none is needed, or ToolError is raised."""
    try:
        return find(settings.patchelf)
    except ToolError:
        if any(in_place(edit, read_unedited(edit.paths[0])) is None for edit in edits):
            raise
        return ""


@contextlib.contextmanager
def _writable(directories: Iterable[str]) -> Iterator[None]:
    """Let files be put into directories which their owner has made read-only; what another owns stays as it is."""
    modes = {}
    for directory in sorted(directories):
        if not os.access(directory, os.W_OK):
            with contextlib.suppress(OSError):
                mode = stat.S_IMODE(os.stat(directory).st_mode)
                os.chmod(directory, mode | stat.S_IWUSR)
                modes[directory] = mode
    try:
        yield
    finally:
        for directory, mode in modes.items():
            os.chmod(directory, mode)


def write(edit: Edit, workshop: Workshop) -> Outcome:
    """Make one edit, in the file and every hard link to it. Mode, owner and times are kept.

    Raises WriteError, and NotEdited where patchelf can make nothing of it; the file is then whole and old, and no copy stays behind.
    """
    path = edit.paths[0]
    try:
        before = read_unedited(path)
        writes = in_place(edit, before)
        if writes is not None and workshop.is_built(path) and edit.order is None:
            with _opened(edit) as descriptor:
                if descriptor is not None:
                    return _overwrite(edit, before, writes, descriptor)
    except OSError as error:
        raise WriteError(path, error.strerror or str(error)) from error
    except (MalformedElf, ReadError) as error:
        raise WriteError(path, str(error)) from error
    return _replace(edit, before, writes, workshop)


@contextlib.contextmanager
def _opened(edit: Edit) -> Iterator[int | None]:
    """The file, open for writing and with its mode and times kept, or None where a copy has to take its place.

    So it is where the file has names that the plan does not know, where a write would take capabilities from it (capabilities(7)),
    and where the system lets nobody write: a program that runs (ETXTBSY).
    """
    path = edit.paths[0]
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if status.st_nlink != len(edit.paths) or CAPABILITIES in os.listxattr(path, follow_symlinks=False):
        yield None
        return
    try:
        if not os.access(path, os.W_OK):
            os.chmod(path, mode | stat.S_IWUSR)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        os.chmod(path, mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if descriptor is not None:
            os.close(descriptor)


def _overwrite(edit: Edit, before: Unedited | None, writes: Sequence[Write], descriptor: int) -> Outcome:
    """Write into the file itself, and put back what was there whatever goes wrong. Raises WriteError."""
    old = [Write(each.position, os.pread(descriptor, len(each.data), each.position)) for each in writes]
    try:
        _put(writes, descriptor)
        return Outcome(True, 0, verify(edit, before, edit.paths[0], moved=False))
    except BaseException as error:
        try:
            _put(old, descriptor)
        except OSError as again:
            raise WriteError(edit.paths[0], again.strerror or str(again), torn=True) from error
        raise


def _replace(edit: Edit, before: Unedited | None, writes: tuple[Write, ...] | None, workshop: Workshop) -> Outcome:
    """Put an edited copy in the place of the file and of every hard link to it.

    Where the strings have no room the copy is what patchelf makes of the file.
    The copy is made in the workshop, and brought beside the file only where rename(2) does not lead from there to it: so a kill
    leaves nothing in an output but, there, what the next run clears away.
    """
    path = edit.paths[0]
    copies: list[str] = []
    replaced: list[str] = []
    try:
        directory = workshop.scratch if workshop.reaches(path) else os.path.dirname(path)
        copy = _temporary(directory if writes is not None else workshop.scratch)
        copies.append(copy)
        blind = _edit(edit, before, writes, workshop, copy)
        if os.path.dirname(copy) != directory:
            made, copy = copy, _temporary(directory)
            copies.append(copy)
            clone(made, copy)
            os.unlink(made)
            copies.remove(made)
        status = os.lstat(path)
        added = os.stat(copy).st_size - status.st_size
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
    return Outcome(writes is not None, added, blind)


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
    except NotEdited as error:
        raise WriteError(target, error.problem) from error
    except (ToolError, MalformedElf, ReadError) as error:
        raise WriteError(target, str(error)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
    return size


def _edit(edit: Edit, before: Unedited | None, writes: tuple[Write, ...] | None, workshop: Workshop, copy: str) -> str:
    """Make `copy`, which is there and empty, what the edit asks for, and read it again; why pyelftools could not, if so."""
    if writes is None:
        return _move(edit, before, workshop, copy)
    clone(edit.paths[0], copy)
    _apply(writes, copy)
    if edit.order is not None and (table := read_table(copy)) is not None:
        _apply(reorder(table, edit.order), copy)
    return verify(edit, before, copy, moved=False)


def _move(edit: Edit, before: Unedited | None, workshop: Workshop, copy: str) -> str:
    """Have patchelf make `copy`, as `_edit` does. Raises NotEdited where it fails for what the file is, or spoils it.

    A tag that is missing it is given in a spare place, or it would move the dynamic section, which code may read by its old address.
    What it has put out of use is blanked where it holds a path of the store: Nix would take it for a reference.
    """
    path = source = edit.paths[0]
    if before is not None and before[0] is not None and (tag := new_tag(before[0], edit)):
        clone(path, copy)
        _apply(tag, copy)
        source = copy
    try:
        run([workshop.patchelf, *arguments(edit), "--output", copy, source])
    except ToolError as error:
        if error.ended is None or error.ended in BY_OTHERS or any(word in error.problem for word in OF_THE_SYSTEM):
            raise
        raise NotEdited(path, f"it has no room for the names, and patchelf {error.problem}") from error
    try:
        if (table := read_table(copy)) is not None:
            _apply((*added_tag(table, edit), *without_audit(table, edit)), copy)
            if edit.order is not None:
                _apply(reorder(table, edit.order), copy)
        _apply(read_empty_last(copy), copy)
        _blank(copy, workshop.store)
        return verify(edit, before, copy, moved=True)
    except (MalformedElf, WriteError) as error:
        problem = error.reason if isinstance(error, MalformedElf) else error.problem
        raise NotEdited(path, f"it has no room for the names, and patchelf spoils it: {problem}") from error


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
        _put(writes, file.fileno())


def _put(writes: Sequence[Write], descriptor: int) -> None:
    for each in writes:
        if os.pwrite(descriptor, each.data, each.position) != len(each.data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
