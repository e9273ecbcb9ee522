"""Errors: each carries its fields, renders itself as one sentence, and knows its exit status."""

import pytest

from nix_harden.errors import (
    CheckFailed,
    FindingsRefused,
    HardenError,
    MalformedElf,
    NotDrawn,
    NotEdited,
    NotFrozen,
    NotJoined,
    NotPrelinked,
    PlanConflict,
    ReadError,
    ReferenceRefused,
    SeveralErrors,
    ToolError,
    UsageError,
    WouldBreak,
    WriteError,
)

CASES: list[tuple[HardenError, int]] = [
    (UsageError("hardenNeededMode", "'x' is no mode"), 2),
    (MalformedElf("/p", "cut"), 1),
    (PlanConflict("/p", "/q", "they differ"), 1),
    (WriteError("/p", "no room"), 3),
    (ToolError("patchelf", "failed"), 3),
    (ReadError("/p", "Permission denied"), 3),
    (ReferenceRefused("/p", "SONAME", "/p/a", "out", "itself", "disallowedReferences", False), 1),
    (WouldBreak("/p", "/q", "liba.so.1", "/x", "/y"), 1),
    (FindingsRefused(2), 1),
    (NotEdited("/p", "it has no room"), 1),
    (NotFrozen("/p", "it is static", "leave it"), 1),
    (NotPrelinked("/p", "it is static", "leave it"), 1),
    (NotJoined("/p/app.dynsym", 3, "it is none", "leave it"), 1),
    (NotJoined("/p/app.text", None, "it is longer", "leave it"), 1),
    (NotDrawn("/p", "it is static", "say another"), 1),
    (CheckFailed("/p", "liba.so.1", "/x", "/y"), 1),
]


@pytest.mark.parametrize(("error", "status"), CASES, ids=[type(error).__name__ for error, _ in CASES])
def test_each_is_one_sentence_with_its_fields_and_its_status(error: HardenError, status: int) -> None:
    said = str(error)
    assert error.status == status
    assert "\n" not in said
    assert all(str(field) in said for field in vars(error).values() if field)


def test_a_file_that_is_half_replaced_is_said_to_be() -> None:
    """Of its hard links one is new: then it is not as it was."""
    said = str(WriteError("/p", "no room", ("/p",)))
    assert "as it was:" not in said
    assert "/p new, its other hard links as they were: no room" in said


def test_every_kind_is_tried_above() -> None:
    kinds = {HardenError}
    while (more := kinds.union(*(each.__subclasses__() for each in kinds))) != kinds:
        kinds = more
    assert {type(error) for error, _ in CASES} == kinds - {HardenError, SeveralErrors}


def test_several_are_one_a_line_and_the_worst_status_counts() -> None:
    several = SeveralErrors((WriteError("/p", "x"), CheckFailed("/q", "a", "b", "c")))
    assert len(str(several).splitlines()) == 2
    assert several.status == 3
