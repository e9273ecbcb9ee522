"""An edited file is read again, by two readers, and compared with what was asked for."""

from dataclasses import fields

from nix_harden.errors import WriteError
from nix_harden.model import Abi, Edit, Object, StringTable
from nix_harden.reading.elf import Contents, read_edited

# The lowest address that a process may map (vm.mmap_min_addr; mm/Kconfig of Linux): lower where the kernel runs 32-bit ARM.
LOWEST, LOWEST_OF_ARM = 0x10000, 0x8000
# What is compared of an object that was edited, with what it is to read as.
READ_AGAIN = "abi kind interpreter soname needed runpath rpath filters version_files opens_libraries".split()
Unedited = tuple[StringTable | None, Contents | None]


def expected(edit: Edit) -> dict[str, object]:
    """What an object must read as once `edit` is made, for every field that an edit may touch."""
    after = edit.after
    return {name: getattr(after, name) for name in READ_AGAIN}


def verify(edit: Edit, before: Unedited | None, copy: str, *, moved: bool) -> str:
    """Read the edited copy and compare it with what was asked for: the strings named, and all others untouched.

    `moved` tells that tables may lie elsewhere. pyelftools reads it, too; why it could not, or nothing. Raises WriteError.
    """
    edited = read_edited(copy)
    if edited is None:
        raise WriteError(edit.paths[0], "the edit left no ELF file")
    after, new = edited
    old = before[1] if before is not None else None
    _compare(edit, after)
    if old is None or new is None or old.spoilt(new):
        raise WriteError(edit.paths[0], "the edit changed a symbol's or version's name, or a flag")
    if problem := _unmapped(old, new, edit.before.abi) if moved else "it moved a segment" * (old.loaded != new.loaded):
        raise WriteError(edit.paths[0], problem)
    return _second_reading(edit, old, new, copy)


def _unmapped(old: Contents, new: Contents, abi: Abi) -> str:
    """What keeps a loader from mapping all code and data where they were; nothing if it still does.

    The segment that begins with the file header is not asked for: tables of it lie elsewhere.
    """
    for segment in (each for each in old.loaded if each.offset):
        end = segment.address + segment.size
        if not any(each.address <= segment.address and end <= each.address + each.size for each in new.loaded):
            return f"the segment at {segment.address:#x} is no longer there"
    lowest, was = (min((each.address for each in contents.loaded), default=0) for contents in (new, old))
    allowed = LOWEST_OF_ARM if abi.machine in ("EM_ARM", "EM_AARCH64") else LOWEST
    if lowest < was and lowest < allowed:
        return f"its first segment would be at {lowest:#x}, below {allowed:#x}, where a kernel maps nothing"
    return ""


def _second_reading(edit: Edit, old: Contents, new: Contents, copy: str) -> str:
    """Let pyelftools read the copy and compare it with the edit; why it could not read it, or nothing. Raises WriteError."""
    from nix_harden.fixup import witness

    try:
        seen = witness.look(copy)
    except witness.Blind as error:
        return str(error)
    wanted = expected(edit) | {
        "versions": old.version_names,
        "loaded": tuple((each.offset, each.address, each.size) for each in new.loaded),
    }
    for each in fields(seen):
        if (found := getattr(seen, each.name)) != wanted[each.name]:
            problem = f"pyelftools reads {each.name} {found!r} instead of {wanted[each.name]!r}"
            raise WriteError(edit.paths[0], problem)
    return ""


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
