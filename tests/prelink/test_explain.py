"""prelink --explain: what there is to gain, with nothing written."""

from prelink.helpers import lookups, prelink
from support.schema import check
from support.source import function, prints
from support.store import Store


def test_what_there_is_to_gain(store: Store) -> None:
    """The sums are those of ld.so's own statistics, before and after; the largest come first, and nothing is written."""
    b = store.package("b").library("libb.so.1", "".join(function(f"b{number}", number) for number in range(50)))
    calls = [f"b{number}" for number in range(50)]
    a = store.package("a").library("liba.so.1", function("a", 1, calls), needs=[b])
    app = store.package("app").program("app", prints("a"), needs=[a])
    before = sorted(store.path.rglob("*"))
    seen = check("prelink", store.call("prelink", "--explain", "--json", app).out)
    said = store.call("prelink", "--explain", app).out.splitlines()
    assert sorted(store.path.rglob("*")) == before
    assert {each["path"]: each["lookups"] for each in seen["askers"]}[str(a)] >= 50
    assert seen["names"] > 0
    program = prelink(store, app)
    now = {"LD_BIND_NOW": "1"}
    saved = lookups(app, environ=now) - lookups(program, environ=now)
    assert 0 < saved <= seen["lookups"]
    assert any(line.endswith(f"for {a}") for line in said)
    assert "names that ld.so searches for" in said[2]
