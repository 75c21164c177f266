"""The trouble of a host at any point of its hold takes no other host's part under `degrade`, and nobody waits under `all`.

Three hosts meet at real gates, of which one or two are in trouble.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from freezeframe.barrier import Gate, GateUnreachableError
from freezeframe.contract import names
from freezeframe.contract.order import HoldOrder
from freezeframe.contract.proof import consistency
from freezeframe.contract.result import HoldResult
from freezeframe.contract.words import Consistency, Policy, RunState, Step
from freezeframe.settings import BusSettings
from orchestrator import decision
from tests.unit.orchestrator.test_decision import NOW, SETTINGS
from tests.unit.orchestrator.test_decision import run as run_of
from tests.unit.workers.guard_site import until
from tests.unit.workers.hold_site import CAPTURE, FREEZE, HOLD_S, FakeGuard, FakeLine, Site, proof_of
from workers import lock_file
from workers.bounded import GuestCalls
from workers.guard.client import GuardRefusedError
from workers.guard.lease import Refusal
from workers.journal import CaptureJournal, GuestJournal, HoldChange, LetGoChange
from workers.pace import Paces
from workers.scratch.open_backups import begun_guests
from workers.steps import hold as step
from workers.steps import publication
from workers.steps.frame import run_step
from workers.steps.interruption import settle_interrupted
from workers.steps.once import ReportedError
from workers.steps.table import HOLD

pytestmark = pytest.mark.case("S6", "S9")
MEMBERS = ("host-a", "host-b", "host-c")
LONG_S = 60.0

#: Has hosts be in trouble.
Trouble = Callable[[Site, pytest.MonkeyPatch, frozenset[str]], None]


@pytest.fixture
def site(tmp_path: Path, bus_settings: BusSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, bus_settings, monkeypatch, MEMBERS)
    yield made
    for host in made.hosts.values():
        host.redis.close()


def failing(owner: type, name: str, number: int, *, applies: Callable[..., bool] = lambda *_: True) -> Trouble:
    """Have a method of a journal fail on the hosts in trouble, for the arguments to which it applies."""

    def begin(_site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
        real: Any = getattr(owner, name)
        call: Any = real.fget if isinstance(real, property) else real

        def failing_call(journal: Any, *words: Any, **options: Any) -> Any:
            if host_of(journal._directory) in troubled and applies(*words):
                raise OSError(number, os.strerror(number))
            return call(journal, *words, **options)

        monkeypatch.setattr(owner, name, property(failing_call) if isinstance(real, property) else failing_call)

    return begin


def host_of(path: Path) -> str:
    (found,) = [name for name in MEMBERS if f"/{name}/" in f"{path}/"]
    return found


def no_new_file(number: int) -> Trouble:
    """The state directory takes no new file, as on a file system that has become read-only."""

    def begin(_site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
        real = Path.open

        def opened(path: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
            if "w" in mode and not path.exists() and any(f"/{name}/" in str(path) for name in troubled):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, mode, *words, **options)

        monkeypatch.setattr(Path, "open", opened)

    return begin


def no_thread(purpose: str) -> Trouble:
    def begin(site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
        real = GuestCalls.start
        calls = [site.hosts[name].calls for name in troubled]

        def start(pool: GuestCalls, key: str, call: Callable[[], Any]) -> Any:
            if pool in calls and key.endswith(f" {purpose}"):
                raise RuntimeError("can't start new thread")
            return real(pool, key, call)

        monkeypatch.setattr(GuestCalls, "start", start)

    return begin


def guard_fails(method: str, error: Exception) -> Trouble:
    def begin(site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
        real = getattr(FakeLine, method)
        guards = [site.guards[name] for name in troubled]

        def fail(line: FakeLine, *words: Any) -> Any:
            if line._guard in guards:
                raise error
            return real(line, *words)

        monkeypatch.setattr(FakeLine, method, fail)

    return begin


def no_descriptor(site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
    """No socket can be made for the line to the guard."""
    real: Any = vars(step)["GuardLine"]

    def line(path: Path) -> Any:
        if host_of(path) in troubled:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path)

    assert site.members == MEMBERS
    monkeypatch.setattr(step, "GuardLine", line)


def both(*troubles: Trouble) -> Trouble:
    def begin(site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]) -> None:
        for trouble in troubles:
            trouble(site, monkeypatch, troubled)

    return begin


DISK = GuardRefusedError(
    "The thaw guard refused the lease: the lease cannot be stored: No space left on device.", Refusal.DISK
)
LET_GO_FITS_NOT = failing(GuestJournal, "record", errno.ENOSPC, applies=lambda change: isinstance(change, LetGoChange))
BEFORE_THE_MUSTER = {
    "lock file, read-only": (no_new_file(errno.EROFS), "host-storage"),
    "lock file, full": (no_new_file(errno.ENOSPC), "host-storage"),
    "result": (failing(CaptureJournal, "result", errno.EIO), "host-storage"),
    "begun": (failing(CaptureJournal, "begun", errno.EIO), "host-storage"),
    "record_begun": (failing(CaptureJournal, "record_begun", errno.ENOSPC), "host-storage"),
    "record_begun, quota": (failing(CaptureJournal, "record_begun", errno.EDQUOT), "host-storage"),
    "ended": (failing(CaptureJournal, "ended", errno.EIO), "host-storage"),
    "results listed": (failing(CaptureJournal, "result_paths", errno.EIO), "host-storage"),
    "guest's lock": (failing(GuestJournal, "lock", errno.ENOSPC), "host-storage"),
    "ready": (no_thread("ready"), "no-thread"),
    "hold line": (
        failing(GuestJournal, "record", errno.ENOSPC, applies=lambda change: isinstance(change, HoldChange)),
        "host-storage",
    ),
    "guard's socket": (no_descriptor, "no-descriptor"),
    "guard": (guard_fails("ping", DISK), "guard-refused"),
    "guard, and the let-go line": (both(guard_fails("ping", DISK), LET_GO_FITS_NOT), "guard-refused"),
}
AT_THE_ARMING = {
    "lease": (guard_fails("arm", DISK), "guard-refused"),
    "lease, and the let-go line": (both(guard_fails("arm", DISK), LET_GO_FITS_NOT), "guard-refused"),
    "no thread": (guard_fails("arm", RuntimeError("can't start new thread")), "no-thread"),
    "full": (guard_fails("arm", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), "host-storage"),
}
WITHOUT_A_PART = BEFORE_THE_MUSTER | AT_THE_ARMING
AFTERWARDS = {
    "let-go line": failing(
        GuestJournal, "record", errno.ENOSPC, applies=lambda change: isinstance(change, LetGoChange)
    ),
    "store_result": failing(CaptureJournal, "store_result", errno.ENOSPC),
    "pace": failing(Paces, "remember", errno.ENOSPC),
}


def hold_all(site: Site, *, everyone: bool) -> dict[str, HoldResult]:
    """Return what each host has told, when each has done its order."""

    def one(name: str) -> dict[str, Any]:
        order = site.order(name, FREEZE, all_or_nothing=everyone)
        return run_step(site.hosts[name], HOLD, order.model_dump(mode="json"))

    with ThreadPoolExecutor(len(MEMBERS)) as pool:
        acknowledged = dict(zip(MEMBERS, pool.map(one, MEMBERS), strict=True))
    results = {name: told(site, name) for name in MEMBERS}
    assert {name: ack["ok"] for name, ack in acknowledged.items()} == {
        name: result.fault is None for name, result in results.items()
    }
    return results


def told(site: Site, name: str) -> HoldResult:
    text = site.hosts[MEMBERS[0]].redis.hget(names.results_key(CAPTURE), names.result_field(Step.HOLD, name))
    return HoldResult.model_validate_json(str(text))


def gates(site: Site) -> list[str]:
    client = site.hosts[MEMBERS[0]].redis
    return [Gate(client, CAPTURE, 1, name, MEMBERS[0], len(MEMBERS)).look().state for name in ("muster", "held")]


def uuids(site: Site, hosts: frozenset[str]) -> list[str]:
    return [fake.uuid for name in MEMBERS if name in hosts for fake in site.guests[name]]


def follow(site: Site, policy: Policy, results: dict[str, HoldResult]) -> Any:
    state = run_of(RunState.HOLDING, policy, kept=tuple(site.fakes)).model_copy(update={"members": MEMBERS})
    return decision.after_hold(state, list(results.values()), NOW, SETTINGS)


@pytest.mark.parametrize("troubled", [frozenset({"host-a"}), frozenset({"host-a", "host-c"})])
@pytest.mark.parametrize("point", WITHOUT_A_PART)
def test_under_degrade_a_host_in_trouble_meets_the_others_without_a_guest(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str, troubled: frozenset[str]
) -> None:
    trouble, code = WITHOUT_A_PART[point]
    trouble(site, monkeypatch, troubled)
    results = hold_all(site, everyone=False)
    assert gates(site) == ["released", "released"]
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GROUP
    for name, result in results.items():
        assert result.fault is None
        assert result.proof is not None
        if name not in troubled:
            assert [guest.begun_ns is not None for guest in result.proof.guests] == [True, True]
            assert result.guest_faults == ()
            continue
        assert result.proof.guests == ()
        faults = {one.guest_uuid: one.fault for one in result.guest_faults}
        assert sorted(faults) == sorted(uuids(site, frozenset({name})))
        assert {fault.code for fault in faults.values()} == {code}
        assert {fault.host for fault in faults.values()} == {name}
        assert [fake.log for fake in site.guests[name]] == [[], []]
    following = follow(site, Policy.DEGRADE, results)
    assert following.state is RunState.TRANSFERRING
    assert following.kept == tuple(uuids(site, frozenset(MEMBERS) - troubled))
    assert {fault.code for fault in following.faults} == {code}
    assert not any("defect" in fault.advice for fault in following.faults)


@pytest.mark.parametrize("point", AT_THE_ARMING)
def test_what_a_host_in_trouble_has_to_tell_waits_until_the_others_have_let_their_guests_go(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """A line of the journal for each of 200 guests would keep theirs held for seconds."""
    trouble, code = AT_THE_ARMING[point]
    trouble(site, monkeypatch, frozenset({"host-a"}))
    others = [fake for name in ("host-b", "host-c") for fake in site.guests[name]]
    record, seen = GuestJournal.record, []

    def told(journal: GuestJournal, change: Any) -> None:
        if isinstance(change, LetGoChange) and host_of(journal._directory) == "host-a":
            until(lambda: all(fake.has_backup and not fake.frozen for fake in others))
            seen.append(change.guest_uuid)
        record(journal, change)

    monkeypatch.setattr(GuestJournal, "record", told)
    results = hold_all(site, everyone=False)
    assert gates(site) == ["released", "released"]
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GROUP
    assert {fault.fault.code for fault in results["host-a"].guest_faults} == {code}
    if "let-go line" not in point:
        assert sorted(seen) == sorted(uuids(site, frozenset({"host-a"})))


def test_a_guest_that_the_guard_refuses_is_written_down_when_the_others_run_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = site.guests["host-a"]
    site.guards["host-a"].lets_go = {one.uuid: "01KBBBBBBBBBBBBBBBBBBBBBBB"}
    record, seen = GuestJournal.record, []

    def told(journal: GuestJournal, change: Any) -> None:
        if isinstance(change, LetGoChange) and change.guest_uuid == one.uuid:
            until(lambda: other.has_backup and not other.frozen)
            seen.append(change.guest_uuid)
        record(journal, change)

    monkeypatch.setattr(GuestJournal, "record", told)
    results = hold_all(site, everyone=False)
    assert seen == [one.uuid]
    assert [fault.guest_uuid for fault in results["host-a"].guest_faults] == [one.uuid]
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GROUP


def test_the_names_of_guests_that_are_done_without_are_read_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 guests read 200 times over take seconds."""
    guard_fails("arm", DISK)(site, monkeypatch, frozenset({"host-a"}))
    real, reads = CaptureJournal.result_paths, []

    def counted(journal: CaptureJournal, *words: Any) -> Any:
        reads.append(host_of(journal._directory))
        return real(journal, *words)

    monkeypatch.setattr(CaptureJournal, "result_paths", counted)
    hold_all(site, everyone=False)
    assert reads.count("host-a") == reads.count("host-b") + 1


@pytest.mark.parametrize("point", WITHOUT_A_PART)
def test_under_all_a_host_in_trouble_ends_the_hold_of_every_host_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    trouble, code = WITHOUT_A_PART[point]
    trouble(site, monkeypatch, frozenset({"host-b"}))
    results = hold_all(site, everyone=True)
    gate = "held" if point in AT_THE_ARMING else "muster"
    assert gates(site)[1] == "broken"
    assert Gate(site.hosts["host-a"].redis, CAPTURE, 1, gate, "host-a", len(MEMBERS)).look().why == "host-b gave up"
    assert site.held_ones() == []
    assert not any(fake.has_backup for fake in site.guests["host-b"])
    following = follow(site, Policy.ALL, results)
    assert following.state is RunState.RELEASING
    assert following.faults[0].host == "host-b"
    assert following.faults[0].code == code


@pytest.mark.parametrize("everyone", [True, False])
@pytest.mark.parametrize("troubled", [frozenset({"host-a"}), frozenset({"host-a", "host-c"})])
@pytest.mark.parametrize("point", AFTERWARDS)
def test_trouble_when_the_guests_are_held_costs_no_host_its_part(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str, troubled: frozenset[str], *, everyone: bool
) -> None:
    AFTERWARDS[point](site, monkeypatch, troubled)
    results = hold_all(site, everyone=everyone)
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GROUP
    assert [result.guest_faults for result in results.values()] == [(), (), ()]
    assert site.held_ones() == []


@pytest.mark.parametrize("troubled", [frozenset({"host-a"}), frozenset({"host-a", "host-c"})])
def test_a_guest_that_no_thread_can_look_at_is_dropped_and_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, troubled: frozenset[str]
) -> None:
    no_thread("look")(site, monkeypatch, troubled)
    results = hold_all(site, everyone=False)
    assert gates(site) == ["released", "released"]
    assert {name for name, result in results.items() if result.guest_faults} == troubled
    following = follow(site, Policy.DEGRADE, results)
    assert following.kept == tuple(uuids(site, frozenset(MEMBERS) - troubled))
    assert all("TasksMax" in fault.advice for fault in following.faults)
    assert site.held_ones() == []


def test_writers_that_no_thread_can_look_for_are_unknown_and_cost_no_guest_its_part(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_thread("what all guests write to")(site, monkeypatch, frozenset({"host-a"}))
    results = hold_all(site, everyone=False)
    assert [result.guest_faults for result in results.values()] == [(), (), ()]
    assert "no further thread" in results["host-a"].writers_unseen
    assert results["host-b"].writers_unseen == ""
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.CRASH


def test_a_result_that_can_neither_be_stored_nor_published_keeps_no_other_host(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody learns of the troubled host's part; its guests run, and the others have theirs."""
    monkeypatch.setattr(publication, "PUBLISH_PAUSE_S", 0)
    AFTERWARDS["store_result"](site, monkeypatch, frozenset({"host-b"}))

    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(site.hosts["host-b"].redis, "pipeline", away)

    def one(name: str) -> dict[str, Any]:
        order = site.order(name, FREEZE, all_or_nothing=False)
        return run_step(site.hosts[name], HOLD, order.model_dump(mode="json"))

    with ThreadPoolExecutor(len(MEMBERS)) as pool:
        list(pool.map(one, MEMBERS))
    assert site.held_ones() == []
    for name in ("host-a", "host-c"):
        assert told(site, name).proof is not None
        assert [fake.has_backup for fake in site.guests[name]] == [True, True]


@pytest.mark.parametrize("everyone", [True, False])
def test_a_host_that_cannot_tell_whether_another_delivery_is_at_work_breaks_up_the_meeting(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, everyone: bool
) -> None:
    """That one may be about to hold guests: an arrival in its name would release the others before its backups begin."""
    failing(CaptureJournal, "lock", errno.EIO)(site, monkeypatch, frozenset({"host-b"}))
    results = hold_all(site, everyone=everyone)
    assert gates(site) == ["broken", "broken"]
    assert [fake.log for fake in site.fakes.values()] == [[]] * len(site.fakes)
    fault = results["host-b"].fault
    assert fault is not None
    assert fault.code == "host-storage"


def test_on_a_read_only_file_system_a_second_delivery_does_not_arrive_for_the_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has the lock, of a file that was made before."""
    host = site.hosts["host-a"]
    journal = host.journal.of(CAPTURE)
    with journal.lock(Step.HOLD, ""):
        real = Path.open

        def read_only(path: Path, mode: str = "r", *words: Any, **options: Any) -> Any:
            if "w" in mode:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return real(path, mode, *words, **options)

        monkeypatch.setattr(Path, "open", read_only)
        with pytest.raises(BlockingIOError), journal.lock(Step.HOLD, "", wait=False):
            pass
    with journal.lock(Step.HOLD, "", wait=False):
        pass
    with pytest.raises(lock_file.NoLockFileError), journal.lock(Step.RELEASE, "", wait=False):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_lock_that_cannot_be_opened_for_another_reason_is_not_known_to_be_free(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    no_new_file(number)(site, monkeypatch, frozenset({"host-a"}))
    with (
        pytest.raises(OSError, match=os.strerror(number)) as told_as,
        site.hosts["host-a"].journal.of(CAPTURE).lock(Step.HOLD, "", wait=False),
    ):
        pass
    assert not isinstance(told_as.value, lock_file.NoLockFileError)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "df -h"), (errno.EDQUOT, "quota"), (errno.EROFS, "findmnt -T"), (errno.EIO, "dmesg")],
)
def test_the_trouble_is_told_with_its_directory_and_what_to_do(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    failing(CaptureJournal, "record_begun", number)(site, monkeypatch, frozenset({"host-a"}))
    fault = hold_all(site, everyone=True)["host-a"].fault
    assert fault is not None
    assert "host-a" in fault.message
    assert str(site.hosts["host-a"].settings.state_dir) in fault.message
    assert os.strerror(number) in fault.message
    assert advice in fault.advice
    assert str(site.hosts["host-a"].settings.state_dir) in fault.advice or number == errno.EIO


def begun_by_a_worker_that_died(site: Site, *hosts: str) -> None:
    for name in hosts:
        order = site.order(name, FREEZE, all_or_nothing=False)
        site.hosts[name].journal.of(CAPTURE).record_begun(Step.HOLD, "", order.model_dump_json())


def hold_on(site: Site, *hosts: str, **changes: Any) -> None:
    def one(name: str) -> object:
        order = site.order(name, FREEZE, all_or_nothing=False, **changes)
        return run_step(site.hosts[name], HOLD, order.model_dump(mode="json"))

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(one, hosts))


@pytest.mark.parametrize("died", [frozenset({"host-a"}), frozenset({"host-a", "host-c"})])
def test_a_worker_that_is_back_before_the_muster_has_ended_takes_no_other_hosts_part(
    site: Site, died: frozenset[str]
) -> None:
    begun_by_a_worker_that_died(site, *died)
    for name in died:
        settle_interrupted(site.hosts[name], [HOLD])
    hold_on(site, *(name for name in MEMBERS if name not in died))
    results = {name: told(site, name) for name in MEMBERS}
    assert gates(site) == ["released", "released"]
    following = follow(site, Policy.DEGRADE, results)
    assert following.state is RunState.TRANSFERRING
    assert following.kept == tuple(uuids(site, frozenset(MEMBERS) - died))
    assert {(fault.code, fault.host) for fault in following.faults} == {("interrupted", name) for name in died}
    assert len(following.faults) == 2 * len(died)
    # the host did not wait to be told of a release, so the label claims no common instant
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GUEST


def test_a_worker_that_is_back_when_the_others_have_been_released_leaves_them_their_instant(site: Site) -> None:
    """It died after its arrival at the barrier."""
    for name in ("muster", "held"):
        Gate(site.hosts["host-a"].redis, CAPTURE, 1, name, "host-a", len(MEMBERS)).arrive()
    hold_on(site, "host-b", "host-c")
    begun_by_a_worker_that_died(site, "host-a")
    settle_interrupted(site.hosts["host-a"], [HOLD])
    results = {name: told(site, name) for name in MEMBERS}
    assert gates(site) == ["released", "released"]
    assert consistency(proof_of(list(results.values()), MEMBERS)) is Consistency.GROUP
    assert follow(site, Policy.DEGRADE, results).kept == tuple(uuids(site, frozenset({"host-b", "host-c"})))
    assert results["host-a"].writers_unseen == ""


def test_a_worker_that_is_back_while_the_others_hold_their_guests_lets_them_end(site: Site) -> None:
    Gate(site.hosts["host-a"].redis, CAPTURE, 1, "muster", "host-a", len(MEMBERS)).arrive()
    begun_by_a_worker_that_died(site, "host-a")
    held = [fake for name in ("host-b", "host-c") for fake in site.guests[name]]

    def back() -> None:
        until(lambda: all(fake.has_backup for fake in held))
        settle_interrupted(site.hosts["host-a"], [HOLD])

    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(back)
        hold_on(site, "host-b", "host-c")
        one.result()
    assert gates(site) == ["released", "released"]
    assert told(site, "host-a").proof is not None
    assert follow(site, Policy.DEGRADE, {name: told(site, name) for name in MEMBERS}).kept == tuple(
        uuids(site, frozenset({"host-b", "host-c"}))
    )


@pytest.mark.parametrize("gate", ["muster", "held"])
def test_a_worker_that_is_back_when_the_others_have_given_up_has_failed(site: Site, gate: str) -> None:
    client = site.hosts["host-b"].redis
    Gate(client, CAPTURE, 1, gate, "host-b", len(MEMBERS)).break_up("late")
    begun_by_a_worker_that_died(site, "host-a")
    settle_interrupted(site.hosts["host-a"], [HOLD])
    fault = told(site, "host-a").fault
    assert fault is not None
    assert fault.code == "interrupted"
    assert gates(site)[1] == "broken"


@pytest.mark.parametrize("gate", ["muster", "held"])
def test_also_if_the_worker_that_died_had_arrived_there(site: Site, gate: str) -> None:
    """Its own arrival is of another visit, of which the gate tells only that its place is taken."""
    client = site.hosts["host-a"].redis
    for name in ("muster", "held")[: 1 if gate == "muster" else 2]:
        with pytest.raises(GateUnreachableError):
            Gate(client, CAPTURE, 1, name, "host-a", len(MEMBERS)).meet(time.monotonic() + 0.1, "first")
    Gate(client, CAPTURE, 1, gate, "host-b", len(MEMBERS)).break_up("late")
    begun_by_a_worker_that_died(site, "host-a")
    settle_interrupted(site.hosts["host-a"], [HOLD])
    fault = told(site, "host-a").fault
    assert fault is not None
    assert fault.code == "interrupted"
    assert gates(site)[1] == "broken"


def test_an_interrupted_hold_that_cannot_be_stored_is_told_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_by_a_worker_that_died(site, "host-a")
    AFTERWARDS["store_result"](site, monkeypatch, frozenset({"host-a"}))
    settle_interrupted(site.hosts["host-a"], [HOLD])
    assert {one.fault.code for one in told(site, "host-a").guest_faults} == {"interrupted"}


@pytest.mark.parametrize("point", ["record_begun", "ready", "hold line", "results listed"])
def test_the_reason_is_told_also_if_the_others_do_not_come(
    site: Site, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    trouble, code = BEFORE_THE_MUSTER[point]
    trouble(site, monkeypatch, frozenset({"host-a"}))
    hold_on(site, "host-a", muster_timeout_s=0.1)
    result = told(site, "host-a")
    assert result.fault is not None
    assert result.fault.code == "muster"
    assert {one.fault.code for one in result.guest_faults} == {code}
    assert json.loads(result.model_dump_json())["proof"] is None


def test_a_guest_with_a_fault_of_its_own_keeps_it_when_its_host_is_in_trouble(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = site.guests["host-a"]
    guard_fails("ping", DISK)(site, monkeypatch, frozenset({"host-a"}))
    with site.hosts["host-a"].journal.of(CAPTURE).guest(one.uuid).lock():
        results = hold_all(site, everyone=False)
    faults = [(fault.guest_uuid, fault.fault.code) for fault in results["host-a"].guest_faults]
    assert faults == [(one.uuid, "guest-at-work"), (other.uuid, "guard-refused")]


@pytest.mark.parametrize(
    ("error", "is_logged"), [(DISK, False), (OSError(errno.EIO, "Input/output error"), True)], ids=str
)
def test_trouble_of_a_host_that_is_not_foreseen_is_logged_with_its_traceback(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: Exception, *, is_logged: bool
) -> None:
    """The fault that goes out has a sentence; where it came from is in the log alone."""
    guard_fails("arm", error)(site, monkeypatch, frozenset({"host-a"}))
    with capture_logs() as logged:
        hold_all(site, everyone=False)
    told = [line["exc_info"] for line in logged if line["event"] == "none of this host's guests is held"]
    assert told == [error if is_logged else None]


def asked(monkeypatch: pytest.MonkeyPatch, method: str) -> list[FakeGuard]:
    """Return the guards whose line is asked in that way."""
    real, guards = getattr(FakeLine, method), []

    def ask(line: FakeLine, *words: Any) -> Any:
        guards.append(line._guard)
        return real(line, *words)

    monkeypatch.setattr(FakeLine, method, ask)
    return guards


def checked(monkeypatch: pytest.MonkeyPatch, refused: str = "") -> list[str]:
    """Return the hosts that look whether they have reported already; the one that is `refused` has."""
    real: Any = vars(step)["check_first"]
    hosts = []

    def check(barrier: Gate, order: HoldOrder, deadline: float) -> None:
        hosts.append(order.host_id)
        if order.host_id == refused:
            raise ReportedError("it has")
        real(barrier, order, deadline)

    monkeypatch.setattr(step, "check_first", check)
    return hosts


def test_a_host_none_of_whose_guests_is_ready_asks_neither_its_guard_nor_whether_it_has_reported(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guard or a Redis in trouble would be told as the reason, and is none."""
    pinged, hosts = asked(monkeypatch, "ping"), checked(monkeypatch)
    one, other = site.guests["host-a"]
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    with journal.guest(one.uuid).lock(), journal.guest(other.uuid).lock():
        results = hold_all(site, everyone=False)
    assert [fault.fault.code for fault in results["host-a"].guest_faults] == ["guest-at-work"] * 2
    assert sorted(hosts) == ["host-b", "host-c"]
    assert site.guards["host-a"] not in pinged
    assert site.guards["host-b"] in pinged


def test_a_host_that_has_reported_already_has_no_guest_leased(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's answer about no guests would be told as the reason."""
    armed, hosts = asked(monkeypatch, "arm"), checked(monkeypatch, refused="host-a")
    results = hold_all(site, everyone=False)
    assert {fault.fault.code for fault in results["host-a"].guest_faults} == {ReportedError.code}
    assert sorted(hosts) == sorted(MEMBERS)
    assert site.guards["host-a"] not in armed
    assert site.guards["host-b"] in armed


def test_a_worker_that_is_back_after_the_orders_time_arrives_nowhere(site: Site) -> None:
    """Nobody waits any more: neither at the muster, for 60 s, nor with guests held."""
    past = datetime.now(UTC) - timedelta(seconds=60 + HOLD_S + 1)
    order = site.order("host-a", FREEZE, all_or_nothing=False, not_after=past)
    site.hosts["host-a"].journal.of(CAPTURE).record_begun(Step.HOLD, "", order.model_dump_json())
    settle_interrupted(site.hosts["host-a"], [HOLD])
    fault = told(site, "host-a").fault
    assert fault is not None
    assert fault.code == "interrupted"
    client = site.hosts["host-a"].redis
    assert Gate(client, CAPTURE, 1, "muster", "host-a", len(MEMBERS)).look().so_far == 0


def test_a_worker_that_is_back_after_the_orders_time_arrives_for_those_who_hold_their_guests(site: Site) -> None:
    """A hold that takes long began in time, and goes on when no further host may begin."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    order = site.order("host-a", FREEZE, all_or_nothing=False, not_after=past)
    site.hosts["host-a"].journal.of(CAPTURE).record_begun(Step.HOLD, "", order.model_dump_json())
    for name in MEMBERS:
        Gate(site.hosts[name].redis, CAPTURE, 1, "muster", name, len(MEMBERS)).arrive()
    settle_interrupted(site.hosts["host-a"], [HOLD])
    hold_on(site, "host-b", "host-c")
    assert gates(site) == ["released", "released"]
    assert told(site, "host-b").guest_faults == told(site, "host-c").guest_faults == ()


def test_delivered_again_to_a_host_whose_directory_takes_nothing_the_order_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(no_new_file(errno.EROFS), AFTERWARDS["store_result"])(site, monkeypatch, frozenset({"host-a"}))
    results = hold_all(site, everyone=False)
    hold_on(site, "host-a")
    assert {name: told(site, name) for name in MEMBERS} == results
    assert gates(site) == ["released", "released"]
    assert [fake.log for fake in site.guests["host-a"]] == [[], []]


@pytest.mark.parametrize("back", ["a worker", "the order"])
def test_a_hold_that_was_told_and_could_not_be_stored_stands_when_a_worker_is_back(site: Site, back: str) -> None:
    """Its backups would end with a journal that has the hold as interrupted."""
    with pytest.MonkeyPatch.context() as trouble:
        AFTERWARDS["store_result"](site, trouble, frozenset({"host-a"}))
        results = hold_all(site, everyone=False)
    journal = site.hosts["host-a"].journal.of(CAPTURE)
    assert journal.result(Step.HOLD, "") is None
    if back == "a worker":
        settle_interrupted(site.hosts["host-a"], [HOLD])
    else:
        hold_on(site, "host-a")
    assert {name: told(site, name) for name in MEMBERS} == results
    assert begun_guests(journal) == frozenset(uuids(site, frozenset({"host-a"})))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_what_the_record_has_for_an_interrupted_hold_and_is_no_result_is_not_stored(site: Site, text: str) -> None:
    begun_by_a_worker_that_died(site, "host-a")
    client = site.hosts["host-a"].redis
    client.hset(names.results_key(CAPTURE), names.result_field(Step.HOLD, "host-a"), text)
    settle_interrupted(site.hosts["host-a"], [HOLD])
    assert "interrupted" in str(site.hosts["host-a"].journal.of(CAPTURE).result(Step.HOLD, ""))


def test_a_defect_in_answering_an_interrupted_hold_keeps_the_answer_from_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object) -> None:
        raise ValueError("odd")

    begun_by_a_worker_that_died(site, "host-a")
    monkeypatch.setattr(Gate, "arrive", odd)
    settle_interrupted(site.hosts["host-a"], [HOLD])
    fault = told(site, "host-a").fault
    assert fault is not None
    assert fault.code == "interrupted"
    assert gates(site) == ["broken", "broken"]
