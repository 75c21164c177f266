"""Before any guest is touched: a host that cannot take part says so, and a guest that is busy elsewhere is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.plan import GuestPlan
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind, Method
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret, SecretSort, Suite
from freezeframe.repository.errors import RepositoryFull, RepositoryNotWritable, TemporaryStorageFailed
from workers import durable
from workers.guard.client import GuardError
from workers.host import Host
from workers.hypervisor import backup
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import HypervisorError
from workers.hypervisor.fake_guest import UUID, FakeGuest, disk_xml, domain_xml
from workers.journal import ClaimChange
from workers.refusal import RepositoryMismatchError
from workers.steps import prepare

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
PLAN = GuestPlan(guest_uuid=UUID, name="alpha", hold=GuestHold(kind=HoldKind.PAUSE))


def order(repository_id: str, epoch: int = 1) -> PrepareOrder:
    return PrepareOrder(
        capture_id=CAPTURE,
        epoch=epoch,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(minutes=1),
        method=Method.BACKUP_PULL,
        repository_id=repository_id,
        chunk_bytes=4096,
        guests=(PLAN,),
    )


@pytest.fixture
def touched(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guests that were prepared, on a host that can take part."""
    seen: list[str] = []

    def prepared(_host: Host, _order: PrepareOrder, _journal: object, plan: GuestPlan, **_: bool) -> PreparedGuest:
        seen.append(plan.guest_uuid)
        return PreparedGuest(guest_uuid=plan.guest_uuid, name=plan.name)

    monkeypatch.setattr(prepare, "_prepare_guest", prepared)
    monkeypatch.setattr(prepare, "GuardLine", lambda _: nullcontext(SimpleNamespace(ping=lambda: None)))
    return seen


def another_repository(_: pytest.MonkeyPatch) -> str:
    return "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"


def raising(name: str, error: Exception) -> Callable[[pytest.MonkeyPatch], None]:
    def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(Repository, name, fails)

    return spoil


def no_place_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be found at the end of a transfer of hours."""
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", "/dev/null/tables")


def silent_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    def ping() -> None:
        raise GuardError("The thaw guard did not answer.")

    monkeypatch.setattr(prepare, "GuardLine", lambda _: nullcontext(SimpleNamespace(ping=ping)))


def libvirtd_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: Hypervisor) -> None:
        raise HypervisorError("libvirtd is away.")

    monkeypatch.setattr(Hypervisor, "set_up_types", away)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (another_repository, RepositoryMismatchError),
        (raising("check_writable", RepositoryNotWritable("Read-only file system.")), RepositoryNotWritable),
        (raising("check_space", RepositoryFull("It is full.")), RepositoryFull),
        pytest.param(no_place_for_tables, TemporaryStorageFailed, marks=pytest.mark.case("D2")),
        (silent_guard, GuardError),
        (libvirtd_away, HypervisorError),
    ],
    ids=["another repository", "read-only", "full", "no temporary files", "no guard", "no libvirtd"],
)
def test_a_host_that_cannot_take_part_says_so_before_any_guest_is_touched(
    host: Host,
    touched: list[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], str | None],
    error: type[FreezeframeError],
) -> None:
    repository_id = str(Repository.init(host.repository).config.id)
    other = spoil(monkeypatch)
    with pytest.raises(error):
        prepare.prepare(host, order(other or repository_id))
    assert touched == []


@pytest.mark.parametrize("suite", [None, *Suite], ids=str)
def test_a_disk_that_qemu_decrypts_needs_a_repository_that_is_encrypted_and_no_key_alone(
    host: Host, suite: Suite | None
) -> None:
    """A host with a key may have one that is authenticated only: what is stored there shows."""
    key = None if suite is None else Secret(SecretSort.KEY_FILE, bytes(32))
    made = Repository.init(host.repository, secret=key, suite=suite or Suite.ENCRYPTED)
    object.__setattr__(host, "repository_key", SimpleNamespace(expected=key is not None, secret=lambda: key))
    assert prepare._check_repository(host, order(str(made.config.id))) is (suite is Suite.ENCRYPTED)


def test_the_repository_is_asked_for_the_least_room_before_guests_are_prepared(
    host: Host, touched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository_id = str(Repository.init(host.repository).config.id)
    asked: list[int] = []

    def check(_: Repository, least_bytes: int) -> None:
        asked.append(least_bytes)

    monkeypatch.setattr(Repository, "check_space", check)
    prepare.prepare(host, order(repository_id))
    assert (asked, touched) == ([prepare.REPOSITORY_LEAST_BYTES], [UUID])


@pytest.fixture
def guest(
    host: Host, monkeypatch: pytest.MonkeyPatch, every_guest_has_a_qemu: None, no_earlier_leases: None
) -> FakeGuest:
    durable.make_directory(host.settings.scratch_dir)
    made = FakeGuest(domain_xml(disk_xml("vda", "/images/a")))
    monkeypatch.setattr(Hypervisor, "domain", lambda _, uuid: {UUID: Domain(made)}[uuid])
    return made


def refused(host: Host, epoch: int = 1) -> str | None:
    """Prepare the guest; return the code of its fault."""
    wanted = order("6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e", epoch)
    fault = prepare._prepare_guest(host, wanted, host.journal.of(CAPTURE), PLAN, stored_encrypted=False).fault
    return fault.code if fault else None


def test_a_guest_with_a_backup_of_somebody_else_is_refused_before_its_scratch_files_are_made(
    host: Host, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libvirt would refuse the second one within the hold."""
    theirs = backup.backup_xml(host.settings.run_dir / "theirs.sock", [], [])
    monkeypatch.setattr(FakeGuest, "backupGetXMLDesc", lambda _: theirs)
    assert refused(host) == "guest-busy"
    assert list(host.settings.scratch_dir.iterdir()) == []
    assert host.claims.holder(UUID) is None


def test_a_disk_with_a_block_job_is_refused(host: Host, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGuest, "blockJobInfo", lambda _self, _target: {"type": 2, "cur": 1, "end": 2})
    assert refused(host) == "guest-busy"


def test_a_guest_that_is_off_is_refused_as_such(host: Host, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGuest, "isActive", lambda _: False)
    assert refused(host) == "guest-not-running"


def test_an_order_from_the_past_prepares_no_guest(host: Host, guest: FakeGuest) -> None:
    host.claims.fence(UUID, 2)
    assert refused(host, epoch=1) == "stale-order"
    assert refused(host, epoch=2) is None


def test_the_claim_is_in_the_journal_before_anything_is_asked_of_the_guest(
    host: Host, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies there leaves a claim that recovery finds."""
    seen: list[bool] = []

    def off(_: FakeGuest) -> bool:
        seen.append(ClaimChange(guest_uuid=UUID) in host.journal.of(CAPTURE).changes())
        return False

    monkeypatch.setattr(FakeGuest, "isActive", off)
    refused(host)
    assert seen[0] is True
