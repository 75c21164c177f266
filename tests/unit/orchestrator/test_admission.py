"""Runs that wait for their places, through Redis and the looks at runs (the order of the line is in `test_line`)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from ulid import ULID

from freezeframe import presence
from freezeframe.contract import names
from freezeframe.contract.event import Event, Queued, StateEvent
from freezeframe.contract.fault import Fault
from freezeframe.contract.inventory import GuestEntry, HostEntry
from freezeframe.contract.request import CaptureRequest
from freezeframe.contract.result import PreparedDisk, PreparedGuest, PrepareResult
from freezeframe.contract.words import CaptureKind, RunState, Step
from freezeframe.repository.errors import RepositoryFull, RepositoryNotReadable
from freezeframe.settings import OrchestratorSettings
from orchestrator import admission, board, cancel, line
from orchestrator.admission import Wanted
from orchestrator.board import Boards
from orchestrator.intake import take_in
from orchestrator.line import Entry, Limits
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run
from tests.unit.orchestrator.one_run import CAPTURE, Sent, prepare, told_of
from tests.unit.orchestrator.telling import tell
from tests.unit.repository.samples import GUEST

IDS = [f"01KAAAAAAAAAAAAAAAAAAAAA{number:02d}" for number in range(60)]
DB = "00000000-0000-4000-8000-0000000000db"


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


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


@pytest.mark.parametrize("other_process", [True, False])
@pytest.mark.parametrize("lost", ["entry", "hash", "all"])
def test_a_redis_that_has_lost_the_line_forms_it_again(busy: Orchestrator, lost: str, *, other_process: bool) -> None:
    """Runs that are at work put their entries again when they are looked at."""
    waits = ask(busy, "db")
    match lost:
        case "entry":
            busy.redis.hdel(names.ADMISSION_KEY, waits)
        case "hash":
            busy.redis.delete(names.ADMISSION_KEY)
        case _:
            busy.redis.delete(names.ADMISSION_KEY, names.ADMISSION_CHANGES_KEY, names.WANTED_GUESTS_KEY)
    if other_process:
        busy.boards.__init__()  # type: ignore[misc]
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (CAPTURE, waits)] == ["preparing", "queued"]
    assert set(Boards().read(busy.redis).entries) == {CAPTURE, waits}


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
        wanted = Wanted(("host-a",), {uuid(number): f"g{number}"}, waits_for_guests=False)
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


def test_a_look_at_one_that_waits_reads_only_entries_that_have_changed(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = ask(busy, "db")
    other = narrow(busy)
    other.look(waits)
    reads: list[str] = []
    real = line.read_entry

    def read(text: str) -> Entry:
        reads.append(text)
        return real(text)

    monkeypatch.setattr(board, "read_entry", read)
    for _ in range(5):
        other.look(waits)
    assert reads == []
    ask(busy, "far")
    reads.clear()
    other.look(waits)
    assert [real(text).hosts for text in reads] == [("host-b",)]


def test_a_place_that_another_process_frees_is_seen_at_once(busy: Orchestrator) -> None:
    other = narrow(busy)
    waits = ask(other, "db")
    end(busy, CAPTURE)
    assert set(busy.redis.hvals(names.WANTED_GUESTS_KEY)) == {waits}
    other.look(waits)
    assert state(other, waits) == "preparing"


def test_a_run_that_is_admitted_while_the_ended_ones_are_found_keeps_its_place(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(busy.runs).active
    asked: list[str] = []

    def active(runs: Any) -> list[str]:
        found = real(runs)
        if not asked:
            asked.append(ask(narrow(busy), "far"))
        return found

    monkeypatch.setattr(type(busy.runs), "active", active)
    Reconciler(busy).reconcile()
    assert busy.redis.hexists(names.ADMISSION_KEY, asked[0])
    busy.redis.srem(names.ACTIVE_RUNS_KEY, CAPTURE)
    assert board.remove_ended(busy.redis, [CAPTURE, *asked]) == [CAPTURE]
    assert busy.redis.hexists(names.ADMISSION_KEY, asked[0])


@pytest.mark.parametrize("text", ['{"v": 2, "admitted": true, "hosts": ["host-a"], "rank": 1}', '{"v": 9}', "odd"])
def test_a_place_that_a_newer_orchestrator_has_taken_is_taken(begun: Orchestrator, text: str) -> None:
    orchestrator = narrow(begun)
    end(orchestrator, CAPTURE)
    publish(orchestrator, "host-a", ("web", GUEST))
    orchestrator.redis.sadd(names.ACTIVE_RUNS_KEY, IDS[0])
    assert board.put(orchestrator.redis, board_version(orchestrator), IDS[0], Entry(admitted=True, hosts=()))
    orchestrator.redis.hset(names.ADMISSION_KEY, IDS[0], text)
    waits = ask(orchestrator, "web")
    assert state(orchestrator, waits) == "queued"
    orchestrator.redis.srem(names.ACTIVE_RUNS_KEY, IDS[0])
    Reconciler(orchestrator).reconcile()
    assert state(orchestrator, waits) == "preparing"


def board_version(orchestrator: Orchestrator) -> str:
    return orchestrator.boards.read(orchestrator.redis).version


@pytest.mark.parametrize(("who_asks", "who_looks"), [("narrow", "wide"), ("wide", "narrow"), ("wide", "wide")])
def test_with_two_orchestrators_of_different_limits_the_oldest_comes_first(
    busy: Orchestrator, who_asks: str, who_looks: str
) -> None:
    """By one of them a host takes part in one capture, by the other in two."""
    of = {"narrow": busy, "wide": narrow(busy, captures_per_host=2)}
    first = ask(busy, "db")
    second = ask(of[who_asks], "db", wait_for_guests=True)
    third = ask(of[who_asks], "web", wait_for_guests=True)
    assert "preparing" not in {state(busy, one) for one in (second, third)}
    Reconciler(of[who_looks]).reconcile()
    states = [state(busy, one) for one in (first, second, third)]
    assert states == (["preparing", "queued", "queued"] if who_looks == "wide" else ["queued"] * 3)


# The entry of a run that is at work follows what its hosts have of it.


def prepared(host_id: str, *guests: tuple[str, Fault | None], number: int = 0) -> PrepareResult:
    disk = PreparedDisk(
        target="vda", source="/d", source_format="raw", size_bytes=1, kind=CaptureKind.FULL, checkpoint="cp"
    )
    told = tuple(
        PreparedGuest(guest_uuid=one, name="x", fault=fault, disks=() if fault else (disk,)) for one, fault in guests
    )
    return PrepareResult(capture_id=CAPTURE, host_id=host_id, guests=told, round=number)


def answered(orchestrator: Orchestrator, capture_id: str, result: PrepareResult) -> Run:
    """Return the run after the look that follows an answer of its host."""
    part = f"{result.round}" if result.round else ""
    field = names.result_field(Step.PREPARE, result.host_id, part)
    tell(orchestrator.redis, capture_id, field, result.model_copy(update={"capture_id": capture_id}))
    return orchestrator.look(capture_id) or pytest.fail("no run")


REFUSED = Fault(code="no-agent", message="The agent does not answer.")
GONE = Fault(code="guest-gone", message="The guest is not on host host-a.")


def test_a_guest_that_its_host_has_refused_is_not_waited_for(busy: Orchestrator) -> None:
    """A capture of the others may go on for hours."""
    end(busy, CAPTURE)
    roomy = narrow(busy, captures_per_host=9)
    both = ask(roomy, "web", "db", policy="degrade")
    for_db, for_web = ask(roomy, "db", wait_for_guests=True), ask(roomy, "web", wait_for_guests=True)
    assert [run_of(roomy, one).state for one in (for_db, for_web)] == [RunState.QUEUED] * 2
    run = answered(roomy, both, prepared("host-a", (GUEST, None), (DB, REFUSED)))
    assert (run.state, run.kept) == (RunState.HOLDING, (GUEST,))
    for orchestrator in (narrow(roomy, captures_per_host=9), roomy):
        Reconciler(orchestrator).reconcile()
        assert [state(roomy, one) for one in (for_db, for_web)] == ["preparing", "queued"]
    assert "guest web is in capture" in run_of(roomy, for_web).queued.why  # type: ignore[union-attr]


def test_a_guest_of_a_host_that_has_not_answered_is_waited_for(busy: Orchestrator) -> None:
    """It may have claimed the guest."""
    end(busy, CAPTURE)
    both = ask(busy, "web", "far", policy="degrade")
    patient = ask(narrow(busy, captures_per_host=9), "far", wait_for_guests=True)
    answered(busy, both, prepared("host-a", (GUEST, None)))
    run, version = busy.runs.load(both) or pytest.fail("no run")
    late = {"due_at": datetime.now(UTC) - timedelta(seconds=1)}
    assert busy.runs.change(run.model_copy(update=late), version, tell=False)
    busy.look(both)
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (both, patient)] == ["holding", "queued"]


def test_a_host_all_of_whose_guests_are_refused_has_a_place_again(busy: Orchestrator) -> None:
    end(busy, CAPTURE)
    both = ask(busy, "web", "far", policy="degrade")
    waits = ask(busy, "db")
    answered(busy, both, prepared("host-a", (GUEST, REFUSED)))
    assert state(busy, waits) == "queued"
    run = answered(busy, both, prepared("host-b", (uuid(9), None)))
    assert run.state is RunState.HOLDING
    Reconciler(busy).reconcile()
    assert state(busy, waits) == "preparing"
    assert state(busy, ask(busy, "far", wait_for_guests=True)) == "queued"


def test_a_guest_that_moved_has_a_place_on_its_new_host_and_none_on_the_old_one(busy: Orchestrator, sent: Sent) -> None:
    """It is not left out for want of a place there: its capture has begun."""
    end(busy, CAPTURE)
    moves = ask(busy, "db")
    waits = ask(busy, "web")
    publish(busy, "host-a", ("web", GUEST))
    publish(busy, "host-b", ("far", uuid(9)), ("db", DB))
    run = answered(busy, moves, prepared("host-a", (DB, GONE)))
    assert (run.round, [host.host_id for host in run.moved]) == (1, ["host-b"])
    far = ask(busy, "far")
    assert run_of(busy, far).queued == Queued(place=1, why="on host host-b 1 capture is at work, and 1 may be at once")
    Reconciler(busy).reconcile()
    assert [state(busy, one) for one in (waits, far)] == ["preparing", "queued"]


def test_whoever_dies_before_a_runs_entry_has_followed_is_followed_by_the_next_look(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(busy, CAPTURE)
    roomy = narrow(busy, captures_per_host=9)
    both = ask(roomy, "web", "db", policy="degrade")
    for_db = ask(roomy, "db", wait_for_guests=True)
    with monkeypatch.context() as dies:
        dies.setattr(admission, "follow", lambda *_: None)
        answered(roomy, both, prepared("host-a", (GUEST, None), (DB, REFUSED)))
        Reconciler(roomy).reconcile()
    assert state(roomy, for_db) == "queued"
    Reconciler(narrow(busy, captures_per_host=9)).reconcile()
    assert state(roomy, for_db) == "preparing"


def test_a_board_that_redis_refuses_keeps_no_run_from_its_looks(busy: Orchestrator) -> None:
    cancel.mark(busy.runs, CAPTURE, "a test")
    busy.redis.delete(names.ADMISSION_KEY)
    busy.redis.set(names.ADMISSION_KEY, "odd")  # WRONGTYPE
    Reconciler(busy).reconcile()
    assert state(busy, CAPTURE) == "releasing"


def test_what_redis_refuses_of_an_entry_keeps_no_run_from_its_orders(
    busy: Orchestrator, monkeypatch: pytest.MonkeyPatch, sent: Sent
) -> None:
    def refuses(*_: object) -> None:
        raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'.")

    monkeypatch.setattr(admission, "follow", refuses)
    assert prepare(busy).state is RunState.HOLDING
    assert sent.steps[-1] is Step.HOLD
    assert busy.look(CAPTURE) is not None


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
