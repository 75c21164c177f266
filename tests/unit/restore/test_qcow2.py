"""The qcow2 images that we write are what QEMU takes for sound, of any size, chunk size and number of holes."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.restore.bits import Bits
from workers.restore.descriptor import Descriptor
from workers.restore.image import Image
from workers.restore.qcow2 import CLUSTER, Qcow2Layout

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40


def made(path: Path, size: int, chunk: int, used: list[int], data: dict[int, bytes]) -> Qcow2Layout:
    """An image with those chunks; of each `data` is written from the offset on that is its key."""
    layout = Qcow2Layout(size, chunk, used)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    image = Image(Descriptor(fd, path), layout, 0, lambda _mark: None)
    for offset, piece in data.items():
        image.write(offset, memoryview(piece))
    image.close()
    os.close(fd)
    return layout


def qemu(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout


def read(path: Path, offset: int, length: int) -> bytes:
    words = "driver=qcow2", f"file.filename={path}"
    out = path.with_suffix(".read")
    skip, count = offset // 512, length // 512
    qemu(
        "qemu-img",
        "dd",
        "--image-opts",
        f"if={','.join(words)}",
        f"of={out}",
        "bs=512",
        f"skip={skip}",
        f"count={skip + count}",
    )
    return out.read_bytes()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [4096, CLUSTER, MIB, 4 * MIB])
def test_any_disk_reads_back(tmp_path: Path, chunk: int, seed: int) -> None:
    chance = Random(seed)  # noqa: S311  the same disks each time
    size = chance.randrange(1, 40) * chunk + chance.randrange(0, chunk, 512) + 512 * (seed % 2)
    slots = -(-size // chunk)
    used = sorted(chance.sample(range(slots), chance.randrange(slots + 1)))
    disk, data = bytearray(size), {}
    for slot in used:
        start = slot * chunk
        piece = chance.randbytes(min(chunk, size - start, 4096))
        data[start] = piece
        disk[start : start + len(piece)] = piece
    path = tmp_path / "disk.qcow2"
    made(path, size, chunk, used, data)
    qemu("qemu-img", "check", "-f", "qcow2", path)
    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == bytes(disk).ljust(-(-size // 512) * 512, b"\0")


def test_what_was_not_written_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    made(path, 8 * MIB, MIB, [1, 7], {MIB + CLUSTER: b"x" * CLUSTER, 7 * MIB: b"y" * 512})
    found = json.loads(qemu("qemu-img", "map", "--output=json", "-f", "qcow2", path))
    assert [(one["start"], one["length"]) for one in found if one["data"]] == [
        (MIB + CLUSTER, CLUSTER),
        (7 * MIB, CLUSTER),
    ]
    info = json.loads(qemu("qemu-img", "info", "--output=json", path))
    assert "backing-filename" not in info
    assert info["format-specific"]["data"]["compat"] == "1.1"


def test_a_large_disk_with_many_tables(tmp_path: Path) -> None:
    """1 TiB with a chunk in each GiB, and 3 GiB full of chunks: more than one block of reference counts."""
    path = tmp_path / "disk.qcow2"
    used = sorted({*range(0, 1 << 20, 1 << 10), *range(1 << 19, (1 << 19) + 3072)})
    marks = {slot * MIB: slot.to_bytes(512, "big") for slot in used[:: len(used) // 64]}
    layout = made(path, TIB, MIB, used, marks)
    assert layout.file_bytes > 4 * GIB
    assert path.stat().st_blocks * 512 < 80 * MIB
    qemu("qemu-img", "check", "-f", "qcow2", path)
    for offset, piece in list(marks.items())[::8]:
        assert read(path, offset, 512) == piece


@given(st.integers(0, 6 * GIB // CLUSTER))
@settings(max_examples=60, deadline=None)
def test_each_cluster_of_the_file_has_a_count(clusters: int) -> None:
    layout = Qcow2Layout(max(clusters, 1) * CLUSTER, CLUSTER, range(clusters))
    _check_counts(layout)


@pytest.mark.parametrize("beyond", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("blocks", [1, 2])
def test_each_cluster_has_a_count_where_another_block_begins(beyond: int, blocks: int) -> None:
    others = Qcow2Layout(CLUSTER, CLUSTER, ()).file_bytes // CLUSTER + 2 * blocks
    clusters = blocks * (CLUSTER // 2) - others + beyond
    _check_counts(Qcow2Layout(clusters * CLUSTER, CLUSTER, range(clusters)))


def _check_counts(layout: Qcow2Layout) -> None:
    """A block of reference counts has 32,768 of them. Without one for each cluster QEMU calls the image corrupt."""
    blocks = layout.reference_blocks
    assert blocks * (CLUSTER // 2) >= layout.file_bytes // CLUSTER > (blocks - 1) * (CLUSTER // 2) - 2


def test_qemu_writes_on_in_it(tmp_path: Path) -> None:
    """Free clusters within the file are used again, and it stays sound."""
    path = tmp_path / "disk.qcow2"
    made(path, 64 * MIB, MIB, list(range(0, 64, 2)), {2 * MIB: b"x" * CLUSTER})
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 48M", "-c", "discard 4M 4M", path)
    qemu("qemu-img", "check", "-f", "qcow2", path)
    qemu("qemu-io", "-f", "qcow2", "-c", "read -P 7 0 4M", "-c", "read -P 7 8M 40M", "-c", "read -P 0 48M 16M", path)


@given(
    st.integers(1, 64 * TIB),
    st.sampled_from([MIB, 4 * MIB, 16 * MIB]),
    st.sets(st.integers(0, (1 << 22) - 1), max_size=50),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_in_one_place_twice(size: int, chunk: int, wanted: set[int]) -> None:
    used = sorted(slot for slot in wanted if slot * chunk < size)
    layout = Qcow2Layout(size, chunk, used)
    ranges = [(place, place + len(data)) for place, data in layout.closing()]
    for slot in used:
        end = min((slot + 1) * chunk, -(-size // CLUSTER) * CLUSTER)
        ranges.append((layout.place(slot * chunk), layout.place(slot * chunk) + end - slot * chunk))
    ranges.sort()
    assert ranges[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    assert ranges[-1][1] == layout.file_bytes


@given(st.integers(1, 20_000), st.sets(st.integers(0, 19_999)))
def test_ranks(length: int, numbers: set[int]) -> None:
    kept = {number for number in numbers if number < length}
    bits = Bits(length)
    for number in kept:
        bits.add(number, number + 1)
    assert len(bits) == len(kept)
    for number in [0, length - 1, *list(kept)[:20]]:
        assert bits.rank(number) == sum(1 for one in kept if one < number)
        assert (number in bits) == (number in kept)
