"""An ordinary guest's swap and boot areas do not cost it its label, where the guest says what they are (P1)."""

from __future__ import annotations

import json
from collections.abc import Callable

import libvirt_qemu
import pytest

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.words import HoldKind
from workers.fitness import exemption
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.fake_guest import FakeGuest, disk_xml, domain_xml, libvirt_error
from workers.hypervisor.guest_file import FILE_COMMANDS, read_guest_file
from workers.steps.stillness import MOST_DEVICES, stillness_of

pytestmark = pytest.mark.case("P1")

SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/vda5                               partition\t998396\t\t0\t\t-2
/dev/dm-1                               partition\t998396\t\t0\t\t-3
/swapfile                               file\t\t524284\t\t0\t\t-4
"""
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
EFI = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


def entry(kind: str, content: str = "") -> str:
    """Return a partition's entry in udev's database."""
    more = f"E:ID_FS_TYPE={content}\n" if content else ""
    return f"S:disk/by-path/x\nI:123\nE:ID_PART_ENTRY_SCHEME=gpt\nE:ID_PART_ENTRY_TYPE={kind}\n{more}G:systemd\nV:1\n"


@pytest.mark.parametrize("kind", [BIOS_BOOT, BIOS_BOOT.upper(), EFI, "0x5", "0xf", "0x85", "0x41", "0xef"])
def test_a_partition_of_such_a_type_needs_no_freeze(kind: str) -> None:
    assert exemption.is_exempt(entry(kind))


@pytest.mark.parametrize(
    "text",
    [
        entry(LINUX),
        entry("0x83"),
        entry("0x82"),  # made for swap, and not in use as such: then /proc/swaps would say so
        entry(BIOS_BOOT, "zfs_member"),
        entry(EFI, "ext4"),
        entry("0x5", "LVM2_member"),
        "",
        "E:ID_PART_ENTRY_TYPE=\n",
        f"ID_PART_ENTRY_TYPE={BIOS_BOOT}\n",
        f"S:x=E:ID_PART_ENTRY_TYPE={BIOS_BOOT}\n",
    ],
)
def test_any_other_partition_may_hold_data(text: str) -> None:
    assert not exemption.is_exempt(text)


def test_an_efi_system_partition_that_is_not_mounted_needs_no_freeze() -> None:
    assert exemption.is_exempt(entry(EFI, "vfat"))


@pytest.mark.parametrize("content", ["iso9660", "squashfs"])
def test_a_file_system_that_nothing_writes_to_needs_no_freeze_and_need_not_be_mounted(content: str) -> None:
    """As the disk with a cloud guest's first configuration."""
    assert exemption.is_exempt(f"E:ID_FS_TYPE={content}\n")
    assert exemption.is_exempt(entry(LINUX, content))


def test_swap_in_use_is_known_by_its_device() -> None:
    names = {"/dev/vda5", "/dev/dm-1", "/dev/vda2", "/swapfile"}
    assert exemption.swaps_in_use(SWAPS, names) == {"/dev/vda5", "/dev/dm-1"}
    for text in (
        "",
        "Filename",
        "Filename\n/dev/vda5",
        "/dev/vda5 partition 1 0 -2",
        SWAPS.replace("partition", "file"),
    ):
        assert exemption.swaps_in_use(text, names) == frozenset()


@pytest.mark.parametrize(
    ("uevent", "place"),
    [
        ("MAJOR=254\nMINOR=14\nDEVNAME=vda14\nDEVTYPE=partition\n", "/run/udev/data/b254:14"),
        ("MAJOR=254\n", None),
        ("MAJOR=../../x\nMINOR=1", None),
        ("", None),
    ],
)
def test_the_place_of_udev_s_entry_is_made_of_numbers_only(uevent: str, place: str | None) -> None:
    assert exemption.udev_entry(uevent) == place


def device(name: str, number: int, text: str) -> dict[str, str]:
    return {
        f"/sys/class/block/{name}/uevent": f"MAJOR=254\nMINOR={number}\nDEVNAME={name}\n",
        f"/run/udev/data/b254:{number}": text,
    }


def guest(loose: list[str], files: dict[str, str], mounted: str = "vda1") -> FakeGuest:
    made = FakeGuest(
        domain_xml(disk_xml("vda", "/a")), filesystems=[["/", mounted, "ext4", ["vda"]]], loose=loose, files=files
    )
    made.commands.update(dict.fromkeys(FILE_COMMANDS, True))
    return made


Decide = Callable[[FakeGuest], dict[str, str]]


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Decide:
    """Return the disks of a guest that a freeze leaves moving, with the reasons."""

    def ask(handle: FakeGuest, command: str, timeout_s: int, flags: int) -> str:
        assert flags == 0
        return handle.agent_command(command, timeout_s)

    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", ask)

    def attempt(one: FakeGuest) -> dict[str, str]:
        domain = Domain(one)
        found = stillness_of(domain, GuestHold(kind=HoldKind.FREEZE), domain.disks(), one.commands, 5)
        assert one.open_files == {}
        return {disk.target: disk.reason for disk in found.moving}

    return attempt


@pytest.mark.parametrize(
    ("loose", "files"),
    [
        (
            ["vda2", "vda5"],
            {"/proc/swaps": SWAPS, **device("vda2", 2, entry("0x5"))},
        ),  # as Debian's installer makes them
        (["vda14", "vda15"], device("vda14", 14, entry(BIOS_BOOT)) | device("vda15", 15, entry(EFI, "vfat"))),
    ],
)
def test_an_ordinary_guest_is_still(decide: Decide, loose: list[str], files: dict[str, str]) -> None:
    assert decide(guest(loose, files)) == {}


def test_of_what_the_guest_does_not_tell_its_disk_is_moving(decide: Decide) -> None:
    files = {"/proc/swaps": SWAPS, **device("vda2", 2, entry("0x5")), **device("vda6", 6, entry("0x83", "zfs_member"))}
    (reason,) = decide(guest(["vda2", "vda5", "vda6"], files)).values()
    assert "/dev/vda6 " in reason
    assert "vda5" not in reason


def test_a_disk_that_has_nothing_but_swap_is_still(decide: Decide) -> None:
    one = guest([], {"/proc/swaps": SWAPS.replace("vda5", "vdb")})
    one.live_xml = domain_xml(disk_xml("vda", "/a"), disk_xml("vdb", "/b"))
    assert "no frozen filesystem" in decide(one)["vdb"]  # the guest does not list it
    tell = one.guestInfo

    def with_vdb(types: int, flags: int) -> dict[str, object]:
        info = tell(types, flags)
        number = info["disk.count"]
        return info | {"disk.count": number + 1, f"disk.{number}.name": "/dev/vdb", f"disk.{number}.alias": "vdb"}

    one.guestInfo = with_vdb  # type: ignore[method-assign]
    assert decide(one) == {}


@pytest.mark.parametrize("blocked", FILE_COMMANDS)
def test_an_agent_that_may_not_read_files_is_not_asked_to(decide: Decide, blocked: str) -> None:
    one = guest(["vda5"], {"/proc/swaps": SWAPS})
    one.commands[blocked] = False
    assert "/dev/vda5 " in decide(one)["vda"]


def test_no_more_than_some_devices_are_asked_for(decide: Decide) -> None:
    names = [f"vda{number}" for number in range(10, 10 + MOST_DEVICES + 1)]
    files: dict[str, str] = {}
    for number, name in enumerate(names):
        files |= device(name, number, entry(BIOS_BOOT))
    assert decide(guest(names[:-1], files)) == {}
    assert f"/dev/{names[-1]} " in decide(guest(names, files))["vda"]


@pytest.mark.parametrize("answer", ['{"return": {}}', '{"return": {"buf-b64": "%"}}', '{"return": 7}', "no JSON"])
def test_an_answer_that_is_none_proves_nothing_and_the_file_is_closed(
    decide: Decide, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """The guest is not trusted, and its agent keeps files open until they are closed."""
    one = guest(["vda5"], {"/proc/swaps": SWAPS})
    real = one.agent_command
    monkeypatch.setattr(
        one, "agent_command", lambda command, timeout_s: answer if "file-read" in command else real(command, timeout_s)
    )
    assert "/dev/vda5 " in decide(one)["vda"]


def test_an_agent_that_stops_answering_meanwhile_is_an_error(decide: Decide, monkeypatch: pytest.MonkeyPatch) -> None:
    one = guest(["vda5"], {"/proc/swaps": SWAPS})

    def silent(command: str, timeout_s: int) -> str:
        raise libvirt_error(86, "Guest agent is not responding")  # VIR_ERR_AGENT_UNRESPONSIVE

    monkeypatch.setattr(one, "agent_command", silent)
    with pytest.raises(AgentError, match="not responding"):
        decide(one)


def test_a_file_that_is_not_there_is_an_error(decide: Decide) -> None:
    one = guest([], {"/a": "ü"})
    assert decide(one) == {}
    assert read_guest_file(Domain(one), "/a", 5) == "ü"
    with pytest.raises(AgentError, match="No such file"):
        read_guest_file(Domain(one), "/b", 5)
    assert json.loads(one.agent_command('{"execute": "guest-fsfreeze-status"}', 5)) == {"return": "thawed"}
