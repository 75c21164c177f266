"""Every name that libvirt accepts works in every verb that takes guests, as text and on the command line (case I5)."""

from __future__ import annotations

import shlex

import pytest
import typer

from freezeframe.cli.capture import guest_holds
from freezeframe.contract.request import CaptureRequest, DiskChoice, HoldChoice
from freezeframe.contract.retention import Selection
from freezeframe.contract.words import HoldKind
from freezeframe.naming import virsh_word
from tests.odd_names import ODD_NAMES
from workers.restore.errors import DeviceUnfitError
from workers.restore.place import places

pytestmark = pytest.mark.case("I5")

UUID = "00000000-0000-4000-8000-00000000000a"
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_request_takes_any_name(name: str) -> None:
    for word in (name, f"{name}@host-a.example"):
        request = CaptureRequest(
            capture_id=CAPTURE,
            guests=(word,),
            skip_disks=(DiskChoice.parse(f"{word}:vdb"),),
            guest_holds=guest_holds([f"{word}:pause"], []),
        )
        assert request.skip_disks[0] == DiskChoice(guest=word, target="vdb")
        assert request.guest_holds == (HoldChoice(guest=word, kind=HoldKind.PAUSE),)
        assert Selection(guests=(word,)).has({word}, None, ())


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\0b"])
def test_a_request_refuses_what_no_guest_is_called(name: str) -> None:
    with pytest.raises(ValueError, match="guests"):
        CaptureRequest(capture_id=CAPTURE, guests=(name,))


@pytest.mark.parametrize("path", ["/srv", "/", "/a:b", "/a:/b", "C:", "D:\\"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_mount_points_are_told_from_names(name: str, path: str) -> None:
    assert guest_holds([], [f"{name}:{path}"]) == (HoldChoice(guest=name, mountpoints=(path,)),)


@pytest.mark.parametrize("text", ["db1", "db1:srv", ":/srv", "a/b:/srv"])
def test_what_is_no_mount_point_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="GUEST:PATH"):
        guest_holds([], [text])


@pytest.mark.parametrize("where", ["/dev/sdx", "/dev/disk/by-id/a:vdc=b", "/dev/mapper/a=b"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_devices_are_told_from_names(name: str, where: str) -> None:
    assert {key: str(place) for key, place in places([f"{name}:vdb={where}"], []).items()} == {(name, "vdb"): where}


@pytest.mark.parametrize("where", ["nbd://host/name", "nbd+unix:///a:vdc=b?socket=/s", "nbds://host:10809"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_exports_are_told_from_names(name: str, where: str) -> None:
    assert {key: str(place) for key, place in places([], [f"{name}:vdb={where}"]).items()} == {(name, "vdb"): where}


@pytest.mark.parametrize("text", ["db1:vdb=sdx", "db1:vdb=", "vdb=/dev/sdx", "db1:VDB=/dev/sdx", "db1/x:vdb=/dev/sdx"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(DeviceUnfitError):
        places([text], [])


@pytest.mark.parametrize("name", ODD_NAMES)
def test_virsh_is_given_a_word_that_means_the_guest(name: str) -> None:
    word = virsh_word(name, UUID)
    assert word in {name, UUID}
    assert shlex.split(word) == [word]
    assert not word.isdigit()


def test_virsh_is_given_a_plain_name_as_it_is() -> None:
    assert [virsh_word(name, UUID) for name in ("db1", "-rf", ".x", "a.b-c_1")] == ["db1", UUID, UUID, "a.b-c_1"]
