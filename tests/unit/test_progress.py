"""The bar for what takes longer than a second: on a terminal, from the first second on, and gone at the end."""

import io
import time

import pytest

from nix_harden.saying import progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def drawn(stream: io.StringIO, what: str) -> None:
    until = time.monotonic() + 20
    while what not in stream.getvalue():
        assert time.monotonic() < until, stream.getvalue()
        time.sleep(0.01)


def test_nothing_is_drawn_within_the_first_second() -> None:
    stream = Terminal()
    with progress.shown_on(stream) as tell:
        tell(1, 2, "/nix/store/a")
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("soon")
def test_a_bar_says_how_much_is_done_and_is_wiped_out_at_the_end() -> None:
    stream = Terminal()
    with progress.shown_on(stream) as tell:
        tell(1, 3, "/nix/store/a")
        drawn(stream, "1 of 3 /nix/store/a")
    assert stream.getvalue().endswith("\x1b[2K")  # EL, ECMA-48


@pytest.mark.usefixtures("soon")
def test_it_is_wiped_out_before_an_error_is_told() -> None:
    stream = Terminal()

    def fail() -> None:
        with progress.shown_on(stream) as tell:
            tell(0, 0, "here")
            drawn(stream, "here")
            raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        fail()
    assert stream.getvalue().endswith("\x1b[2K")


@pytest.mark.usefixtures("soon")
def test_no_escape_sequence_or_markup_of_a_name_reaches_the_terminal() -> None:
    stream = Terminal()
    with progress.shown_on(stream) as tell:
        tell(1, 1, "/nix/store/\x1b[31m[red]a")
        drawn(stream, "\\x1b[31m[red]a")
    assert "\x1b[31m[red]" not in stream.getvalue()


@pytest.mark.usefixtures("soon")
def test_a_program_that_has_nothing_to_draw_with_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """That for builds has no rich, and Nix gives builders a terminal."""
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    stream = Terminal()
    with progress.shown_on(stream) as tell:
        tell(1, 2, "/nix/store/a")
        time.sleep(0.2)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("soon")
def test_a_file_gets_no_bar() -> None:
    stream = io.StringIO()
    with progress.shown_on(stream) as tell:
        tell(1, 2, "/nix/store/a")
        time.sleep(0.2)
    assert stream.getvalue() == ""
