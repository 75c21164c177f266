"""Reading every capture: one manifest that cannot be read hides no other, and a store far away is asked for many at once."""

from __future__ import annotations

from typing import Any

import pytest

from freezeframe.errors import EXIT_REPOSITORY
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.check import check
from freezeframe.repository.config import Config
from freezeframe.repository.errors import (
    ManifestDamaged,
    ManifestNewer,
    ManifestNotReadable,
    ManifestUnreadable,
    RepositoryNotReadable,
)
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import CONFIG, MANIFESTS, OBJECT_BYTES_MAX
from freezeframe.repository.read_ahead import AT_ONCE

from .refusing import Refusing
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, seal
from .slow import FarStore


def name_of(number: int) -> str:
    return f"{MANIFESTS}/{capture_id(number)}.json"


@pytest.fixture
def store() -> Refusing:
    return Refusing()


@pytest.fixture
def repository(store: Refusing) -> Repository:
    made = Repository.init_in(store, chunk_bytes=CHUNK)
    for number in (1, 2, 3):
        seal(made, number, disk_of(b"a"))
    return made


def read(repository: Repository) -> tuple[list[str], list[ManifestUnreadable]]:
    unreadable: list[ManifestUnreadable] = []
    return [one.capture_id for one in repository.manifests(unreadable.append)], unreadable


@pytest.mark.case("R3")
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"junk", ManifestDamaged),
        (b"", ManifestDamaged),
        (b'{"format":9}', ManifestNewer),
        (b"[" * 100_000, ManifestDamaged),
    ],
)
def test_what_is_no_manifest_is_told_and_hides_no_other(
    repository: Repository, store: Refusing, data: bytes, kind: type[ManifestUnreadable]
) -> None:
    store.put_many([(name_of(2), data)])
    found, unreadable = read(repository)
    assert found == [capture_id(3), capture_id(1)]
    assert [type(one) for one in unreadable] == [kind]
    assert capture_id(2) in unreadable[0].message


@pytest.mark.case("R3")
@pytest.mark.parametrize("transient", [True, False])
def test_a_manifest_that_the_storage_refuses_is_told_and_hides_no_other(
    repository: Repository, store: Refusing, *, transient: bool
) -> None:
    store.refused[name_of(2)] = transient
    found, unreadable = read(repository)
    assert found == [capture_id(3), capture_id(1)]
    assert [type(one) for one in unreadable] == [ManifestNotReadable]
    assert capture_id(2) in unreadable[0].message
    assert unreadable[0].exit_code == EXIT_REPOSITORY
    with pytest.raises(ManifestNotReadable):
        repository.manifests()


def test_a_store_that_is_away_is_not_a_store_without_captures(repository: Repository, store: Refusing) -> None:
    store.away = True
    with pytest.raises(RepositoryNotReadable) as told:
        read(repository)
    assert not isinstance(told.value, ManifestUnreadable)


def test_where_the_storage_refuses_a_manifest_nothing_is_collected_and_nothing_is_to_be_forgotten(
    repository: Repository, store: Refusing
) -> None:
    store.refused[name_of(2)] = False
    before = dict(store._objects)
    with pytest.raises(ManifestNotReadable, match="Nothing was collected") as told:
        collect(repository)
    assert "forget" not in f"{told.value.message} {told.value.hint}"
    assert {name for name in before if not name.startswith("condemned/")} <= set(store._objects)


def test_a_check_tells_a_manifest_that_the_storage_refuses_as_that(repository: Repository, store: Refusing) -> None:
    store.refused[name_of(2)] = False
    report = check(repository)
    assert (report.manifests, report.newer, len(report.unreadable)) == ((), (), 1)
    assert not report.garbage.certain


def test_latest_is_never_an_older_capture_because_the_latest_is_damaged(
    repository: Repository, store: Refusing
) -> None:
    store.put_many([(name_of(3), b"junk")])
    with pytest.raises(ManifestDamaged) as told:
        repository.manifest("latest")
    assert "`freezeframe captures` lists the others" in told.value.hint
    with pytest.raises(ManifestDamaged) as told:
        repository.manifest(capture_id(3))
    assert "captures` lists" not in told.value.hint


@pytest.mark.case("R3")
def test_a_manifest_that_claims_to_be_huge_is_damage_before_it_is_in_memory(tmp_path: Any) -> None:
    repository = Repository.init(tmp_path / "repository", chunk_bytes=CHUNK)
    seal(repository, 1, disk_of(b"a"))
    with (tmp_path / "repository" / name_of(2)).open("wb") as file:
        file.truncate(OBJECT_BYTES_MAX + 1)
    found, unreadable = read(repository)
    assert (found, [type(one) for one in unreadable]) == ([capture_id(1)], [ManifestDamaged])


@pytest.mark.case("R8")
def test_a_listing_of_a_store_far_away_takes_a_round_trip_for_each_32_captures() -> None:
    store = FarStore()
    repository = Repository(
        store, Config.model_validate({"id": "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e", "chunk_bytes": 4096})
    )
    sealed = [manifest_of(number, disk_capture("ab" * 32, CHUNK)) for number in range(5 * AT_ONCE + 1)]
    store.put_away(sealed)
    assert repository.manifests() == sealed[::-1]
    assert store.rounds == 6


def test_what_is_remembered_is_not_read_again_and_what_is_gone_is_gone(store: Refusing, repository: Repository) -> None:
    class All:
        def __init__(self) -> None:
            self.known: dict[str, Manifest] = {}
            self.strangers: set[str] = set()

        def concerns(self, capture_id: str, _: object) -> bool:
            return capture_id not in self.strangers

        def get(self, capture_id: str, _: object) -> Manifest | None:
            return self.known.get(capture_id)

        def keep(self, _: object, manifest: Manifest) -> Manifest:
            return self.known.setdefault(manifest.capture_id, manifest)

    memory = All()
    assert len(list(repository.each_manifest(memory=memory))) == 3
    repository.forget(capture_id(2))
    for number in (1, 3):
        store.refused[name_of(number)] = False
    assert [one.capture_id for one in repository.each_manifest(memory=memory)] == [capture_id(3), capture_id(1)]
    memory.strangers.add(capture_id(3))
    assert [one.capture_id for one in repository.each_manifest(memory=memory)] == [capture_id(1)]
    assert store.get(CONFIG)
