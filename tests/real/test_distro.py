"""A small part of the distribution, built in four ways as `make distro` builds all of it."""

from collections.abc import Callable

import pytest
from real.distro import Row, compare, table

PART = ("lua-cjson", "libpng")  # and what they need: zlib, ncurses, readline, Lua


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(compare(PART, 2))


def test_every_build_shows_the_same_and_a_hardened_one_searches_for_nothing(
    rows: list[Row], record_property: Callable[[str, object], None]
) -> None:
    """Files, programs' outputs, and no failing open more than in the plain build; in the hardened one none at all."""
    record_property("table", "\n".join(table(rows)))
    assert {row.name: row.faults for row in rows if row.faults} == {}
    assert sum(row.runs for row in rows) > 0
    assert sum(row.bound for row in rows) > 0
    before, after = (sum(row.opens[way] for row in rows) for way in (0, 1))
    assert before > after == 0


def test_the_packages_are_those_that_were_asked_for_and_what_they_need(rows: list[Row]) -> None:
    """In the order of their dependencies."""
    names = [row.name for row in rows]
    assert set(PART) < set(names)
    assert names.index("zlib") < names.index("libpng")
    assert names.index("ncurses") < names.index("readline") < names.index("lua5_4") < names.index("lua-cjson")
