"""Roles: each machine does its part with the rights that docs/security.md gives it, with all of them and no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.access import open_repository
from freezeframe.errors import EXIT_REFUSED
from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.copying import open_copy
from freezeframe.repository.errors import (
    AlreadyExists,
    DeletesRefused,
    RepositoryError,
    RepositoryNotWritable,
    RepositoryUnsupported,
    SealedTooLate,
)
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import TMP, index_name
from freezeframe.repository.session import Sessions
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.keeping import Keeping
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.verify import verify_share

from .copies import copied
from .locked import KEY_FILE
from .policies import Guard
from .s3_bucket import FakeBucket
from .samples import CHUNK, NOW, capture_id, disk_capture, disk_of, manifest_of, read_disk
from .versions.two import new_key

ADDRESS = "s3://bucket/prefix"
KEEPING = {"host", "orchestrator", "reader", "copier"}

#: Opens the repository as a role.
As = Callable[[str], Repository]


@pytest.fixture
def guard(bucket: FakeBucket) -> Guard:
    """The bucket's, which refuses what the policies do not allow."""
    made = Guard()
    bucket.trouble = made
    return made


@pytest.fixture
def become(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """An encrypted repository in the bucket; the settings of each role."""
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", ADDRESS)
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(new_key(tmp_path / "key", KEY_FILE.material)))
    monkeypatch.setenv("FREEZEFRAME_S3_ACCESS_KEY_ID", "retention")
    Repository.init(ADDRESS, chunk_bytes=CHUNK, secret=KEY_FILE, label="first")

    def opened(role: str) -> Repository:
        monkeypatch.setenv("FREEZEFRAME_S3_ACCESS_KEY_ID", role)
        monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "no" if role in KEEPING else "yes")
        return open_repository()

    return opened


@dataclass(frozen=True)
class Captures:
    """The way of a capture through its roles."""

    become: As

    def make(self, number: int, disk: bytes, parent: str | None = None) -> str:
        """Capture a disk; its index."""
        self.become("orchestrator").sessions.begin(capture_id(number), "test", "installation")
        index = self._transfer(number, disk, parent)
        orchestrator = self.become("orchestrator")
        orchestrator.seal(manifest_of(number, disk_capture(index, len(disk))))
        orchestrator.sessions.end(capture_id(number), sealed=True)
        return index

    def _transfer(self, number: int, disk: bytes, parent: str | None) -> str:
        host = self.become("host")
        host.check_writable()
        host.sessions.check(capture_id(number))
        with host.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
            for at in range(0, len(disk), CHUNK):
                writer.write_chunk(at // CHUNK, disk[at : at + CHUNK])
            assert list(writer.slots_to_read_again()) == []
            index = writer.finish().digest
        host.sessions.check(capture_id(number))
        if parent is not None:
            host.suspects.mark(suspect(number - 1, parent, number))
        return index


def suspect(number: int, index: str, found_by: int) -> Suspect:
    return Suspect(
        capture_id=capture_id(number),
        index=index,
        guest="web",
        target="vda",
        found_by=capture_id(found_by),
        found_at=NOW,
        reason="other data",
    )


@pytest.fixture
def captures(become: As) -> Captures:
    return Captures(become)


FIRST, SECOND = disk_of(b"a", b"b", b"c"), disk_of(b"a", b"x", b"c")


def test_each_role_does_its_part_with_all_the_rights_of_its_policy_and_no_others(
    captures: Captures, become: As, guard: Guard, bucket: FakeBucket
) -> None:
    first = captures.make(1, FIRST)
    second = captures.make(2, SECOND, first)
    for role in ("reader", "host", "orchestrator"):
        opened = become(role)
        assert [read_disk(opened, index) for index in (second, first)] == [SECOND, FIRST]
        assert verify(opened, opened.manifests(), Tier.REHASHED).sound
        shared = verify_share(opened, Fraction(1, 256))
        assert (shared.sound, "could not be recorded" in shared.notes[0]) == (True, True)
    copy = MemoryStore()
    assert copied(become("copier"), copy).whole
    assert [read_disk(open_copy(copy, become("copier")), index) for index in (first, second)] == [FIRST, SECOND]
    retention = become("retention")
    retention.forget(capture_id(1))
    assert verify(retention, retention.manifests(), Tier.REHASHED, set_aside=True).sound
    assert collect(retention, grace=timedelta(0)).deleted.objects > 0
    assert not [key for key in bucket.objects if key.startswith(f"prefix/{TMP}/")]  # what hosts have left
    assert read_disk(become("reader"), second) == SECOND
    assert guard.refused == []
    assert {role: guard.used[role] for role in guard.policies} == {role: guard.granted(role) for role in guard.policies}


def test_the_page_has_a_policy_for_each_role(guard: Guard) -> None:
    assert set(guard.policies) == {*KEEPING, "retention"}
    for role in KEEPING:
        assert "s3:DeleteObject" not in {action for action, _ in guard.granted(role)}


@pytest.mark.parametrize("role", sorted(KEEPING))
def test_what_takes_away_is_refused_before_anything_is_done(
    captures: Captures, become: As, guard: Guard, bucket: FakeBucket, role: str
) -> None:
    captures.make(1, FIRST)
    opened = become(role)
    before, acts = dict(bucket.objects), len(guard.acts)
    verbs: list[Callable[[], object]] = [
        lambda: opened.forget(capture_id(1)),
        lambda: opened.forget_all([capture_id(1)]),
        lambda: collect(opened, grace=timedelta(0)),
        lambda: verify(opened, [], set_aside=True),
        lambda: opened.store.move("config", "damaged/x"),
        lambda: opened.store.delete("config"),
    ]
    for verb in verbs:
        with pytest.raises(DeletesRefused) as refused:
            verb()
        assert refused.value.exit_code == EXIT_REFUSED
        assert "machine that does retention" in refused.value.hint
    assert guard.acts[acts:] == []
    assert dict(bucket.objects) == before


def test_a_host_that_goes_its_own_ways_takes_and_replaces_nothing_of_another(
    captures: Captures, become: As, bucket: FakeBucket
) -> None:
    """With its credentials, and without its settings: the server refuses."""
    index = captures.make(1, FIRST)
    name = become("host").objects.protection.index_name(bytes.fromhex(index))
    free = open_store(ADDRESS)
    before = dict(bucket.objects)
    for object_name in sorted(key.removeprefix("prefix/") for key in before):
        attacks: list[Callable[[str], object]] = [
            free.delete,
            lambda one: free.put(one, BytesIO(b"forged")),
            lambda one: free.put_many([(one, b"forged")]),
            lambda one: free.put_if_absent(one, b"forged"),
            lambda one: free.move(one, "damaged/" + "ab" * 32),
        ]
        if object_name.startswith("indexes/"):
            attacks.append(lambda one: free.put(one, BytesIO(bytes(9 << 20))))  # in parts
        for attack in attacks:
            with pytest.raises((RepositoryNotWritable, AlreadyExists)):
                attack(object_name)
    assert dict(bucket.objects) == before
    assert free.exists(name)
    for new in ("manifests/" + "ab" * 32, "sessions/01HZ0000000000000000000099.json", "forgotten/x"):
        with pytest.raises(RepositoryNotWritable):
            free.put_if_absent(new, b"forged")


def test_a_chunk_that_another_has_written_meanwhile_is_known(become: As, bucket: FakeBucket) -> None:
    host = become("host")
    chunk, index = "chunks/ab/ab" + "0" * 62, index_name(bytes(32))
    for _ in range(2):
        host.store.put_many([(chunk, b"chunk")])
        host.store.put(index, BytesIO(b"index"))
    assert (bucket.objects[f"prefix/{chunk}"], bucket.objects[f"prefix/{index}"]) == (b"chunk", b"index")


def test_a_large_index_is_created_in_one_request_that_replaces_nothing(
    become: As, guard: Guard, bucket: FakeBucket
) -> None:
    """An upload in parts cannot be told to create only, by the library that is used."""
    host, large = become("host"), bytes(9 << 20)
    name = index_name(bytes(32))
    acts = len(guard.acts)
    host.store.put(name, BytesIO(large))
    assert bucket.objects[f"prefix/{name}"] == large
    assert [(act.action, act.creates) for _, act in guard.acts[acts:]] == [("s3:PutObject", True)]


def test_a_real_server_creates_chunks_and_large_indexes_once(s3_address: str) -> None:
    name, first, second = index_name(bytes(32)), os.urandom(9 << 20), bytes(9 << 20)
    store = open_store(s3_address, deletes=False)
    for data in (first, second):
        store.put(name, BytesIO(data))
        store.put_many([("chunks/ab/ab" + "0" * 62, data[:100])])
    with store.open(name) as stored:
        assert stored.read() == first
    assert store.get("chunks/ab/ab" + "0" * 62) == first[:100]
    store.check_writable()


def test_another_document_of_the_same_name_is_not_replaced(become: As) -> None:
    host = become("host")
    host.suspects.mark(suspect(1, "ab" * 32, 2))
    with pytest.raises(DeletesRefused, match="is there, and is not replaced"):
        host.suspects.mark(suspect(1, "ab" * 32, 3))
    assert [one.found_by for one in host.suspects.all()] == [capture_id(2)]


def test_a_machine_that_may_not_delete_and_has_not_said_so_is_told_which_setting_does(
    become: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    become("host")
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "yes")
    with pytest.raises(RepositoryNotWritable, match="AccessDenied") as refused:
        open_repository().check_writable()
    assert "FREEZEFRAME_REPOSITORY_DELETES=no" in refused.value.hint


def test_a_server_that_ignores_the_condition_is_found_by_a_machine_that_keeps_all_too() -> None:
    class Ignoring(MemoryStore):
        @property
        def traffic(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            return super().traffic._replace(remote=True)

        def put_if_absent(self, name: str, data: object) -> None:
            self.put(name, BytesIO(bytes(data)))  # type: ignore[call-overload]

    with pytest.raises(RepositoryUnsupported, match="ignores If-None-Match"):
        Keeping(Ignoring()).check_writable()


def test_a_manifest_that_came_too_late_is_told_with_what_to_do(
    captures: Captures, become: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be taken back, so it is forgotten where that is possible."""
    become("orchestrator").sessions.begin(capture_id(1), "test")
    index = captures._transfer(1, FIRST, None)
    orchestrator = become("orchestrator")

    def failed(*_: object, **__: object) -> None:
        raise SealedTooLate("It was sealed too late.")

    monkeypatch.setattr(Sessions, "check_sealed", failed)
    monkeypatch.setattr(Repository, "_is_kept", lambda *_: False)
    with pytest.raises(SealedTooLate) as late:
        orchestrator.seal(manifest_of(1, disk_capture(index, len(FIRST))))
    assert f"freezeframe forget {capture_id(1)}" in late.value.hint
    become("retention").forget(capture_id(1))
    assert become("orchestrator").capture_ids() == []


def test_a_directory_keeps_all_by_the_setting_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", str(tmp_path / "repository"))
    Repository.init(tmp_path / "repository", chunk_bytes=CHUNK)
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "no")
    repository = open_repository()
    repository.check_writable()
    with repository.session("test", capture_id(1)):
        with repository.disk_writer(len(FIRST), CHUNK) as writer:
            for at in range(0, len(FIRST), CHUNK):
                writer.write_chunk(at // CHUNK, FIRST[at : at + CHUNK])
            index = writer.finish().digest
        repository.seal(manifest_of(1, disk_capture(index, len(FIRST))))
    assert read_disk(repository, index) == FIRST
    assert verify(repository, repository.manifests()).sound
    for verb in (lambda: repository.forget(capture_id(1)), lambda: collect(repository)):
        with pytest.raises(DeletesRefused):
            verb()
    assert collect(repository, dry_run=True).captures == 1
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY_DELETES", "yes")
    open_repository().forget(capture_id(1))
    collect(open_repository(), grace=timedelta(0))
    assert [one for one in (tmp_path / "repository" / TMP).iterdir() if one.is_file()] == []


def test_what_is_refused_is_a_refusal_to_write() -> None:
    """So verification that cannot note what it has seen goes on, as for who may only read."""
    assert issubclass(DeletesRefused, RepositoryNotWritable)
    assert issubclass(DeletesRefused, RepositoryError)
