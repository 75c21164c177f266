"""Which passphrases of scratch files libvirt has lost: a guest is told as such only for one of its own that is gone."""

from __future__ import annotations

import pytest

from freezeframe.contract.result import PreparedDisk
from freezeframe.contract.words import CaptureKind
from workers.host import Host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.fake_guest import FakeGuest
from workers.scratch import files
from workers.scratch.errors import PassphraseLostError
from workers.scratch.files import check_passphrases

pytestmark = pytest.mark.case("P3")

KEPT, LOST = (f"00000000-0000-4000-8000-0000000000{digits}" for digits in ("01", "02"))


def disk(target: str, secret: str | None) -> PreparedDisk:
    return PreparedDisk(
        target=target,
        source="/a",
        source_format="qcow2",
        size_bytes=1,
        kind=CaptureKind.FULL,
        scratch_secret=secret,
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passphrases that libvirt was asked for; it has KEPT alone."""
    seen: list[str] = []

    def has(_: Hypervisor, secret_id: str) -> bool:
        seen.append(secret_id)
        return secret_id == KEPT

    monkeypatch.setattr(Hypervisor, "has_secret", has)
    return seen


def test_a_guest_whose_passphrases_are_there_is_no_trouble(host: Host, asked: list[str]) -> None:
    check_passphrases(host, Domain(FakeGuest("")), [disk("vda", None), disk("vdb", KEPT)])
    assert asked == [KEPT]


def test_a_lost_passphrase_is_told_with_its_disk_and_no_other(host: Host, asked: list[str]) -> None:
    with pytest.raises(PassphraseLostError, match="disk vdc:"):
        check_passphrases(host, Domain(FakeGuest("")), [disk("vda", None), disk("vdb", KEPT), disk("vdc", LOST)])


def test_a_passphrase_that_libvirt_has_is_not_given_again(
    host: Host, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the process that made it could; another one would make the file anew."""
    given: list[str] = []

    def again(_: Hypervisor, secret_id: str) -> bool:
        given.append(secret_id)
        return False

    monkeypatch.setattr(Hypervisor, "keep_again", again)
    domain = Domain(FakeGuest(""))
    assert [files._is_kept(host, domain, "vda", one) for one in (KEPT, LOST)] == [True, False]
    assert given == [LOST]
