"""The domain XML of a lab guest, built as a tree."""

from pathlib import Path
from typing import Literal

from lxml import etree

from ops.lab.kit import Kit
from ops.lab.spec import DiskSpec, GuestSpec

AGENT_CHANNEL = "org.qemu.guest_agent.0"

_BUSES = {"vd": "virtio", "sd": "sata", "hd": "ide", "fd": "fdc"}


def _add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
    child = etree.SubElement(parent, tag, attributes)
    child.text = text
    return child


def kernel_line(guest: GuestSpec, accelerator: Literal["kvm", "qemu"]) -> str:
    """No string of the caller's reaches the kernel unchecked but the name, which libvirt has its own rules for."""
    work = guest.workload
    settings = {
        "name": guest.name,
        "state": "on" if work.running else "off",
        "interval_s": f"{work.interval_s:g}",
        "fill_mib": str(work.fill_mib),
        "rewrite_blocks": str(work.rewrite_blocks),
    }
    # Mitigations and the check for a dead timer cost an emulated CPU seconds and gain it nothing.
    words = ["console=ttyS0", "quiet", "panic=-1", "mitigations=off", "no_timer_check", "tsc=reliable"]
    if accelerator == "qemu":
        # A kernel measures how fast its TSC counts when it boots; on a busy machine an emulated one measures wrong, and its
        # seconds then passed 33 times too fast. The HPET says how fast it counts, and costs the boot nothing.
        words.append("clocksource=hpet")
    return " ".join([*words, *(f"ff.{name}={value}" for name, value in settings.items())])


def _disk(devices: etree._Element, spec: DiskSpec, image: Path) -> None:
    disk = _add(devices, "disk", type="file", device=spec.device)
    _add(disk, "driver", name="qemu", type=spec.format, discard="unmap")
    _add(disk, "source", file=str(image))
    _add(disk, "target", dev=spec.target, bus=_BUSES[spec.target[:2]])
    if spec.device == "cdrom":
        _add(disk, "readonly")
    if spec.transient:
        _add(disk, "transient")


def domain_xml(
    guest: GuestSpec, images: dict[str, Path], kit: Kit, accelerator: Literal["kvm", "qemu"], serial: Path
) -> str:
    """`images` maps a disk's target to its file; `serial` receives what the guest says on its console.

    i440fx, because it boots a second sooner than q35 and takes IDE CD-ROMs and floppies as they come.
    """
    domain = etree.Element("domain", type=accelerator)
    _add(domain, "name", guest.name)
    if guest.uuid is not None:
        _add(domain, "uuid", guest.uuid)
    _add(domain, "memory", str(guest.memory_mib), unit="MiB")
    _add(domain, "vcpu", str(guest.vcpus))
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="pc")
    _add(system, "kernel", str(kit.kernel))
    _add(system, "initrd", str(kit.initramfs))
    _add(system, "cmdline", kernel_line(guest, accelerator))
    features = _add(domain, "features")
    _add(features, "acpi")
    _add(features, "apic")
    _add(_add(domain, "clock", offset="utc"), "timer", name="hpet", present="yes")
    devices = _add(domain, "devices")
    for disk in guest.disks:
        _disk(devices, disk, images[disk.target])
    _character_devices(devices, serial, agent=guest.agent)
    for name in guest.ports:
        channel = _add(devices, "channel", type="unix")
        _add(channel, "source", mode="bind", path=str(serial.with_name(f"{name}.sock")))
        _add(channel, "target", type="virtio", name=name)
    return etree.tostring(domain, encoding="unicode")


def _character_devices(devices: etree._Element, serial: Path, *, agent: bool) -> None:
    port = _add(devices, "serial", type="file")
    # Not appended to, so that READY is said by this boot.
    _add(port, "source", path=str(serial), append="off")
    _add(port, "target", port="0")
    if agent:
        channel = _add(devices, "channel", type="unix")
        _add(channel, "target", type="virtio", name=AGENT_CHANNEL)
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="none")
