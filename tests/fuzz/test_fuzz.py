"""The fuzzer for a stated time (only in a long run), and its kept corpus and mended seeds through every reader (always)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from .run import CORPUS, fuzz
from .target import Target
from .targets import TARGETS

#: For each target in a long run.
SECONDS = 60
#: Mended inputs a target in an ordinary run.
MENDED = 300


def flipping(chance: Random) -> Callable[[bytes], bytes]:
    """A mutation that needs no fuzzer."""

    def mutate(data: bytes) -> bytes:
        at = chance.randrange(len(data) + 1)
        piece = chance.randbytes(chance.choice((0, 1, 1, 4)))
        return data[:at] + piece + data[at + chance.choice((0, 1, len(piece))) :]

    return mutate


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_kept_corpus_and_mended_seeds_hold(target: Target) -> None:
    chance = Random(7)  # noqa: S311 - the same each time
    for path in sorted((CORPUS / target.name).glob("*")):
        target.check(path.read_bytes())
    for seed in target.seeds():
        target.check(seed)
    for _ in range(MENDED):
        target.check(target.mended(chance.choice(target.seeds()), flipping(chance), chance))


@pytest.mark.long
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_fuzzed(target: Target, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    outcome = fuzz(target, SECONDS, tmp_path / "kept")
    record_property("executions", outcome.executions)
    record_property("edges covered", outcome.coverage)
    record_property("peak MiB", outcome.peak_rss_mib)
    record_property("findings", 0 if outcome.finding is None else outcome.finding.name)
    assert outcome.finding is None, outcome.said
