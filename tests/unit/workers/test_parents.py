"""The capture that a disk is built upon is one of this very disk, wherever it is plugged in (invariants 7 and 9)."""

from __future__ import annotations

import pytest

from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.plan import DiskPlan, ParentDisk
from workers.hypervisor import checkpoint
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest
from workers.identity.read import Unknown
from workers.steps.parents import ParentChoice, choose_parent, full_reason


def identity(inode: int) -> DiskIdentity:
    return DiskIdentity(active=Layer(kind="file", place="/i", facts={"path": "/i", "inode": str(inode)}))


def capture(number: int, target: str, disk: DiskIdentity | None) -> DiskPlan:
    parent = ParentDisk(
        capture_id=f"01K{number:023d}",
        checkpoint=f"cp{number}",
        index=f"{number:02x}" * 32,
        size_bytes=1 << 20,
        chunk_bytes=4096,
        identity=disk,
    )
    return DiskPlan(target=target, parent=parent)


B, C, NEW = identity(1), identity(2), identity(3)
BEFORE = [capture(1, "vdb", B), capture(1, "vdc", C)]


def chosen(target: str, now: dict[str, DiskIdentity | Unknown], candidates: list[DiskPlan] = BEFORE) -> ParentChoice:
    return choose_parent(target, now, candidates)


def test_a_disk_that_stayed_is_built_upon_its_capture() -> None:
    assert chosen("vdb", {"vdb": B, "vdc": C}) == ParentChoice(BEFORE[0].parent)


@pytest.mark.case("I2")
def test_disks_that_exchanged_their_targets_are_each_built_upon_their_own_capture() -> None:
    now: dict[str, DiskIdentity | Unknown] = {"vdb": C, "vdc": B}
    assert chosen("vdb", now).parent == BEFORE[1].parent
    assert chosen("vdc", now).parent == BEFORE[0].parent


@pytest.mark.case("I2")
def test_a_disk_that_moved_up_when_another_was_removed_is_built_upon_its_own_capture() -> None:
    assert chosen("vdb", {"vdb": C}).parent == BEFORE[1].parent


@pytest.mark.case("I3")
def test_another_image_under_the_target_is_full_and_the_other_disk_is_not() -> None:
    now: dict[str, DiskIdentity | Unknown] = {"vdb": NEW, "vdc": C}
    assert chosen("vdb", now) == ParentChoice(
        reason=f"it is not the disk that capture {BEFORE[0].parent.capture_id} read as vdb: its storage is another: "
        "inode 3 instead of 1"
    )
    assert chosen("vdc", now).parent == BEFORE[1].parent


def test_the_newest_capture_of_the_disk_counts_whatever_the_order() -> None:
    newer = capture(2, "vdd", B)
    for candidates in ([*BEFORE, newer], [newer, *BEFORE]):
        assert chosen("vdb", {"vdb": B}, candidates).parent == newer.parent


def test_a_capture_that_does_not_say_which_disk_it_read_is_not_built_upon() -> None:
    old = capture(1, "vdb", None)
    assert "does not say which disk it read as vdb" in (chosen("vdb", {"vdb": B}, [old]).reason or "")


def test_a_disk_of_which_it_cannot_be_told_what_it_is_is_full() -> None:
    found = chosen("vdb", {"vdb": Unknown("/i: Permission denied"), "vdc": C})
    assert found == ParentChoice(reason="it cannot be told which disk this is: /i: Permission denied")


def test_two_disks_that_nothing_tells_apart_are_full() -> None:
    now: dict[str, DiskIdentity | Unknown] = {"vdb": B, "vdc": B}
    assert "nothing tells it from disk vdc" in (chosen("vdb", now).reason or "")
    assert "nothing tells it from disk vdb" in (chosen("vdc", now).reason or "")


def test_a_disk_that_was_never_captured_and_a_full_that_was_asked_for_have_a_reason() -> None:
    assert chosen("vde", {"vde": NEW}).reason == "there is no earlier capture of it to build upon"
    assert "a full one was asked for" in (chosen("vdb", {"vdb": B}, []).reason or "")


def test_a_capture_that_an_audit_has_marked_is_not_built_upon() -> None:
    marked = BEFORE[0].model_copy(update={"parent": BEFORE[0].parent.model_copy(update={"suspect": True})})
    now: dict[str, DiskIdentity | Unknown] = {"vdb": B, "vdc": C}
    assert "was found to have other data" in (chosen("vdb", now, [marked, BEFORE[1]]).reason or "")
    assert chosen("vdc", now, [marked, BEFORE[1]]).parent == BEFORE[1].parent


@pytest.mark.case("I1")
@pytest.mark.parametrize(
    ("size_bytes", "chunk_bytes", "reason"),
    [
        (1 << 20, 4096, None),
        (1 << 21, 4096, "its size has changed from 1048576 to 2097152 bytes"),
        (1 << 20, 8192, "the repository's chunk size has changed"),
    ],
)
def test_a_disk_of_another_size_or_cut_into_other_chunks_is_full_and_its_chain_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, size_bytes: int, chunk_bytes: int, reason: str | None
) -> None:
    asked: list[str] = []

    def sound(_: Domain, name: str, target: str) -> None:
        asked.append(f"{name} {target}")

    monkeypatch.setattr(checkpoint, "chain_fault", sound)
    domain = Domain(FakeGuest(""))
    found = full_reason(domain, "vdb", size_bytes, ParentChoice(BEFORE[0].parent), chunk_bytes)
    assert (found, asked) == (reason, [] if reason else ["cp1 vdb"])
