"""A forgotten capture is no more, durably; what others need of it stays."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from freezeframe.repository import Manifest, Repository, Tier, catalog, verify
from freezeframe.repository.errors import CaptureNotFound, ManifestDamaged
from freezeframe.repository.store import DirectoryStore, MemoryStore

from .locked import KEY, locked
from .power import Device, Dying, PowerCut, Step, Watched
from .samples import capture_id, disk_capture, disk_of, manifest_of, one_at_a_time, read_disk, seal, store_disk, write

DISK = disk_of(b"a", b"", b"b")
CHANGED = disk_of(b"a", b"c", b"b")


@pytest.fixture(params=["directory", "memory", "encrypted", "s3"])
def any_repository(request: pytest.FixtureRequest, root: Path) -> Repository:
    match request.param:
        case "directory":
            return Repository.init(root)
        case "s3":
            return Repository.init(request.getfixturevalue("s3_address"))
        case "encrypted":
            return locked()
        case _:
            return Repository.init_in(MemoryStore())


def index_of(manifest: Manifest) -> str:
    return manifest.guests[0].disks[0].index


def test_a_forgotten_capture_is_no_more_and_the_others_are(any_repository: Repository) -> None:
    for number in range(4):
        seal(any_repository, number, DISK)
    any_repository.forget_all([capture_id(1), capture_id(2)])
    assert any_repository.capture_ids() == [capture_id(3), capture_id(0)]
    assert [one.capture_id for one in any_repository.manifests()] == [capture_id(3), capture_id(0)]
    with pytest.raises(CaptureNotFound):
        any_repository.manifest(capture_id(1))
    assert verify(any_repository, any_repository.manifests(), Tier.REHASHED).sound


def test_twice_is_once(any_repository: Repository) -> None:
    for number in range(2):
        seal(any_repository, number, DISK)
    for _ in range(2):
        any_repository.forget_all([capture_id(0)])
        assert any_repository.capture_ids() == [capture_id(1)]


def test_the_oldest_goes_first_and_all_of_it_is_settled_at_the_end(repository: Repository, root: Path) -> None:
    for number in range(4):
        seal(repository, number, DISK)
    watched = Watched()
    Repository.open_in(DirectoryStore(root, watched)).forget_all([capture_id(2), capture_id(0), capture_id(1)])
    names = [f"{capture_id(number)}.json" for number in range(3)]
    moves = [Step("rename", root / "manifests" / name, root / "forgotten" / name) for name in names]
    buried = watched.log.index(moves[0])
    assert Step("fsync_folder", root / "lineage") in watched.log[:buried]
    assert watched.log[buried:] == [
        *moves,
        *(Step("fsync_folder", root / folder) for folder in ("forgotten", "manifests")),
    ]


def test_dead_after_any_step_it_can_be_done_again(memory_path: Path) -> None:
    for steps in count():
        root = memory_path / str(steps)
        sealed = [seal(Repository.init(root), 0, DISK), *(seal(Repository.open(root), n, DISK) for n in (1, 2))]
        died = False
        try:
            Repository.open_in(DirectoryStore(root, Dying(Device(root), steps))).forget_all(
                [capture_id(0), capture_id(1)]
            )
        except PowerCut:
            died = True
        left = Repository.open(root).manifests()
        assert left == list(reversed(sealed[-len(left) :]))  # the newest of them
        Repository.open(root).forget_all([capture_id(0), capture_id(1)])
        assert Repository.open(root).manifests() == sealed[2:]
        if not died:
            assert steps > 4  # the tombstone, two moves, two folders
            return


def test_an_incremental_under_way_does_not_need_its_parents_manifest(any_repository: Repository) -> None:
    parent = seal(any_repository, 1, DISK)
    with any_repository.disk_writer(len(DISK), 4096, parent_index_digest=index_of(parent)) as writer:
        any_repository.forget_all([parent.capture_id])
        index = write(writer, CHANGED).digest
    any_repository.write_manifest(manifest_of(2, disk_capture(index, len(DISK))))
    assert read_disk(any_repository, index) == CHANGED


def test_who_reads_a_capture_reads_on(any_repository: Repository) -> None:
    manifest = seal(any_repository, 1, DISK)
    any_repository.forget_all([manifest.capture_id])
    assert read_disk(any_repository, index_of(manifest)) == DISK


def test_one_that_is_forgotten_while_captures_are_listed_is_passed_over(
    any_repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "read_ahead", one_at_a_time)
    for number in range(3):
        seal(any_repository, number, DISK)
    listing = any_repository.each_manifest()
    assert next(listing).capture_id == capture_id(2)
    any_repository.forget_all([capture_id(1)])
    assert [one.capture_id for one in listing] == [capture_id(0)]


def damage(repository: Repository, wanted: str) -> None:
    """Cut a manifest short, in any store."""
    name = repository.objects.protection.manifest_name(wanted)
    repository.store.put_many([(name, repository.store.get(name)[:-20])])


def test_one_that_cannot_be_read_can_be_forgotten_by_its_id(any_repository: Repository) -> None:
    for number in range(2):
        seal(any_repository, number, DISK)
    damage(any_repository, capture_id(0))
    with pytest.raises(ManifestDamaged):
        any_repository.manifests()
    any_repository.forget_all([any_repository.capture_id(capture_id(0))])
    assert [one.capture_id for one in any_repository.manifests()] == [capture_id(1)]


def test_listing_holds_one_manifest_at_a_time(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        seal(repository, number, DISK)
    read: list[str] = []
    real = repository.store.get

    def get(name: str) -> bytes:
        read.append(name)
        return real(name)

    monkeypatch.setattr(repository.store, "get", get)
    monkeypatch.setattr(catalog, "read_ahead", one_at_a_time)
    for place, _ in enumerate(repository.each_manifest(), start=1):
        assert len(read) == place


def test_the_names_in_an_encrypted_repository_stay_hidden() -> None:
    store = MemoryStore()
    repository = locked(store)
    index = store_disk(repository, DISK)
    repository.write_manifest(manifest_of(7, disk_capture(index, len(DISK))))
    repository.forget_all([capture_id(7)])
    assert not list(store.names("manifests"))
    assert Repository.open_in(store, KEY).manifests() == []
