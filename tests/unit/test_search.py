"""The search path of one object as text: tokens, entries and what is settled by the store (ld.so(8))."""

import pytest

from nix_harden.loading.search import Place, expand, is_pure, own_text, places, platforms
from nix_harden.model import Abi, Kind, Object

ABI = Abi(64, True, "EM_X86_64", 0)


def an_object(rpath: str | None = None, runpath: str | None = None) -> Object:
    return Object("/nix/store/abc-it/lib/liba.so", ABI, Kind.LIBRARY, rpath=rpath, runpath=runpath)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$ORIGIN/x", "/o/x"),
        ("${ORIGIN}/x", "/o/x"),
        ("/a/$LIB:/b/${LIB}", "/a/lib64:/b/lib64"),
        ("$PLATFORM/${PLATFORM}", "haswell/haswell"),
        ("$ORIGINAL", "$ORIGINAL"),
        ("$ORIGIN_x", "$ORIGIN_x"),
        ("${ORIGIN", "${ORIGIN"),
        ("$ORIGIN}", "/o}"),
        ("${ORIGINAL}", "${ORIGINAL}"),
        ("$origin", "$origin"),
        ("$$ORIGIN", "$/o"),
        ("$", "$"),
        ("$ORIGIN$LIB", "/olib64"),
        ("$OTHER/$LIB", "$OTHER/lib64"),
    ],
)
def test_tokens(text: str, expanded: str) -> None:
    assert expand(text, "/o", "lib64", "haswell") == expanded


@pytest.mark.parametrize(
    ("rpath", "runpath", "text"),
    [
        (None, None, ("", "RPATH")),
        ("/r", None, ("/r", "RPATH")),
        (None, "/u", ("/u", "RUNPATH")),
        ("/r", "/u", ("/u", "RUNPATH")),
        ("/r", "", ("", "RUNPATH")),
    ],
)
def test_rpath_counts_only_where_there_is_no_runpath(
    rpath: str | None, runpath: str | None, text: tuple[str, str]
) -> None:
    assert own_text(an_object(rpath, runpath)) == text


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ("", []),
        ("/a:/b", ["/a", "/b"]),
        ("/a:/b:/a", ["/a", "/b"]),
        ("/a/:/a//", ["/a"]),
        (":", [""]),
        ("/a::/b", ["/a", "", "/b"]),
        ("/", ["/"]),
        ("$ORIGIN/../lib", ["/o/../lib"]),
    ],
)
def test_entries(text: str, directories: list[str]) -> None:
    assert [place.directory for place in places(an_object(runpath=text), "/o", "lib", "")] == directories


@pytest.mark.parametrize(
    ("directory", "pure"),
    [
        ("/nix/store/abc-x/lib", True),
        ("/nix/store/abc-x/bin/../lib", True),
        ("/nix/store/../../usr/lib", False),
        ("/nix/store/abc-x/../../../lib", False),
        ("", False),
        ("lib", False),
        ("$ORIGINAL/lib", False),
    ],
)
def test_a_directory_is_pure_if_the_store_path_settles_what_it_holds(directory: str, pure: bool) -> None:
    assert is_pure(Place(directory, "RUNPATH"), "libz.so.1", "/nix/store") is pure


@pytest.mark.parametrize(("name", "pure"), [("libGL.so.1", False), ("libcuda.so.1", False), ("libc.so.6", True)])
def test_the_directory_of_the_systems_drivers_answers_for_drivers_alone(name: str, pure: bool) -> None:
    assert is_pure(Place("/run/opengl-driver/lib", "RUNPATH"), name, "/nix/store") is pure


def test_a_directory_directly_in_the_store_is_of_no_package(  # anyone may add a store path
) -> None:
    assert not is_pure(Place("/nix/store", "RUNPATH"), "libz.so.1", "/nix/store")


def test_a_platform_is_asked_for_only_where_the_path_says_so() -> None:
    assert platforms(ABI, "/a/$LIB") == ("",)
    assert set(platforms(ABI, "/a/${PLATFORM}")) >= {"haswell", "x86_64"}
    assert platforms(Abi(64, False, "EM_S390", 0), "$PLATFORM")
