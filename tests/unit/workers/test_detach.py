"""Detach: every trace of ours goes, of a guest that runs and of one that is off, and nothing of anybody else's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
import typer
from typer.testing import CliRunner

from freezeframe.cli.verbs import Verb
from ops.qemu_nbd import serving
from workers import detach, durable, recovery
from workers.claims import GuestClaimedError
from workers.commands import detach as verb
from workers.host import Host
from workers.hypervisor import backup, bitmaps
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.fake_checkpoints import CheckpointedGuest, FakeLibvirtError
from workers.journal import ClaimChange

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OURS, ORPHAN = f"freezeframe.0123456789ab.{CAPTURE}", f"freezeframe.0123456789ab.{CAPTURE[:-1]}0"
ELSEWHERE = f"freezeframe.ba9876543210.{CAPTURE}"
THEIRS = "virtnbdbackup.0"
ALL = (OURS, ORPHAN, ELSEWHERE, THEIRS)


def stored(path: Path, *names: str, backing: Path | None = None) -> Path:
    below = ["-b", os.fspath(backing), "-F", "qcow2"] if backing else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, os.fspath(path), "1M"], check=True)
    for name in names:
        subprocess.run(["qemu-img", "bitmap", "--add", "-f", "qcow2", os.fspath(path), name], check=True)
    return path


@pytest.fixture
def running(tmp_path: Path) -> CheckpointedGuest:
    return CheckpointedGuest(
        stored(tmp_path / "vda.qcow2", *ALL), checkpoints=[OURS, ELSEWHERE, THEIRS], memory=list(ALL)
    )


@pytest.fixture
def off(tmp_path: Path) -> CheckpointedGuest:
    return CheckpointedGuest(stored(tmp_path / "off.qcow2", *ALL), checkpoints=[OURS, ELSEWHERE, THEIRS], running=False)


def leftover(host: Host, guest: CheckpointedGuest, capture_id: str = CAPTURE) -> Path:
    path = host.scratch_file(capture_id, guest.uuid, "vda")
    durable.make_directory(path.parent)
    path.touch()
    return path


def detached(host: Host, guest: CheckpointedGuest) -> detach.Traces:
    traces = detach.look(host, guest)
    detach.remove(host, guest, traces)
    return traces


@pytest.mark.case("G7")
def test_a_running_guest(host: Host, running: CheckpointedGuest) -> None:
    traces = detached(host, running)
    assert traces.problems == []
    assert (running.checkpoints, running.memory) == ([THEIRS], [THEIRS])
    assert traces.checkpoints == [OURS, ELSEWHERE]
    assert traces.bitmaps == {str(running.image): [OURS, ORPHAN, ELSEWHERE]}


@pytest.mark.case("G7")
def test_a_guest_that_is_off(host: Host, off: CheckpointedGuest) -> None:
    assert detached(host, off).problems == []
    assert (off.checkpoints, bitmaps.in_image(off.image)) == ([THEIRS], [THEIRS])
    assert not detach.look(host, off)


@pytest.mark.case("G7")
def test_bitmaps_below_a_snapshot(host: Host, tmp_path: Path) -> None:
    """An external snapshot that was taken after a capture leaves the bitmap in the image below."""
    base = stored(tmp_path / "base.qcow2", OURS, THEIRS)
    guest = CheckpointedGuest(stored(tmp_path / "top.qcow2", backing=base), running=False)
    assert detached(host, guest).problems == []
    assert bitmaps.in_image(base) == [THEIRS]


def test_looking_changes_nothing_and_asks_qemu_nothing(host: Host, running: CheckpointedGuest) -> None:
    running.monitor_refuses = True
    file = leftover(host, running)
    assert detach.look(host, running)
    assert (running.checkpoints, running.memory) == ([OURS, ELSEWHERE, THEIRS], list(ALL))
    assert file.exists()


@pytest.mark.case("G7")
def test_scratch_files_and_the_claim_of_an_ended_capture_go(host: Host, running: CheckpointedGuest) -> None:
    file, other = leftover(host, running), host.settings.scratch_dir / CAPTURE / "another.vda.qcow2"
    other.touch()
    host.claims.take(running.uuid, CAPTURE)
    host.journal.of(CAPTURE).end()
    traces = detached(host, running)
    assert (traces.scratch, traces.claim) == ([str(file)], CAPTURE)
    assert (file.exists(), other.exists()) == (False, True)
    assert host.claims.holder(running.uuid) is None
    assert host.journal.unended() == []


@pytest.mark.case("G7")
def test_a_guest_that_a_capture_has_in_hand_is_refused(host: Host, running: CheckpointedGuest) -> None:
    host.claims.take(running.uuid, CAPTURE)
    host.journal.of(CAPTURE).record(ClaimChange(guest_uuid=running.uuid))
    with pytest.raises(GuestClaimedError, match=CAPTURE):
        detach.look(host, running)
    assert running.checkpoints == [OURS, ELSEWHERE, THEIRS]
    assert host.claims.holder(running.uuid) == CAPTURE


def test_no_capture_begins_and_no_recovery_comes_in_between(
    host: Host, running: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def removed(*_: object) -> None:
        with pytest.raises(GuestClaimedError):
            host.claims.take(running.uuid, CAPTURE)
        seen.extend(recovery.recover(host, force=True))

    monkeypatch.setattr(detach, "_remove_bitmaps", removed)
    detached(host, running)
    assert [one.state for one in seen] == [recovery.State.BUSY]
    assert host.claims.holder(running.uuid) is None


@pytest.mark.case("G7")
def test_a_backup_of_ours_that_no_capture_knows_ends_and_anothers_runs_on(
    host: Host, running: CheckpointedGuest, tmp_path: Path
) -> None:
    file = leftover(host, running)
    socket = tmp_path / "one.sock"
    running.backup = backup.backup_xml(socket, [backup.BackupDisk("vda", file)], [])
    traces = detached(host, running)
    assert traces.backup == str(socket)
    assert backup.current_socket(running) is None
    assert not file.exists()
    running.backup = theirs = backup.backup_xml(socket, [backup.BackupDisk("vda", Path("/elsewhere/vda"))], [])
    assert detached(host, running).backup is None
    assert running.backup == theirs


@pytest.mark.case("G7")
def test_what_stays_is_named_and_keeps_the_rest_from_nothing(
    host: Host, off: CheckpointedGuest, tmp_path: Path
) -> None:
    file = leftover(host, off)
    with serving(tmp_path / "s", off.image, ["--persistent", "--format=qcow2"]):
        problems = detached(host, off).problems
    assert problems
    assert all(str(off.image) in problem for problem in problems)
    assert off.checkpoints == [OURS, ELSEWHERE, THEIRS]  # libvirt forgets none before its bitmap is gone
    assert not file.exists()
    assert detached(host, off).problems == []
    assert off.checkpoints == [THEIRS]


@pytest.mark.case("G7")
@pytest.mark.parametrize("is_off", [False, True])
def test_a_bitmap_stays_as_long_as_its_checkpoint(
    host: Host, running: CheckpointedGuest, off: CheckpointedGuest, *, is_off: bool
) -> None:
    """A checkpoint without its bitmap would be taken for a chain that is broken."""
    guest = off if is_off else running
    guest.refusal = FakeLibvirtError("broken pipe", libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    assert len(detached(host, guest).problems) == 2
    left = bitmaps.in_image(guest.image) if is_off else guest.memory
    assert left == [OURS, ELSEWHERE, THEIRS]


@pytest.fixture
def typed(host: Host, running: CheckpointedGuest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """The verb on a host with one guest."""

    def domain(_: Hypervisor, uuid: str) -> CheckpointedGuest:
        assert uuid == running.uuid
        return running

    monkeypatch.setattr(verb, "this_host", lambda: host)
    monkeypatch.setattr(Hypervisor, "domains", lambda _: [running])
    monkeypatch.setattr(Hypervisor, "domain", domain)
    app = typer.Typer()
    app.command(cls=Verb)(verb.detach)
    app.callback()(lambda: None)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["detach", *arguments], env={"COLUMNS": "200"})
        return result.exit_code, result.stdout[result.stdout.find("{") :] if "--json" in arguments else result.stdout

    return run


@pytest.mark.case("G7")
def test_the_verb(running: CheckpointedGuest, typed: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, told = typed("alpha", "--dry-run", "--json")
    assert (code, json.loads(told)["guests"][0]["checkpoints"]) == (0, [OURS, ELSEWHERE])
    assert running.checkpoints == [OURS, ELSEWHERE, THEIRS]
    assert typed("alpha")[0] == 2  # nobody agreed
    assert running.checkpoints == [OURS, ELSEWHERE, THEIRS]
    code, told = typed("alpha", running.uuid, "--yes")
    assert code == 0
    assert OURS in told
    assert running.checkpoints == [THEIRS]
    running.image = stored(tmp_path / "as QEMU leaves it.qcow2", THEIRS)
    code, told = typed("--all", "--yes")
    assert (code, told.strip()) == (0, "Nothing of ours is on these guests.")


def test_the_verb_says_what_stays(running: CheckpointedGuest, typed: Callable[..., tuple[int, str]]) -> None:
    running.monitor_refuses = True
    code, told = typed("--all", "--yes", "--json")
    assert code == 10
    assert json.loads(told)["guests"][0]["problems"]


def test_the_verb_wants_to_be_told_whom(typed: Callable[..., tuple[int, str]]) -> None:
    assert typed()[0] == 2
    assert typed("alpha", "--all")[0] == 2
    assert typed("nobody", "--yes")[0] == 4
