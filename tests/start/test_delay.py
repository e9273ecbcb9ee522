"""--delay: strace itself delays each failed lookup, and nothing else."""

import pytest
from start.helpers import refused, trace
from start.test_counts import chain
from support.store import Store

from nix_harden.tracing import trace as module
from nix_harden.tracing.trace import observe


def test_each_failed_lookup_is_delayed_and_no_other(store: Store) -> None:
    """By the marks in strace's log; and a start cannot be shorter than its delays."""
    (found,) = trace(store, "--delay", "2ms", chain(store))
    assert found["delayed"]["delay"] == 0.002
    assert found["delayed"]["lookups"] == found["failed_lookups"] > 10
    assert found["delayed"]["lookups_that_found"] == 0
    assert found["delayed"]["seconds"] >= 0.002 * found["failed_lookups"]


def test_where_paths_are_too_many_all_lookups_are_delayed_and_that_is_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line holds only so many; the ones that found their file are counted apart."""
    monkeypatch.setattr(module, "MOST_PATHS", 0)
    found = observe(str(chain(store)), delay=0.0001)
    assert found.delayed is not None
    assert found.delayed.found >= len(found.libraries)
    assert found.delayed.calls - found.delayed.found >= found.failed_lookups


@pytest.mark.parametrize("text", ["1", "ms", "0ms", "-1ms", "1 year", "1e3ms"])
def test_what_is_no_time_is_refused(store: Store, text: str) -> None:
    assert refused(store, f"--delay={text}", "/bin/true", status=2).startswith("nix-harden: error: --delay: ")
