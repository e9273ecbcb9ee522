"""Run nix-harden again and again, and at its Nth change to the file system or start of a program end it or make it fail.

`python -m faults.step ARGUMENT…` reads lines `N FAULT` and answers each with one line of JSON: the status, the words, and
the steps that were made. FAULT is `kill` or the name of an error; an N past the last step changes nothing.
"""

import errno
import json
import os
import signal
import sys
import tempfile

from nix_harden import cli
from nix_harden.fixup import catalog, check, patchelf, plan, report, write  # noqa: F401

STEPS = (
    "os.chmod os.chown os.link os.mkdir os.remove os.rename os.rmdir os.setxattr os.truncate os.utime "
    "shutil.copystat subprocess.Popen tempfile.mkdtemp tempfile.mkstemp"
).split()


def run(wanted: int, fault: str, arguments: list[str], steps: int) -> None:
    """The child's whole life: a run that is stopped at a step, each of which is noted at descriptor `steps`."""
    seen = 0

    def at(event: str, _: tuple[object, ...]) -> None:
        nonlocal seen
        if event in STEPS:
            seen += 1
            os.write(steps, event.encode() + b" ")
            if seen == wanted:
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, fault)
                raise OSError(number, os.strerror(number))

    sys.addaudithook(at)
    cli.main(arguments)


def main() -> None:
    for line in sys.stdin:
        number, fault = line.split()
        with tempfile.TemporaryFile() as words, tempfile.TemporaryFile() as steps:
            child = os.fork()
            if not child:
                os.dup2(words.fileno(), 2)
                run(int(number), fault, sys.argv[1:], steps.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            words.seek(0)
            steps.seek(0)
            answer = {"status": status, "words": words.read().decode(), "steps": steps.read().decode().split()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
