"""Claims that cannot be read: their guest is refused, and counts as held wherever room or a backup hangs on it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from freezeframe.contract.epoch import MOST_SEEN
from workers import durable
from workers.claims import AHEAD_S, Claims, ClaimUnreadableError, StaleOrderError

pytestmark = pytest.mark.case("S5")

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "01KBBBBBBBBBBBBBBBBBBBBBBB"
GUEST = "00000000-0000-4000-8000-00000000000a"


def damaged(path: Path) -> None:
    path.write_text('{"v": 1, "capt')


def of_another_kind(path: Path) -> None:
    path.write_text("[7]")


def no_file(path: Path) -> None:
    """As a disk's error shows: the file is there, and reading it fails."""
    path.mkdir()


UNREADABLE = pytest.mark.parametrize("write", [damaged, of_another_kind, no_file])


@UNREADABLE
def test_a_claim_that_cannot_be_read_may_be_anybodys(tmp_path: Path, write: Callable[[Path], None]) -> None:
    claims = Claims(tmp_path)
    write(tmp_path / "claims" / GUEST)
    for capture_id in (CAPTURE, OTHER):
        assert claims.may_be_held(GUEST, capture_id)
        with pytest.raises(ClaimUnreadableError, match=GUEST):
            claims.take(GUEST, capture_id)
        with pytest.raises(ClaimUnreadableError, match=GUEST):
            claims.drop(GUEST, capture_id)
    assert (tmp_path / "claims" / GUEST).exists()
    captures, unreadable = claims.held()
    assert (captures, list(unreadable)) == ({}, [GUEST])


def test_a_claim_that_can_be_read_is_one_captures(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert not claims.may_be_held(GUEST, CAPTURE)
    claims.take(GUEST, CAPTURE)
    assert claims.may_be_held(GUEST, CAPTURE)
    assert not claims.may_be_held(GUEST, OTHER)


def without_an_epoch(path: Path) -> None:
    path.write_text('{"v": 2, "generation": 7}')


def with_a_word(path: Path) -> None:
    path.write_text('{"v": 1, "epoch": "seven"}')


def with_a_truth(path: Path) -> None:
    path.write_text('{"v": 1, "epoch": true}')


@pytest.mark.parametrize("write", [damaged, of_another_kind, no_file, without_an_epoch, with_a_word, with_a_truth])
def test_an_epoch_that_cannot_be_read_lets_no_order_through_and_stays(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """Taken for absent, or for a low one, it would let an order from the past through."""
    claims = Claims(tmp_path)
    path = tmp_path / "epochs" / GUEST
    write(path)
    before = path.is_dir() or path.read_text()
    for epoch in (0, 1, 1 << 40):
        with pytest.raises(ClaimUnreadableError, match=GUEST):
            claims.fence(GUEST, epoch)
    assert (path.is_dir() or path.read_text()) == before


def test_an_epoch_is_on_disk_when_it_is_higher_and_is_not_written_again_when_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "epochs" / GUEST
    Claims(tmp_path).fence(GUEST, 7)
    inode = path.stat().st_ino
    Claims(tmp_path).fence(GUEST, 7)
    assert path.stat().st_ino == inode
    Claims(tmp_path).fence(GUEST, 8)
    assert '"epoch": 8' in path.read_text()


def test_a_file_that_is_being_written_is_no_claim(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claims.take(GUEST, CAPTURE)
    (tmp_path / "claims" / ".new-1").write_text("half")
    assert claims.held() == ({CAPTURE: [GUEST]}, {})


def test_a_claim_that_is_dropped_while_they_are_listed_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = Claims(tmp_path)
    claims.take(GUEST, CAPTURE)
    really = durable.read

    def late(path: Path) -> str | None:
        path.unlink()
        return really(path)

    monkeypatch.setattr(durable, "read", late)
    assert claims.held() == ({}, {})


THIRD = "00000000-0000-4000-8000-00000000000c"


def set_epoch(tmp_path: Path, guest_uuid: str, epoch: object) -> Path:
    path = tmp_path / "epochs" / guest_uuid
    path.write_text(json.dumps({"v": 1, "epoch": epoch}))
    return path


@pytest.mark.case("S7")
def test_the_highest_epoch_is_that_of_any_guest(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    assert claims.highest_epoch() == 0
    claims.fence(GUEST, 9)
    claims.fence(THIRD, 7)
    assert claims.highest_epoch() == 9
    claims.fence(THIRD, 11)
    assert claims.highest_epoch() == 11


@pytest.mark.case("S7")
@pytest.mark.parametrize("write", [damaged, of_another_kind, no_file, without_an_epoch])
def test_an_epoch_that_cannot_be_read_hides_no_other(tmp_path: Path, write: Callable[[Path], None]) -> None:
    claims = Claims(tmp_path)
    write(tmp_path / "epochs" / GUEST)
    claims.fence(THIRD, 7)
    (tmp_path / "epochs" / ".new-left").write_text(json.dumps({"v": 1, "epoch": 99}))  # by a crash
    assert claims.highest_epoch() == 7


@pytest.mark.case("S7")
@UNREADABLE
def test_an_epoch_that_cannot_be_read_counts_as_none_seen_if_it_is_the_only_one(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    claims = Claims(tmp_path)
    write(tmp_path / "epochs" / GUEST)
    assert claims.highest_epoch() == 0


@pytest.mark.case("S7")
def test_an_epoch_that_no_capture_can_have_is_not_gone_above(tmp_path: Path) -> None:
    """One digit too many would be handed on to every other host. The guest's own orders are refused, with the file."""
    claims = Claims(tmp_path)
    claims.fence(THIRD, MOST_SEEN)
    path = set_epoch(tmp_path, GUEST, MOST_SEEN + 1)
    assert claims.highest_epoch() == MOST_SEEN
    with pytest.raises(StaleOrderError, match="No capture can have that one") as caught:
        claims.fence(GUEST, MOST_SEEN)
    assert Path(shlex.split(caught.value.hint)[-1]) == path
    path.rename(tmp_path / "elsewhere")  # as advised
    claims.fence(GUEST, MOST_SEEN)


@pytest.mark.case("S7")
def test_an_epoch_ahead_of_the_clock_is_no_newer_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(tmp_path)
    monkeypatch.setattr("workers.claims.time", SimpleNamespace(time=lambda: 1000.0))
    claims.fence(GUEST, 4_600_000_000)
    with pytest.raises(StaleOrderError, match=r"3600 s ahead of the clock") as caught:
        claims.fence(GUEST, 1_000_000_000)
    assert "newer capture" not in caught.value.hint
    assert "capture again" in caught.value.hint


@pytest.mark.case("S7")
@pytest.mark.parametrize("seen", [999_000_000, int((1000 + AHEAD_S) * 1e6)])
def test_an_order_from_the_past_is_refused_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    claims = Claims(tmp_path)
    monkeypatch.setattr("workers.claims.time", SimpleNamespace(time=lambda: 1000.0))
    claims.fence(GUEST, seen)
    with pytest.raises(StaleOrderError, match=rf"epoch {seen - 1}, and epoch {seen} has had the guest\.$") as caught:
        claims.fence(GUEST, seen - 1)
    assert "A newer capture has had this guest since" in caught.value.hint


@pytest.mark.case("S7")
def test_the_highest_epoch_that_a_capture_can_have_is_told_as_one(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    for seen, is_possible in ((MOST_SEEN, True), (MOST_SEEN + 1, False)):
        set_epoch(tmp_path, GUEST, seen)
        with pytest.raises(StaleOrderError) as raised:
            claims.fence(GUEST, 7)
        assert ("No capture can have that one" not in raised.value.message) == is_possible
