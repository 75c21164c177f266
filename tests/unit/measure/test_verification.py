"""The bench of verification: its indexes are what they say, each is read once, and its rows are of what was done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.layout import DIGEST_BYTES
from ops.measure import synthetic, verification
from ops.measure.synthetic import CHUNK_BYTES, Shape, SyntheticStore, pieces_of

SHAPE = Shape(disks=3, captures=3, pieces=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "PIECE_SLOTS", 1000)
    monkeypatch.setattr(synthetic, "COMMON", 2)
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)


def slots_of(disk: int, capture: int) -> list[bytes]:
    table = b"".join(pieces_of(SHAPE, disk, capture))
    return [table[at : at + DIGEST_BYTES] for at in range(0, len(table), DIGEST_BYTES)]


def test_disks_share_a_part_and_a_capture_differs_from_the_one_before_in_a_hundredth() -> None:
    first, other = slots_of(0, 0), slots_of(1, 0)
    assert len(set(first)) == 2000
    assert [one == two for one, two in zip(first, other, strict=True)] == [True] * 1000 + [False] * 1000
    for capture in (1, 2):
        before, after = slots_of(1, capture - 1), slots_of(1, capture)
        assert sum(one != two for one, two in zip(before, after, strict=True)) == 20
    assert slots_of(2, 2) == slots_of(2, 2)


@pytest.mark.parametrize("encrypted", [False, True])
def test_its_repository_is_one(encrypted: bool) -> None:  # noqa: FBT001
    store = SyntheticStore(SHAPE)
    repository: Repository = store.fill(encrypted=encrypted)
    manifests = repository.manifests()[::-1]
    assert len(manifests) == 3
    for capture, manifest in enumerate(manifests):
        for number, (_, disk) in enumerate(manifest.disks()):
            with repository.index(disk.index) as index:
                assert [digest for _, digest in index.used_slots()] == slots_of(number, capture)
                assert index.header.size_bytes == 2000 * CHUNK_BYTES


@pytest.mark.case("D1")
@pytest.mark.parametrize("encrypted", [False, True])
def test_each_index_is_read_once_and_every_chunk_is_found(encrypted: bool) -> None:  # noqa: FBT001
    row = verification.measure(SHAPE, encrypted=encrypted)
    chunks = {digest for disk in range(3) for capture in range(3) for digest in slots_of(disk, capture)}
    assert (row["slots"], row["chunks"]) == (3 * 3 * 2000, len(chunks))
    assert (row["index_reads"], row["most_reads_of_one"]) == (9, 1)
    assert row["marking_us_per_slot"] <= row["us_per_slot"]


def test_there_is_a_row_for_each_size_plain_and_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def played(_: Path, tib: int, captures: int, *, encrypted: bool) -> dict[str, Any]:
        cost = tib * (2 if encrypted else 1)
        return {"tib": tib, "captures": captures, "encrypted": encrypted, "us_per_slot": cost, "us_per_chunk": 2 * cost}

    monkeypatch.setattr(verification, "_in_a_process", played)
    told: list[str] = []
    found = verification.run(tmp_path, [1, 3], 5, told.append)
    assert [(row["tib"], row["encrypted"]) for row in found["rows"]] == [(1, False), (1, True), (3, False), (3, True)]
    assert found["us_per_slot_largest_over_smallest_plain"] == 3
    assert found["us_per_chunk_largest_over_smallest_encrypted"] == 3
    assert len(told) == 4
    assert told[0].startswith("tib 1, captures 5, encrypted False")
