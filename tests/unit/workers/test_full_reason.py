"""Increment only on proof: each proof that is missing makes a disk be read in full, and says why (invariant 7)."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from freezeframe.contract.plan import ParentDisk
from workers.hypervisor.domain import Domain
from workers.steps.parents import ParentChoice, full_reason

BROKEN = "missing or broken bitmap"
SIZE, CHUNK = 1 << 30, 1 << 20
FIRST, SECOND = "freezeframe.6f1c2f6e0f5b.1", "freezeframe.6f1c2f6e0f5b.2"
PARENT = ParentDisk(
    capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA", checkpoint=FIRST, index="ab" * 32, size_bytes=SIZE, chunk_bytes=CHUNK
)


class Checkpoint:
    def __init__(self, name: str, target: str, children: list[Checkpoint]) -> None:
        self.name, self.target, self.children = name, target, children

    def getName(self) -> str:  # noqa: N802  libvirt's name
        return self.name

    def getXMLDesc(self) -> str:  # noqa: N802  libvirt's name
        disk = f'<disk name="{self.target}" checkpoint="bitmap"/>'
        return f"<domaincheckpoint><name>{self.name}</name><disks>{disk}</disks></domaincheckpoint>"

    def listAllChildren(self, _flags: int) -> list[Checkpoint]:  # noqa: N802  libvirt's name
        return self.children


class Handle:
    """What libvirt says of a guest with two checkpoints; `unsound` is the one whose bitmap does not validate."""

    def __init__(self, *, target: str = "vda", unsound: str = "", names: tuple[str, ...] = (FIRST, SECOND)) -> None:
        second = Checkpoint(SECOND, target, [])
        self.all = {one.name: one for one in (Checkpoint(FIRST, target, [second]), second) if one.name in names}
        self.unsound = unsound

    def UUIDString(self) -> str:  # noqa: N802  libvirt's name
        return "00000000-0000-4000-8000-00000000000a"

    def name(self) -> str:
        return "alpha"

    def listAllCheckpoints(self) -> list[Checkpoint]:  # noqa: N802  libvirt's name
        return list(self.all.values())

    def checkpointLookupByName(self, name: str) -> Checkpoint:  # noqa: N802  libvirt's name
        return self.all[name]

    def checkpointCreateXML(self, xml: str, _flags: int) -> None:  # noqa: N802  libvirt's name
        if self.unsound and f"<name>{self.unsound}</name>" in xml:
            error = libvirt.libvirtError("")
            error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, BROKEN, 2, "", None, None, 0, 0)
            raise error


CHOICE = ParentChoice(PARENT)


def reason(handle: Handle, choice: ParentChoice = CHOICE, size: int = SIZE, chunk: int = CHUNK) -> str | None:
    return full_reason(Domain(handle), "vda", size, choice, chunk)


def test_with_every_proof_it_is_an_incremental() -> None:
    assert reason(Handle()) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"handle": Handle(), "choice": ParentChoice(reason="another disk")}, "another disk"),
        ({"handle": Handle(), "size": 2 * SIZE}, f"its size has changed from {SIZE} to {2 * SIZE} bytes"),
        ({"handle": Handle(), "chunk": 4 * CHUNK}, "the repository's chunk size has changed"),
        ({"handle": Handle(names=(SECOND,))}, f"checkpoint {FIRST} is not on the guest any more"),
        ({"handle": Handle(target="vdb")}, f"checkpoint {FIRST} does not cover the disk"),
        ({"handle": Handle(unsound=FIRST)}, f"checkpoint {FIRST} is not sound: missing or broken bitmap"),
        ({"handle": Handle(unsound=SECOND)}, f"checkpoint {SECOND} is not sound: missing or broken bitmap"),
    ],
)
def test_each_missing_proof_is_a_reason(given: dict[str, Any], said: str) -> None:
    assert said in (reason(**given) or "")
