"""Who may begin, and who waits for a place, in which order."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.event import Event, StateEvent
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.words import RunState, Step
from freezeframe.repository.errors import RepositoryFull, RepositoryNotReadable
from freezeframe.settings import OrchestratorSettings
from orchestrator import admission, cancel
from orchestrator.admission import Boards, Entry, Limits, waiting
from orchestrator.intake import take_in
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE, Sent, prepare, told_of
from tests.unit.repository.samples import GUEST

IDS = [f"01KAAAAAAAAAAAAAAAAAAAAA{number:02d}" for number in range(60)]
LIMITS = Limits(in_all=3, on_a_host=2)
NO_LIMITS = Limits(in_all=1000, on_a_host=1000)
DB = "00000000-0000-4000-8000-0000000000db"


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def entry(hosts: str, *guests: int, admitted: bool = False, patient: bool = False) -> Entry:
    return Entry(
        admitted=admitted,
        hosts=tuple(hosts),
        guests={uuid(one): f"g{one}" for one in guests},
        waits_for_guests=patient,
    )


def lines(*entries: Entry, limits: Limits = LIMITS) -> dict[int, tuple[int, str]]:
    found = waiting(dict(zip(IDS, entries, strict=False)), limits)
    return {IDS.index(one): (queued.place, queued.why) for one, queued in found.items()}


def test_a_host_has_so_many_captures_and_the_next_ones_wait_in_the_order_of_their_ids() -> None:
    one = entry("a")
    assert lines(one, one, one, one, limits=Limits(100, 2)) == {
        2: (1, "on host a 2 captures are at work, and 2 may be at once"),
        3: (2, "on host a 2 captures are at work and 1 waits before it, and 2 may be at once"),
    }


def test_those_that_are_at_work_keep_their_places_whatever_their_ids() -> None:
    """The settings may have been lowered since, too."""
    at_work = entry("a", admitted=True)
    assert lines(entry("a"), at_work, at_work, at_work, limits=Limits(100, 2)).keys() == {0}


def test_the_datacenter_has_so_many() -> None:
    assert lines(entry("a"), entry("b"), entry("c"), entry("d"))[3] == (
        1,
        "3 captures are at work, and 3 may be at once",
    )


def test_other_hosts_captures_pass_one_that_waits() -> None:
    found = lines(entry("a"), entry("a"), entry("a"), entry("b"), limits=Limits(100, 2))
    assert found.keys() == {2}


def test_one_of_many_hosts_is_not_overtaken_for_ever() -> None:
    """It waits for host a; on host b, of which it needs a place too, one that comes later takes the other place only."""
    busy, both, small = entry("a", admitted=True), entry("ab"), entry("b")
    assert lines(busy, busy, both, small, small, limits=Limits(100, 2)) == {
        2: (1, "on host a 2 captures are at work, and 2 may be at once"),
        4: (2, "on host b 1 capture is at work and 1 waits before it, and 2 may be at once"),
    }


def test_a_guest_in_another_capture_is_waited_for_if_that_was_asked_for() -> None:
    holder = entry("a", 1, admitted=True)
    assert lines(holder, entry("b", 1, 2, patient=True), limits=NO_LIMITS) == {
        1: (1, f"guest g1 is in capture {IDS[0]}, which is at work")
    }
    assert lines(holder, entry("b", 1, 2), limits=NO_LIMITS) == {}  # it is refused


def test_captures_of_one_guest_are_made_in_the_order_of_their_ids() -> None:
    """Also if the later one would find a place at once: it would be the newest, and show what is older."""
    full = entry("a", admitted=True)
    found = lines(full, full, entry("ab", 7), entry("b", 7, patient=True), limits=Limits(100, 2))
    assert found[3] == (2, f"guest g7 is in capture {IDS[2]}, which was asked for before and waits too")


def test_what_waits_for_one_host_keeps_nobody_from_others() -> None:
    """With four at work and 96 in line on host a, host b is free."""
    many = [entry("a", admitted=True)] * 4 + [entry("a")] * 40
    assert 44 not in lines(*many, entry("b"), limits=Limits(40, 4))


def test_what_waits_for_a_guest_keeps_nobody_from_its_host() -> None:
    holder, hourly = entry("a", 1, admitted=True), entry("a", 1, patient=True)
    assert lines(holder, hourly, hourly, hourly, entry("a", 2), limits=Limits(100, 4)).keys() == {1, 2, 3}


def test_rivals_are_those_that_have_a_guest_or_get_it_before() -> None:
    entries = dict(
        zip(IDS, [entry("a", 1), entry("a", 2), entry("a", 1, 2, 3), entry("a", 3), entry("b", 3)], strict=False)
    )
    assert admission.rivals(entries, IDS[2]) == {uuid(1): IDS[0], uuid(2): IDS[1]}
    entries[IDS[4]] = entry("b", 3, admitted=True)
    assert admission.rivals(entries, IDS[2])[uuid(3)] == IDS[4]


ENTRIES = st.lists(
    st.builds(
        lambda hosts, guests, admitted, patient: entry(
            "".join(sorted(hosts)), *sorted(guests), admitted=admitted, patient=patient
        ),
        st.sets(st.sampled_from("abcd"), min_size=1),
        st.sets(st.integers(0, 5), min_size=1),
        st.booleans(),
        st.booleans(),
    ),
    max_size=20,
)


@given(ENTRIES, st.integers(1, 6), st.integers(1, 4))
def test_no_place_is_given_twice_and_everybody_comes_to_his_turn(
    entries: list[Entry], in_all: int, on_a_host: int
) -> None:
    limits = Limits(in_all, on_a_host)
    now = dict(zip(IDS, entries, strict=False))
    before = {one for one, what in now.items() if what.admitted}
    order: list[str] = []
    while now:
        found = waiting(now, limits)
        assert sorted(queued.place for queued in found.values()) == list(range(1, len(found) + 1))
        begins = {one for one, what in now.items() if not what.admitted and one not in found}
        at_work = {one for one, what in now.items() if what.admitted} | begins
        if begins:
            assert len(at_work) <= in_all
            for host in {host for one in begins for host in now[one].hosts}:
                assert sum(host in now[one].hosts for one in at_work) <= on_a_host
        for one in begins & {one for one, what in now.items() if what.waits_for_guests}:
            # of those that come later only some that are refused it have such a guest
            others = {other for other in at_work if now[other].admitted or other < one}
            assert not any(now[one].guests.keys() & now[other].guests.keys() for other in others)
        for one in found:  # nobody waits for a place that is free and that no older one waits for
            older = {other: now[other] for other in now if now[other].admitted or other < one}
            alone = all(not now[one].guests.keys() & other.guests.keys() for other in older.values())
            free = all(sum(host in other.hosts for other in older.values()) < on_a_host for host in now[one].hosts)
            assert not (alone and free and len(at_work) < in_all)
        order += sorted(begins)
        assert at_work, "nobody is at work, and somebody waits"
        for one in begins:
            now[one] = now[one].model_copy(update={"admitted": True})
        del now[min(at_work)]  # it ends
    assert sorted([*before, *order]) == list(IDS[: len(entries)])


# The same, through Redis and the looks at runs.


@pytest.fixture
def busy(begun: Orchestrator) -> Orchestrator:
    """One capture of `web` is at work on host-a, which takes part in one at once; `db` runs there too, and `far` elsewhere."""
    publish(begun, "host-a", ("web", GUEST), ("db", DB))
    publish(begun, "host-b", ("far", uuid(9)))
    return narrow(begun)


def publish(orchestrator: Orchestrator, host_id: str, *guests: tuple[str, str]) -> None:
    entries = tuple(GuestEntry(guest_uuid=one, name=name, state="running") for name, one in guests)
    host = HostEntry(
        host_id=host_id,
        at=datetime.now(UTC),
        freezeframe_version="0",
        libvirt_version="9.0.0",
        qemu_version="7.2.0",
        guests=entries,
    )
    presence.publish(orchestrator.redis, host)
    orchestrator.redis.persist(names.alive_key(host_id))


def narrow(orchestrator: Orchestrator, **settings: Any) -> Orchestrator:
    """Another process, whose settings let a host take part in one capture at once."""
    chosen = OrchestratorSettings(**{"captures_per_host": 1, **settings})
    return Orchestrator(**{**vars(orchestrator), "settings": chosen, "boards": Boards()})


def ask(orchestrator: Orchestrator, *guests: str, **options: Any) -> str:
    capture_id = str(ULID())
    take_in(orchestrator, CaptureRequest(capture_id=capture_id, guests=guests, **options))
    return capture_id


def run_of(orchestrator: Orchestrator, capture_id: str) -> Run:
    loaded = orchestrator.runs.load(capture_id)
    assert loaded is not None
    return loaded[0]


def state(orchestrator: Orchestrator, capture_id: str) -> str:
    return str(run_of(orchestrator, capture_id).state)


def end(orchestrator: Orchestrator, capture_id: str) -> None:
    """End a run whose hosts do not answer."""
    cancel.mark(orchestrator.runs, capture_id, "a test")
    orchestrator.look(capture_id)
    run, version = orchestrator.runs.load(capture_id) or pytest.fail("no run")
    if not run.state.ended:
        late = {"due_at": datetime.now(UTC) - timedelta(seconds=1)}
        assert orchestrator.runs.change(run.model_copy(update=late), version, tell=False)
        orchestrator.look(capture_id)
    assert run_of(orchestrator, capture_id).state is RunState.FAILED


def places_told(orchestrator: Orchestrator, capture_id: str) -> list[int]:
    entries: Any = orchestrator.redis.xrange(names.events_key(capture_id))
    events = [Event.model_validate_json(fields["event"]).root for _, fields in entries]
    return [one.queued.place for one in events if isinstance(one, StateEvent) and one.queued]


def test_a_capture_without_a_place_waits_and_no_host_hears_of_it(busy: Orchestrator, sent: Sent) -> None:
    sent.steps.clear()
    waits = ask(busy, "db")
    run = run_of(busy, waits)
    assert run.queued is not None
    assert (run.state, run.queued.place, run.plan) == (RunState.QUEUED, 1, None)
    assert run.queued.why == "on host host-a 1 capture is at work, and 1 may be at once"
    assert sent.steps == []
    assert waits not in busy.repository.sessions.stored_at()  # garbage collection waits for nobody who waits
    assert told_of(busy, waits) == ["asked", "queued"]
    elsewhere = ask(busy, "far")
    assert state(busy, elsewhere) == "preparing"


def test_it_goes_on_when_the_place_is_free_and_is_planned_by_what_is_known_then(busy: Orchestrator, sent: Sent) -> None:
    first, second = ask(busy, "db"), ask(busy, "db", wait_for_guests=True)
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (first, second)] == ["queued", "queued"]
    publish(busy, "host-a", ("web", GUEST))
    publish(busy, "host-b", ("far", uuid(9)), ("db", DB))  # it has moved
    end(busy, CAPTURE)
    sent.steps.clear()
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (first, second)] == ["preparing", "queued"]
    assert [host.host_id for host in run_of(busy, first).plan.hosts] == ["host-b"]  # type: ignore[union-attr]
    assert sent.steps == [Step.PREPARE]
    assert places_told(busy, second) == [2, 1]
    run = run_of(busy, first)
    assert (run.queued, run.due_at - run.entered_at) == (
        None,
        timedelta(seconds=busy.settings.prepare_timeout_s),
    )


def test_a_place_that_stays_the_same_is_told_once(busy: Orchestrator) -> None:
    waits = ask(busy, "db")
    before = busy.runs.load(waits)
    for _ in range(3):
        Reconciler(busy).reconcile()
    assert busy.runs.load(waits) == before
    assert places_told(busy, waits) == [1]


def test_cancelled_while_it_waits_it_ends_at_once_and_makes_room(busy: Orchestrator) -> None:
    first, second = ask(busy, "db"), ask(busy, "web", wait_for_guests=True)
    cancel.mark(busy.runs, first, "a test")
    busy.look(first)
    assert state(busy, first) == "failed"
    busy.look(second)
    assert run_of(busy, second).queued.place == 1  # type: ignore[union-attr]
    assert busy.redis.hexists(names.ADMISSION_KEY, first) is False


def test_a_guest_in_another_capture_is_waited_for(begun: Orchestrator) -> None:
    patient = ask(begun, "web", wait_for_guests=True)
    run = run_of(begun, patient)
    assert run.queued is not None
    assert run.queued.why == f"guest web is in capture {CAPTURE}, which is at work"
    end(begun, CAPTURE)
    Reconciler(begun).reconcile()
    assert state(begun, patient) == "preparing"


def test_a_capture_that_does_not_wait_for_guests_takes_none_from_one_that_does(busy: Orchestrator) -> None:
    """Its host could have either claim the guest first, when both begin at once."""
    patient = ask(busy, "db", wait_for_guests=True)
    for policy in ("all", "degrade"):
        run = run_of(busy, ask(busy, "db", policy=policy))
        assert (str(run.state), [fault.code for fault in run.faults]) == ("failed", ["guest-claimed"])
        assert run.faults[0].message.startswith(f"Guest db is in capture {patient}, ")
    less = run_of(busy, ask(busy, "db", "far", policy="degrade"))
    assert less.state is RunState.PREPARING
    assert [(fault.code, fault.guest, fault.host) for fault in less.faults] == [("guest-claimed", "db", "host-a")]
    assert [host.host_id for host in less.plan.hosts] == ["host-b"]  # type: ignore[union-attr]
    assert run_of(busy, patient).queued.place == 1  # type: ignore[union-attr]


def test_whether_a_guest_is_free_again_its_host_decides_once_it_was_claimed(begun: Orchestrator, sent: Sent) -> None:
    """A capture may go on for hours without a guest whose transfer has failed."""
    assert [one.code for one in run_of(begun, ask(begun, "web")).faults] == ["guest-claimed"]
    prepare(begun)
    assert state(begun, CAPTURE) == "holding"
    sent.steps.clear()
    assert state(begun, ask(begun, "web")) == "preparing"
    assert sent.steps == [Step.PREPARE]


def test_whoever_waits_for_too_long_is_told_for_what(busy: Orchestrator) -> None:
    waits = ask(busy, "db")
    run, version = busy.runs.load(waits) or pytest.fail("no run")
    assert run.due_at - run.entered_at == timedelta(seconds=busy.settings.queue_timeout_s)
    late = {"due_at": datetime.now(UTC)}
    assert busy.runs.change(run.model_copy(update=late), version, tell=False)
    busy.look(waits)
    run = run_of(busy, waits)
    assert [(fault.code, fault.exit_code) for fault in run.faults] == [("queued-too-long", 3)]
    assert "on host host-a 1 capture is at work" in run.faults[0].message
    assert "captures_per_host" in str(run.faults[0].advice)


def test_one_that_has_waited_for_hours_is_not_refused_for_its_age(busy: Orchestrator) -> None:
    """Its id is older than that of a capture which was sealed meanwhile; a request of that age would be refused."""
    waits = ask(busy, "db")
    old = str(ULID.from_datetime(datetime.now(UTC) - timedelta(hours=5)))
    run, _ = busy.runs.load(waits) or pytest.fail("no run")
    request = run.request.model_copy(update={"capture_id": old})
    moved = run.model_copy(update={"capture_id": old, "request": request})
    assert busy.runs.create(moved)
    end(busy, waits)
    end(busy, CAPTURE)
    newest = str(ULID())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(busy.repository), "capture_ids", lambda _: [newest])
        busy.look(old)
    assert state(busy, old) == "preparing"


@pytest.mark.parametrize("lost", ["entry", "hash"])
def test_a_redis_that_has_lost_the_line_forms_it_again(busy: Orchestrator, lost: str) -> None:
    waits = ask(busy, "db")
    if lost == "hash":
        busy.redis.delete(names.ADMISSION_KEY)
    else:
        busy.redis.hdel(names.ADMISSION_KEY, waits)
    busy.boards.__init__()  # type: ignore[misc]  # another process
    Reconciler(busy).reconcile()
    # what was lost is not known to be at work: one too many begins, and none stays behind
    assert state(busy, waits) == ("preparing" if lost == "hash" else "queued")
    assert busy.redis.hexists(names.ADMISSION_KEY, waits)


def test_the_place_of_a_run_that_ended_unseen_is_free(busy: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that ended it has died before it freed the place."""
    waits = ask(busy, "db")
    with monkeypatch.context() as dies:
        dies.setattr(admission, "leave", lambda *_: None)
        end(busy, CAPTURE)
    assert busy.redis.hexists(names.ADMISSION_KEY, CAPTURE)
    Reconciler(busy).reconcile()
    assert state(busy, waits) == "preparing"
    assert not busy.redis.hexists(names.ADMISSION_KEY, CAPTURE)


def test_a_run_that_was_admitted_and_not_recorded_keeps_its_place(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between the two; somebody else asks meanwhile."""
    end(busy, CAPTURE)

    class Ends(BaseException):
        pass

    def ends(*_: object) -> None:
        raise Ends

    with monkeypatch.context() as dies:
        dies.setattr(type(busy.repository.sessions), "begin", ends)
        with pytest.raises(Ends):
            ask(busy, "db")
    [first] = busy.runs.active()
    second = ask(busy, "web")
    assert [state(busy, one) for one in (first, second)] == ["asked", "queued"]
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (first, second)] == ["preparing", "queued"]


def test_what_cannot_be_planned_when_its_turn_comes_frees_its_place(busy: Orchestrator) -> None:
    first, second = ask(busy, "db"), ask(busy, "web", wait_for_guests=True)
    publish(busy, "host-a", ("web", GUEST))  # db is gone
    end(busy, CAPTURE)
    for _ in range(2):
        Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (first, second)] == ["failed", "preparing"]
    assert [fault.code for fault in run_of(busy, first).faults] == ["unknown-guest"]


def test_two_that_decide_at_once_do_not_both_take_the_last_place(busy: Orchestrator) -> None:
    end(busy, CAPTURE)
    taken: list[bool] = []

    def take(orchestrator: Orchestrator, number: int) -> None:
        wanted = entry("", number).model_copy(update={"hosts": ("host-a",)})
        run = Run.model_validate(
            {**run_of(busy, CAPTURE).model_dump(), "capture_id": IDS[number], "state": "asked", "receipt": None}
        )
        assert orchestrator.runs.create(run)
        ready.wait()
        limits = Limits.of(orchestrator.settings)
        taken.append(admission.ask(orchestrator.redis, orchestrator.boards, limits, IDS[number], wanted) is None)

    many = 12
    ready = threading.Barrier(many)
    threads = [threading.Thread(target=take, args=(narrow(busy), number)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * (many - 1) + [True]


def test_a_look_at_one_that_waits_reads_the_line_only_if_it_has_changed(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = ask(busy, "db")
    busy.look(waits)
    reads: list[object] = []
    real = admission._read

    def read(*of: Any) -> admission.Board:
        reads.append(of)
        return real(*of)

    monkeypatch.setattr(admission, "_read", read)
    for _ in range(5):
        busy.look(waits)
    assert reads == []
    ask(busy, "far")
    busy.look(waits)
    assert len(reads) >= 1


@pytest.mark.parametrize(
    "error", [RepositoryNotReadable("Storage is away."), RepositoryFull("The repository is full.")]
)
def test_a_store_in_trouble_ends_no_run_that_has_waited(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    waits = ask(busy, "db")
    end(busy, CAPTURE)

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as trouble:
        trouble.setattr(type(busy.repository.sessions), "begin", fails)
        busy.look(waits)
        assert state(busy, waits) == "queued"
    busy.look(waits)
    assert state(busy, waits) == "preparing"


@pytest.mark.case("D13")
def test_an_id_whose_session_has_ended_holds_no_guest(begun: Orchestrator, sent: Sent) -> None:
    """Redis was emptied since, and the caller asks again: nothing could be stored."""
    asked = str(ULID())
    begun.repository.sessions.begin(asked, "orchestrator")
    begun.repository.sessions.end(asked, sealed=False)
    end(begun, CAPTURE)
    sent.steps.clear()
    take_in(begun, CaptureRequest(capture_id=asked, guests=("web",)))
    run = run_of(begun, asked)
    assert (run.state, [fault.code for fault in run.faults]) == (RunState.FAILED, ["ended-before"])
    assert sent.steps == []
