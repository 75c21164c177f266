"""Elements that reach beyond a guest, each with the place where it is put and what a refusal must name of it."""

from __future__ import annotations

from typing import Final

from .corpus import UUID

HOSTDEV = "<hostdev mode='subsystem' type='pci'><source><address bus='0x3'/></source></hostdev>"
FILESYSTEM = "<filesystem type='mount'><source dir='/etc'/><target dir='x'/></filesystem>"
SHARED_MEMORY = (
    "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/share'/><target dir='x'/></filesystem>"
)
QEMU = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-d /'/></qemu:commandline>"
OVERRIDE = "<q:override xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:device alias='x'/></q:override>"

DANGERS: Final = [
    (".", QEMU, ("qemu:commandline", "-d /")),
    (".", OVERRIDE, ("q:override",)),
    (".", "<seclabel type='none'/>", ("seclabel", "none")),
    (".", "<seclabel type='none' model='selinux'/>", ("seclabel", "none")),
    (".", "<seclabel type='dynamic' model='selinux' relabel='no'/>", ("seclabel", "relabel='no'")),
    (".", "<seclabel type='static' model='dac' relabel='yes'><label>+0:+0</label></seclabel>", ("static", "+0:+0")),
    (".", "<seclabel type='dynamic' model='selinux'><baselabel>unconfined_t</baselabel></seclabel>", ("unconfined_t",)),
    (".", "<launchSecurity type='sev'><policy>1</policy></launchSecurity>", ("launchSecurity",)),
    (".", "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>", ("sysinfo", "/etc/shadow")),
    (".", "<memoryBacking><source type='file'/></memoryBacking>", ("memoryBacking/source", "file")),
    (".", "<bootloader>/usr/bin/evil</bootloader>", ("bootloader", "/usr/bin/evil")),
    (".", "<resource><partition>/system.slice</partition></resource>", ("partition", "/system.slice")),
    (".", "<blkiotune><device><path>/dev/sda</path></device></blkiotune>", ("blkiotune/device", "/dev/sda")),
    ("os", "<kernel>/boot/vmlinuz</kernel>", ("os/kernel", "/boot/vmlinuz")),
    ("os", "<initrd>/etc/shadow</initrd>", ("os/initrd", "/etc/shadow")),
    ("os", "<dtb>/etc/shadow</dtb>", ("os/dtb", "/etc/shadow")),
    ("os", "<acpi><table type='slic'>/etc/shadow</table></acpi>", ("os/acpi", "/etc/shadow")),
    ("os", "<loader>/etc/shadow</loader>", ("os/loader", "/etc/shadow")),
    ("os", "<loader readonly='no' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", ("os/loader", "OVMF_CODE")),
    ("os", "<loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>", ("os/loader", "OVMF_CODE")),
    ("os", "<loader>/usr/share/OVMF/../../../etc/shadow</loader>", ("os/loader", "/etc/shadow")),
    ("os", "<nvram template='/etc/shadow'/>", ("os/nvram", "/etc/shadow")),
    ("os", "<nvram>/etc/cron.d/evil</nvram>", ("os/nvram", "/etc/cron.d/evil")),
    ("os", "<nvram>/var/lib/libvirt/qemu/nvram/other_VARS.fd</nvram>", ("os/nvram", "other_VARS.fd")),
    ("os", "<nvram>/home/me/.config/libvirt/qemu/nvram/vm_VARS.fd</nvram>", ("os/nvram", "/home/me")),
    ("os", "<nvram type='file'><source file='/etc/x'/></nvram>", ("os/nvram", "/etc/x")),
    ("devices", "<emulator>/opt/evil</emulator>", ("emulator", "/opt/evil")),
    (
        "devices",
        "<emulator>/usr/bin/qemu-system-x86_64<!-- -->/../../../opt/evil</emulator>",
        ("emulator", "/opt/evil"),
    ),
    ("devices", HOSTDEV, ("hostdev", "pci", "0x3")),
    ("devices", FILESYSTEM, ("filesystem", "/etc")),
    ("devices", SHARED_MEMORY, ("filesystem", "/srv/share")),
    ("devices", "<interface type='hostdev'><source/></interface>", ("interface", "hostdev")),
    ("devices", "<interface type='ethernet'><script path='/opt/evil'/></interface>", ("ethernet", "/opt/evil")),
    ("devices", "<interface type='vhostuser'><source type='unix' path='/run/x'/></interface>", ("vhostuser", "/run/x")),
    ("devices", "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", ("vdpa",)),
    ("devices", "<interface type='direct'><source dev='eno1' mode='passthrough'/></interface>", ("passthrough",)),
    (
        "devices",
        "<interface type='user'><portForward proto='tcp'><range start='22'/></portForward></interface>",
        ("22",),
    ),
    ("devices", "<interface type='user'><backend type='passt' logFile='/etc/x'/></interface>", ("logFile", "/etc/x")),
    ("devices/interface", "<script path='/opt/evil'/>", ("interface/script", "/opt/evil")),
    ("devices/interface", "<downscript path='/opt/evil'/>", ("interface/downscript", "/opt/evil")),
    ("devices/interface", "<backend tap='/dev/sda'/>", ("interface/backend", "/dev/sda")),
    ("devices/interface", "<rom file='/etc/shadow'/>", ("interface/rom", "/etc/shadow")),
    ("devices", "<serial type='file'><source path='/etc/cron.d/x'/></serial>", ("serial", "file", "/etc/cron.d/x")),
    ("devices", "<serial type='pty'><log file='/etc/cron.d/x'/></serial>", ("serial/log", "/etc/cron.d/x")),
    ("devices", "<serial type='dev'><source path='/dev/sda'/></serial>", ("serial", "dev", "/dev/sda")),
    ("devices", "<serial type='pty'><source path='/dev/sda'/></serial>", ("serial/source", "/dev/sda")),
    ("devices", "<serial type='pipe'><source path='/run/x'/></serial>", ("serial", "pipe", "/run/x")),
    (
        "devices",
        "<serial type='tcp'><source mode='connect' host='h' service='1'/></serial>",
        ("serial", "tcp", "host='h'"),
    ),
    (
        "devices",
        "<channel type='unix'><source mode='connect' path='/run/docker.sock'/></channel>",
        ("/run/docker.sock",),
    ),
    ("devices", "<console type='unix'><source mode='bind' path='/run/x'/></console>", ("console/source", "/run/x")),
    (
        "devices",
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        ("/dev/tpm0",),
    ),
    (
        "devices",
        "<tpm model='tpm-tis'><backend type='emulator'><source type='file' path='/etc/x'/></backend></tpm>",
        ("/etc/x",),
    ),
    ("devices", "<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>", ("rng/backend", "/dev/sda")),
    ("devices", "<rng model='virtio'><backend model='egd' type='udp'/></rng>", ("rng/backend", "egd")),
    ("devices", "<shmem name='x'><model type='ivshmem-plain'/></shmem>", ("shmem", "name='x'")),
    (
        "devices",
        "<input type='passthrough' bus='virtio'><source evdev='/dev/input/event1'/></input>",
        ("/dev/input/event1",),
    ),
    ("devices", "<input type='evdev'><source dev='/dev/input/event1'/></input>", ("evdev", "/dev/input/event1")),
    ("devices", "<graphics type='vnc' listen='0.0.0.0'/>", ("graphics", "0.0.0.0")),  # noqa: S104
    ("devices", "<graphics type='vnc'><listen type='address' address='::'/></graphics>", ("graphics/listen", "::")),
    (
        "devices",
        "<graphics type='vnc'><listen type='socket' socket='/etc/x'/></graphics>",
        ("graphics/listen", "/etc/x"),
    ),
    ("devices", "<graphics type='sdl' xauth='/root/.Xauthority'/>", ("sdl", "/root/.Xauthority")),
    ("devices", "<graphics type='egl-headless'><gl rendernode='/dev/dri/card0'/></graphics>", ("/dev/dri/card0",)),
    ("devices", "<video><driver name='vhostuser'/><model type='virtio'/></video>", ("video/driver", "vhostuser")),
    ("devices", "<memory model='nvdimm'><source><path>/dev/sda</path></source></memory>", ("nvdimm", "/dev/sda")),
    ("devices", "<smartcard mode='host-certificates'><database>/etc/pki</database></smartcard>", ("/etc/pki",)),
    ("devices", "<redirdev bus='usb' type='tcp'><source mode='connect' host='h'/></redirdev>", ("redirdev", "tcp")),
    ("devices", "<audio id='2' type='file' path='/etc/x'/>", ("audio", "/etc/x")),
    ("devices", "<crypto model='virtio'><backend model='lkcf'/></crypto>", ("crypto/backend", "lkcf")),
    ("devices", "<pstore backend='acpi-erst'><path>/etc/x</path></pstore>", ("pstore", "/etc/x")),
    ("devices", "<lease><target path='/etc/x'/></lease>", ("lease", "/etc/x")),
    # the host's loopback, by libvirt's default too
    ("devices", "<interface type='user'><model type='virtio'/></interface>", ("interface", "user")),
    ("devices", "<interface><model type='virtio'/></interface>", ("interface", "without type")),
    ("devices", "<interface type='network'><backend type='passt'/></interface>", ("interface/backend", "passt")),
    (
        "devices",
        "<channel type='spicevmc'><target type='guestfwd' address='10.0.2.1' port='1'/></channel>",
        ("guestfwd", "10.0.2.1"),
    ),
    # the host's graphics card
    ("devices", "<graphics type='egl-headless'/>", ("graphics", "egl-headless")),
    ("devices", "<graphics type='spice'><gl enable='yes'/></graphics>", ("graphics/gl", "yes")),
    (
        "devices",
        "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>",
        ("video/model/acceleration", "accel3d='yes'"),
    ),
    ("devices", "<video><model type='virtio' blob='on'/></video>", ("video/model", "blob='on'")),
    # the directory of dumps
    ("devices", "<watchdog model='i6300esb' action='dump'/>", ("watchdog", "dump")),
    (".", "<on_crash>coredump-restart</on_crash>", ("on_crash", "coredump-restart")),
    (".", "<on_crash>coredump-destroy</on_crash>", ("on_crash", "coredump-destroy")),
    (".", "<on_poweroff>coredump-destroy</on_poweroff>", ("on_poweroff", "coredump-destroy")),
    (".", "<on_lockfailure>ignore</on_lockfailure>", ("on_lockfailure", "ignore")),
    # what the host knows
    ("os", "<smbios mode='host'/>", ("os/smbios", "host")),
    (".", "<sysinfo type='fwcfg'><entry name='opt/x'>v</entry></sysinfo>", ("sysinfo", "fwcfg", "opt/x")),
    (
        "devices",
        f"<tpm model='tpm-tis'><backend type='emulator'><encryption secret='{UUID}'/></backend></tpm>",
        ("tpm/backend/encryption", UUID),
    ),
    ("devices", "<tpm model='spapr-tpm-proxy'><backend type='emulator'/></tpm>", ("tpm", "spapr-tpm-proxy")),
    # its processors and its memory
    (".", "<cputune><emulatorsched scheduler='fifo' priority='99'/></cputune>", ("emulatorsched", "fifo", "99")),
    (".", "<cputune><vcpusched vcpus='0' scheduler='rr' priority='1'/></cputune>", ("vcpusched", "rr")),
    (".", "<cputune><iothreadsched iothreads='1' scheduler='fifo'/></cputune>", ("iothreadsched", "fifo")),
    (".", "<memoryBacking><locked/></memoryBacking>", ("memoryBacking/locked",)),
    (".", "<memoryBacking><access mode='shared'/></memoryBacking>", ("memoryBacking/access", "shared")),
    (
        ".",
        "<memoryBacking><source type='anonymous'/><access mode='private'/></memoryBacking>",
        ("memoryBacking/access", "private"),
    ),
    (
        ".",
        "<cpu><numa><cell id='0' cpus='0' memory='1' memAccess='shared'/></numa></cpu>",
        ("cell", "memAccess='shared'"),
    ),
    ("devices", "<memory model='dimm' access='private'/>", ("memory", "access='private'")),
    (".", "<iothreads>100000</iothreads>", ("iothreads", "100000")),
    (".", "<iothreadids><iothread id='100000'/></iothreadids>", ("iothreadids/iothread", "100000")),
    (".", "<memoryBacking><allocation threads='99999'/></memoryBacking>", ("memoryBacking/allocation", "99999")),
    ("devices", "<interface type='bridge'><driver queues='4096'/></interface>", ("interface/driver", "4096")),
    (".", "<perf><event name='cmt' enabled='yes'/></perf>", ("perf", "cmt")),
    # less confinement
    (".", "<seclabel type='dynamic' model='none' relabel='yes'/>", ("seclabel", "none")),
    (".", "<seclabel model='none'/>", ("seclabel", "none")),
    # names that are opened as files, or by which the host knows a device
    (
        "devices",
        "<channel type='unix'><source mode='bind'/><target type='virtio' name='../../../../run/x'/></channel>",
        ("channel/target", "../../../../run/x"),
    ),
    ("devices", "<channel type='unix'><target type='virtio' name='..'/></channel>", ("channel/target", "..")),
    ("devices", "<channel type='unix'><source mode='connect'/></channel>", ("channel/source", "connect")),
    (
        "devices",
        "<serial type='unix'><source mode='bind' path='/dev/pts/3'/></serial>",
        ("serial/source", "/dev/pts/3"),
    ),
    ("devices", "<graphics type='vnc' keymap='../../etc/shadow'/>", ("graphics", "../../etc/shadow")),
    ("devices", "<graphics type='vnc' keymap='etc'/>", ("graphics", "keymap='etc'")),
    (".", "<clock offset='timezone' timezone='/etc/shadow'/>", ("clock", "/etc/shadow")),
    (".", "<clock offset='timezone' timezone='../../../etc/shadow'/>", ("clock", "../../../etc/shadow")),
    ("devices", "<interface type='bridge'><target dev='trusted0'/></interface>", ("interface/target", "trusted0")),
    # the network of other guests
    ("devices", "<interface type='direct' trustGuestRxFilters='yes'/>", ("interface", "trustGuestRxFilters='yes'")),
    ("devices/interface", "<mtu size='68'/>", ("interface/mtu", "68")),
    ("devices/interface", "<model type='vfio-pci'/>", ("interface/model", "vfio-pci")),
    ("devices", "<controller type='xenbus'/>", ("controller", "xenbus")),
]
