"""Disk identity on a host: from a guest's live definition and this host's storage to `freezeframe.contract.identity`.

sources.py   what QEMU has open for a disk, as libvirt's live definition says; pure
storage.py   the facts of a file or a block device: stat, statx and /sys
read.py      both together, each disk within a bound
"""
