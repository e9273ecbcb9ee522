"""Real programs start from their parts, and say what they said: Debian's ruby and sqlite3 as in the demo, and programs of more than a
hundred libraries."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import debstore
from real.observe import environment, run
from real.programs import PACKAGES, TABLE, Run

from nix_harden.parts.split import split

pytestmark = pytest.mark.xdist_group("debian order")

CHROMIUM = Path("/usr/lib/chromium")
LIMIT = 120  # seconds
PAGE = "<html><body><script>document.body.innerText = 6 * 7</script></body></html>"


def put_parts(program: Path) -> Path:
    """Put the parts of a program where it is; where the program itself is now."""
    whole = program.with_name("whole") / program.name
    whole.parent.mkdir(exist_ok=True)
    aside = program.with_name("aside")
    program.rename(whole)
    done = split(str(whole), str(aside))
    assert done.program is not None, done.why_not
    for part in aside.iterdir():
        part.rename(program.with_name(part.name))
    aside.rmdir()
    return whole


@pytest.fixture(scope="module")
def debian() -> Iterator[debstore.Store]:
    with tempfile.TemporaryDirectory(prefix="nix-harden-") as temporary:
        dest = Path(temporary)
        dest.chmod(0o755)
        yield debstore.build(dest, [*PACKAGES, "ffmpeg"], debstore.default_cache())


def test_programs_do_the_same(debian: debstore.Store) -> None:
    """Every run of the demo's table: extensions that are opened, encodings, subprocesses, a database."""
    home = debian.directory.parent / "home"
    env = environment(debian, home)

    def all_runs() -> dict[str, object]:
        return {str(each): run(each.argv(debian), env, home, each.stdin) for each in TABLE}

    before = all_runs()
    for program in sorted({Run.elf(each, debian) for each in TABLE}):
        put_parts(program)
    assert all_runs() == before


def test_a_program_of_two_hundred_libraries(debian: debstore.Store, tmp_path: Path) -> None:
    """ffmpeg makes the same file, names that are absolute in its part of NEEDED or not."""
    program = debian.path("ffmpeg") / "bin/ffmpeg"
    env = {"LC_ALL": "C"}
    make = ("-loglevel", "quiet", "-f", "lavfi", "-i", "testsrc=duration=1", "-bitexact", "-y")

    def made(name: str) -> bytes:
        out = tmp_path / name
        subprocess.run([program, *make, out], env=env, check=True)
        return out.read_bytes()

    whole = made("whole.mkv")
    put_parts(program)
    assert made("parts.mkv") == whole
    needed = program.with_name("ffmpeg.needed")
    words = [str(next(debian.directory.glob(f"*/lib/{name}"), name)) for name in needed.read_text().split()]
    assert sum(word.startswith("/") for word in words) > 5
    needed.write_text("\n".join(words))
    assert made("bound.mkv") == whole


def test_a_browser(tmp_path: Path) -> None:
    """Chromium of 300 MB starts itself again for each of its processes, by /proc/self/exe, and forks them from one another."""
    there = tmp_path / "chromium"
    there.mkdir()
    for file in CHROMIUM.iterdir():
        (there / file.name).symlink_to(file) if file.name != "chromium" else shutil.copy(file, there)
    program = there / "chromium"
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    env = {"LC_ALL": "C", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}")
    before = subprocess.run([program, *words], env=env, capture_output=True, check=True, timeout=LIMIT).stdout
    put_parts(program)
    assert subprocess.run([program, *words], env=env, capture_output=True, check=True, timeout=LIMIT).stdout == before
    assert b"<body>42</body>" in before.replace(b"\n", b"")
