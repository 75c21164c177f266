"""A feature is switched on in a repository that is in use: older programs notice, and none of them is still at work then."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from freezeframe.repository import Repository, verify
from freezeframe.repository.config import read_config
from freezeframe.repository.document import checked
from freezeframe.repository.errors import (
    ConfigChanged,
    FeatureNotKnown,
    RepositoryNotFound,
    RepositoryNotReadable,
    RepositoryNotWritable,
    RepositoryUnsupported,
)
from freezeframe.repository.features import ENCRYPTION, FEATURES, Feature
from freezeframe.repository.garbage import collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import run_name, session_name
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.switching import State, Switch, enable, feature_in_use, switch_of
from freezeframe.repository.verify import verify_share

from .locked import KEY, PROTECTIONS, locked, protected
from .refusing import Refusing
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, seal, store_disk

PACKS = "packs"


@pytest.fixture(params=PROTECTIONS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return protected(request.param)


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Programs know one more feature; called, they are those of today again."""
    monkeypatch.setitem(FEATURES, PACKS, Feature("Chunks lie in packs."))
    return lambda: monkeypatch.delitem(FEATURES, PACKS)


def another(repository: Repository) -> Repository:
    return (
        Repository.open_in(repository.store, KEY)
        if repository.config.authenticated
        else Repository.open_in(repository.store)
    )


def test_a_feature_is_off_until_it_is_enabled_and_then_in_use(
    repository: Repository, tomorrow: Callable[[], None]
) -> None:
    assert switch_of(repository, PACKS) == Switch(PACKS, State.OFF)
    assert not feature_in_use(repository, PACKS)
    assert enable(repository, PACKS) == Switch(PACKS, State.IN_USE)
    assert feature_in_use(another(repository), PACKS)
    assert PACKS in another(repository).config.features
    stored = repository.store.get("config")
    assert enable(another(repository), PACKS) == Switch(PACKS, State.IN_USE)
    assert repository.store.get("config") == stored


def test_what_is_there_stays_readable(repository: Repository, tomorrow: Callable[[], None]) -> None:
    manifest = seal(repository, 1, disk_of(b"a"))
    enable(repository, PACKS)
    assert another(repository).manifests() == [manifest]
    assert verify(another(repository), [manifest]).sound


def test_the_config_keeps_what_this_version_does_not_know(repository: Repository, tomorrow: Callable[[], None]) -> None:
    content = {**json.loads(repository.store.get("config")), "more": [1]}
    for key in ("checksum", "mac"):
        content.pop(key, None)
    if repository.keys is not None:
        bare = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        content["mac"] = repository.keys.config_mac(bare).hex()
    repository.store.put_many([("config", checked(content))])
    enable(repository, PACKS)
    assert json.loads(repository.store.get("config"))["more"] == [1]
    assert PACKS in another(repository).config.features


def test_an_older_program_refuses_the_repository_by_the_features_name(
    repository: Repository, tomorrow: Callable[[], None]
) -> None:
    enable(repository, PACKS)
    tomorrow()
    with pytest.raises(RepositoryUnsupported, match=r"packs\. A newer freezeframe is needed"):
        another(repository)


def test_an_older_program_that_has_it_open_notices_before_it_writes_deletes_or_judges(
    repository: Repository, tomorrow: Callable[[], None]
) -> None:
    old = another(repository)
    sealed = seal(old, 1, disk_of(b"a"))
    old.sessions.begin(capture_id(2), "old")
    made = manifest_of(2, disk_capture(store_disk(old, disk_of(b"b")), CHUNK))
    store_disk(old, disk_of(b"garbage"))
    enable(repository, PACKS)
    tomorrow()
    assert isinstance(old.store, MemoryStore)
    before = dict(old.store._objects)
    for step in (
        lambda: old.seal(made),
        lambda: collect(old, grace=timedelta(0)),
        lambda: verify(old, [sealed], set_aside=True),
        lambda: verify_share(old, Fraction(1), set_aside=True),
    ):
        with pytest.raises(RepositoryUnsupported, match="packs"):
            step()
    assert old.store._objects == before
    with pytest.raises(RepositoryUnsupported, match="packs"):
        old.sessions.begin(capture_id(3), "old")
    assert old.sessions.load(capture_id(3)).ended_at is not None  # it holds up nobody


def test_a_feature_waits_for_the_sessions_that_began_before(
    repository: Repository, tomorrow: Callable[[], None]
) -> None:
    for number in (1, 2, 3):
        repository.sessions.begin(capture_id(number), "x")
    repository.sessions.end(capture_id(3), sealed=False)
    found = enable(repository, PACKS)
    assert found == Switch(PACKS, State.PENDING, 2)
    assert str(found) == "pending: 2 older sessions are open"
    repository.sessions.begin(capture_id(4), "x")
    repository.sessions.end(capture_id(1), sealed=True)
    assert switch_of(repository, PACKS).older == 1
    assert not feature_in_use(repository, PACKS)
    repository.sessions.end(capture_id(2), sealed=True)
    assert feature_in_use(repository, PACKS)  # though a younger one is open


def test_a_session_that_cannot_be_read_may_be_open(repository: Repository, tomorrow: Callable[[], None]) -> None:
    name = session_name(capture_id(1))
    session = repository.sessions.begin(capture_id(1), "x")
    newer = {**session.content(), "more": 1, "critical": ["more"]}
    for data in (checked(newer), b"{}"):
        repository.store.put_many([(name, bytes(repository.objects.protection.protect(name, data)))])
        repository.store.delete("features/packs.json")
        assert enable(repository, PACKS) == Switch(PACKS, State.PENDING, 1)


@pytest.mark.parametrize("kind", ["session", "run"])
def test_a_session_or_a_run_that_the_storage_refuses_may_be_open(tomorrow: Callable[[], None], kind: str) -> None:
    store = Refusing()
    repository = Repository.init_in(store, chunk_bytes=CHUNK)
    if kind == "session":
        repository.sessions.begin(capture_id(1), "x")
    else:
        Records(repository.objects).put(RunRecord(run_id=capture_id(1), begun_at=datetime.now(UTC)))
    store.refused[session_name(capture_id(1)) if kind == "session" else run_name(capture_id(1))] = False
    assert enable(repository, PACKS) == Switch(PACKS, State.PENDING, 1)
    store.refused = dict.fromkeys(store.refused, True)
    with pytest.raises(RepositoryNotReadable):
        switch_of(repository, PACKS)


def test_a_session_that_has_expired_is_waited_for_no_more(tomorrow: Callable[[], None]) -> None:
    now = [datetime.now(UTC)]
    made = Repository.init_in(MemoryStore(lambda: now[0]), chunk_bytes=CHUNK)
    repository = Repository(made.store, made.config, clock=lambda: now[0])
    repository.sessions.begin(capture_id(1), "died")
    assert enable(repository, PACKS).older == 1
    now[0] += timedelta(days=7, seconds=1)
    assert feature_in_use(repository, PACKS)


@pytest.mark.parametrize(("finished", "older"), [(False, 1), (True, 0)])
def test_a_run_of_garbage_collection_is_waited_for_too(
    repository: Repository, tomorrow: Callable[[], None], *, finished: bool, older: int
) -> None:
    now = datetime.now(UTC)
    record = RunRecord(run_id=capture_id(5), begun_at=now, finished_at=now if finished else None)
    Records(repository.objects).put(record)
    assert enable(repository, PACKS).older == older


def test_whoever_enables_it_may_die_between_the_two_steps(repository: Repository, tomorrow: Callable[[], None]) -> None:
    enable(repository, PACKS)
    repository.store.delete("features/packs.json")
    assert switch_of(repository, PACKS) == Switch(PACKS, State.PENDING)
    assert enable(repository, PACKS) == Switch(PACKS, State.IN_USE)


def test_a_config_that_another_writes_over_each_time_is_told(
    repository: Repository, tomorrow: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository.store, "put", lambda *_: None)
    with pytest.raises(RepositoryNotWritable, match="at the same time"):
        enable(repository, PACKS)


@pytest.mark.parametrize("name", ["nonsense", ENCRYPTION, "", "../x"])
def test_only_what_is_known_can_be_enabled(repository: Repository, name: str) -> None:
    before = repository.store.get("config")
    with pytest.raises(FeatureNotKnown):
        enable(repository, name)
    assert repository.store.get("config") == before


def test_encryption_is_in_use_from_the_beginning_or_never() -> None:
    assert feature_in_use(locked(), ENCRYPTION)
    assert not feature_in_use(Repository.init_in(MemoryStore()), ENCRYPTION)


def test_a_config_that_was_changed_meanwhile_is_noticed(repository: Repository) -> None:
    content = json.loads(repository.store.get("config"))
    content["chunk_bytes"] *= 2
    repository.store.put_many([("config", checked(content))])
    if repository.config.authenticated:
        with pytest.raises(ConfigChanged):
            repository.sessions.begin(capture_id(1), "x")
    else:
        repository.sessions.begin(capture_id(1), "x")
    repository.store.delete("config")
    with pytest.raises(RepositoryNotFound):
        repository.check_there()


def test_each_feature_has_a_name_that_can_be_an_objects_and_a_meaning() -> None:
    for name, feature in FEATURES.items():
        assert name.isalnum()
        assert name.islower()
        assert feature.meaning.endswith(".")
    config = read_config(Repository.init_in(MemoryStore()).config.to_json(), "there")
    assert config.features == ()
