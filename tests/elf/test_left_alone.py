"""Decide: what stays as it is, each by a rule that the plan names."""

from pathlib import Path

import pytest
from support.dynamic import names
from support.source import function, opens, prints
from support.store import Package, Store
from support.trace import run


@pytest.fixture
def app(store: Store) -> Package:
    return store.package("app")


def reason(store: Store, app: Package, name: str, *options: str) -> str:
    """Harden, and give the rule by which `name` of the program stayed bare; what the program does must stay."""
    program = app.bin / "app"
    before = run(program)
    plan = store.harden(app, options=["--json", *options]).plan
    verdict = next(verdict for verdict in plan["app"]["needed"] if verdict["old"] == name)
    assert name in names(program).needed
    assert verdict["new"] is None
    assert run(program).behaviour == before.behaviour
    return str(verdict["why"])


@pytest.mark.parametrize(
    "soname",
    [
        *("libcuda.so.1", "libcudadebugger.so.1", "libnvidia-ml.so.1", "libnvcuvid.so.1", "libnvoptix.so.1"),
        *("libOpenCL.so.1", "libGL.so.1", "libGLX.so.0", "libGLX_nvidia.so.0", "libGLX_mesa.so.0", "libEGL.so.1"),
        *("libEGL_nvidia.so.0", "libGLESv2.so.2", "libGLdispatch.so.0", "libOpenGL.so.0", "libvulkan_radeon.so"),
        *("libVkLayer_MESA_overlay.so", "libvdpau_nvidia.so.1", "iris_dri.so", "iHD_drv_video.so"),
    ],
)
def test_driver_libraries(store: Store, app: Package, soname: str) -> None:
    library = store.package("driver").library(soname, function("a", 1))
    app.program("app", prints("a"), needs=[library])
    assert reason(store, app, soname) == "driver library"


def test_a_driver_takes_the_place_of_the_one_that_was_linked(store: Store, app: Package, tmp_path: Path) -> None:
    """As /run/opengl-driver/lib does through LD_LIBRARY_PATH."""
    library = store.package("stub").library("libcuda.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[library])
    driver = Package(store, tmp_path / "run").library("libcuda.so.1", function("a", 2))
    store.harden(app)
    assert run(program, environ={"LD_LIBRARY_PATH": str(driver.parent)}).out == "2\n"


# The entry to glvnd's libGLdispatch, and the directory where drivers of OpenCL are listed, which a package may prefix.
ENTRY = "int __glDispatchInit(void) { static int calls; return ++calls; }"
USER = "int __glDispatchInit(void); int a(void) { return __glDispatchInit(); }"
VENDORS = 'const char *where = "/run/opengl-driver/etc/OpenCL/vendors"; int a(void) { return 1; }'
BLAS = ["blas", "cblas", "lapack", "lapacke"]
GLVND = ["libGL.so.1", "libGLX.so.0", "libEGL.so.1", "libOpenGL.so.0", "libGLESv1_CM.so.1", "libGLESv2.so.2"]


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_dispatchers_of_the_store_are_bound_and_keep_their_sonames(store: Store, app: Package, mode: str) -> None:
    """They look for the system's drivers by themselves, and drivers know them by their bare names."""
    glvnd = store.package("glvnd")
    dispatch = glvnd.library("libGLdispatch.so.0", ENTRY)
    libraries = [dispatch, *(glvnd.library(name, USER, needs=[dispatch]) for name in GLVND)]
    libraries.append(store.package("ocl").library("libOpenCL.so.1", VENDORS))
    program = app.program("app", prints("a"), needs=libraries)
    store.harden(glvnd, options=["--mode", mode])
    store.harden(app, options=["--mode", mode])
    assert names(program).needed[: len(libraries)] == tuple(str(library) for library in libraries)
    assert [names(library).soname for library in libraries] == [library.name for library in libraries]
    assert (run(program).said, run(program).misses) == ((0, "1\n", ""), ())


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_a_driver_that_a_dispatcher_opens_shares_the_dispatcher(
    store: Store, app: Package, tmp_path: Path, mode: str
) -> None:
    """As libGLX opens libGLX_nvidia.so.0 by LD_LIBRARY_PATH: the driver's bare libGLdispatch.so.0 is the one that is loaded."""
    glvnd, system = store.package("glvnd"), Package(store, tmp_path / "run")
    dispatch = glvnd.library("libGLdispatch.so.0", ENTRY)
    opened = opens("libGLX_vendor.so.0", "v", calls=["__glDispatchInit"]).replace("int main(void)", "int a(void)")
    library = glvnd.library("libGLX.so.0", opened, needs=[dispatch])
    program = app.program("app", "int a(void); int main(void) { return a(); }", needs=[library])
    driver = system.library("libGLX_vendor.so.0", USER.replace(" a(", " v("), needs=[dispatch], rpath=[])
    environ = {"LD_LIBRARY_PATH": str(driver.parent)}
    before = run(program, environ=environ)
    store.harden(glvnd, options=["--mode", mode])
    store.harden(app, options=["--mode", mode])
    after = run(program, environ=environ)
    assert before.said == after.said == (0, "2\n", "")
    assert after.files("libGLdispatch") == [str(dispatch)]


def test_a_dispatcher_behind_the_directory_of_the_systems_drivers_stays_bare(store: Store, app: Package) -> None:
    """NixOS puts that directory first where a driver's own library is to win."""
    library = store.package("ocl").library("libOpenCL.so.1", VENDORS)
    app.program("app", prints("a"), needs=[library], rpath=["/run/opengl-driver/lib", library.parent, store.libc])
    assert reason(store, app, "libOpenCL.so.1") == "may be overridden"


def test_a_dispatcher_that_only_the_inputs_hold_stays_bare(store: Store, app: Package) -> None:
    """Without a search path of its own, the object takes whatever is loaded already, or the system's."""
    ocl = store.package("ocl")
    library = ocl.library("libOpenCL.so.1", VENDORS)
    program = app.program("app", prints("a"), needs=[library], rpath=[store.libc])
    plan = store.harden(app, inputs=[ocl], options=["--json"]).plan
    assert "libOpenCL.so.1" in names(program).needed
    assert next(verdict["why"] for verdict in plan["app"]["needed"] if verdict["new"] is None) == "driver library"


@pytest.mark.parametrize("mode", ["soname", "needed"])
def test_blas_and_lapack_are_exchanged_at_run_time(store: Store, app: Package, tmp_path: Path, mode: str) -> None:
    """nixpkgs' manual exchanges them by LD_LIBRARY_PATH, under programs and under libraries; neither name may become a path."""
    blas, other = store.package("blas"), Package(store, tmp_path / "mkl")
    functions = {f"lib{name}{bits}.so.3": f"{name}{bits}_" for name in BLAS for bits in ("", "64")}
    libraries = [blas.library(name, function(symbol, 1)) for name, symbol in functions.items()]
    for name, symbol in functions.items():
        other.library(name, function(symbol, 2))
    user = app.library("libuser.so.1", function("user", 10, list(functions.values())), needs=libraries)
    program = app.program("app", prints(*functions.values(), "user"), needs=[*libraries, user])
    store.harden(blas, options=["--mode", mode])
    store.harden(app, options=["--mode", mode])
    assert [names(library).soname for library in libraries] == list(functions)
    assert run(program).out.split() == ["1"] * 8 + ["18"]
    assert run(program, environ={"LD_LIBRARY_PATH": str(other.lib)}).out.split() == ["2"] * 8 + ["26"]


@pytest.mark.parametrize("directory", ["lib/stubs", "stubs/lib"])
def test_libraries_in_a_stubs_directory(store: Store, app: Package, directory: str) -> None:
    library = store.package("toolkit").library("libreal.so.1", function("a", 1), directory=directory)
    app.program("app", prints("a"), needs=[library])
    assert reason(store, app, "libreal.so.1") == "stub"


def test_nothing_in_a_stubs_directory_is_touched(store: Store) -> None:
    toolkit = store.package("toolkit")
    library = toolkit.library(
        "libreal.so.1", 'int puts(const char *); int a(void) { return puts(""); }', directory="lib/stubs"
    )
    before = library.read_bytes()
    plan = store.harden(toolkit, options=["--json"]).plan
    assert library.read_bytes() == before
    assert plan["libreal.so.1"]["skipped"] == "stub"


def test_a_stub_that_is_known_by_its_file_name_alone(store: Store, app: Package) -> None:
    """libx.so with SONAME libx.so.1 and no such entry: the loader was never meant to find it."""
    toolkit = store.package("toolkit")
    stub = toolkit.library("libreal.so", function("a", 1), soname="libreal.so.1")
    program = app.program("app", prints("a"), needs=[stub], rpath=[store.libc])
    program.write_bytes(program.read_bytes().replace(b"libreal.so.1\0", b"libreal.so\0.1"))
    assert "libreal.so" in names(program).needed
    plan = store.harden(app, toolkit, options=["--json"]).plan
    assert "libreal.so" in names(program).needed
    assert plan["app"]["needed"][0]["why"] == "stub"
    assert names(stub).soname == "libreal.so.1"


@pytest.mark.parametrize("place", ["in no package", "behind a link of a package", "through a linked directory"])
def test_a_file_outside_the_store(store: Store, app: Package, tmp_path: Path, place: str) -> None:
    library = Package(store, tmp_path / "outside").library("liba.so.1", function("a", 1))
    directory = library.parent
    if place == "behind a link of a package":
        directory = store.package("farm").lib
        directory.mkdir()
        (directory / "liba.so.1").symlink_to(library)
    elif place == "through a linked directory":
        directory = store.package("farm").lib
        directory.symlink_to(library.parent)
    app.program("app", prints("a"), needs=[library], rpath=[directory, store.libc])
    assert reason(store, app, "liba.so.1") == "outside the store"


VARIANTS = [
    "glibc-hwcaps/x86-64-v2",
    "glibc-hwcaps/x86-64-v3",
    "haswell",
    "tls",
    "tls/haswell",
    "haswell/x86_64",
    "x86_64",
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_library_that_is_built_for_several_processors(store: Store, app: Package, variant: str) -> None:
    """A path with a slash would skip the one that the loader chooses for the processor (ld.so(8), glibc-hwcaps), here or elsewhere."""
    a = store.package("liba")
    library = a.library("liba.so.1", function("a", 1))
    fast = a.library("liba.so.1", function("a", 2), directory=f"lib/{variant}")
    program = app.program("app", prints("a"), needs=[library])
    tried = run(program, environ={"LD_DEBUG": "libs"}).err
    assert run(program).out == ("2\n" if f"trying file={fast}\n" in tried else "1\n")
    assert reason(store, app, "liba.so.1") == "processor variants"


def test_a_variant_in_an_earlier_directory_of_the_search_path(store: Store, app: Package) -> None:
    a, fast = store.package("liba"), store.package("fast")
    library = a.library("liba.so.1", function("a", 1))
    fast.library("liba.so.1", function("a", 2), directory="lib/glibc-hwcaps/x86-64-v2")
    program = app.program("app", prints("a"), needs=[library], rpath=[fast.lib, a.lib, store.libc])
    assert run(program).out == "2\n"
    assert reason(store, app, "liba.so.1") == "processor variants"


def test_the_soname_of_a_variant(store: Store, app: Package) -> None:
    """Linked to, it would bind that one processor's build."""
    it = store.package("it")
    it.library("liba.so.1", function("a", 1))
    fast = it.library("liba.so.1", function("a", 2), directory="lib/glibc-hwcaps/x86-64-v3")
    store.harden(it)
    assert names(fast).soname == "liba.so.1"


def test_a_soname_whose_library_has_variants(store: Store, app: Package) -> None:
    """Copied by a linker, an absolute SONAME would skip the variants in everything that links to it."""
    it = store.package("it")
    library = it.library("liba.so.1", function("a", 1))
    it.library("liba.so.1", function("a", 2), directory="lib/glibc-hwcaps/x86-64-v2")
    program = app.program("app", prints("a"), needs=[library])
    before = run(program)
    store.harden(it)
    app.program("app", prints("a"), needs=[library])
    assert run(program).behaviour == before.behaviour


@pytest.mark.parametrize("pattern", ["libexec/app", "app", "*/libexec/*"], ids=["path in output", "file name", "path"])
def test_an_excluded_file_is_not_touched(store: Store, app: Package, pattern: str) -> None:
    library = app.library("liba.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[library], directory="libexec")
    before = program.read_bytes(), program.stat()
    plan = store.harden(app, options=["--json", "--exclude", pattern]).plan
    assert (program.read_bytes(), program.stat()) == before
    assert plan["app"]["skipped"] == f"excluded: {pattern}"
    assert names(library).soname == str(library), "others are hardened as ever"


@pytest.mark.parametrize("pattern", ["liba.so.1", "liba.so*", "*/lib/liba.so.1"], ids=["name", "glob", "path"])
def test_an_excluded_library_is_not_bound(store: Store, app: Package, pattern: str) -> None:
    library = store.package("liba").library("liba.so.1", function("a", 1))
    app.program("app", prints("a"), needs=[library])
    assert reason(store, app, "liba.so.1", "--exclude", pattern) == "excluded"


def test_an_excluded_library_of_the_outputs_is_bound_by_nobody_and_keeps_its_soname(store: Store, app: Package) -> None:
    library = app.library("liba.so.1", function("a", 1))
    app.program("app", prints("a"), needs=[library])
    assert reason(store, app, "liba.so.1", "--exclude", "liba.so.1") == "excluded"
    assert names(library).soname == "liba.so.1"


def test_exclusions_and_drivers_yield_to_bind(store: Store, app: Package) -> None:
    """Who names a file for a library has decided."""
    library = store.package("driver").library("libcuda.so.1", function("a", 1))
    program = app.program("app", prints("a"), needs=[library])
    store.harden(app, options=["--bind", f"libcuda.so.1={library}"])
    assert names(program).needed[0] == str(library)
    assert run(program).said == (0, "1\n", "")


def test_a_path_that_leads_out_of_the_store_stays_and_is_named(store: Store, app: Package, tmp_path: Path) -> None:
    """A library without SONAME is recorded by the path that the linker was given."""
    plugin = Package(store, tmp_path / "build").plugin("liba.so", function("a", 1))
    program = app.program("app", prints("a"), flags=[str(plugin)])
    assert names(program).needed[0] == str(plugin)
    answer = store.harden(app)
    assert names(program).needed[0] == str(plugin)
    assert f"{plugin} stays as it is" in answer.err
