"""Recovery: what a capture left is undone when nobody else will, and left alone while somebody may be at work on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.words import HoldKind, Step
from freezeframe.naming import NamedGuest
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryNotReadable
from tests.unit.told_run import tell_run
from workers.claims import ClaimUnreadableError, GuestClaimedError, StaleOrderError
from workers.host import Host
from workers.hypervisor import agent, backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeExpiredError
from workers.journal import BackupChange, CaptureJournal, ClaimChange, FreedChange, HoldChange, ScratchChange
from workers.recovery import Recovered, State, recover
from workers.steps.claimed import claim
from workers.steps.undo import undo_guest

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER_CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAB"
FIELD = names.result_field(Step.HOLD, "host-a")


@pytest.fixture
def guest(host: Host) -> str:
    """The one guest of the test driver, claimed by a capture that has not ended."""
    Repository.init(host.repository, chunk_bytes=4096)
    uuid = host.hypervisor.domains()[0].uuid
    host.claims.take(uuid, CAPTURE)
    journal(host).record(ClaimChange(guest_uuid=uuid))
    return uuid


def journal(host: Host) -> CaptureJournal:
    return host.journal.of(CAPTURE)


def run_is(host: Host, state: str) -> None:
    tell_run(host.redis, CAPTURE, state)


def told(host: Host) -> object:
    return host.redis.hget(names.results_key(CAPTURE), FIELD)


def left_alone(host: Host, guest: str) -> bool:
    return host.claims.holder(guest) == CAPTURE and not journal(host).ended


def test_what_was_answered_while_redis_was_away_is_told_while_the_run_goes_on(host: Host, guest: str) -> None:
    journal(host).store_result(Step.HOLD, "", "answer")
    run_is(host, "holding")
    assert recover(host) == [Recovered(CAPTURE, State.RUNNING)]
    assert told(host) == "answer"
    assert host.redis.ttl(names.results_key(CAPTURE)) > 0
    assert left_alone(host, guest)


def test_a_result_that_was_told_is_not_told_anew(host: Host, guest: str) -> None:
    journal(host).store_result(Step.HOLD, "", "answer")
    run_is(host, "holding")
    host.redis.hset(names.results_key(CAPTURE), FIELD, "the first")
    recover(host)
    assert told(host) == "the first"


@pytest.mark.parametrize("state", [None, "failed", "done"])
def test_a_capture_whose_run_has_ended_or_is_lost_is_undone(host: Host, guest: str, state: str | None) -> None:
    if state:
        run_is(host, state)
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert host.claims.holder(guest) is None
    assert journal(host).ended


def test_without_redis_nobody_is_touched_and_it_is_told_apart_from_a_run_that_goes_on(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(host.redis, "hget", away)
    [found] = recover(host)
    assert (found.state, found.problems) == (State.UNKNOWN, ("Redis does not answer: away.",))
    assert left_alone(host, guest)
    assert recover(host, force=True) == [Recovered(CAPTURE, State.UNDONE)]


@pytest.mark.parametrize(
    ("step", "part"), [(Step.PREPARE, ""), (Step.PREPARE, "round1"), (Step.HOLD, ""), (Step.RELEASE, "")]
)
def test_a_step_at_work_keeps_recovery_out_even_by_force(host: Host, guest: str, step: Step, part: str) -> None:
    with journal(host).lock(step, part):
        assert recover(host, force=True) == [Recovered(CAPTURE, State.BUSY)]
        assert left_alone(host, guest)
    assert recover(host, force=True) == [Recovered(CAPTURE, State.UNDONE)]


def test_no_step_begins_while_recovery_is_at_work(host: Host, guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Step] = []

    def undo(host: Host, journal: CaptureJournal, *, sealed: object) -> list[str]:
        for step in (Step.PREPARE, Step.HOLD, Step.RELEASE):
            with pytest.raises(BlockingIOError), journal.lock(step, "", wait=False):
                begun.append(step)
        return []

    monkeypatch.setattr("workers.recovery.undo_capture", undo)
    recover(host)
    assert begun == []


def test_a_repository_that_cannot_be_reached_is_asked_once_a_look(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking takes as long as patience with object storage lasts, whatever the number of captures to undo."""
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=guest))
    asked: list[Host] = []

    def away(own: Host) -> Repository:
        asked.append(own)
        raise RepositoryNotReadable("The server cannot be reached.", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(Host, "open_repository", away)
        assert [(found.state, found.problems) for found in recover(host)] == [
            (State.STUCK, ("The server cannot be reached.",)),
            (State.STUCK, ("The server cannot be reached.",)),
        ]
        assert len(asked) == 1
        assert left_alone(host, guest)
        recover(host)
        assert len(asked) == 2
    assert {found.state for found in recover(host)} == {State.UNDONE}


def test_a_manifest_that_is_damaged_keeps_no_other_capture_from_being_undone(host: Host, guest: str) -> None:
    """The repository answers; it is that one capture of which nobody can say whether it was sealed."""
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=guest))
    repository = host.open_repository()
    Path(repository.address, repository.objects.protection.manifest_name(CAPTURE)).write_bytes(b"{}")
    assert [(one.capture_id, one.state) for one in recover(host)] == [
        (CAPTURE, State.STUCK),
        (OTHER_CAPTURE, State.UNDONE),
    ]


def test_an_agent_that_died_no_longer_keeps_a_backup_running(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test driver knows no agents, which is as dead as one can be; its backups are ended by a stand-in."""
    socket = Path("/run/freezeframe/one.sock")
    ended: list[Path] = []

    def end(_domain: Domain, socket: Path) -> bool:
        ended.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)
    journal(host).record(BackupChange(guest_uuid=guest, socket=socket, checkpoint=None, repository_id="r"))
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.FREEZE))
    [found] = recover(host)
    assert (found.state, ended) == (State.STUCK, [socket])
    assert guest in found.problems[0]
    assert left_alone(host, guest)  # nobody builds on a guest that may still be frozen

    def thaw(_domain: Domain, _timeout_s: int) -> int:
        return 0

    monkeypatch.setattr(agent, "thaw", thaw)  # the agent is back
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]


@pytest.mark.case("G3")
def test_a_freeze_that_windows_ended_by_itself_leaves_nothing_to_thaw(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thaw(domain: Domain, _timeout_s: int) -> int:
        raise FreezeExpiredError(NamedGuest(domain.name, domain.uuid), AgentError("couldn't hold writes"))

    monkeypatch.setattr(agent, "thaw", thaw)
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.FREEZE))
    assert undo_guest(host, journal(host), guest, sealed=False) == []
    assert host.claims.holder(guest) is None


def test_undoing_one_guest_leaves_the_capture_s_other_guests_alone(host: Host, guest: str) -> None:
    """As a refused second order to prepare does, on a host whose first guests are prepared."""
    other = "00000000-0000-4000-8000-00000000000a"
    host.claims.take(other, CAPTURE)
    journal(host).record(ClaimChange(guest_uuid=other))
    assert undo_guest(host, journal(host), other, sealed=False) == []
    assert host.claims.holder(other) is None
    assert left_alone(host, guest)


def test_the_guest_of_an_agent_that_stays_dead_may_be_captured_again(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the thaw is undone, and the next capture asks the agent itself; the thaw waits for it and is sent again."""
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.FREEZE))
    assert recover(host)[0].state is State.STUCK
    plan = GuestPlan(guest_uuid=guest, name="test", hold=GuestHold(kind=HoldKind.PAUSE))
    claim(host, plan, OTHER_CAPTURE)
    assert host.claims.holder(guest) == OTHER_CAPTURE
    assert OTHER_CAPTURE in recover(host)[0].problems[0]
    host.claims.drop(guest, OTHER_CAPTURE)
    assert recover(host)[0].state is State.STUCK
    thawed: list[str] = []
    monkeypatch.setattr(agent, "thaw", lambda domain, _: thawed.append(domain.uuid))
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert thawed == [guest]


def test_a_pause_that_was_ended_is_not_ended_again_while_the_thaw_waits(host: Host, guest: str) -> None:
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.FREEZE_PAUSE))
    host.hypervisor.domain(guest).pause()
    recover(host)
    assert host.hypervisor.domain(guest).state() == "running"
    host.hypervisor.domain(guest).pause()  # by somebody else
    recover(host)
    assert host.hypervisor.domain(guest).state() == "paused"
    host.hypervisor.domain(guest).resume()


@pytest.mark.parametrize(
    ("state", "message", "advice"),
    [
        ("transferring", f"{CAPTURE}, which is transferring", "when that capture has ended"),
        ("failed", f"{CAPTURE}, which has ended", "`freezeframe recover` on host host-a"),
        (None, f"{CAPTURE}, which has ended", "`freezeframe recover` on host host-a"),
        ("melting", "whether that has ended is not known", "`freezeframe recover` on host host-a"),
    ],
)
def test_a_claimed_guest_is_refused_with_the_state_of_the_capture_that_has_it(
    host: Host, guest: str, state: str | None, message: str, advice: str
) -> None:
    if state:
        run_is(host, state)
    with pytest.raises(GuestClaimedError) as raised:
        claim(host, GuestPlan(guest_uuid=guest, name="web", hold=GuestHold(kind=HoldKind.PAUSE)), OTHER_CAPTURE)
    assert message in raised.value.message
    assert advice in raised.value.hint
    assert host.claims.holder(guest) == CAPTURE


@pytest.mark.case("S6")
def test_a_claim_without_a_line_in_the_journal_is_dropped(host: Host, guest: str) -> None:
    """The disk was full, or the worker died, between the two."""
    other = "00000000-0000-4000-8000-00000000000a"
    host.claims.take(other, CAPTURE)
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert host.claims.holder(other) is None


@pytest.mark.case("S6")
@pytest.mark.parametrize("ended", [True, False])
def test_a_claim_of_a_capture_without_a_journal_or_with_one_that_has_ended_is_dropped(
    host: Host, *, ended: bool
) -> None:
    Repository.init(host.repository, chunk_bytes=4096)
    if ended:
        host.journal.of(OTHER_CAPTURE).end()
    host.claims.take("00000000-0000-4000-8000-00000000000a", OTHER_CAPTURE)
    assert recover(host) == [Recovered(OTHER_CAPTURE, State.UNDONE)]
    assert host.claims.held() == ({}, {})


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    "line",
    [
        '{"v":3,"change":"claim","guest_uuid":"%s"}',
        '{"v":1,"change":"melt","guest_uuid":"%s"}',
        '{"v":1,"change":"claim","guest_uuid":"%s","colour":"red"}',
        '{"v":1,"change":"cla%s',
    ],
    ids=["newer", "unknown change", "unknown field", "damaged"],
)
def test_a_capture_whose_journal_is_not_understood_is_reported_and_the_others_recover(
    host: Host, guest: str, line: str
) -> None:
    other = "00000000-0000-4000-8000-00000000000a"
    host.claims.take(other, OTHER_CAPTURE)
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=other))
    path = host.settings.state_dir / "captures" / CAPTURE / guest / "changes"
    path.write_text((line % guest) + "\n" + path.read_text())
    first, second = recover(host)
    assert (first.capture_id, first.state, second) == (CAPTURE, State.STUCK, Recovered(OTHER_CAPTURE, State.UNDONE))
    assert f"{path}: line 1 is not understood" in first.problems[0]
    assert left_alone(host, guest)
    path.rename(path.with_suffix(".aside"))  # as the advice says
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]


@pytest.mark.case("S5")
def test_a_half_written_last_line_is_passed_over(host: Host, guest: str) -> None:
    path = host.settings.state_dir / "captures" / CAPTURE / guest / "changes"
    with path.open("a") as file:
        file.write('\n{"v":1,"change":"hold","guest_uu')
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]


@pytest.mark.case("S5")
def test_a_line_of_the_version_before_is_read(host: Host, guest: str) -> None:
    """It had no version, and one file for all guests of a capture; claims and epochs were bare."""
    state = host.settings.state_dir
    host.hypervisor.domain(guest).pause()
    (state / "captures" / CAPTURE / "changes").write_text(
        f'\n{{"guest_uuid":"{guest}","change":"hold","hold":"pause"}}\n'
    )
    (state / "claims" / guest).write_text(CAPTURE)
    (state / "epochs" / guest).write_text("7")
    with pytest.raises(StaleOrderError):
        host.claims.fence(guest, 6)
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert host.hypervisor.domain(guest).state() == "running"


@pytest.mark.case("S5")
def test_a_claim_that_cannot_be_read_is_no_free_guest_and_keeps_no_other_from_recovery(host: Host, guest: str) -> None:
    other = "00000000-0000-4000-8000-00000000000a"
    (host.settings.state_dir / "claims" / other).write_text('{"v":2,"holders":[]}')
    (host.settings.state_dir / "epochs" / other).write_text("many")
    first, second = recover(host)
    assert first == Recovered(CAPTURE, State.UNDONE)
    assert (second.state, other in second.problems[0]) == (State.STUCK, True)
    with pytest.raises(ClaimUnreadableError):
        host.claims.take(other, OTHER_CAPTURE)
    with pytest.raises(ClaimUnreadableError):
        host.claims.fence(other, 1)


@pytest.mark.case("S5")
def test_a_newer_claim_and_epoch_are_heeded(host: Host) -> None:
    other = "00000000-0000-4000-8000-00000000000a"
    (host.settings.state_dir / "claims" / other).write_text(f'{{"v":2,"capture_id":"{CAPTURE}","why":"x"}}')
    (host.settings.state_dir / "epochs" / other).write_text('{"v":2,"epoch":7,"why":"x"}')
    assert host.claims.held_by(CAPTURE) == [other]
    with pytest.raises(StaleOrderError):
        host.claims.fence(other, 6)


@pytest.mark.case("S5")
def test_an_exception_of_any_type_is_its_journals_own(host: Host, guest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=guest))

    def undo(_host: Host, journal: CaptureJournal, **_: object) -> list[str]:
        if journal.capture_id == CAPTURE:
            raise ValueError("'copy' is not a valid Step")
        return []

    monkeypatch.setattr("workers.recovery.undo_capture", undo)
    assert [(one.capture_id, one.state) for one in recover(host)] == [
        (CAPTURE, State.STUCK),
        (OTHER_CAPTURE, State.UNDONE),
    ]


@pytest.mark.case("S5")
def test_a_result_of_a_newer_version_s_step_is_told_with_the_others(host: Host, guest: str) -> None:
    journal(host).store_result(Step.HOLD, "", "answer")
    folder = host.settings.state_dir / "captures" / CAPTURE / "results"
    (folder / "copy.part.json").write_text("its answer")
    run_is(host, "holding")
    assert recover(host) == [Recovered(CAPTURE, State.RUNNING)]
    assert host.redis.hgetall(names.results_key(CAPTURE)) == {FIELD: "answer", "copy/host-a/part": "its answer"}


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    "fields",
    [
        {"version": "1", "stated": "1", "v": "1", "state": "melting"},
        {"version": "1", "stated": "1", "v": "2", "state": "failed"},
        {"version": "1", "stated": "1", "v": "2"},
        {"version": "1", "stated": "1", "state": "failed"},
        # as an orchestrator of the version before wrote it, or one of a later version may
        {"record": '{"state": "melting"}'},
        {"record": '{"v": 2, "state": "failed"}'},
        {"record": "[2]"},
        {"record": "null"},
    ],
)
def test_a_run_of_another_orchestrator_is_left_alone_and_the_others_recover(
    host: Host, guest: str, fields: dict[Any, str]
) -> None:
    """Also if its words are those of this version: they may mean something else there."""
    host.journal.of(OTHER_CAPTURE).record(ClaimChange(guest_uuid=guest))
    host.redis.hset(names.run_key(CAPTURE), mapping=fields)
    first, second = recover(host)
    assert (first.state, second.state) == (State.UNKNOWN, State.UNDONE)
    assert left_alone(host, guest)


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("state", "found"), [("transferring", State.RUNNING), ("failed", State.UNDONE), ("done", State.UNDONE)]
)
def test_a_run_of_the_orchestrator_before_this_one_counts_as_its_record_says(
    host: Host, guest: str, state: str, found: State
) -> None:
    assert guest
    host.redis.hset(
        names.run_key(CAPTURE), mapping={"record": json.dumps({"v": 1, "state": state, "more": 7}), "version": "4"}
    )
    assert recover(host) == [Recovered(CAPTURE, found)]


@pytest.mark.case("S5")
def test_what_an_older_orchestrator_has_written_since_counts(host: Host, guest: str) -> None:
    """After a downgrade the fields beside the record stay as they were: a run that has ended would go on for ever."""
    assert guest
    tell_run(host.redis, CAPTURE, "transferring")
    host.redis.hset(names.run_key(CAPTURE), mapping={"record": json.dumps({"v": 1, "state": "failed"}), "version": "2"})
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]


def test_recovery_reads_of_a_run_no_more_than_its_state(host: Host, guest: str) -> None:
    """It asks every few seconds, on each host, and a record has megabytes."""
    assert guest
    tell_run(host.redis, CAPTURE, "transferring")
    host.redis.hset(names.run_key(CAPTURE), "record", "x" * 1_000_000)
    before = host.redis.info("stats")["total_net_output_bytes"]
    assert recover(host) == [Recovered(CAPTURE, State.RUNNING)]
    assert host.redis.info("stats")["total_net_output_bytes"] - before < 10_000


def test_a_guest_that_was_undone_is_not_undone_for_a_capture_that_has_it_no_more(host: Host, guest: str) -> None:
    """Another capture has it now: what that did must stay."""
    host.claims.drop(guest, CAPTURE)
    host.claims.take(guest, OTHER_CAPTURE)
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.PAUSE))
    host.hypervisor.domain(guest).pause()
    assert undo_guest(host, journal(host), guest, sealed=False) == []
    assert host.hypervisor.domain(guest).state() == "paused"
    host.hypervisor.domain(guest).resume()


def test_while_the_repository_is_away_no_guest_stays_held_and_no_backup_open_and_checkpoints_stay(
    host: Host, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scratch files grow as long as a backup is open; whether the checkpoint stays is known when the repository is back."""
    done: list[object] = []
    scratch = host.settings.state_dir / "scratch.qcow2"
    scratch.touch()

    def away(_: Host) -> Repository:
        raise RepositoryNotReadable("The server cannot be reached.", transient=True)

    def end(_domain: Domain, socket: Path) -> bool:
        done.append(socket)
        return True

    monkeypatch.setattr(backup, "end", end)
    monkeypatch.setattr("workers.steps.undo.settle", lambda *_, sealed, ended: done.append((sealed, ended)))
    socket = Path("/run/freezeframe/one.sock")
    journal(host).record(ScratchChange(guest_uuid=guest, path=scratch))
    journal(host).record(BackupChange(guest_uuid=guest, socket=socket, checkpoint="c", repository_id="r"))
    journal(host).record(HoldChange(guest_uuid=guest, hold=HoldKind.PAUSE))
    host.hypervisor.domain(guest).pause()
    with monkeypatch.context() as patch:
        patch.setattr(Host, "open_repository", away)
        assert recover(host) == [Recovered(CAPTURE, State.STUCK, ("The server cannot be reached.",))]
        assert recover(host)[0].state is State.STUCK
    assert host.hypervisor.domain(guest).state() == "running"
    assert (set(done), scratch.exists()) == ({socket}, False)
    assert left_alone(host, guest)
    changes = journal(host).changes()
    assert [change for change in changes if isinstance(change, FreedChange)] == [FreedChange(guest_uuid=guest)]
    assert recover(host) == [Recovered(CAPTURE, State.UNDONE)]
    assert done[-1] == (False, True)
