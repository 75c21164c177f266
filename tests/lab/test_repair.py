"""A bit that flips in the repository, in chunks that stay clean: found, set aside, and read from the guests again."""

from __future__ import annotations

from pathlib import Path

from freezeframe.errors import EXIT_DAMAGED
from freezeframe.repository import Manifest
from freezeframe.repository.layout import locate
from ops.system import System
from ops.trial.story import Trial, Truths

from .command import Command

#: Chunks that are damaged.
DAMAGED = 6
#: What a file that nobody touches again is made of; a chunk of nothing else stays clean, whatever its guest does.
NUMBERS = frozenset(b"0123456789\n")


def write_numbers(system: System) -> None:
    """5 MB on every disk, other ones on each: there are whole chunks of them wherever the file system puts them."""
    places = [(guest, target) for guest in system.lab.guests.values() for target in guest.mounts()]
    for number, (guest, target) in enumerate(places, start=10):
        guest.shell(f"seq {number}000000 {number}550000 >/mnt/{target}/numbers && sync")


def still_chunks(system: System, manifest: Manifest) -> list[tuple[str, str, int, bytes]]:
    """Guest, disk, slot and digest of chunks of numbers, each digest once, spread over all of them."""
    found: dict[bytes, tuple[str, str, int, bytes]] = {}
    for guest, disk in manifest.disks():
        with system.repository.index(disk.index) as index, system.repository.disk_reader(disk.index) as reader:
            for slot, digest in index.used_slots():
                if set(reader.read_slot(slot) or b"-") <= NUMBERS:
                    found.setdefault(digest, (guest.name, disk.target, slot, digest))
    chunks = list(found.values())
    return chunks[:: max(1, len(chunks) // DAMAGED)][:DAMAGED]


def is_dirty(truth: Truths, guest: str, target: str, slot: int, chunk_bytes: int) -> bool:
    dirty = truth[guest][target].dirty or ()
    return any(start < (slot + 1) * chunk_bytes and slot * chunk_bytes < start + length for start, length in dirty)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_rots_is_found_set_aside_and_brought_back_by_the_next_incremental(
    system: System, command: Command, tmp_path: Path
) -> None:
    trial = Trial(system, tmp_path, print)
    write_numbers(system)
    first, first_truth, first_s = trial._capture("full")
    second = system.repository.manifest(command("capture", "--all").answer["capture_id"])
    chosen = still_chunks(system, first)
    assert len(chosen) == DAMAGED
    files = {digest: system.repository_path / locate(digest) for _, _, _, digest in chosen}
    for path in files.values():
        flip(path)

    found = command("verify", "--all")
    assert found.code == EXIT_DAMAGED
    assert {one["digest"] for one in found.answer["chunks"]} == {digest.hex() for digest in files}
    assert all(one["set_aside"] for one in found.answer["chunks"])
    assert {first.capture_id, second.capture_id} <= set(found.answer["damaged_captures"])
    assert not any(path.exists() for path in files.values())

    third, third_truth, third_s = trial._capture("incremental")
    assert {disk.kind for _, disk in third.disks()} == {"incremental"}
    chunk_bytes = third.guests[0].disks[0].chunk_bytes
    # else nothing was shown: what is dirty is read anyway
    assert not any(is_dirty(third_truth, guest, disk, slot, chunk_bytes) for guest, disk, slot, _ in chosen)
    assert all(path.exists() for path in files.values())

    for manifest, truth, seconds in ((first, first_truth, first_s), (third, third_truth, third_s)):
        assert all(guest.identical for guest in trial._check(manifest, truth, seconds).guests)
    again = command("verify", "--all")
    assert again.code == 0, again.stderr
    assert {first.capture_id, second.capture_id, third.capture_id} <= set(again.answer["whole_again"])
    assert command("repo", "check").code == 0
