"""A checkpoint whose file a dying libvirtd left under another name: deleted, it stays deleted."""

from __future__ import annotations

import pytest

from ops.lab import Lab
from workers.hypervisor import checkpoint
from workers.hypervisor.domain import Domain

REPOSITORY, CAPTURE = "5f5f5f5f-0000-4000-8000-000000000000", "01KAAAAAAAAAAAAAAAAAAAAAAA"
NAME = checkpoint.checkpoint_name(REPOSITORY, CAPTURE)


@pytest.fixture
def half_written(lab: Lab) -> Domain:
    """gamma, with such a checkpoint: libvirtd has died after it wrote `.new`, and before it renamed that."""
    host, gamma = lab.host("host-b"), lab.guest("gamma")
    gamma.domain.checkpointCreateXML(checkpoint.checkpoint_xml(NAME, ["vda"], ["vdb"]))
    host.kill_libvirtd()
    [file] = (host.root / "var/lib/libvirt/qemu/checkpoint").rglob(f"{NAME}.xml")
    file.rename(file.with_name(f"{NAME}.xml.new"))
    host.start_libvirtd()
    return Domain(lab.guest("gamma").domain)


def test_a_checkpoint_that_libvirt_wrote_in_part_does_not_come_back(lab: Lab, half_written: Domain) -> None:
    assert checkpoint.own_names(half_written, REPOSITORY) == [NAME]
    assert checkpoint.delete(half_written, NAME)
    lab.host("host-b").kill_libvirtd()
    lab.host("host-b").start_libvirtd()
    again = Domain(lab.guest("gamma").domain)
    assert checkpoint.own_names(again, REPOSITORY) == []
    assert not checkpoint.delete(again, NAME)
    lab.guest("gamma").wait_agent()  # for whoever comes next
