"""Say at the end of a run how much was compared, whichever worker did it."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "compared with ld.so":
                terminalreporter.write_line(f"{name}: {value}")
