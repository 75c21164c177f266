"""Which files a restore makes: never one outside the directory, never one twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.words import CaptureKind
from freezeframe.repository import DiskCapture, GuestCapture, Manifest
from tests.odd_names import ODD_NAMES
from workers.restore.errors import (
    AmbiguousGuestError,
    DeviceUnfitError,
    NotInCaptureError,
    RestoreError,
    UnsafeNameError,
)
from workers.restore.image import ImageFormat
from workers.restore.place import places
from workers.restore.plan import plan

from .samples import ALPHA, BETA, CAPTURE, guest_capture, manifest_of

TO = Path("/to")
DISK = DiskCapture(
    target="vda",
    source="/images/disk.qcow2",
    source_format="qcow2",
    size_bytes=512,
    chunk_bytes=4096,
    kind=CaptureKind.FULL,
    index="0" * 64,
    bytes_read=512,
    bytes_stored=512,
    chunks_new=1,
    chunks_known=0,
)


def disk(target: str) -> DiskCapture:
    return DISK.model_copy(update={"target": target})


def guest(name: str, uuid: str, *targets: str) -> GuestCapture:
    """Unchecked, as from a manifest that somebody else's program wrote."""
    return guest_capture().model_copy(
        update={"name": name, "guest_uuid": uuid, "disks": tuple(disk(target) for target in targets)}
    )


def paths(manifest: Manifest, guests: list[str] | None = None, disks: list[str] | None = None) -> list[str]:
    return [str(path) for part in plan(manifest, TO, ImageFormat.RAW, guests, disks) for path in part.paths]


TWO = manifest_of(guest("alpha", ALPHA, "vda", "vdb"), guest("beta", BETA, "vda"))


def test_everything_is_restored_unless_told_otherwise() -> None:
    assert paths(TWO) == [
        "/to/alpha-vda.raw",
        "/to/alpha-vdb.raw",
        "/to/alpha.xml",
        "/to/beta-vda.raw",
        "/to/beta.xml",
    ]


def test_guests_are_picked_by_name_or_uuid_and_disks_by_target() -> None:
    assert paths(TWO, guests=["beta"]) == ["/to/beta-vda.raw", "/to/beta.xml"]
    assert paths(TWO, guests=[ALPHA], disks=["vdb"]) == ["/to/alpha-vdb.raw", "/to/alpha.xml"]
    assert paths(TWO, disks=["vdb"]) == ["/to/alpha-vdb.raw", "/to/alpha.xml"]


@pytest.mark.parametrize(("guests", "disks"), [(["gamma"], None), (["beta"], ["vdb"]), (None, ["vda", "vdz"])])
def test_what_the_capture_does_not_have_is_an_error(guests: list[str] | None, disks: list[str] | None) -> None:
    with pytest.raises(NotInCaptureError):
        paths(TWO, guests, disks)


def test_guests_of_one_name_are_told_apart_by_uuid() -> None:
    both = manifest_of(guest("alpha", ALPHA, "vda"), guest("alpha", BETA, "vda"))
    assert paths(both) == [
        f"/to/alpha-{ALPHA}-vda.raw",
        f"/to/alpha-{ALPHA}.xml",
        f"/to/alpha-{BETA}-vda.raw",
        f"/to/alpha-{BETA}.xml",
    ]


def test_two_files_of_one_name_are_refused() -> None:
    sly = manifest_of(guest("a", ALPHA, "vda"), guest("a", BETA, "vda"), guest(f"a-{BETA}", CAPTURE, "vda"))
    with pytest.raises(UnsafeNameError):
        paths(sly)


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.d/x", "/etc/x", "a/b", "", "a\nb", "a\0b", "a\x1b[2J"],
)
def test_names_that_no_guest_can_have_are_refused(name: str) -> None:
    with pytest.raises(UnsafeNameError):
        paths(manifest_of(guest(name, ALPHA, "vda")))


@pytest.mark.case("I5")
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("..", "_.-"),
        (".", "_-"),
        (".hidden", "_hidden-"),
        ("-rf", "_rf-"),
        ("a\tb", "a_b-"),
        ("x" * 250, "x" * 163 + "-"),
        ("ü" * 120, "ü" * 81 + "-"),
    ],
)
def test_names_that_would_hide_mislead_or_be_too_long_are_told_by_uuid(name: str, stem: str) -> None:
    made = paths(manifest_of(guest(name, ALPHA, "vda")))
    assert made == [f"/to/{stem}{ALPHA}-vda.raw", f"/to/{stem}{ALPHA}.xml"]


@pytest.mark.case("I5")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_other_name_is_the_files_own(name: str) -> None:
    assert paths(manifest_of(guest(name, ALPHA, "vda"))) == [f"/to/{name}-vda.raw", f"/to/{name}.xml"]


@pytest.mark.case("I5")
def test_a_uuid_means_that_guest_although_another_has_it_for_a_name() -> None:
    both = manifest_of(guest(BETA, ALPHA, "vda"), guest("beta", BETA, "vda"))
    assert paths(both, guests=[BETA]) == ["/to/beta-vda.raw", "/to/beta.xml"]


@pytest.mark.case("I5", "I6")
@pytest.mark.parametrize("name", [*ODD_NAMES, "web"])
def test_a_name_that_two_guests_have_is_refused_and_each_uuid_is_the_way_out(name: str) -> None:
    other = guest(name, BETA, "vda").model_copy(update={"host_id": "host-b.example"})
    both = manifest_of(guest(name, ALPHA, "vda"), other, guest("beta", CAPTURE, "vda"))
    for wanted in ([name], ["beta", name], [ALPHA, name]):
        with pytest.raises(AmbiguousGuestError) as refused:
            paths(both, guests=wanted)
        for word in (name, f"{ALPHA} of host host-a.example", f"{BETA} of host host-b.example"):
            assert word in refused.value.message
        ways = re.findall(r"--guest (\S+?)[ ,.]", refused.value.hint)
        assert ways == [ALPHA, BETA]
        assert [paths(both, guests=[way])[-1] for way in ways] == [f"/to/{made}.xml" for made in stems(name)]
        assert len(paths(both, guests=ways)) == 4
    assert paths(both, guests=["beta"]) == ["/to/beta-vda.raw", "/to/beta.xml"]


def stems(name: str) -> list[str]:
    """How files of two guests of this name begin."""
    shown = re.sub(r"[\x00-\x1f\x7f-\x9f]|^[.-]", "_", name)
    return [f"{shown}-{ALPHA}", f"{shown}-{BETA}"]


@pytest.mark.parametrize("target", ["../x", "vda/../../x", "", "VDA", "vda\n"])
def test_targets_that_would_escape_are_refused(target: str) -> None:
    with pytest.raises(UnsafeNameError):
        paths(manifest_of(guest("alpha", ALPHA, target)))


@given(st.text(), st.text())
def test_no_name_leaves_the_directory(name: str, target: str) -> None:
    try:
        made = paths(manifest_of(guest(name, ALPHA, target)))
    except RestoreError:
        return
    assert all(Path(path).parent == TO for path in made)


def going(manifest: Manifest, *named: str, guests: list[str] | None = None) -> dict[str, list[str]]:
    """Where each guest's disks go, by UUID, with these `--to-device`."""
    parts = plan(manifest, TO, ImageFormat.RAW, guests, places=places(named, []))
    return {part.guest.guest_uuid: [str(disk.place or disk.path) for disk in part.disks] for part in parts}


@pytest.mark.case("I5")
@pytest.mark.parametrize("word", [ALPHA, ALPHA.upper()])
def test_a_place_by_uuid_is_that_guests_although_another_has_it_for_a_name(word: str) -> None:
    both = manifest_of(guest(ALPHA, BETA, "vda"), guest("alpha", ALPHA, "vda"))
    assert going(both, f"{word}:vda=/dev/a") == {BETA: [f"/to/{ALPHA}-vda.raw"], ALPHA: ["/dev/a"]}


@pytest.mark.case("I5")
def test_a_place_for_a_guest_that_is_not_restored_is_not_its_namesakes() -> None:
    both = manifest_of(guest(ALPHA, BETA, "vda"), guest("alpha", ALPHA, "vda"))
    with pytest.raises(NotInCaptureError, match=ALPHA):
        going(both, f"{ALPHA}:vda=/dev/a", guests=[BETA])


@pytest.mark.case("I5")
def test_a_place_by_a_name_that_two_guests_have_is_refused_and_both_uuids_are_the_way_out() -> None:
    both = manifest_of(guest("web", ALPHA, "vda"), guest("web", BETA, "vda"))
    with pytest.raises(AmbiguousGuestError) as refused:
        going(both, "web:vda=/dev/a")
    assert f"{ALPHA} of host host-a.example" in refused.value.message
    assert f"{ALPHA}:vda=" in refused.value.hint
    assert f"{BETA}:vda=" in refused.value.hint
    assert going(both, "web:vda=/dev/a", guests=[BETA]) == {BETA: ["/dev/a"]}
    both_named = going(both, f"{ALPHA}:vda=/dev/a", f"{BETA}:vda=/dev/b")
    assert both_named == {ALPHA: ["/dev/a"], BETA: ["/dev/b"]}


@pytest.mark.case("I5")
def test_a_disk_with_two_places_is_refused_however_its_guest_is_called() -> None:
    with pytest.raises(DeviceUnfitError, match="two places"):
        going(TWO, "alpha:vda=/dev/a", f"{ALPHA}:vda=/dev/b")
