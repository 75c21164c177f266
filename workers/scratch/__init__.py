"""The room for scratch files: one resource, shared by all guests and all captures of a host.

    scratch file   where QEMU saves what a guest overwrites while its backup runs; one a disk
    reservation    the bytes that a guest's scratch files may grow to, promised in prepare, in its capture's journal
    account        all reservations of the host, less what their files occupy already
    watcher        the thread in the control worker that ends backups: those that are done with, and those that grow too fast

Invariants. A guest is prepared only if its reservation fits into the free room beside all others. A backup of ours that runs
has a watcher, whatever else runs: the journal tells which there are, so a new control worker watches those of the last one.
QEMU's default when a scratch file cannot grow breaks the *guest's* write [qemu-devel on-cbw-error]; the watcher ends the backup
before that. No backup is ended as done with before the result of each of its transfers is on disk.

Crash windows. After a reservation and before its files: it stands until the guest is undone. After a backup's end and before
`freed`: the next look finds no backup, and records it then. After `given-up` and before the end: the next look chooses again.
"""
