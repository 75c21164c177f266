"""Object storage that is away for a while in the middle of a transfer: it is waited for, and the orchestrator sees that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from freezeframe.contract import names
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryError
from freezeframe.repository.store.address import patience_with, transfer_patience
from freezeframe.repository.store.patience import Patience
from freezeframe.settings import OrchestratorSettings, S3Settings
from tests.unit.repository.s3 import Asked, Reply, answering, settings
from tests.unit.repository.s3_bucket import FakeBucket
from tests.unit.workers.exported import CAPTURE, CHUNK, CONTENT, ExportedDisk, Guest
from workers.host import Host
from workers.steps import reading, reporter, transfer

ADDRESS = "s3://bucket/a"


class Time:
    """A clock that only sleeping moves; who sleeps beside others does not move it twice."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        wake = self.now + seconds
        with self._lock:
            self.now = max(self.now, wake)


class FarGuest(Guest):
    """One whose repository is in object storage."""

    def __init__(self, host: Host, place: Path) -> None:
        self.host = host
        self.repository = Repository.init(host.repository, chunk_bytes=CHUNK)
        self.repository.sessions.begin(CAPTURE, "test")
        self.disk = ExportedDisk(place / "disk.qcow2", CONTENT)


class Away:
    """The server is away for `away_s` from the first request on that `begins` is true of."""

    def __init__(self, time: Time, away_s: float, begins: str) -> None:
        self._time = time
        self._away_s = away_s
        self._begins = begins
        self.since: float | None = None

    def __call__(self, asked: Asked) -> Reply | None:
        if self.since is None and f"{asked.method} {asked.path}".replace("/bucket/a", "").startswith(self._begins):
            self.since = self._time.now
        away = self.since is not None and self._time.now - self.since < self._away_s
        return Reply.error(503, "ServiceUnavailable") if away else None


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    seconds = S3Settings().s3_transfer_patience_s
    monkeypatch.setattr(
        transfer, "transfer_patience", lambda _: Patience(seconds, sleep=made.sleep, clock=lambda: made.now)
    )
    return made


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBucket]:
    with answering() as server:
        for name, value in settings(server.endpoint).items():
            monkeypatch.setenv(name, value)
        made = server.answer = FakeBucket()
        yield made


@pytest.fixture
def guest(host: Host, bucket: FakeBucket, tmp_path: Path) -> FarGuest:
    return FarGuest(replace(host, repository=ADDRESS), tmp_path)


@pytest.mark.case("R7")
@pytest.mark.parametrize("away_s", [31, 600])
@pytest.mark.parametrize("begins", ["GET /config", "HEAD /chunks", "PUT /chunks", "PUT /indexes"])
def test_a_transfer_outlasts_an_outage(
    guest: FarGuest, bucket: FakeBucket, time: Time, away_s: float, begins: str
) -> None:
    bucket.trouble = away = Away(time, away_s, begins)
    result = guest.full()
    assert away.since is not None
    assert time.now >= away_s
    assert guest.read(result) == CONTENT
    assert result.chunks_new == len(CONTENT) // CHUNK


def test_an_outage_that_lasts_ends_the_transfer_with_its_reason(
    guest: FarGuest, bucket: FakeBucket, time: Time
) -> None:
    bucket.trouble = Away(time, 86400, "PUT /chunks")
    with pytest.raises(RepositoryError, match="the server said 503 ServiceUnavailable"):
        guest.full()
    assert 900 - 10 <= time.now < 1000
    assert not [key for key in bucket.objects if "/indexes/" in key]


def test_a_transfer_that_waits_gives_signs_of_life(
    guest: FarGuest, bucket: FakeBucket, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the orchestrator would end it as stalled, long before its patience is over."""
    seen: list[str] = []
    key = names.pulse_key(CAPTURE)
    told = threading.Event()

    def sleep(seconds: float) -> None:
        """Until it was told, as in the real time that this stands for."""
        Time.sleep(time, seconds)
        told.clear()
        assert told.wait(60)
        seen.extend(str(one) for one in guest.host.redis.hvals(key))

    tell = reporter.Reporter._tell

    def noted(telling: reporter.Reporter) -> None:
        tell(telling)
        told.set()

    monkeypatch.setattr(reporter, "REPORT_S", 0.01)
    monkeypatch.setattr(reporter.Reporter, "_tell", noted)
    monkeypatch.setattr(time, "sleep", sleep)
    bucket.trouble = Away(time, OrchestratorSettings().transfer_stall_s, "PUT /indexes")
    guest.full()
    assert len(set(seen)) > 5


@pytest.mark.usefixtures("time")
def test_a_failure_of_another_sort_does_not_wait_for_what_is_queued(
    guest: FarGuest, bucket: FakeBucket, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = threading.Event()

    def sleep(_: float) -> None:
        asleep.set()

    def fails(under_way: reading.Reading) -> None:
        writer = under_way._writer
        buffer = writer.take_buffer()
        buffer.chunk(CHUNK)[:] = CONTENT[:CHUNK]
        writer.write_buffer(0, buffer)
        assert asleep.wait(60)
        raise RepositoryError("of another sort")

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(reading.Reading, "run", fails)
    bucket.trouble = lambda asked: Reply.error(503, "SlowDown") if "/chunks/" in asked.path else None
    with pytest.raises(RepositoryError, match="of another sort"):
        guest.full()


def test_patience_is_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FREEZEFRAME_S3_PATIENCE_S", "7")
    monkeypatch.setenv("FREEZEFRAME_S3_TRANSFER_PATIENCE_S", "777")
    assert (patience_with(ADDRESS).seconds, transfer_patience(ADDRESS).seconds) == (7, 777)
    assert (patience_with(tmp_path).seconds, transfer_patience(tmp_path).seconds) == (0, 0)
