"""One run of the fuzzer in a process of its own, which libFuzzer ends: `python -m tests.fuzz.harness chunk -max_len=4096 …`."""

from __future__ import annotations

import importlib
import random
import sys
from typing import Any


def main() -> None:
    atheris: Any = importlib.import_module("atheris")  # it has no types
    with atheris.instrument_imports(include=["freezeframe.repository"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - imported while it is instrumented

    target = TARGETS[sys.argv.pop(1)]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def own(piece: bytes) -> bytes:
            return bytes(atheris.Mutate(piece, max_size))

        chance = random.Random(seed)  # noqa: S311 - libFuzzer's seed
        mutated = target.mended(data, own, chance) if chance.random() < 0.5 else own(data)
        return mutated[:max_size]

    atheris.Setup(sys.argv, target.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
