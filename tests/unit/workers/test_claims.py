"""Claims that cannot be read: their guest is refused, and counts as held wherever room or a backup hangs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workers import durable
from workers.claims import Claims, ClaimUnreadableError

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
