"""The loaders' rules over a file system that exists in memory alone."""

import errno
from dataclasses import dataclass, field

from nix_harden.loading.cache import CacheEntry, cache_key, parse_cache
from nix_harden.loading.graph import AUXILIARY, FILTER, NEEDED, Found, Graph, How, Loader, Seen, Unloadable, Unopened
from nix_harden.loading.loader import walk
from nix_harden.model import Abi, Kind, Loadable, Object

ABI = Abi(64, True, "EM_X86_64", 0)
LOADER = Loader(
    "/lib/ld.so", "/lib/ld.so", ABI, soname="ld.so", directories=("/lib/",), lib="lib64", platform="haswell"
)


@dataclass
class Memory:
    """Files by path."""

    files: dict[str, Seen] = field(default_factory=dict)

    def open(self, path: str) -> Seen:
        return self.files.get(path, Unopened(errno.ENOENT))

    def is_directory(self, path: str) -> bool:
        return any(each.startswith(path.rstrip("/") + "/") for each in self.files)

    def writable_at(self, path: str) -> str | None:
        return None

    def add(
        self,
        path: str,
        *wants: str | tuple[str, str],
        soname: str | None = None,
        rpath: str | None = None,
        runpath: str | None = None,
        flags: int = 0,
        bits: int = 64,
    ) -> None:
        pairs = tuple((NEEDED, want) if isinstance(want, str) else want for want in wants)
        obj = Object(
            path,
            Abi(bits, True, "EM_X86_64", 0),
            Kind.LIBRARY,
            soname=soname,
            needed=tuple(name for tag, name in pairs if tag == NEEDED),
            rpath=rpath,
            runpath=runpath,
        )
        self.files[path] = Found((1, len(self.files) + 1), path, Loadable(obj, "ET_DYN", flags, pairs))


def graph(memory: Memory, root: str = "/p", loader: Loader = LOADER) -> Graph:
    made = walk(root, loader, memory)
    assert made is not None
    return made


def steps(made: Graph) -> list[tuple[str, How]]:
    return [(edge.name, edge.how) for edge in made.edges]


def test_rpath_of_whoever_asked() -> None:
    """RPATH of the object, of the chain that loaded it, and of the program; a RUNPATH of its own turns all of them off."""
    memory = Memory()
    memory.add("/p", "a", "r", rpath="/x")
    memory.add("/x/a", "b", rpath="/y")
    memory.add("/y/b", "c")
    memory.add("/y/c")
    memory.add("/x/r", "d", runpath="/z")
    memory.add("/x/d")
    made = graph(memory)
    assert steps(made) == [
        ("a", How.RPATH),
        ("r", How.RPATH),
        ("b", How.RPATH),
        ("d", How.MISSING),
        ("c", How.RPATH),
    ]
    assert made.edges[4].via == "/x/a"


def test_soname_of_a_loaded_library() -> None:
    """A bare name is compared with DT_SONAME; an absolute SONAME answers no bare name."""
    memory = Memory()
    memory.add("/p", "/a/one", "/b/two", "one.so", "two.so")
    memory.add("/a/one", soname="one.so")
    memory.add("/b/two", soname="/b/two.so")
    assert steps(graph(memory))[2:] == [("one.so", How.SONAME), ("two.so", How.MISSING)]


def test_other_machines_are_passed_over_and_rubbish_is_not() -> None:
    """A library of another class is no answer; a file that is no ELF is the end."""
    memory = Memory()
    memory.add("/p", "a", runpath="/x:/y:/z")
    memory.add("/x/a", bits=32)
    memory.add("/z/a")
    assert graph(memory).listing == (("a", "/z/a"),)
    memory.files["/y/a"] = Unloadable("invalid ELF header")
    assert graph(memory).refusal == "/y/a: invalid ELF header"


def test_nodeflib() -> None:
    """DF_1_NODEFLIB shuts out the default directories, and entries of the cache that lie in them."""
    cached = Loader(
        "/l", "/l", ABI, directories=("/lib/",), cache_path="/c", cache={"a": (CacheEntry("/lib/a", 0x303),)}
    )
    memory = Memory()
    memory.add("/p", "a", "b", flags=0x800)
    memory.add("/lib/a")
    memory.add("/lib/b")
    assert steps(graph(memory, loader=cached)) == [("a", How.MISSING), ("b", How.MISSING)]
    memory.add("/p", "a", "b")
    assert steps(graph(memory, loader=cached)) == [("a", How.CACHE), ("b", How.DEFAULT)]


def test_named_variants_of_the_cache() -> None:
    """Of the cache's glibc-hwcaps entries the best that the processor has is taken, of entries of other machines none."""
    entries = (
        CacheEntry("/v3", 0x303, "v3"),
        CacheEntry("/v2", 0x303, "v2"),
        CacheEntry("/32", 3),
        CacheEntry("/0", 0x303),
    )
    memory = Memory()
    memory.add("/p", "a7")
    for path in ("/v3", "/v2", "/32", "/0"):
        memory.add(path)
    for variants, path in ((("glibc-hwcaps/v3", "glibc-hwcaps/v2"), "/v3"), (("glibc-hwcaps/v2",), "/v2"), ((), "/0")):
        loader = Loader("/l", "/l", ABI, cache_path="/c", cache={"a7": entries}, variants=variants)
        assert graph(memory, loader=loader).listing == (("a7", path),)


def test_filters_come_before_the_object_that_names_them() -> None:
    """DT_FILTER and DT_AUXILIARY are loaded before the object's other names, and placed in front of it."""
    memory = Memory()
    memory.add("/p", "/a", "/b")
    memory.add("/a", (AUXILIARY, "/f"), (FILTER, "/b"))
    memory.add("/b")
    memory.add("/f")
    assert [path for _, path in graph(memory).listing] == ["/f", "/b", "/a"]


def test_filters_of_each_other_end() -> None:
    """Objects that are each other's filters are each loaded once: glibc's own loop is not followed."""
    memory = Memory()
    memory.add("/p", (FILTER, "/a"), (FILTER, "/p"), "/a")
    memory.add("/a", (FILTER, "/b"), (FILTER, "/a"))
    memory.add("/b", (FILTER, "/a"), (AUXILIARY, "/p"))
    assert len(graph(memory).nodes) <= 4


def test_tokens() -> None:
    """$ORIGIN is the directory by which the object was found; $LIB and $PLATFORM are the loader's."""
    memory = Memory()
    memory.add("/d/p", "a", runpath="$ORIGIN/x/$LIB")
    memory.add("/d/x/lib64/a", "$ORIGIN/../b", "c", runpath="/$PLATFORM:/${NONE}")
    memory.add("/d/x/lib64/../b")
    memory.add("/haswell/c")
    assert [path for _, path in graph(memory, "/d/p").listing] == ["/d/x/lib64/a", "/d/x/lib64/../b", "/haswell/c"]


def test_cache_that_is_none() -> None:
    """Bytes that are no ld.so.cache have no entries; numbers in names are compared by value."""
    for data in (b"", b"x" * 100, b"glibc-ld.so.cache1.1", b"glibc-ld.so.cache1.1" + b"\xff" * 60):
        assert parse_cache(data, True) == {}
    assert cache_key("liba.so.010") == cache_key("liba.so.10") != cache_key("liba.so.1")
