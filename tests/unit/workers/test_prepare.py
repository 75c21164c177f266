"""Prepare: what a host says of guests that are not there or on their way, and more than one order for one capture."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import libvirt
import pytest

from freezeframe.contract.fault import Fault
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import GuestToHold, HoldOrder, PrepareOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import NOT_HERE, PreparedGuest, PrepareResult
from freezeframe.contract.words import HoldKind, Method, Step
from freezeframe.repository import Repository
from workers import refusal
from workers.fitness import DiskUse
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import MIGRATIONS, Domain
from workers.hypervisor.errors import GuestGoneError
from workers.steps import prepare
from workers.steps.frame import run_step
from workers.steps.hold import hold
from workers.steps.prepared import Prepared, read_prepared
from workers.steps.table import PREPARE

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
FREEZE = GuestHold(kind=HoldKind.FREEZE)
GONE = Fault(code="guest-gone", message="It is not here.")


def store(host: Host, part: str, *guests: PreparedGuest) -> None:
    result = PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=guests)
    host.journal.of(CAPTURE).store_result(Step.PREPARE, part, result.model_dump_json())


def to_prepare(*uuids: str, repository_id: str = "r", number: int = 0) -> PrepareOrder:
    return PrepareOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(minutes=1),
        method=Method.BACKUP_PULL,
        repository_id=repository_id,
        chunk_bytes=4096,
        guests=tuple(GuestPlan(guest_uuid=uuid, name="any", hold=FREEZE) for uuid in uuids),
        round=number,
    )


def test_what_makes_the_orchestrator_look_elsewhere_is_what_the_host_says() -> None:
    assert {GuestGoneError.code, refusal.GuestNotRunningError.code} == NOT_HERE


def test_guests_of_every_order_are_prepared_and_a_later_one_makes_good_an_earlier_fault(host: Host) -> None:
    store(host, "", PreparedGuest(guest_uuid=ALPHA, name="alpha"), PreparedGuest(guest_uuid=BETA, name="b", fault=GONE))
    assert set(read_prepared(host.journal.of(CAPTURE)).guests) == {ALPHA}
    store(host, "round2", PreparedGuest(guest_uuid=BETA, name="beta"))
    assert {one.name for one in read_prepared(host.journal.of(CAPTURE)).guests.values()} == {"alpha", "beta"}


@pytest.mark.parametrize("trouble", ["", "{", '{"v": 2}', "a directory"])
def test_a_result_that_cannot_be_read_costs_only_the_guests_that_it_alone_has(host: Host, trouble: str) -> None:
    store(host, "", PreparedGuest(guest_uuid=ALPHA, name="alpha"))
    store(host, "round2", PreparedGuest(guest_uuid=BETA, name="beta"))
    (path,) = (one for one in host.journal.of(CAPTURE).result_paths(Step.PREPARE) if "round2" in one.name)
    path.unlink()
    path.mkdir() if trouble == "a directory" else path.write_text(trouble)
    found = read_prepared(host.journal.of(CAPTURE))
    assert set(found.guests) == {ALPHA}
    (told,) = found.unread
    assert str(path) in told
    assert path.exists()


def test_results_of_other_steps_prepare_nothing(host: Host) -> None:
    journal = host.journal.of(CAPTURE)
    journal.store_result(Step.HOLD, "", "{")
    journal.store_result(Step.TRANSFER, "vda", "{")
    assert read_prepared(journal) == Prepared({})


def test_a_hold_asks_for_the_guests_of_every_order(host: Host) -> None:
    """It gets as far as asking libvirt for the guest, which the test driver does not have."""
    store(host, "", PreparedGuest(guest_uuid=ALPHA, name="alpha", fault=GONE))
    store(host, "round1", PreparedGuest(guest_uuid=BETA, name="beta"))
    host.claims.take(BETA, CAPTURE)
    order = HoldOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC),
        repository_id="6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e",
        members=1,
        guests=(GuestToHold(guest_uuid=BETA, hold=FREEZE),),
        muster_timeout_s=1,
        hold_timeout_s=1,
        all_or_nothing=True,
    )
    with pytest.raises(GuestGoneError):
        hold(host, order)


def test_two_orders_to_prepare_on_one_host_are_two_answers_of_their_rounds(host: Host) -> None:
    """There is no repository here, so the whole of each fails; what matters is which order each answer is to."""
    for number in (0, 1):
        order = to_prepare(ALPHA, number=number)
        assert run_step(host, PREPARE, order.model_dump(mode="json"))["part"] == order.part
    answers = [PrepareResult.model_validate_json(text) for _, _, text in host.journal.of(CAPTURE).results()]
    assert sorted(answer.round for answer in answers) == [0, 1]


def test_libvirtd_sets_up_its_types_before_guests_are_prepared_side_by_side(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    repository = Repository.init(host.repository)

    def prepared(_host: Host, _order: PrepareOrder, _journal: object, plan: GuestPlan, **_: bool) -> PreparedGuest:
        seen.append(plan.guest_uuid)
        return PreparedGuest(guest_uuid=plan.guest_uuid, name=plan.name, fault=GONE)

    monkeypatch.setattr(prepare, "GuardLine", lambda _: nullcontext(SimpleNamespace(ping=lambda: None)))
    monkeypatch.setattr(Hypervisor, "set_up_types", lambda _: seen.append("types"))
    monkeypatch.setattr(prepare, "_prepare_guest", prepared)
    prepare.prepare(host, to_prepare(ALPHA, BETA, repository_id=str(repository.config.id)))
    assert seen[0] == "types"
    assert sorted(seen[1:]) == [ALPHA, BETA]


class _Arriving:
    """What libvirt says of a guest that is on its way to this host. Seen with libvirt 9.0."""

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return ALPHA

    def name(self) -> str:
        return "alpha"

    def jobStats(self) -> dict[str, int]:  # noqa: N802  libvirt's name
        error = libvirt.libvirtError("migration statistics are available only on the source host")
        error.err = (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_FROM_QEMU, str(error), 2, "", None, None, 0, 0)
        raise error


def test_a_guest_that_arrives_has_a_job_although_libvirt_tells_nothing_of_it() -> None:
    assert Domain(_Arriving()).job() == "migration from another host"


@pytest.mark.case("P2")
def test_what_is_prepared_is_compared_with_all_that_runs_on_the_host(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository.init(host.repository)
    asked: list[str] = []

    keys = frozenset({"wwid naa.1 ", "device sdb"})
    uses = [
        DiskUse(ALPHA, "c", "vdb", keys, keys, within=frozenset({"number 8:0", "wwid naa.2 "})),
        DiskUse(ALPHA, "c", "vda", frozenset({"path /a"}), frozenset({"path /a"})),
    ]

    def shared(_host: Host, _journal: object, guests: list[PreparedGuest], known: object) -> list[PreparedGuest]:
        assert known is uses
        asked.extend(guest.name for guest in guests)
        return [guest.model_copy(update={"fault": GONE}) for guest in guests]

    monkeypatch.setattr(prepare, "GuardLine", lambda _: nullcontext(SimpleNamespace(ping=lambda: None)))
    monkeypatch.setattr(
        prepare,
        "_prepare_guest",
        lambda _host, _order, _journal, plan, **_: PreparedGuest(guest_uuid=plan.guest_uuid, name="a"),
    )
    monkeypatch.setattr(prepare, "uses_here", lambda _host, _guests, _patience_s: uses)
    monkeypatch.setattr(prepare, "refuse_shared", shared)
    result = prepare.prepare(host, to_prepare(ALPHA, repository_id=str(repository.config.id)))
    assert asked == ["a"]
    assert [guest.fault for guest in result.guests] == [GONE]
    (told,) = result.uses  # a path says nothing on another host
    assert (told.guest, told.target, told.shows, told.writes) == ("c", "vdb", ("wwid naa.1 ",), ("wwid naa.1 ",))
    assert told.within == ("wwid naa.2 ",)


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (None, None),
        ("backup", "guest-busy"),
        ("snapshot", "guest-busy"),
        ("save", "guest-busy"),
        *((job, "guest-migrating") for job in sorted(MIGRATIONS)),
    ],
)
def test_a_guest_with_a_job_is_refused_before_it_is_held(
    host: Host, monkeypatch: pytest.MonkeyPatch, job: str | None, code: str | None
) -> None:
    """The backup would be refused within the hold window."""
    [domain] = host.hypervisor.domains()
    monkeypatch.setattr(Domain, "job", lambda _: job)
    found = None
    try:
        prepare._check_state(domain, HoldKind.PAUSE)
    except refusal.RefusedError as error:
        found = error.code
    assert found == code


def test_a_guest_that_its_migration_has_paused_is_told_as_one_that_migrates(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes by itself, and "resume it" would be the wrong advice."""
    [domain] = host.hypervisor.domains()
    monkeypatch.setattr(Domain, "job", lambda _: min(MIGRATIONS))
    monkeypatch.setattr(Domain, "state", lambda _: "paused")
    with pytest.raises(refusal.GuestMigratingError):
        prepare._check_state(domain, HoldKind.PAUSE)
    monkeypatch.setattr(Domain, "job", lambda _: "save")
    with pytest.raises(refusal.GuestPausedError):
        prepare._check_state(domain, HoldKind.PAUSE)
