"""A host's documents under power cuts: what a call has returned for is there when the power is back, and all can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from freezeframe.contract.words import HoldKind, Step
from workers import durable, instance
from workers.claims import Claims, StaleOrderError
from workers.guard.lease import LeasedGuest, LeaseFiles, StoredLease
from workers.journal import AnyChange, BackupChange, ClaimChange, HoldChange, Journal, LetGoChange
from workers.pace import Paces

from .power import Device, Dying, PowerCut

CAPTURE, OTHER = "01KAAAAAAAAAAAAAAAAAAAAAAA", "01KBBBBBBBBBBBBBBBBBBBBBBB"
A, B = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
STEPS = 300

Look = Callable[[], bool]


def journalling(root: Path) -> Iterator[Look]:
    """Two guests, a change at a time."""
    journal = Journal(root).of(CAPTURE)
    changes: list[AnyChange] = [
        ClaimChange(guest_uuid=A),
        ClaimChange(guest_uuid=B),
        BackupChange(guest_uuid=A, socket=Path("/run/a"), checkpoint="c", repository_id="r"),
        HoldChange(guest_uuid=A, hold=HoldKind.FREEZE),
        LetGoChange(guest_uuid=A),
    ]
    for change in changes:
        journal.record(change)
        yield lambda change=change: change in Journal(root).of(CAPTURE).changes()  # type: ignore[misc]


def ending(root: Path) -> Iterator[Look]:
    journal = Journal(root).of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=A))
    journal.end()
    yield lambda: Journal(root).unended() == []


def answering(root: Path) -> Iterator[Look]:
    """The order that was begun is known before it is done, and its result before it is told."""
    journal = Journal(root).of(CAPTURE)
    journal.record_begun(Step.HOLD, "", '{"order": 1}')
    yield lambda: journal.begun(Step.HOLD, "")
    journal.store_result(Step.HOLD, "", '{"fault": null}')
    yield lambda: Journal(root).of(CAPTURE).result(Step.HOLD, "") == '{"fault": null}'


def claiming(root: Path) -> Iterator[Look]:
    claims = Claims(root)
    if claims.holder(A) is None:
        claims.take(A, CAPTURE)
        yield lambda: Claims(root).holder(A) == CAPTURE
    claims.take(B, OTHER)
    yield lambda: Claims(root).held_by(OTHER) == [B]


def dropping(root: Path) -> Iterator[Look]:
    claims = Claims(root)
    claims.take(A, CAPTURE)
    claims.drop(A, CAPTURE)
    yield lambda: Claims(root).holder(A) is None


def fencing(root: Path) -> Iterator[Look]:
    for epoch in (5, 6):
        with suppress(StaleOrderError):  # the second time a higher one may be there already
            Claims(root).fence(A, epoch)
        yield lambda epoch=epoch: _refuses(root, epoch - 1)  # type: ignore[misc]


def _refuses(root: Path, epoch: int) -> bool:
    try:
        Claims(root).fence(A, epoch)
    except StaleOrderError:
        return True
    return False


def leasing(root: Path) -> Iterator[Look]:
    """No acknowledgement without the lease of every guest on disk."""
    guests = tuple(LeasedGuest(guest_uuid=uuid, hold=HoldKind.FREEZE) for uuid in (A, B))
    LeaseFiles(root).add(StoredLease(capture_id=CAPTURE, guests=guests, deadline_s=1.0, boot_id="b"))
    yield lambda: [[guest.guest_uuid for guest in lease.guests] for lease in LeaseFiles(root).all()] == [[A, B]]


def pacing(root: Path) -> Iterator[Look]:
    Paces(root).remember(A, 7.0)
    yield lambda: Paces(root).expected_ms(A) == 7.0


def beginning(root: Path) -> Iterator[Look]:
    instance.begin(root, instance.CONTROL)
    yield lambda: instance.current(root, instance.CONTROL) != ""


SCENARIOS = [journalling, ending, answering, claiming, dropping, fencing, leasing, pacing, beginning]


def play(
    scenario: Callable[[Path], Iterator[Look]], root: Path, patch: pytest.MonkeyPatch, seed: int, kind: type[Dying]
) -> None:
    for steps in range(STEPS):
        place = root / f"{seed}-{steps}"
        place.mkdir()
        device = Device(place)
        there: list[Look] = []
        lived = False
        patch.setattr(durable, "calls", kind(device, steps))
        with suppress(PowerCut):
            there.extend(scenario(place))
            lived = True
        patch.setattr(durable, "calls", durable.Calls())
        device.cut(Random(seed * STEPS + steps))  # noqa: S311  the same cut again for the same seed
        assert all(look() for look in there), f"lost after {steps} steps"
        if lived:
            return
        assert all(look() for look in scenario(place)), f"not to be done again after {steps} steps"
    pytest.fail("no run came to its end")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_acknowledged_survives_a_power_cut_at_any_step(
    scenario: Callable[[Path], Iterator[Look]], seed: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(scenario, memory_path, monkeypatch, seed, Dying)


class NoFsync(Dying):
    def fsync(self, descriptor: int) -> None:
        """Forget it."""


class NoFolderFsync(Dying):
    def fsync_folder(self, path: Path) -> None:
        """Forget it."""


@pytest.mark.parametrize("kind", [NoFsync, NoFolderFsync])
@pytest.mark.parametrize("scenario", [journalling, answering, claiming, fencing, leasing])
def test_without_an_fsync_the_test_above_would_fail(
    scenario: Callable[[Path], Iterator[Look]],
    kind: type[Dying],
    memory_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def play_all() -> None:
        for seed in range(8):
            play(scenario, memory_path, monkeypatch, seed, kind)

    with pytest.raises(Exception):  # noqa: B017, PT011  lost, or not to be read
        play_all()


@pytest.mark.case("S6")
@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_between_a_claim_and_its_line_leaves_a_claim_that_recovery_finds(
    seed: int, memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step: what is claimed is among the guests that `held_by` names, whatever the journal has of it."""
    for steps in range(STEPS):
        place = memory_path / f"{seed}-{steps}"
        place.mkdir()
        device = Device(place)
        lived = False
        monkeypatch.setattr(durable, "calls", Dying(device, steps))
        with suppress(PowerCut):
            Claims(place).take(A, CAPTURE)
            Journal(place).of(CAPTURE).record(ClaimChange(guest_uuid=A))
            lived = True
        monkeypatch.setattr(durable, "calls", durable.Calls())
        device.cut(Random(seed * STEPS + steps))  # noqa: S311
        claimed, journalled = Claims(place).held_by(CAPTURE), Journal(place).of(CAPTURE).changes()
        assert claimed == [A] or not journalled  # the claim is durable before the line
        if lived:
            return
    pytest.fail("no run came to its end")
