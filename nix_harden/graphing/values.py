"""What a picture of a graph is made of, as values."""

import enum
from dataclasses import dataclass

REFERENCE = "reference"  # the tag of an arrow between store paths


class Role(enum.Enum):
    """What a vertex stands for."""

    PROGRAM = "program"
    LIBRARY = "library"
    PLUGIN = "plugin"
    LOADER = "loader"
    OPENED = "opened by dlopen"  # a file that a dlopen would load in addition, which is not walked
    MISSING = "not found"
    STORE_PATH = "store path"


class Means(enum.Enum):
    """How an arrow's target is found, as far as a picture tells it apart."""

    PATH = "path"
    LOADED = "SONAME match"
    SEARCH = "search path"
    SYSTEM = "cache or default directory"
    DLOPEN = "dlopen"
    REFERENCE = "reference"
    MISSING = "not found"


REDUCIBLE = frozenset((Means.PATH, Means.LOADED, Means.SEARCH, Means.REFERENCE))


@dataclass(frozen=True, slots=True)
class File:
    """What the disk says of a path: its real path, the file's size in bytes, and of a prelinked program the module that it names."""

    real: str
    size: int
    module: str | None = None


@dataclass(frozen=True, slots=True)
class Vertex:
    """One object, missing name or store path.

    `id` depends on its path, or missing name, alone. `size` is that of the file, 0 for what is not there, `closure` its own and that of all that it
    reaches, in bytes. `depth` is the number of arrows from the nearest root; a root is a program, or what nothing else in the picture
    reaches. `bare` and `missing` count its names that are searched for by every program and that are not found, `twice` says that some program
    maps another file of the same SONAME, `module` is what a prelinked program names, `below` counts the neighbours that --depth left
    out.
    """

    id: str
    path: str
    label: str
    role: Role
    soname: str | None = None
    store_path: str = ""
    size: int = 0
    closure: int = 0
    depth: int = 0
    root: bool = False
    bare: int = 0
    missing: int = 0
    twice: bool = False
    module: str | None = None
    below: int = 0


@dataclass(frozen=True, slots=True)
class Arrow:
    """What one object's names lead to: `source` and `target` are ids, `names` the strings that agree in all else.

    `how` is the loader's own word, `via` the directory or object whose search path it was. `bare` says that the name holds no
    slash; `implied` that other arrows lead from its source to its target too, so that a picture may leave it out.
    """

    source: str
    target: str
    tag: str
    how: str
    means: Means
    names: tuple[str, ...]
    via: str = ""
    bare: bool = False
    implied: bool = False


@dataclass(frozen=True, slots=True)
class StorePath:
    """A store path that holds vertices: `name` is without the hash, `colour` the number of its colour; None where it holds but one."""

    path: str
    name: str
    colour: int | None


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything to draw, sorted: two runs over the same files give the same.

    `remarks` are sentences on what no drawing shows: that a loader would stop, so that what comes behind is not there.
    """

    vertices: tuple[Vertex, ...]
    arrows: tuple[Arrow, ...]
    store_paths: tuple[StorePath, ...]
    remarks: tuple[str, ...] = ()

    @property
    def implied(self) -> int:
        """How many arrows a drawing leaves out."""
        return sum(arrow.implied for arrow in self.arrows)
