"""The same inputs, chosen by the code that they reach: needs atheris (https://github.com/google/atheris).

`python -m faults.guided INPUTS SEED FINDS` runs libFuzzer with its limits of 2 seconds and 256 MiB.
"""

import signal
import sys
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["nix_harden"]):
    from faults import fuzz

from faults import mutate, seeds


def main() -> None:
    inputs, number, finds = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    finds.mkdir(parents=True, exist_ok=True)
    found: dict[str, int] = {}
    with fuzz.workplace() as directory:
        made = seeds.make(directory / "seeds")
        corpus = directory / "corpus"
        corpus.mkdir()
        names = list(made)
        for index, data in enumerate(made.values()):
            (corpus / str(index)).write_bytes(bytes([index]) + data)
        target = fuzz.Target(directory, made)
        target.be_patchelf()
        mutator = mutate.Mutator(mutate.all_seeds(made), number)
        signal.signal(signal.SIGALRM, fuzz.on_alarm)
        done = 0

        def one(data: bytes) -> None:
            nonlocal done
            done += 1
            if data:
                fuzz.guarded(target, names[data[0] % len(names)], data[1:], found, finds)
            if done >= inputs:
                print(
                    f"{done} guided inputs from seed {number}: {dict(target.counts)}; finds: {found or 'none'}",
                    flush=True,
                )

        def change(data: bytes, most: int, _: int) -> bytes:
            if data and mutator.chance.random() < 0.5:
                return (data[:1] + mutator.changed(data[0] % len(names), data[1:]))[:most]
            return bytes(atheris.Mutate(data, most))

        options: list[Any] = [
            f"-runs={inputs}",
            f"-seed={number}",
            "-max_len=16384",
            "-verbosity=0",
            "-rss_limit_mb=256",
            "-timeout=2",
        ]
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={finds}/", str(corpus)], one, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
