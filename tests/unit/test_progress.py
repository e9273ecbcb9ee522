"""The audit's progress line: on a terminal, from the first second on, and gone at the end."""

import io

import pytest

from nix_harden.loading import render


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("nix_harden.loading.render.time.monotonic", lambda: now[0])
    return now


def test_nothing_is_said_within_the_first_second(clock: list[float]) -> None:
    stream = Terminal()
    tell = render.progress_on(stream)
    clock[0] += 0.9
    tell(1, 2, "/nix/store/a")
    tell(2, 2, "")
    assert stream.getvalue() == ""


def test_a_line_is_drawn_over_the_last_and_wiped_out_at_the_end(clock: list[float]) -> None:
    stream = Terminal()
    tell = render.progress_on(stream)
    clock[0] += 1.5
    tell(1, 3, "/nix/store/a")
    clock[0] += 0.05
    tell(2, 3, "/nix/store/too-soon")
    tell(3, 3, "")
    assert stream.getvalue() == "\r\x1b[K1 of 3 /nix/store/a\r\x1b[K"


def test_no_escape_sequence_of_a_name_reaches_the_terminal(clock: list[float]) -> None:
    stream = Terminal()
    tell = render.progress_on(stream)
    clock[0] += 2
    tell(1, 1, "/nix/store/\x1b[31m")
    assert stream.getvalue().count("\x1b") == 1


def test_a_file_gets_no_progress(clock: list[float]) -> None:
    stream = io.StringIO()
    tell = render.progress_on(stream)
    clock[0] += 5
    tell(1, 2, "/nix/store/a")
    assert stream.getvalue() == ""
