"""The table of settings: one table feeds options, variables, hook and documentation."""

import subprocess
import sys

import pytest

from nix_harden import settings
from nix_harden.errors import UsageError
from nix_harden.settings import TABLE, Form, from_environ, matches

OUTPUT = {"NIX_HARDEN_OUTPUTS": "out=/nix/store/abc-it"}


def test_names_variables_flags_and_attributes_are_each_used_once() -> None:
    for column in ("name", "variable", "flag", "attribute"):
        values = [getattr(row, column) for row in TABLE if getattr(row, column) is not None]
        assert len(values) == len(set(values)), column


def test_every_attribute_is_one_of_those_that_the_issue_lists() -> None:
    assert {row.attribute for row in TABLE if row.attribute} == {
        *(
            "hardenNeededMode",
            "hardenNeededExclude",
            "hardenNeededBind",
            "hardenNeededStrict",
            "hardenNeededKeepRunpath",
            "hardenNeededReserve",
            "hardenNeededPrelink",
            "hardenNeededPrelinkFrom",
        )
    }


def test_every_row_has_a_sentence_that_help_prints() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "nix_harden", "fixup", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "1000"},
    ).stdout
    for row in TABLE:
        assert row.sentence
        if row.flag:
            assert row.flag in help_text
            assert f"[{row.variable}]" in help_text


def test_the_defaults() -> None:
    values = from_environ(OUTPUT, {})
    assert (values.store, values.mode, values.inputs, values.exclude, values.bind) == (
        "/nix/store",
        "soname",
        (),
        (),
        (),
    )
    assert not any((values.strict, values.keep_runpath, values.prelink, values.dry_run, values.json, values.verbose))
    assert values.jobs >= 1


@pytest.mark.parametrize("word", ["1", "true", "True", " 1 "])
def test_a_switch_is_on(word: str) -> None:
    assert from_environ({**OUTPUT, "NIX_HARDEN_STRICT": word}, {}).strict


@pytest.mark.parametrize("word", ["", "0", "false"])
def test_a_switch_is_off(word: str) -> None:
    """Nix turns false into the empty string, and `__structuredAttrs` leaves it empty as well."""
    assert not from_environ({**OUTPUT, "NIX_HARDEN_STRICT": word}, {}).strict


def test_zero_jobs_are_one_a_processor() -> None:
    assert from_environ({**OUTPUT, "NIX_BUILD_CORES": "0"}, {}).jobs >= 1
    assert from_environ({**OUTPUT, "NIX_BUILD_CORES": "3"}, {}).jobs == 3


def test_a_number_of_lookups_is_a_number() -> None:
    assert from_environ(OUTPUT, {}).prelink_from == 500
    assert from_environ({**OUTPUT, "NIX_HARDEN_PRELINK_FROM": "0"}, {}).prelink_from == 0
    with pytest.raises(UsageError, match=r"hardenNeededPrelinkFrom .*: 'few' is not a number of lookups"):
        from_environ({**OUTPUT, "NIX_HARDEN_PRELINK_FROM": "few"}, {})


def test_lists_hold_one_entry_a_line_and_may_hold_spaces() -> None:
    values = from_environ({**OUTPUT, "NIX_HARDEN_EXCLUDE": "a b\n\nc\n"}, {})
    assert values.exclude == ("a b", "c")


def test_paths_are_made_plain_and_listed_once() -> None:
    values = from_environ({**OUTPUT, "NIX_HARDEN_INPUTS": "/nix/store/x/\n/nix/store/y/../x\n/nix/store/z"}, {})
    assert values.inputs == ("/nix/store/x", "/nix/store/z")


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/nix/store/abc-x", True),
        ("/nix/store/abc-x/lib", True),
        ("/nix/store", False),
        ("/nix/store/", False),
        ("/nix/storeabc/x", False),
        ("/usr/lib", False),
        ("relative", False),
    ],
)
def test_what_lies_in_the_store(path: str, inside: bool) -> None:
    assert from_environ(OUTPUT, {}).in_store(path) is inside


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("lib*.so.1", "liba.so.1", True),
        ("lib*.so", "liba.so.1", False),
        ("*", "/nix/store/x", True),
        ("lib[ab].so", "libb.so", True),
        ("LIBA.so", "liba.so", False),
        ("", "liba.so", False),
    ],
)
def test_globs_match_whole_names(pattern: str, name: str, found: bool) -> None:
    assert (matches([pattern], name) is not None) is found


def test_an_error_names_the_option_where_the_option_was_given() -> None:
    with pytest.raises(UsageError) as caught:
        from_environ({**OUTPUT, "NIX_HARDEN_MODE": "soname"}, {"mode": "x"})
    assert str(caught.value) == "--mode: 'x' is no mode; use soname or needed"


def test_each_form_is_used() -> None:
    assert {row.form for row in TABLE} == set(Form)
    assert set(settings.MODES) == {"soname", "needed"}
