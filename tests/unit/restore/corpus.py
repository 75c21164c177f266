"""Definitions as virt-install and virt-manager make them, and libvirt completes them: each is of one sort of guest."""

from __future__ import annotations

from typing import Final

EMULATOR: Final = "/usr/bin/qemu-system-x86_64"
AARCH64: Final = "/usr/bin/qemu-system-aarch64"
UUID: Final = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"
OSINFO: Final = "http://libosinfo.org/xmlns/libvirt/domain/1.0"

_DISK: Final = """
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" discard="unmap"/>
      <source file="/var/lib/libvirt/images/vm.qcow2"/>
      <target dev="vda" bus="virtio"/>
      <boot order="1"/>
      <address type="pci" domain="0x0000" bus="0x04" slot="0x00" function="0x0"/>
    </disk>"""
_DRIVE: Final = """
    <disk type="file" device="cdrom">
      <driver name="qemu" type="raw"/>
      <source file="/var/lib/libvirt/boot/virtinst-abc-cloudinit.iso"/>
      <target dev="sda" bus="sata"/>
      <readonly/>
      <address type="drive" controller="0" bus="0" target="0" unit="0"/>
    </disk>"""
_PORTS: Final = "".join(
    f"""
    <controller type="pci" index="{number}" model="pcie-root-port">
      <model name="pcie-root-port"/>
      <target chassis="{number}" port="0x{15 + number:x}"/>
      <address type="pci" domain="0x0000" bus="0x00" slot="0x02" function="0x{number - 1}" multifunction="on"/>
    </controller>"""
    for number in range(1, 6)
)
_CONTROLLERS: Final = f"""
    <controller type="usb" index="0" model="qemu-xhci" ports="15">
      <address type="pci" domain="0x0000" bus="0x02" slot="0x00" function="0x0"/>
    </controller>
    <controller type="pci" index="0" model="pcie-root"/>{_PORTS}
    <controller type="sata" index="0"><address type="pci" domain="0x0000" bus="0x00" slot="0x1f" function="0x2"/></controller>
    <controller type="virtio-serial" index="0"><address type="pci" domain="0x0000" bus="0x03" slot="0x00"/></controller>
    <controller type="scsi" index="0" model="virtio-scsi"><driver queues="4" iothread="1"/></controller>"""
_NETWORK: Final = """
    <interface type="network">
      <mac address="52:54:00:11:22:33"/>
      <source network="default" portgroup="web"/>
      <target dev="vnet0"/>
      <model type="virtio"/>
      <driver name="vhost" queues="4"/>
      <link state="up"/>
      <mtu size="9000"/>
      <bandwidth><inbound average="1000" peak="5000" burst="5120"/><outbound average="1000"/></bandwidth>
      <filterref filter="clean-traffic"><parameter name="IP" value="192.0.2.1"/></filterref>
      <address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/>
    </interface>"""
_CONSOLE: Final = """
    <serial type="pty">
      <source path="/dev/pts/3"/>
      <target type="isa-serial" port="0"><model name="isa-serial"/></target>
      <alias name="serial0"/>
    </serial>
    <console type="pty" tty="/dev/pts/3"><source path="/dev/pts/3"/><target type="serial" port="0"/></console>
    <channel type="unix">
      <source mode="bind"/>
      <target type="virtio" name="org.qemu.guest_agent.0"/>
      <address type="virtio-serial" controller="0" bus="0" port="1"/>
    </channel>"""
_SPICE: Final = """
    <channel type="spicevmc"><target type="virtio" name="com.redhat.spice.0"/></channel>
    <input type="tablet" bus="usb"><address type="usb" bus="0" port="1"/></input>
    <input type="mouse" bus="ps2"/>
    <input type="keyboard" bus="ps2"/>
    <graphics type="spice" autoport="yes" listen="127.0.0.1">
      <listen type="address" address="127.0.0.1"/>
      <image compression="off"/>
      <gl enable="no"/>
    </graphics>
    <sound model="ich9"><address type="pci" domain="0x0000" bus="0x00" slot="0x1b" function="0x0"/></sound>
    <audio id="1" type="spice"/>
    <video><model type="qxl" ram="65536" vram="65536" vgamem="16384" heads="1" primary="yes"/></video>
    <redirdev bus="usb" type="spicevmc"><address type="usb" bus="0" port="2"/></redirdev>
    <redirdev bus="usb" type="spicevmc"><address type="usb" bus="0" port="3"/></redirdev>"""
_VNC: Final = """
    <graphics type="vnc" port="-1" autoport="yes" websocket="-1" keymap="de"><listen type="address"/></graphics>
    <audio id="1" type="none"/>
    <video><model type="virtio" heads="1" primary="yes"><acceleration accel3d="no"/></model></video>"""
_LAST: Final = """
    <watchdog model="i6300esb" action="reset"/>
    <memballoon model="virtio"><stats period="5"/></memballoon>
    <rng model="virtio"><rate bytes="1024" period="1000"/><backend model="random">/dev/urandom</backend></rng>
    <panic model="isa"/>"""

_BIOS: Final = """
  <os><type arch="x86_64" machine="pc-q35-7.2">hvm</type><boot dev="hd"/><bootmenu enable="yes" timeout="3000"/></os>"""
_UEFI: Final = """
  <os firmware="efi">
    <type arch="x86_64" machine="pc-q35-9.0">hvm</type>
    <firmware><feature enabled="yes" name="enrolled-keys"/><feature enabled="yes" name="secure-boot"/></firmware>
    <loader readonly="yes" secure="yes" type="pflash" format="raw">/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
    <nvram template="/usr/share/OVMF/OVMF_VARS_4M.ms.fd" templateFormat="raw"\
 format="raw">/var/lib/libvirt/qemu/nvram/vm_VARS.fd</nvram>
    <smbios mode="sysinfo"/>
  </os>"""
_X86: Final = """
  <features><acpi/><apic/><vmport state="off"/><smm state="on"/></features>
  <cpu mode="host-passthrough" check="none" migratable="on"><topology sockets="1" dies="1" cores="4" threads="1"/></cpu>
  <clock offset="utc">
    <timer name="rtc" tickpolicy="catchup"/><timer name="pit" tickpolicy="delay"/><timer name="hpet" present="no"/>
  </clock>"""


def domain(
    system: str, machine: str, devices: str, *, more: str = "", emulator: str = EMULATOR, kind: str = "kvm"
) -> str:
    return f"""<domain type="{kind}">
  <name>vm</name>
  <uuid>{UUID}</uuid>
  <title>A guest</title>
  <description>What it is for.</description>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="{OSINFO}"><libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo>
  </metadata>
  <memory unit="KiB">4194304</memory>
  <currentMemory unit="KiB">4194304</currentMemory>
  <vcpu placement="static">4</vcpu>{more}{system}{machine}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled="no"/><suspend-to-disk enabled="no"/></pm>
  <devices>
    <emulator>{emulator}</emulator>{devices}
  </devices>
</domain>"""


_TUNED: Final = """
  <memoryBacking><hugepages><page size="2048" unit="KiB"/></hugepages><source type="memfd"/><access mode="shared"/>\
</memoryBacking>
  <iothreads>1</iothreads>
  <cputune>
    <shares>2048</shares><vcpupin vcpu="0" cpuset="2"/><emulatorpin cpuset="0-1"/><iothreadpin iothread="1" cpuset="1"/>
    <vcpusched vcpus="0" scheduler="batch"/>
    <cachetune vcpus="0-3"><cache id="0" level="3" type="both" size="3" unit="MiB"/></cachetune>
  </cputune>
  <numatune><memory mode="strict" nodeset="0"/></numatune>
  <resource><partition>/machine</partition></resource>"""
_NUMA: Final = """
  <features><acpi/><apic/><kvm><hidden state="on"/></kvm><ioapic driver="kvm"/></features>
  <cpu mode="custom" match="exact" check="full">
    <model fallback="forbid">Skylake-Server</model><vendor>Intel</vendor><feature policy="require" name="vmx"/>
    <numa><cell id="0" cpus="0-3" memory="4194304" unit="KiB" memAccess="shared"/></numa>
  </cpu>
  <clock offset="variable" adjustment="0" basis="utc"/>"""
_WINDOWS: Final = """
  <features>
    <acpi/><apic/>
    <hyperv mode="custom">
      <relaxed state="on"/><vapic state="on"/><spinlocks state="on" retries="8191"/><vpindex state="on"/><runtime state="on"/>
      <synic state="on"/><stimer state="on"><direct state="on"/></stimer><reset state="on"/>
      <vendor_id state="on" value="KVM Hv"/><frequencies state="on"/><tlbflush state="on"/><ipi state="on"/>
    </hyperv>
    <smm state="on"/>
  </features>
  <cpu mode="host-model" check="partial"/>
  <clock offset="localtime"><timer name="hypervclock" present="yes"/></clock>"""
_TPM: Final = """
    <tpm model="tpm-crb"><backend type="emulator" version="2.0" persistent_state="yes"/></tpm>"""
_BRIDGES: Final = """
    <interface type="bridge">
      <mac address="52:54:00:aa:bb:cc"/><source bridge="ovsbr0"/><vlan><tag id="42"/></vlan>
      <virtualport type="openvswitch"><parameters interfaceid="0b8a1c3d-0f5b-4a3e-9d0e-2f6b8a1c3d4e"/></virtualport>
      <model type="e1000e"/>
    </interface>
    <interface type="direct"><mac address="52:54:00:aa:bb:cd"/>
      <source dev="eno1" mode="bridge"/><model type="virtio"/></interface>
    <vsock model="virtio"><cid auto="yes"/></vsock>"""
_ARM: Final = """
  <os firmware="efi"><type arch="aarch64" machine="virt-9.0">hvm</type>
    <loader readonly="yes" type="pflash">/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd</loader>
    <nvram template="/usr/share/AAVMF/AAVMF_VARS.fd">/var/lib/libvirt/qemu/nvram/vm_VARS.fd</nvram>
  </os>"""
_I440FX: Final = """
  <os><type arch="x86_64" machine="pc-i440fx-7.2">hvm</type><boot dev="cdrom"/><boot dev="hd"/></os>"""
_OLD: Final = """
    <disk type="block" device="floppy"><driver name="qemu" type="raw"/><target dev="fda" bus="fdc"/><readonly/></disk>
    <controller type="usb" index="0" model="ich9-ehci1"/>
    <controller type="usb" index="0" model="ich9-uhci1"><master startport="0"/></controller>
    <controller type="ide" index="0"/>
    <interface type="network"><mac address="52:54:00:00:00:01"/><source network="default"/><model type="rtl8139"/></interface>
    <input type="mouse" bus="ps2"/>
    <video><model type="cirrus" vram="16384" heads="1" primary="yes"/></video>
    <memballoon model="none"/>"""
_SYSINFO: Final = f"""
  <sysinfo type="smbios"><system><entry name="manufacturer">Me</entry><entry name="uuid">{UUID}</entry></system></sysinfo>"""

#: By what is special about each. Every one passes, but for nothing.
CORPUS: Final = {
    "bios, spice": domain(_BIOS, _X86, f"{_DISK}{_DRIVE}{_CONTROLLERS}{_NETWORK}{_CONSOLE}{_SPICE}{_LAST}"),
    "uefi with secure boot, vnc": domain(
        _UEFI, _X86, f"{_DISK}{_CONTROLLERS}{_NETWORK}{_CONSOLE}{_VNC}{_LAST}", more=_SYSINFO
    ),
    "uefi chosen by libvirt": domain(
        '<os firmware="efi"><type arch="x86_64" machine="q35">hvm</type></os>', _X86, f"{_DISK}{_CONSOLE}{_VNC}"
    ),
    "windows with a tpm": domain(_UEFI, _WINDOWS, f"{_DISK}{_CONTROLLERS}{_BRIDGES}{_TPM}{_SPICE}{_LAST}"),
    "pinned, huge pages": domain(_BIOS, _NUMA, f"{_DISK}{_CONTROLLERS}{_NETWORK}{_CONSOLE}{_VNC}{_LAST}", more=_TUNED),
    "arm": domain(_ARM, '<features><acpi/><gic version="3"/></features>', f"{_DISK}{_CONSOLE}", emulator=AARCH64),
    "old, emulated": domain(_I440FX, "<features><acpi/><apic/></features>", f"{_DISK}{_OLD}", kind="qemu"),
    "cloud image, no graphics": domain(_BIOS, _X86, f"{_DISK}{_DRIVE}{_NETWORK}{_CONSOLE}{_LAST}"),
}
