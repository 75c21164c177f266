"""A real lab on one machine: hosts with a libvirtd each, guests with a real agent, and a workload that can testify.

Words
    lab       hosts, their network and their guests, in one directory; the machine outside it is left as it was
    host      a process tree in mount, PID, network, UTS and IPC namespaces of its own, with its own libvirtd
    profile   whose packages a host's daemons and QEMU are of: this machine's, or Debian 13's with virtqemud in libvirtd's place
    init      process 1 of a host; when it is killed the kernel kills all else on that host
    cable     the veth pair between a host's eth0 and the lab's bridge; `cut` pulls it, `mend` plugs it in
    kit       the kernel and initramfs that guests boot, cached outside the lab (ops.lab.kit); each lab has a copy
    workload  the writers in a guest, one a disk: numbered records, synced, and remembered in the guest's memory

    <directory>/lab.json               the state: ids, addresses, the processes we started
               /host-a/                what the host has for itself, at the path it has inside:
                      /run/libvirt/libvirt-sock       … and so libvirt is reached from outside
                      /var/lib/freezeframe …
                      /images/alpha/   a guest's disks and its console's log; the same path inside and outside

Invariants
    1. A name is in lab.json, and on stable storage, before what it names is made; so `down` can undo a crashed `up`.
    2. A process is killed only if its pid and its start time are those of one the lab started.
    3. Every mount is in a host's own mount namespace and ends with it. Nothing is created outside the directory but
       the bridge and the cables, which carry the lab's id in their names.
    4. A directory without lab.json is no lab: nothing in it is touched.

What a crash leaves behind
    up, before lab.json is there        an empty directory (or a lone lab.json.new)
    up, a host's launcher started but   nothing: its init waits for orders, reads the end of file and ends
        not yet in lab.json
    up, later                           a lab that works as far as it got; `down` removes it
    down                                less of a lab; `down` again removes the rest: lab.json goes last
    the machine                         directories only; processes and interfaces are gone, and `down` sees from the
                                        boot id that the pids in lab.json mean nothing any more
"""

from ops.lab.disk import Image
from ops.lab.errors import GuestError, LabError, NotALabError
from ops.lab.guest import Guest
from ops.lab.host import Host
from ops.lab.lab import Lab
from ops.lab.spec import DiskSpec, GuestSpec, LabSpec, Placement, WorkloadSpec, blank
from ops.lab.workload import Record, disk_log

__all__ = [
    "DiskSpec",
    "Guest",
    "GuestError",
    "GuestSpec",
    "Host",
    "Image",
    "Lab",
    "LabError",
    "LabSpec",
    "NotALabError",
    "Placement",
    "Record",
    "WorkloadSpec",
    "blank",
    "disk_log",
]
