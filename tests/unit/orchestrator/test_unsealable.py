"""What the seal meets: a disk's index costs its guest, storage in trouble costs time, and neither costs the others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis

from freezeframe.cli.following import exit_code
from freezeframe.contract import names
from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import ReleaseOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.proof import GuestProof, HostProof
from freezeframe.contract.result import HoldResult, PreparedDisk, PreparedGuest, PrepareResult, Result, TransferResult
from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy, RunState, Step
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import (
    AlreadyExists,
    IndexDamaged,
    ManifestTooLarge,
    NewerFormat,
    RepositoryError,
    RepositoryFull,
    RepositoryNotReadable,
    RepositoryNotWritable,
    SessionLost,
    is_store_trouble,
)
from freezeframe.repository.label import mislabels
from freezeframe.repository.layout import digest_of
from freezeframe.repository.objects import Objects
from orchestrator import decision, lease, seal_wait, unsealable
from orchestrator.errors import AnswersLostError
from orchestrator.look import Orchestrator
from orchestrator.reconcile import Reconciler
from orchestrator.run import Run, Runs
from orchestrator.seal import manifest_of
from tests.scale.capture import ManyGuests
from tests.unit.orchestrator.one_run import CAPTURE, Sent, release
from tests.unit.orchestrator.telling import tell
from tests.unit.repository.samples import CHUNK, GUEST, OTHER_GUEST, disk_of, store_disk

WEB, DB = GUEST, OTHER_GUEST
NAMES = {WEB: "web", DB: "db 2"}  # a name that a shell must not split
TARGETS = ("vda", "vdb")
SIZE = 3 * CHUNK


class Disks:
    """Two guests of two disks each, all stored."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        repository = orchestrator.repository
        places = [(uuid, target) for uuid in NAMES for target in TARGETS]
        self.indexes = {
            place: store_disk(repository, disk_of(bytes([65 + n]), b"", b"z"), checkpoint="cp")
            for n, place in enumerate(places)
        }

    def index(self, guest: str, target: str) -> Path:
        repository = self._orchestrator.repository
        return Path(repository.address) / repository.objects.protection.index_name(
            digest_of(self.indexes[guest, target])
        )

    def harm(self, guest: str, target: str, damage: str) -> None:
        path = self.index(guest, target)
        if damage == "gone":
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes(b"x" * len(data) if damage == "damaged" else data[:4] + b"\xff" + data[5:])


def put(orchestrator: Orchestrator, step: Step, result: Result, part: str = "") -> None:
    field = names.result_field(step, "host-a", part)
    tell(orchestrator.redis, CAPTURE, field, result)


@pytest.fixture
def disks(orchestrator: Orchestrator) -> Disks:
    """The run of both, whose next look seals."""
    made = Disks(orchestrator)
    prepared = tuple(
        PreparedGuest(
            guest_uuid=uuid,
            name=name,
            domain_xml="<domain/>",
            disks=tuple(
                PreparedDisk(
                    target=target,
                    source="/d",
                    source_format="raw",
                    size_bytes=SIZE,
                    kind=CaptureKind.FULL,
                    checkpoint="cp",
                )
                for target in TARGETS
            ),
        )
        for uuid, name in NAMES.items()
    )
    put(orchestrator, Step.PREPARE, PrepareResult(capture_id=CAPTURE, host_id="host-a", guests=prepared))
    put(orchestrator, Step.HOLD, held())
    for (uuid, target), index in made.indexes.items():
        result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=uuid, target=target, index=index)
        put(orchestrator, Step.TRANSFER, result, f"{uuid}.{target}")
    plan = run_of(orchestrator).plan or pytest.fail("no plan")
    guests = tuple(
        GuestPlan(guest_uuid=uuid, name=name, hold=GuestHold(kind=HoldKind.FREEZE)) for uuid, name in NAMES.items()
    )
    hosts = (plan.hosts[0].model_copy(update={"guests": guests}),)
    change(
        orchestrator,
        state=RunState.SEALING,
        plan=plan.model_copy(update={"hosts": hosts}),
        kept=(WEB, DB),
        members=("host-a",),
        dispatched=False,
        due_at=datetime.now(UTC) + timedelta(hours=1),
    )
    policy(orchestrator, Policy.DEGRADE)
    return made


def held(*moving: str) -> HoldResult:
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    guests = tuple(
        GuestProof(
            guest_uuid=uuid,
            hold=GuestHold(kind=HoldKind.FREEZE),
            moving_disks=TARGETS if uuid in moving else (),
            frozen_filesystems=1,
            hold_start_ns=1,
            held_ns=2,
            begun_ns=3,
            thaw_start_ns=6,
            thawed_ns=7,
        )
        for uuid in NAMES
    )
    return HoldResult(
        capture_id=CAPTURE,
        host_id="host-a",
        proof=HostProof(host_id="host-a", boot_id="b", report_ns=4, woken_ns=5, guests=guests),
        arrived_us=now_us,
        release_us=now_us,
        release_arrivals=1,
    )


def run_of(orchestrator: Orchestrator) -> Run:
    run, _ = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    return run


def change(orchestrator: Orchestrator, **update: object) -> None:
    run, version = orchestrator.runs.load(CAPTURE) or pytest.fail("no run")
    assert orchestrator.runs.change(run.model_copy(update=update), version, tell=False)


def policy(orchestrator: Orchestrator, wanted: Policy) -> None:
    request = run_of(orchestrator).request.model_copy(update={"policy": wanted, "guests": tuple(NAMES.values())})
    change(orchestrator, request=request)


def past(orchestrator: Orchestrator) -> None:
    change(orchestrator, due_at=datetime.now(UTC) - timedelta(seconds=1))


def look(orchestrator: Orchestrator) -> Run:
    return orchestrator.look(CAPTURE) or pytest.fail("no run")


def told_sealed(sent: Sent) -> list[tuple[str, ...] | None]:
    return [order.sealed_guests for order in sent.orders if isinstance(order, ReleaseOrder)]


def places(run: Run) -> list[tuple[str, str | None, str | None]]:
    return [(fault.code, fault.guest, fault.disk) for fault in run.faults]


def raising(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("at", ["manifest", "index"])
def test_a_shortage_while_guests_are_looked_through_is_no_guest_s_fault(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch, error: Exception, at: str
) -> None:
    disks.harm(DB, "vdb", "damaged")
    failing = raising(error)
    made: list[Manifest] = []

    def manifest(*answers: Any) -> Manifest:
        """Make that of the seal, and fail when the guests are looked through."""
        if made:
            failing()
        made.append(manifest_of(*answers))
        return made[0]

    with monkeypatch.context() as short:
        if at == "index":
            short.setattr("orchestrator.unsealable.check_index", failing)
        else:
            short.setattr("orchestrator.look.manifest_of", manifest)
        run = look(orchestrator)
    assert (run.state, run.faults, run.kept) == (RunState.SEALING, (), (WEB, DB))
    assert "no further thread" in run_of(orchestrator).warnings[0]
    run = look(orchestrator)
    assert (run.sealed, run.kept, places(run)) == (True, (WEB,), [("index-damaged", "db 2", "vdb")])


def test_a_shortage_that_lasts_ends_the_run_with_what_to_do(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disks.indexes
    monkeypatch.setattr(Repository, "seal", raising(RuntimeError("can't start new thread")))
    monkeypatch.setattr("orchestrator.unsealable.check_index", raising(MemoryError()))
    past(orchestrator)
    run = look(orchestrator)
    [fault] = run.faults
    assert (run.state, fault.code) == (RunState.RELEASING, "repository-not-readable")
    assert ("no further thread" in fault.message, "TasksMax" in fault.advice) == (True, True)


DAMAGES = [("gone", IndexDamaged.code), ("damaged", IndexDamaged.code), ("newer", NewerFormat.code)]


@pytest.mark.parametrize(("damage", "code"), DAMAGES)
@pytest.mark.parametrize("lost", [WEB, DB])
def test_under_degrade_an_index_costs_its_guest_and_no_other(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, damage: str, code: str, lost: str
) -> None:
    disks.harm(lost, "vdb", damage)
    run = look(orchestrator)
    [kept] = {WEB, DB} - {lost}
    assert (run.state, run.sealed, run.kept) == (RunState.RELEASING, True, (kept,))
    assert places(run) == [(code, NAMES[lost], "vdb")]
    assert f"Disk vdb of guest {NAMES[lost]} cannot be sealed: " in run.faults[0].message
    assert (f"`freezeframe capture {lost}`" in run.faults[0].advice) is (damage != "newer")
    assert ("Update freezeframe" in run.faults[0].advice) is (damage == "newer")
    assert told_sealed(sent) == [(kept,)]
    receipt = release(orchestrator).receipt
    assert receipt is not None
    assert ([guest.guest for guest in receipt.guests], exit_code(receipt)) == ([NAMES[kept]], 10)


def test_the_proof_and_the_label_are_of_the_guests_that_are_in_the_capture(
    orchestrator: Orchestrator, disks: Disks
) -> None:
    """The guest that is dropped had disks which its hold did not keep still."""
    put(orchestrator, Step.HOLD, held(DB))
    disks.harm(DB, "vda", "gone")
    look(orchestrator)
    manifest = orchestrator.repository.manifest(CAPTURE)
    assert [guest.guest_uuid for guest in manifest.guests] == [WEB]
    assert manifest.proof is not None
    assert [guest.guest_uuid for host in manifest.proof.hosts for guest in host.guests] == [WEB]
    assert (manifest.consistency, mislabels(manifest)) == (Consistency.GROUP, [])


@pytest.mark.parametrize(("damage", "code"), DAMAGES)
def test_under_all_the_fault_that_ends_the_capture_names_the_guest_and_the_disk(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, damage: str, code: str
) -> None:
    policy(orchestrator, Policy.ALL)
    disks.harm(DB, "vda", damage)
    run = look(orchestrator)
    assert (run.state, run.sealed, run.kept, places(run)) == (RunState.RELEASING, False, (), [(code, "db 2", "vda")])
    assert told_sealed(sent) == [()]
    assert not orchestrator.repository.is_sealed(CAPTURE)


def test_if_no_guest_can_be_sealed_each_disk_is_named(orchestrator: Orchestrator, disks: Disks, sent: Sent) -> None:
    for guest, target in ((WEB, "vda"), (WEB, "vdb"), (DB, "vdb")):
        disks.harm(guest, target, "damaged")
    run = look(orchestrator)
    assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, False, [()])
    assert places(run) == [
        ("index-damaged", "web", "vda"),
        ("index-damaged", "web", "vdb"),
        ("index-damaged", "db 2", "vdb"),
    ]


def test_an_index_of_another_disk_is_its_guest_s(orchestrator: Orchestrator, disks: Disks) -> None:
    small = store_disk(orchestrator.repository, disk_of(b"q"))
    result = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=DB, target="vda", index=small)
    put(orchestrator, Step.TRANSFER, result, f"{DB}.vda")
    assert small not in disks.indexes.values()
    run = look(orchestrator)
    assert (run.sealed, run.kept, places(run)) == (True, (WEB,), [("index-damaged", "db 2", "vda")])


@pytest.mark.parametrize("wanted", list(Policy))
def test_a_guest_of_which_no_manifest_can_be_made_costs_no_other(
    orchestrator: Orchestrator, disks: Disks, wanted: Policy
) -> None:
    """A defect, or an answer of another version: here a transfer without an index, and without a fault."""
    policy(orchestrator, wanted)
    assert (DB, "vda") in disks.indexes
    odd = TransferResult(capture_id=CAPTURE, host_id="host-a", guest_uuid=DB, target="vda")
    field = names.result_field(Step.TRANSFER, "host-a", f"{DB}.vda")
    tell(orchestrator.redis, CAPTURE, field, odd)
    run = look(orchestrator)
    assert places(run) == [("unexpected", "db 2", None)]
    assert (run.sealed, run.kept) == ((True, (WEB,)) if wanted is Policy.DEGRADE else (False, ()))


TROUBLES = [
    RepositoryFull("No space is left."),
    RepositoryNotWritable("It is read-only."),
    RepositoryNotReadable("It cannot be read."),
    RepositoryError("The server answers 503.", transient=True),
    OSError("Stale file handle"),
    RuntimeError("can't start new thread"),
    MemoryError(),
]
SHORTAGES = TROUBLES[-2:]  # of this host


@pytest.mark.case("R7")
@pytest.mark.parametrize("error", TROUBLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("wanted", list(Policy))
def test_storage_in_trouble_is_waited_for_and_then_all_is_sealed(
    orchestrator: Orchestrator,
    disks: Disks,
    sent: Sent,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    wanted: Policy,
) -> None:
    policy(orchestrator, wanted)
    sent.steps.clear()
    with monkeypatch.context() as away:
        away.setattr(Repository, "seal", raising(error))
        for _ in range(3):
            assert look(orchestrator).state is RunState.SEALING
    assert (sent.steps, run_of(orchestrator).faults) == ([], ())
    assert disks.indexes
    run = look(orchestrator)
    assert (run.sealed, run.kept, run.faults) == (True, (WEB, DB), ())


@pytest.mark.case("R7")
@pytest.mark.parametrize("how", ["indexes", "unmounted"])
@pytest.mark.parametrize("wanted", list(Policy))
def test_indexes_that_cannot_be_read_for_now_are_no_guest_s_fault(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch, how: str, wanted: Policy
) -> None:
    """An empty mount point has no indexes either."""
    policy(orchestrator, wanted)
    root = Path(orchestrator.repository.address)
    with monkeypatch.context() as away:
        if how == "indexes":
            away.setattr(Objects, "open_index", raising(RepositoryNotReadable("The mount is gone.")))
        else:
            root.rename(root.with_name("elsewhere"))
            root.mkdir()
        run = look(orchestrator)
    assert (run.state, run.faults, run.kept) == (RunState.SEALING, (), (WEB, DB))
    if how == "unmounted":
        root.rmdir()
        root.with_name("elsewhere").rename(root)
    assert disks.index(WEB, "vda").exists()
    run = look(orchestrator)
    assert (run.sealed, run.kept, run.faults) == (True, (WEB, DB), ())


@pytest.mark.parametrize("wanted", list(Policy))
def test_storage_that_stays_in_trouble_ends_the_run_with_its_own_fault(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, monkeypatch: pytest.MonkeyPatch, wanted: Policy
) -> None:
    policy(orchestrator, wanted)
    assert disks.indexes
    with monkeypatch.context() as away:
        away.setattr(Objects, "open_index", raising(RepositoryNotReadable("The mount is gone.")))
        past(orchestrator)
        run = look(orchestrator)
    assert (run.state, run.sealed, told_sealed(sent)) == (RunState.RELEASING, False, [()])
    assert places(run) == [("repository-not-readable", None, None)]


@pytest.mark.parametrize("other", ["whole", "damaged"])
def test_one_index_that_cannot_be_read_is_waited_for_and_then_costs_its_guest(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Bad sectors below one file."""
    bad = digest_of(disks.indexes[DB, "vdb"])
    opening = Objects.open_index

    def broken(self: Objects, digest: bytes) -> Any:
        if digest == bad:
            raise RepositoryNotReadable("Input/output error")
        return opening(self, digest)

    monkeypatch.setattr(Objects, "open_index", broken)
    if other == "damaged":
        disks.harm(WEB, "vda", "damaged")
    assert look(orchestrator).state is RunState.SEALING
    past(orchestrator)
    run = look(orchestrator)
    unread = ("repository-not-readable", "db 2", "vdb")
    if other == "whole":
        assert (run.sealed, run.kept, places(run)) == (True, (WEB,), [unread])
    else:
        assert (run.sealed, places(run)) == (False, [("index-damaged", "web", "vda"), unread])


@pytest.mark.parametrize("error", [AlreadyExists("It exists."), SessionLost("It is gone."), AnswersLostError("Lost.")])
def test_what_is_of_the_run_ends_it_and_is_not_put_down_to_a_guest(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, monkeypatch: pytest.MonkeyPatch, error: FreezeframeError
) -> None:
    """Without the guest whose index is damaged the others would be sealed, of what may have been collected."""
    disks.harm(DB, "vdb", "damaged")
    monkeypatch.setattr(Repository, "seal", raising(error))
    run = look(orchestrator)
    assert (run.state, run.sealed, run.kept, told_sealed(sent)) == (RunState.RELEASING, False, (), [()])
    assert places(run) == [(error.code, None, None)]


def test_while_storage_is_in_trouble_no_guest_is_judged_by_it(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that it shows as damaged may be whole when it is well."""
    index = disks.index(DB, "vdb")
    whole = index.read_bytes()
    disks.harm(DB, "vdb", "damaged")
    with monkeypatch.context() as away:
        away.setattr(Repository, "seal", raising(RepositoryNotReadable("Input/output error")))
        run = look(orchestrator)
    assert (run.state, run.kept, run.faults) == (RunState.SEALING, (WEB, DB), ())
    index.write_bytes(whole)
    run = look(orchestrator)
    assert (run.sealed, run.kept, run.faults) == (True, (WEB, DB), ())


def test_an_index_that_is_whole_again_when_it_is_looked_for_costs_nobody_anything(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disks.indexes
    with monkeypatch.context() as once:
        once.setattr(Repository, "seal", raising(IndexDamaged("It was being moved.")))
        assert look(orchestrator).state is RunState.SEALING
    assert look(orchestrator).kept == (WEB, DB)


def test_a_guest_that_was_dropped_stays_dropped_when_the_record_of_the_seal_is_refused(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing twice is sealing once, also if its index is back by then."""
    index = disks.index(DB, "vda")
    whole = index.read_bytes()
    index.unlink()
    changing = Runs.change

    def refuse(self: Runs, run: Run, version: str, *, tell: bool = True) -> bool:
        if run.state is RunState.RELEASING:
            raise redis.ReadOnlyError("READONLY You can't write against a read only replica.")
        return changing(self, run, version, tell=tell)

    monkeypatch.setattr(Runs, "change", refuse)
    with pytest.raises(redis.ReadOnlyError):
        look(orchestrator)
    monkeypatch.setattr(Runs, "change", changing)
    first = orchestrator.repository.manifest(CAPTURE)
    index.write_bytes(whole)
    run = look(orchestrator)
    assert (run.sealed, run.kept, told_sealed(sent)) == (True, (WEB,), [(WEB,)])
    assert places(run) == [("index-damaged", "db 2", "vda")]
    assert orchestrator.repository.manifest(CAPTURE) == first


def test_a_guest_whose_index_is_lost_after_the_seal_is_in_the_capture_all_the_same(
    orchestrator: Orchestrator, disks: Disks, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest says what was sealed; `verify` names what is lost since."""
    changing = Runs.change
    monkeypatch.setattr(Runs, "change", raising(redis.ConnectionError("died")))
    with pytest.raises(redis.ConnectionError):
        look(orchestrator)
    monkeypatch.setattr(Runs, "change", changing)
    disks.harm(DB, "vda", "gone")
    run = look(orchestrator)
    assert (run.sealed, run.kept, run.faults, told_sealed(sent)) == (True, (WEB, DB), (), [(WEB, DB)])
    assert any("cannot be sealed" in text for text in run.warnings)


def test_a_run_that_waits_for_its_seal_has_no_orders_to_be_sent_again(
    orchestrator: Orchestrator, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disks.indexes
    change(orchestrator, entered_at=datetime.now(UTC) - lease.GRACE - timedelta(seconds=1))
    monkeypatch.setattr(Repository, "seal", raising(RepositoryFull("No space is left.")))
    dispatched: list[str] = []
    monkeypatch.setattr(Orchestrator, "dispatch", lambda _self, run, *_: dispatched.append(run.capture_id))
    Reconciler(orchestrator).reconcile()
    assert (run_of(orchestrator).state, dispatched) == (RunState.SEALING, [])


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        *((error, True) for error in TROUBLES[:-2]),
        *((seal_wait.passing(error), True) for error in SHORTAGES),
        *(
            (seal_wait.passing(error), False)
            for error in (RuntimeError("another"), RecursionError("can't start new thread"))
        ),
        (RepositoryError("It refuses."), False),
        (ManifestTooLarge("It would have 70 MiB."), False),
        (IndexDamaged("It is missing."), False),
        (NewerFormat("It is newer."), False),
        (FreezeframeError("Another."), False),
        (KeyError("a defect"), False),
    ],
)
def test_what_is_waited_for_is_the_storage_s_trouble_alone(error: Exception, *, trouble: bool) -> None:
    assert is_store_trouble(error) is trouble


def test_the_time_for_the_seal_is_its_own(orchestrator: Orchestrator) -> None:
    settings = orchestrator.settings.model_copy(update={"seal_timeout_s": 700.0})
    now = datetime.now(UTC)
    following = decision.enter(run_of(orchestrator), RunState.SEALING, now, settings)
    assert following.due_at == now + timedelta(seconds=700)


@pytest.mark.parametrize("bad", [(), (0,), (6,), (2, 3), tuple(range(7))])
def test_the_guests_of_which_no_manifest_can_be_made_are_found_by_halves(
    bad: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One manifest of all is enough as long as there is none of them."""
    monkeypatch.setattr("orchestrator.unsealable.check_index", lambda *_: None)
    many = ManyGuests(1, 7)
    broken = {many.every_uuid[number] for number in bad}
    made: list[tuple[str, ...]] = []

    def make(one: Run) -> Manifest:
        made.append(one.kept)
        if broken.intersection(one.kept):
            raise ValueError("a defect")
        return manifest_of(one, *many.answers)

    found = unsealable.find(_Sound(), many.run(RunState.SEALING), ValueError("a defect"), make, in_time=True)
    assert [guest for guest, _ in found] == [many.every_uuid[number] for number in bad]
    assert {(fault.guest, fault.host) for _, fault in found} == {(many.name(guest), "host-0000") for guest in broken}
    assert len(made) == 1 if not bad else len(made) <= 2 * 7


class _Sound(Repository):
    """A repository with every index."""

    def __init__(self) -> None:
        pass

    def check_there(self) -> None:
        pass
