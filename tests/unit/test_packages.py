"""The order in which packages are hardened, and what each refers to; pure."""

import pytest

from nix_harden.fixup.packages import closure, order

DIAMOND = {"app": ("left", "right"), "left": ("base",), "right": ("base",), "base": ()}


@pytest.mark.parametrize("first", DIAMOND)
def test_each_comes_behind_all_that_it_refers_to(first: str) -> None:
    """Whichever is met first."""
    references = {first: DIAMOND[first]} | DIAMOND
    place = {group[0]: number for number, group in enumerate(order(references))}
    assert len(place) == len(DIAMOND)
    for name, others in references.items():
        assert all(place[other] < place[name] for other in others)


def test_what_refers_to_each_other_is_one_group_in_its_place() -> None:
    """Also where the circle is met from within, and two circles share a package."""
    references = {"app": ("b",), "a": ("b",), "b": ("c",), "c": ("a", "d", "base"), "d": ("c",), "base": ()}
    assert order(references) == (("base",), ("a", "b", "c", "d"), ("app",))
    assert order({"b": ("a",), "a": ("b",)}) == (("a", "b"),)


def test_a_long_chain_needs_no_stack() -> None:
    references = {str(number): (str(number + 1),) for number in range(50_000)} | {"50000": ()}
    assert order(references)[0] == ("50000",)


def test_a_closure_has_the_nearest_first_and_not_the_group_itself() -> None:
    references = {"a": ("b", "c"), "b": ("a", "d"), "c": ("e",), "d": ("e",), "e": ()}
    assert closure(["a"], references) == ("b", "c", "d", "e")
    assert closure(["a", "b"], references) == ("c", "d", "e")
