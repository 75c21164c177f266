"""The store's clock decides what garbage collection may delete, and not the hosts'; one that is far off is refused (R2)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from freezeframe.repository import Repository, Session
from freezeframe.repository.age import CLOCKS_APART, drift_allowed
from freezeframe.repository.errors import ClockDrift, RepositoryFull, RepositoryNotWritable
from freezeframe.repository.garbage import CollectReport, collect
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import TMP, session_name
from freezeframe.repository.session import TERM, SessionState
from freezeframe.repository.store import MemoryStore
from freezeframe.repository.store_clock import Measured, check_drift, measure, newest_known

from .meanwhile import Meanwhile, run
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .times import Time

pytestmark = pytest.mark.case("R2")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def on_host(repository: Repository, time: Time, ahead: timedelta) -> Repository:
    """The repository on a host whose clock is that far ahead of the store's."""
    return Repository(repository.store, repository.config, clock=lambda: time() + ahead)


def collect_on_host(
    repository: Repository, time: Time, ahead: timedelta, grace: timedelta = HOUR, *, dry_run: bool = False
) -> CollectReport:
    return collect(repository, grace=grace, clock=lambda: time() + ahead, threads=0, dry_run=dry_run)


def objects_of(repository: Repository) -> dict[str, bytes]:
    assert isinstance(repository.store, MemoryStore)
    return dict(repository.store._objects)


def put_session(repository: Repository, session: Session) -> None:
    name = session_name(session.session_id)
    repository.store.put_many([(name, bytes(session.stored(repository.objects, name)))])


def session_of(number: int, begun_at: datetime) -> Session:
    """As a version of before has begun it, by its host's clock."""
    return Session(
        session_id=capture_id(number),
        begun_at=begun_at,
        expires_at=begun_at + TERM,
        host="host-a",
        pid=1,
        program="orchestrator",
    )


@pytest.mark.parametrize("ahead", [3 * DAY, 90 * HOUR, -3 * DAY, timedelta(0)], ids=str)
def test_what_a_writer_counts_on_stays_however_far_its_clock_is_off(
    collected: Repository, time: Time, ahead: timedelta
) -> None:
    """X is condemned after the writer has seen it. By the writer's clock it began days after that."""
    seal(collected, 1, disk_of(b"x"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    put_session(collected, session_of(2, time() + ahead))
    index = store_disk(collected, disk_of(b"x", b"i"))
    condemned = run(collected, time).condemned.objects
    assert condemned == (2 if ahead > -DAY else 0)  # by one that is behind it is younger than the session
    time.pass_(hours=30)
    assert run(collected, time).deleted.objects == 0
    collected.seal(manifest_of(2, disk_capture(index, 2 * CHUNK)))
    assert read_disk(collected, index) == disk_of(b"x", b"i")


@pytest.mark.parametrize("ahead", [40 * DAY, 4000 * DAY], ids=str)
def test_a_session_that_a_host_with_a_clock_far_ahead_left_open_keeps_garbage_no_longer_than_another(
    collected: Repository, time: Time, ahead: timedelta
) -> None:
    """The host died before it could end the session that it was refused."""
    seal(collected, 1, disk_of(b"x"))
    put_session(collected, session_of(2, time() + ahead))
    collected.forget(capture_id(1))
    time.pass_(days=7)
    assert run(collected, time).sessions  # it lives for its term, as any
    time.pass_(days=4)
    assert run(collected, time).deleted.objects == 2
    assert collected.sessions.all() == []


def test_a_clock_that_is_allowed_to_be_ahead_shortens_no_session(collected: Repository, time: Time) -> None:
    put_session(collected, session_of(2, time() + CLOCKS_APART))
    (session,) = collected.sessions.all()
    assert session.expires_at == collected.sessions.load(capture_id(2)).expires_at


def test_who_ends_a_session_notes_when_it_began_by_the_stores_clock(collected: Repository, time: Time) -> None:
    """The object that says that it has ended has another time."""
    began = time.now
    put_session(collected, session_of(2, time() + 3 * DAY))
    time.pass_(days=1)
    collected.sessions.end(capture_id(2), sealed=False)
    (session,) = collected.sessions.all()
    assert timedelta(0) < session.begun_at - began < timedelta(seconds=1)


@pytest.mark.parametrize("behind", [timedelta(minutes=9), 3 * DAY], ids=str)
def test_a_session_has_not_ended_before_the_store_says_so(collected: Repository, time: Time, behind: timedelta) -> None:
    """Its manifest may not show yet on another client, for as long as the grace."""
    collected.sessions.begin(capture_id(2), "test")
    time.pass_(hours=2)
    on_host(collected, time, -behind).sessions.end(capture_id(2), sealed=True)
    (session,) = collected.sessions.all()
    assert session.ended_at is not None
    assert abs(session.ended_at - time.now) < timedelta(seconds=1)
    assert [one.session_id for one in run(collected, time).sessions] == [capture_id(2)]


def test_a_run_has_not_finished_before_the_store_says_so(collected: Repository, time: Time) -> None:
    seal(collected, 1, disk_of(b"x"))
    collected.forget(capture_id(1))
    time.pass_(hours=2)
    run(collected, time)
    (record,) = Records(collected.objects).all()
    assert record.finished_at is not None
    Records(collected.objects).put(record.model_copy(update={"finished_at": record.finished_at - 3 * DAY}))
    assert run(collected, time).deleted.objects == 0
    time.pass_(hours=2)
    assert run(collected, time).deleted.objects == 2


def test_an_unfinished_run_is_not_over_before_the_store_says_so(collected: Repository, time: Time) -> None:
    record = RunRecord(run_id=capture_id(9), begun_at=time() - 30 * DAY)
    Records(collected.objects).put(record)
    run(collected, time)
    assert collected.objects.condemned.runs() == [capture_id(9)]
    time.pass_(days=8)
    run(collected, time)
    assert collected.objects.condemned.runs() == []


@pytest.mark.parametrize(
    ("ahead", "grace"),
    [
        (40 * DAY, DAY),
        (-40 * DAY, DAY),
        (HOUR, HOUR),
        (2 * HOUR, HOUR),
        (-HOUR, HOUR),
        (timedelta(minutes=11), DAY),
        (-timedelta(minutes=11), DAY),
        (timedelta(minutes=2), timedelta(0)),
    ],
    ids=str,
)
def test_a_collector_whose_clock_is_off_changes_nothing_and_says_whose_clock_says_what(
    collected: Repository, time: Time, ahead: timedelta, grace: timedelta
) -> None:
    store_disk(collected, disk_of(b"nobody's"))
    time.pass_(days=2)
    before = objects_of(collected)
    with pytest.raises(ClockDrift) as told:
        collect_on_host(collected, time, ahead, grace)
    assert objects_of(collected) == before
    assert (told.value.code, told.value.exit_code) == ("clock-drift", 5)
    for part in (socket.gethostname(), f"{time.now:%Y-%m-%d %H:%M}", f"{time.now + ahead:%Y-%m-%d %H:%M}", "memory:"):
        assert part in told.value.message
    assert "NTP" in told.value.hint


@pytest.mark.parametrize("ahead", [timedelta(minutes=9), -timedelta(minutes=9), timedelta(0)], ids=str)
def test_a_clock_that_is_a_little_off_collects_as_the_stores_would(
    collected: Repository, time: Time, ahead: timedelta
) -> None:
    store_disk(collected, disk_of(b"nobody's"))
    time.pass_(minutes=59)
    assert collect_on_host(collected, time, ahead).condemned.objects == 0
    time.pass_(minutes=2)
    assert collect_on_host(collected, time, ahead).condemned.objects == 2
    time.pass_(minutes=59)
    assert collect_on_host(collected, time, ahead).deleted.objects == 0
    time.pass_(minutes=2)
    assert collect_on_host(collected, time, ahead).deleted.objects == 2
    assert list(collected.store.names(TMP)) == []


@pytest.mark.parametrize("ahead", [3 * DAY, -3 * DAY, timedelta(minutes=11)], ids=str)
def test_no_capture_begins_on_a_host_whose_clock_is_off(collected: Repository, time: Time, ahead: timedelta) -> None:
    with pytest.raises(ClockDrift, match=socket.gethostname()):
        on_host(collected, time, ahead).sessions.begin(capture_id(1), "test")
    assert collected.sessions.load(capture_id(1)).state is SessionState.FAILED


def test_a_seal_waits_for_a_clock_that_was_set_meanwhile(collected: Repository, time: Time) -> None:
    """It says that it may be tried again, since hours of work depend on it; and nothing is visible until then."""
    collected.sessions.begin(capture_id(1), "test")
    manifest = manifest_of(1, disk_capture(store_disk(collected, disk_of(b"a")), CHUNK))
    for ahead in (2 * HOUR, -2 * HOUR):
        with pytest.raises(ClockDrift) as told:
            on_host(collected, time, ahead).seal(manifest)
        assert told.value.transient
    assert not collected.is_sealed(capture_id(1))
    on_host(collected, time, timedelta(minutes=5)).seal(manifest)
    assert collected.is_sealed(capture_id(1))


def test_whether_a_seal_is_in_time_is_asked_of_the_store(collected: Repository, time: Time) -> None:
    """By the sealer's clock, nine minutes behind, the margin would not be over."""
    session = collected.sessions.begin(capture_id(1), "test")
    manifest = manifest_of(1, disk_capture(store_disk(collected, disk_of(b"a")), CHUNK))
    time.now = session.expires_at - timedelta(minutes=55)
    with pytest.raises(Exception, match="expires at"):
        on_host(collected, time, -timedelta(minutes=9)).seal(manifest)


def test_a_store_that_fills_up_as_a_manifest_is_sealed_is_no_reason_to_take_it_back(
    collected: Repository, time: Time, store: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = collected.sessions.measure()

    def full(*_: object) -> None:
        raise RepositoryFull("The repository is full.")

    monkeypatch.setattr(store, "put", full)
    time.pass_(hours=3)
    assert abs(collected.sessions.measure_again(measured) - time.now) < timedelta(seconds=1)


def test_whole_seconds_are_fine_enough_for_no_grace_at_all(time: Time) -> None:
    """As object storage gives them."""
    made = Repository.init_in(MemoryStore(lambda: time().replace(microsecond=0)), chunk_bytes=CHUNK)
    repository = Repository(made.store, made.config, clock=time)
    store_disk(repository, disk_of(b"nobody's"))
    time.pass_(seconds=1.5)
    report = collect(repository, grace=timedelta(0), clock=time, threads=0)
    assert (report.condemned.objects, report.deleted.objects, report.waiting.objects) == (2, 2, 0)


def test_a_dry_run_of_a_repository_that_may_not_be_written_believes_its_host(
    collected: Repository, time: Time, store: Meanwhile, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_disk(collected, disk_of(b"nobody's"))
    time.pass_(hours=2)

    def refused(*_: object) -> None:
        raise RepositoryNotWritable("It is mounted read-only.")

    monkeypatch.setattr(store, "put", refused)
    assert collect_on_host(collected, time, timedelta(0), dry_run=True).condemned.objects == 2
    with pytest.raises(RepositoryNotWritable):
        collect_on_host(collected, time, timedelta(0))


@pytest.mark.parametrize(
    ("grace", "allowed"),
    [
        (None, 10),
        (365 * DAY, 10),
        (HOUR, 10),
        (timedelta(minutes=40), 10),
        (timedelta(minutes=36), 9),
        (timedelta(minutes=4), 1),
        (timedelta(0), 1),
    ],
)
def test_a_quarter_of_the_grace_is_allowed_between_a_minute_and_what_contradicts_a_date(
    grace: timedelta | None, allowed: int
) -> None:
    assert drift_allowed(grace) == timedelta(minutes=allowed)
    assert drift_allowed(grace) <= CLOCKS_APART


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [(-602.0, True), (-602.001, False), (-1.0, True), (0.5, True), (660.0, True), (660.001, False)],
)
def test_a_put_that_takes_a_minute_is_no_drift(time: Time, theirs: float, *, fits: bool) -> None:
    """The store's time is of any moment in between, and may be coarse."""
    before = time.now
    look: Callable[[], None] = lambda: check_drift(  # noqa: E731
        "store:", before + timedelta(seconds=theirs), before, before + timedelta(minutes=1), CLOCKS_APART
    )
    if fits:
        look()
    else:
        with pytest.raises(ClockDrift, match=r"1[01] min apart"):
            look()


def test_the_stores_time_goes_on_with_the_own_clock(time: Time) -> None:
    measured = Measured(time.now + HOUR, time.now)
    assert measured.at(time.now + DAY) == time.now + DAY + HOUR


def test_a_look_leaves_nothing(collected: Repository, time: Time) -> None:
    before = objects_of(collected)
    measure(collected.store, time, HOUR)
    with pytest.raises(ClockDrift):
        measure(collected.store, lambda: time() + DAY, HOUR)
    assert objects_of(collected) == before


def test_the_newest_object_tells_the_least_that_the_store_says(collected: Repository, time: Time) -> None:
    assert newest_known(MemoryStore()) == datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    time.pass_(days=3)
    seal(collected, 1, disk_of(b"a"))
    sealed = time.now
    time.pass_(days=3)
    assert timedelta(0) <= sealed - newest_known(collected.store) < timedelta(seconds=1)
