"""The journal, the claims and the fence: durable, idempotent, and unmoved by a crash in the middle of a line."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from freezeframe.contract.words import HoldKind, Step
from workers import durable
from workers.changes import read_lines
from workers.claims import Claims, GuestClaimedError, StaleOrderError
from workers.journal import (
    KEPT,
    AnyChange,
    BackupChange,
    CaptureJournal,
    ClaimChange,
    HoldChange,
    Journal,
    JournalUnreadableError,
    LetGoChange,
    Record,
    ScratchChange,
)

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "01KBBBBBBBBBBBBBBBBBBBBBBB"
GUEST = "00000000-0000-4000-8000-00000000000a"
SECOND = "00000000-0000-4000-8000-00000000000b"


def test_changes_come_back_in_order(tmp_path: Path) -> None:
    changes: list[AnyChange] = [
        ClaimChange(guest_uuid=GUEST),
        ScratchChange(guest_uuid=GUEST, path=Path("/scratch/file")),
        BackupChange(guest_uuid=GUEST, socket=Path("/run/s"), checkpoint="c", repository_id="r"),
        HoldChange(guest_uuid=GUEST, hold=HoldKind.FREEZE),
        LetGoChange(guest_uuid=GUEST),
    ]
    for change in changes:
        Journal(tmp_path).of(CAPTURE).record(change)
    assert Journal(tmp_path).of(CAPTURE).changes() == changes


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=GUEST))
    with (tmp_path / "captures" / CAPTURE / GUEST / "changes").open("a") as file:
        file.write('{"change":"scratch","guest_uu')
    assert journal.changes() == [ClaimChange(guest_uuid=GUEST)]


def test_a_line_after_one_that_was_cut_off_is_not_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    with_half = tmp_path / "captures" / CAPTURE / GUEST
    with_half.mkdir(parents=True)
    (with_half / "changes").write_text('{"change":"scratch","guest_uu')
    journal.record(ClaimChange(guest_uuid=GUEST))
    assert journal.changes() == [ClaimChange(guest_uuid=GUEST)]


def test_what_has_not_ended_is_listed_until_it_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=GUEST))
    assert [one.capture_id for one in Journal(tmp_path).unended()] == [CAPTURE]
    journal.end()
    assert Journal(tmp_path).unended() == []


def test_a_result_is_kept_by_step_and_part(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.store_result(Step.TRANSFER, f"{GUEST}.vda", "{}")
    assert journal.result(Step.TRANSFER, f"{GUEST}.vda") == "{}"
    assert journal.result(Step.TRANSFER, f"{GUEST}.vdb") is None
    assert journal.result(Step.HOLD, "") is None


def test_a_guest_is_in_one_hand_at_a_time(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.take(GUEST, CAPTURE)
    claims.take(GUEST, CAPTURE)
    with pytest.raises(GuestClaimedError, match=CAPTURE):
        claims.take(GUEST, OTHER)
    claims.drop(GUEST, OTHER)
    assert claims.holder(GUEST) == CAPTURE
    claims.drop(GUEST, CAPTURE)
    claims.take(GUEST, OTHER)
    assert claims.holder(GUEST) == OTHER


def test_an_order_from_the_past_is_refused_for_that_guest_only(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.fence(GUEST, 7)
    claims.fence(GUEST, 7)
    with pytest.raises(StaleOrderError):
        Claims(tmp_path).fence(GUEST, 6)
    Claims(tmp_path).fence(GUEST.replace("a", "b"), 6)


def test_each_guest_has_a_journal_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.record(ClaimChange(guest_uuid=GUEST))
    (tmp_path / "captures" / CAPTURE / GUEST / "changes").write_text("damaged\n")
    journal.record(ClaimChange(guest_uuid=SECOND))
    assert journal.guests() == [GUEST, SECOND]
    assert journal.guest(SECOND).read() == Record((ClaimChange(guest_uuid=SECOND),))
    assert journal.guest(GUEST).read().changes == ()
    with pytest.raises(JournalUnreadableError, match=GUEST):
        journal.changes()


def test_what_cannot_be_read_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.of(CAPTURE).end()

    def unreadable(_: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "exists", unreadable)
    assert [one.capture_id for one in journal.unended()] == [CAPTURE]


def ended_captures(tmp_path: Path, number: int) -> Journal:
    for one in range(number):
        Journal(tmp_path).of(f"01KA{one:022}").end()
    return Journal(tmp_path)


def test_the_oldest_ended_journals_are_forgotten_and_no_other(tmp_path: Path) -> None:
    journal = ended_captures(tmp_path, KEPT + 3)
    journal.of(CAPTURE).record(ClaimChange(guest_uuid=GUEST))
    journal.prune()
    assert [one.capture_id for one in journal.unended()] == [CAPTURE]
    assert next(one.capture_id for one in journal.all() if one.ended) == f"01KA{3:022}"


def test_prunes_side_by_side_do_not_fail(tmp_path: Path) -> None:
    ended_captures(tmp_path, KEPT + 40)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(Journal(tmp_path).prune) for _ in range(8)]:
            future.result()
    Journal(tmp_path).prune()
    assert len(Journal(tmp_path).all()) == KEPT


def test_half_of_a_pruned_journal_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker is killed while it removes one: `ended` may be gone, and the rest is no capture to recover."""

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    journal = ended_captures(tmp_path, KEPT + 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            journal.prune()
    assert journal.unended() == []
    journal.prune()
    assert list((tmp_path / "removed").iterdir()) == []
    assert len(list((tmp_path / "captures").iterdir())) == KEPT


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.record(ClaimChange(guest_uuid=GUEST)),
        lambda journal: journal.store_result(Step.HOLD, "", "{}"),
        lambda journal: journal.record_begun(Step.HOLD, "", "{}"),
        lambda journal: journal.end(),
    ],
    ids=["a change", "a result", "an order", "the end"],
)
def test_the_journal_is_readable_to_its_owner_only(tmp_path: Path, write: Callable[[CaptureJournal], None]) -> None:
    write(Journal(tmp_path).of(CAPTURE))
    folders = [path for path in (tmp_path / "captures").rglob("*") if path.is_dir()]
    assert folders
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_only_results_are_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    journal.store_result(Step.HOLD, "", "held")
    journal.store_result(Step.TRANSFER, f"{GUEST}.vda", "read")
    (tmp_path / "captures" / CAPTURE / "results" / "hold.json~").write_text("of an editor")
    told = [("hold", "", "held"), ("transfer", f"{GUEST}.vda", "read")]
    assert journal.results() == told
    real = durable.read

    def late(path: Path) -> str | None:
        if path.name == "hold.json":
            path.unlink()
        return real(path)

    monkeypatch.setattr(durable, "read", late)
    assert journal.results() == told[1:]


def test_an_order_is_unanswered_until_its_result_is_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    for part in ("", "round1"):
        journal.record_begun(Step.PREPARE, part, "{}")
    journal.record_begun(Step.HOLD, "", "{}")
    journal.store_result(Step.PREPARE, "", "{}")
    assert [path.name for path in journal.unanswered(Step.PREPARE)] == ["prepare.round1.json"]
    assert [path.name for path in journal.unanswered(Step.HOLD)] == ["hold.json"]


def test_transfers_of_several_disks_are_at_work_side_by_side_and_each_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    with (
        journal.lock(Step.TRANSFER, f"{GUEST}.vda"),
        journal.lock(Step.TRANSFER, f"{GUEST}.vdb", wait=False),
        pytest.raises(BlockingIOError),
        journal.lock(Step.TRANSFER, f"{GUEST}.vda", wait=False),
    ):
        pytest.fail("two at work on one disk")


def waits(enter: Callable[[], AbstractContextManager[None]], leave: Callable[[], object]) -> None:
    """Assert that the block is entered when another is left, and not before."""
    entered = threading.Event()

    def enter_it() -> None:
        with enter():
            entered.set()

    thread = threading.Thread(target=enter_it, daemon=True)
    thread.start()
    assert not entered.wait(0.1)
    assert thread.is_alive()
    leave()
    entered.wait()
    thread.join()


@pytest.mark.parametrize("patience_s", [None, 600.0])
def test_a_second_delivery_waits_for_the_first(tmp_path: Path, patience_s: float | None) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    with ExitStack() as first:
        first.enter_context(journal.lock(Step.HOLD, ""))
        waits(lambda: journal.lock(Step.HOLD, "", patience_s=patience_s), first.close)


@pytest.mark.parametrize("step", [Step.PREPARE, Step.HOLD, Step.RELEASE])
def test_recovery_waits_for_a_step_as_long_as_it_is_told(tmp_path: Path, step: Step) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    with ExitStack() as first:
        first.enter_context(journal.lock(step, ""))
        with pytest.raises(BlockingIOError), journal.at_rest():
            pytest.fail("a step is at work")
        waits(lambda: journal.at_rest(600.0), first.close)


def test_a_release_is_at_rest_with_itself_and_keeps_the_other_steps_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    with journal.lock(Step.RELEASE, ""), journal.at_rest(releasing=True):
        for step in (Step.PREPARE, Step.HOLD):
            with pytest.raises(BlockingIOError), journal.lock(step, "", wait=False):
                pytest.fail("a step began")


@pytest.mark.case("S5")
def test_the_journal_of_the_version_before_is_each_guest_s_own_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path).of(CAPTURE)
    older = tmp_path / "captures" / CAPTURE / "changes"
    older.parent.mkdir()
    for change in (HoldChange(guest_uuid=GUEST, hold=HoldKind.PAUSE), ClaimChange(guest_uuid=SECOND)):
        with older.open("a") as file:
            file.write(f"{change.model_dump_json()}\n")
    assert journal.guests() == [GUEST, SECOND]
    assert journal.guest(GUEST).changes() == (HoldChange(guest_uuid=GUEST, hold=HoldKind.PAUSE),)
    assert journal.guest(SECOND).changes() == (ClaimChange(guest_uuid=SECOND),)


@pytest.mark.case("S5")
@pytest.mark.parametrize("unreadable", ["older", "own"])
def test_of_two_files_of_which_one_cannot_be_read_the_other_is_read_once(tmp_path: Path, unreadable: str) -> None:
    capture = tmp_path / "captures" / CAPTURE
    journal = Journal(tmp_path).of(CAPTURE)
    (capture / GUEST).mkdir(parents=True)
    paths = {"older": capture / "changes", "own": capture / GUEST / "changes"}
    for name, path in paths.items():
        if name == unreadable:
            path.mkdir()
        else:
            path.write_text(f"{ClaimChange(guest_uuid=GUEST).model_dump_json()}\n")
    record = journal.guest(GUEST).read()
    assert record.changes == (ClaimChange(guest_uuid=GUEST),)
    assert record.trouble == f"{paths[unreadable]} cannot be read: Is a directory"


def test_what_is_no_capture_among_the_journals_is_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.of(CAPTURE).end()
    for name in ("lost+found", ".Trash", f"{CAPTURE}.bak"):
        (tmp_path / "captures" / name).mkdir()
    assert [one.capture_id for one in journal.all()] == [CAPTURE]
    assert journal.unended() == []
    journal.prune()
    assert len(list((tmp_path / "captures").iterdir())) == 4


LINE = ClaimChange(guest_uuid=GUEST).model_dump_json()


@pytest.mark.case("S5")
def test_a_whole_line_whose_newline_was_lost_is_a_change(tmp_path: Path) -> None:
    """Its newline comes last, and the line was durable before the change was made."""
    assert read_lines(LINE) == ([ClaimChange(guest_uuid=GUEST)], None)
    assert read_lines(f"\n{LINE}\n\n{LINE}") == ([ClaimChange(guest_uuid=GUEST)] * 2, None)
    assert read_lines(f"{LINE}\n{LINE[:-5]}") == ([ClaimChange(guest_uuid=GUEST)], None)


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (LINE.replace('"v":2', '"v":4'), "a newer version of freezeframe wrote it (format 4)"),
        (LINE.replace('"v":2', '"v":99'), "a newer version of freezeframe wrote it (format 99)"),
        (LINE.replace('"v":2', '"v":2,"colour":1'), "claim.colour: Extra inputs are not permitted"),
        (LINE.replace('"v":2', '"v":3'), "claim.v: Input should be 1 or 2"),  # of this version, and not of a claim
        (LINE.replace('"v":2', '"v":0'), "claim.v: Input should be 1 or 2"),
        (LINE.replace('"v":2', '"v":"2"'), "claim.v: Input should be 1 or 2"),
        ("[2]", "Input should be"),
        (LINE[:-5], "it is damaged"),
    ],
)
def test_why_a_line_is_not_understood_is_told(line: str, why: str) -> None:
    changes, trouble = read_lines(f"{LINE}\n{line}\n{LINE}\n{LINE[:-9]}\n")
    assert changes == [ClaimChange(guest_uuid=GUEST)] * 2
    assert trouble is not None
    assert trouble.startswith("line 2 is not understood: ")  # the first of two
    assert why in trouble
    assert ("newer" in trouble, "damaged" in trouble) == ("newer" in why, "damaged" in why)
