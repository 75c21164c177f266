"""Where a transfer reads a guest's disk: from what that guest's own journal says, whatever is odd about its neighbours'."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind, HoldKind
from workers.host import Host
from workers.journal import BackupChange, ClaimChange, HoldChange, JournalUnreadableError, LetGoChange
from workers.steps.export_of import NoBackupError, export_of

pytestmark = pytest.mark.usefixtures("every_guest_has_a_qemu")

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")


def order(uuid: str = ALPHA) -> TransferOrder:
    return TransferOrder(
        capture_id=CAPTURE,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(minutes=1),
        guest_uuid=uuid,
        guest_name="alpha",
        target="vda",
        size_bytes=4096,
        chunk_bytes=4096,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )


def begin(host: Host, uuid: str, socket: str) -> None:
    journal = host.journal.of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=uuid))
    journal.record(BackupChange(guest_uuid=uuid, socket=Path(socket), checkpoint=None, repository_id="r"))


def spoil(host: Host, uuid: str, how: str) -> None:
    changes = host.settings.state_dir / "captures" / CAPTURE / uuid / "changes"
    if how == "not a file":
        changes.unlink()
        changes.mkdir()
        return
    lines = {
        "newer": f'{{"v":2,"change":"melt","guest_uuid":"{uuid}"}}',
        "unknown change": f'{{"change":"melt","guest_uuid":"{uuid}"}}',
        "damaged": '{"v":1,"change":"cla',
    }
    changes.write_text(f"{lines[how]}\n{changes.read_text()}")


TROUBLES = ["newer", "unknown change", "damaged", "not a file"]


@pytest.mark.case("S5")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_journal_of_another_guest_that_is_not_understood_fails_no_transfer(host: Host, trouble: str) -> None:
    begin(host, ALPHA, "/run/a")
    begin(host, BETA, "/run/b")
    spoil(host, BETA, trouble)
    assert export_of(host, order()).socket == Path("/run/a")


@pytest.mark.case("S5")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_journal_of_the_guest_itself_that_is_not_understood_is_not_passed_over(host: Host, trouble: str) -> None:
    begin(host, ALPHA, "/run/a")
    spoil(host, ALPHA, trouble)
    with pytest.raises(JournalUnreadableError, match=ALPHA):
        export_of(host, order())


def test_the_backup_that_was_begun_last_is_read(host: Host) -> None:
    begin(host, ALPHA, "/run/first")
    begin(host, ALPHA, "/run/second")
    assert export_of(host, order()).socket == Path("/run/second")


def test_what_was_done_to_the_guest_after_its_backup_was_begun_hides_no_backup(host: Host) -> None:
    begin(host, ALPHA, "/run/a")
    journal = host.journal.of(CAPTURE)
    journal.record(HoldChange(guest_uuid=ALPHA, hold=HoldKind.PAUSE))
    journal.record(LetGoChange(guest_uuid=ALPHA))
    assert export_of(host, order()).socket == Path("/run/a")


def test_another_guest_s_backup_is_not_this_one_s(host: Host) -> None:
    begin(host, BETA, "/run/b")
    with pytest.raises(NoBackupError, match="no backup of guest alpha"):
        export_of(host, order())
