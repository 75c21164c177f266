"""What runs on a hypervisor host: the tasks of the path, and the thaw guard that outlives them.

    control worker   prepare, hold, release; inventory; recovery, at start and every few seconds. One process, threads
    data worker      transfer, one process each; reads NBD exports, writes the repository
    guard            `freezeframe guard`: thaws what outlives its lease; needs neither Redis nor Celery

Words: an *export* is a disk's state at the instant, served by QEMU over NBD while the guest runs on; a *scratch file*
holds what the guest overwrites meanwhile; a *claim* says which capture has a guest in hand; the *journal* records every
change that must be undone, before it is made.

Invariants: no guest is held without a lease on the guard's disk; whatever a capture changed on a guest stands in the
journal first; a task answers with a result, never with an exception.
"""
