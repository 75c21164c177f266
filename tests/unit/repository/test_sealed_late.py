"""A sealer that stands still for days: its manifest stays if all is there, since another may have sealed it and told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotReadable, SealedAfterFailure, SealedTooLate
from freezeframe.repository.layout import CHUNKS, INDEXES, LINEAGE, condemned_name, digest_of
from freezeframe.repository.manifest import Manifest
from freezeframe.repository.session import Sessions
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.whole import is_whole

from .locked import locked
from .meanwhile import Meanwhile, run
from .samples import capture_id, disk_capture, disk_of, manifest_of, read_disk, store_disk
from .times import Time

DISK = disk_of(b"a", b"b")


def begun(repository: Repository) -> Manifest:
    """The manifest of a capture whose data is there, and whose session is open."""
    repository.sessions.begin(capture_id(1), "test")
    return manifest_of(1, disk_capture(store_disk(repository, DISK), len(DISK)))


def seal_meanwhile(
    repository: Repository,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    meanwhile: Callable[[], None],
) -> None:
    """Seal; `meanwhile` happens once the manifest is visible, before the sealer looks at the clock or at its session again."""
    sessions = repository.sessions
    measure, check = sessions.measure_again, sessions.check_sealed

    def then(look: Callable[..., object]) -> Callable[..., object]:
        def looks(*arguments: object, **named: object) -> object:
            monkeypatch.undo()
            meanwhile()
            return look(*arguments, **named)

        return looks

    if where == "clock":
        monkeypatch.setattr(sessions, "measure_again", then(measure))
    else:
        monkeypatch.setattr(sessions, "check_sealed", then(check))
    repository.seal(manifest)


def sealed_by_another(repository: Repository, manifest: Manifest, time: Time) -> None:
    """Another host seals the same in time and tells so; its session is ended, and deleted by garbage collection."""
    another = Repository(repository.store, repository.config, clock=time)
    another.seal(manifest)
    another.sessions.end(manifest.capture_id, sealed=True)
    for _ in range(2):
        time.pass_(days=4)
        run(another, time)
    assert another.sessions.stored_at() == {}


@pytest.mark.parametrize("where", ["clock", "session"])
@pytest.mark.parametrize("slow_before", [False, True], ids=["put at once", "put hours after the first look"])
def test_what_another_has_sealed_and_told_is_not_taken_back(
    collected: Repository, time: Time, monkeypatch: pytest.MonkeyPatch, where: str, *, slow_before: bool
) -> None:
    manifest = begun(collected)
    assert isinstance(collected.store, Meanwhile)
    if slow_before:  # between the first look at the session and the manifest
        collected.store.before[LINEAGE] = lambda: time.pass_(hours=9)
    try:
        seal_meanwhile(collected, manifest, monkeypatch, where, lambda: sealed_by_another(collected, manifest, time))
    except Exception as error:  # noqa: BLE001  whatever it says, it takes nothing back
        assert not isinstance(error, SealedTooLate)  # noqa: PT017
    assert not collected.store.before
    (kept,) = collected.manifests()
    assert read_disk(collected, kept.guests[0].disks[0].index) == DISK


@pytest.mark.parametrize("kind", [CHUNKS, INDEXES])
@pytest.mark.parametrize("only_condemned", [False, True])
def test_a_manifest_that_lacks_something_is_taken_back(
    collected: Repository, time: Time, monkeypatch: pytest.MonkeyPatch, kind: str, *, only_condemned: bool
) -> None:
    manifest = begun(collected)

    def lose() -> None:
        time.pass_(days=8)
        store = collected.store
        assert isinstance(store, Meanwhile)
        name = next(one for one in sorted(store._objects) if one.startswith(f"{kind}/"))
        if only_condemned:  # by a run that deletes it in a moment
            store.move(name, condemned_name(capture_id(9), name))
        else:
            store.delete(name)

    with pytest.raises(SealedTooLate):
        seal_meanwhile(collected, manifest, monkeypatch, "clock", lose)
    assert collected.manifests() == []


def test_what_was_forgotten_meanwhile_is_not_said_to_be_sealed(
    collected: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = begun(collected)

    def forget() -> None:
        time.pass_(days=8)
        collected.forget(manifest.capture_id)

    with pytest.raises(SealedTooLate):
        seal_meanwhile(collected, manifest, monkeypatch, "clock", forget)
    assert collected.manifests() == []


def test_what_others_were_told_has_failed_is_taken_back_though_all_is_there(
    collected: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = begun(collected)
    with pytest.raises(SealedAfterFailure):
        seal_meanwhile(
            collected,
            manifest,
            monkeypatch,
            "session",
            lambda: collected.sessions.end(manifest.capture_id, sealed=False),
        )
    assert collected.manifests() == []


def test_who_cannot_look_whether_all_is_there_takes_nothing_back(
    collected: Repository, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = begun(collected)

    def away(*_: object) -> bool:
        raise RepositoryNotReadable("no answer")

    def fail() -> None:
        time.pass_(days=8)
        monkeypatch.setattr(MemoryStore, "exists", away)

    with pytest.raises(RepositoryNotReadable):
        seal_meanwhile(collected, manifest, monkeypatch, "clock", fail)
    monkeypatch.undo()
    assert [one.capture_id for one in collected.manifests()] == [capture_id(1)]


def test_an_encrypted_manifest_is_looked_through_by_the_names_that_its_objects_have(time: Time) -> None:
    repository = locked(MemoryStore(time))
    repository.sessions = Sessions(repository.objects, time)
    manifest = begun(repository)
    assert is_whole(repository.objects, manifest)
    index = repository.objects.protection.index_name(digest_of(manifest.guests[0].disks[0].index))
    for name in [index, *(one for one in repository.store._objects if one.startswith(f"{CHUNKS}/"))]:  # type: ignore[attr-defined]
        held = repository.store.get(name)
        repository.store.delete(name)
        assert not is_whole(repository.objects, manifest)
        repository.store.put_many([(name, held)])
    assert is_whole(repository.objects, manifest)


def test_a_damaged_index_is_not_there(collected: Repository) -> None:
    manifest = begun(collected)
    name = collected.objects.protection.index_name(digest_of(manifest.guests[0].disks[0].index))
    held = collected.store.get(name)
    collected.store.delete(name)
    collected.store.put_many([(name, held[:-1] + b"?")])
    assert not is_whole(collected.objects, manifest)
