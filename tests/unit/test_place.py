"""Place: new strings go into bytes that nothing refers to, share what they can, and leave nothing of the old ones."""

from nix_harden.fixup.place import place
from nix_harden.model import Abi, Edit, Field, Kind, Object, PathAction, StringTable, Use, Write
from nix_harden.reading.elf import differences

ABI = Abi(64, True, "EM_X86_64", 0)
AT = 1000  # where the string table lies in the file


def table(*strings: str, fixed: tuple[str, ...] = (), **fields: str) -> StringTable:
    """A table of strings, those that something fixed refers to by their ends, and a field for each use."""
    data = b"\0" + b"".join(text.encode() + b"\0" for text in strings)
    places = {text: data.index(text.encode() + b"\0") for text in (*fixed, *fields.values()) if text}
    found = tuple(Field(Use[use], number * 8, 8, places[text]) for number, (use, text) in enumerate(fields.items()))
    return StringTable(AT, data, True, frozenset(places[text] for text in fixed), found)


def edit(
    *needed: tuple[str, str],
    soname: str | None = None,
    action: PathAction = PathAction.KEEP,
    path: str = "",
    **old: str,
) -> Edit:
    return Edit((), Object("/it", ABI, Kind.LIBRARY, **old), soname, needed, action, path)  # type: ignore[arg-type]


def after(before: StringTable, writes: tuple[Write, ...]) -> tuple[bytes, list[str]]:
    """The table's bytes and what each field leads to, once the writes are made."""
    data, values = bytearray(before.strings), [field.value for field in before.fields]
    for write in writes:
        if write.position >= AT:
            data[write.position - AT : write.position - AT + len(write.data)] = write.data
        else:
            values[write.position // 8] = int.from_bytes(write.data, "little")
    assert len(data) == len(before.strings)
    return bytes(data), [data[value : data.index(0, value)].decode() for value in values]


def test_a_new_name_goes_where_the_dropped_search_path_was() -> None:
    before = table("libz.so.1", "/nix/store/x/lib:/y", NEEDED="libz.so.1", RUNPATH="/nix/store/x/lib:/y")
    asked = edit(("libz.so.1", "/s/z/libz.so.1"), action=PathAction.EMPTY, runpath="/nix/store/x/lib:/y")
    writes = place(before, asked)
    assert writes is not None
    data, fields = after(before, writes)
    assert fields == ["/s/z/libz.so.1", ""]
    assert b"/nix" not in data
    assert data.count(b"libz.so.1") == 1


def test_without_room_there_is_no_place() -> None:
    before = table("libz.so.1", "sym", fixed=("sym",), NEEDED="libz.so.1")
    assert place(before, edit(("libz.so.1", "/s/z/libz.so.1"))) is None


def test_strings_that_stay_move_together_where_free_bytes_are_in_pieces() -> None:
    """Linkers write NEEDED, SONAME and the search path one after the other."""
    before = table("libz.so.1", "it.so", "/s/z/lib", NEEDED="libz.so.1", SONAME="it.so", RUNPATH="/s/z/lib")
    asked = edit(("libz.so.1", "/s/z/lib/libz.so.1"), action=PathAction.EMPTY, soname=None, runpath="/s/z/lib")
    writes = place(before, asked)
    assert writes is not None
    data, fields = after(before, writes)
    assert fields == ["/s/z/lib/libz.so.1", "it.so", ""]
    assert len(data) == len(before.strings)
    stuck = StringTable(AT, before.strings, True, frozenset((before.strings.index(b"it.so"),)), before.fields)
    assert place(stuck, asked) is None, "a symbol's name does not move"


def test_bytes_that_a_symbol_needs_are_not_free() -> None:
    """Linkers merge a string with the end of another: the search path ends with a symbol's name."""
    before = table(
        "libz.so.1", "/nix/store/longer/lib", fixed=("lib",), NEEDED="libz.so.1", RUNPATH="/nix/store/longer/lib"
    )
    asked = edit(("libz.so.1", "/s/libz.so.1"), action=PathAction.EMPTY, runpath="/nix/store/longer/lib")
    writes = place(before, asked)
    assert writes is not None
    data, fields = after(before, writes)
    assert fields == ["/s/libz.so.1", ""]
    assert data.endswith(b"lib\0")
    assert data[before.strings.index(b"lib\0") :] == b"lib\0"


def test_a_name_that_stands_there_already_is_shared() -> None:
    """So a version need and a NEEDED have one string, and a bare name is the end of a path that is kept."""
    path = "/s/z/libz.so.1"
    before = table("libz.so.1", "x" * 20, NEEDED="libz.so.1", VERSION="libz.so.1")
    writes = place(before, edit(("libz.so.1", path)))
    assert writes is not None
    data, fields = after(before, writes)
    assert fields == [path, path]
    assert data.count(path.encode()) == 1
    back = table(path, "a", SONAME="a", NEEDED=path)
    kept = StringTable(back.offset, back.strings, True, frozenset((1,)), back.fields)
    writes = place(kept, edit((path, "libz.so.1")))
    assert writes is not None
    assert after(kept, writes) == (kept.strings, ["a", "libz.so.1"])


def test_a_tag_that_is_not_there_cannot_be_set_in_place() -> None:
    before = table("libz.so.1", "x" * 100, NEEDED="libz.so.1")
    assert place(before, edit(action=PathAction.SET, path="/s/lib")) is None


def test_the_shortest_run_that_is_long_enough_is_taken() -> None:
    before = table("a" * 50, "sym", "b" * 10, "n", fixed=("sym",), NEEDED="n")
    writes = place(before, edit(("n", "c" * 9)))
    assert writes is not None
    data, _ = after(before, writes)
    assert data.index(b"c" * 9 + b"\0") == before.strings.index(b"b" * 10)


def test_what_stays_free_is_blanked() -> None:
    """Whoever left it: it may hold a store path, which Nix would take for a reference."""
    before = table("/s/stale/lib", "sym", "n", fixed=("sym",), NEEDED="n")
    writes = place(before, edit(("n", "m")))
    assert writes is not None
    data, _ = after(before, writes)
    assert b"/s" not in data
    assert b"\0sym\0" in data


def test_differences_are_runs() -> None:
    assert list(differences(b"abcdef", b"abXYeZ")) == [(2, 4), (5, 6)]
    assert list(differences(b"abc", b"abc")) == []
