"""The thaw guard: a process on each host that lets go of every guest whose hold outlives its lease.

A *lease* says which guests a capture holds and for how long. The worker *arms* it before it holds anything, and *disarms* it
after it has let go, the guests have confirmed it, and no call of its own is pending. No acknowledgement, no hold.

    worker ── arm ──▶ guard: lease on disk, fsynced ── ack ──▶ worker: hold … let go … ── disarm ──▶ guard: lease removed
                        │
                        └─ deadline passes · the worker's connection closes · the guard starts and finds a lease
                             └─▶ let go ─▶ look again, until no call that holds a guest can be pending ─▶ retired

    table       the life of a lease, pure               lease        the messages, and leases on disk
    ledger      the leases of one guard, and who may    reading      leases of any version, whole or not
                be leased while an earlier lease's      agent_line   the agent, past libvirt
                guests are let go                       monitor_line QEMU's monitor, past libvirt
    watch       begins each look when it is due         sockets      who is connected to QEMU
    letting_go  one attempt on one guest, and a look    client       the worker's end
    server      the process: its socket and its end

Invariants: a lease is on disk before it is acknowledged, and leaves the disk only when it was disarmed, or when its guests were
seen running, or gone, for as long as a call of its holder can wait. The guard needs libvirt only, and where libvirt does not
answer the agents' sockets: not Redis, not Celery, not the workers. A guest that cannot be let go of costs no other guest its
lease. A guard that is killed lets go of what it finds when its supervisor starts it again; a lease that the guard has let go of
does not count as having stood, so the worker claims nothing.

Crash windows. Guard dies before the lease is on disk: not acknowledged, no hold. After, before the ack: the next guard lets go
of guests that were never held, which is harmless. After the ack and before the hold: the worker sees its line closed before
it begins a backup, and lets go; the next guard keeps the lease to its deadline and beyond, in case that the worker dies too.
Worker dies: the connection closes, the guests are let go at once, and looked at for as long as a call that it sent can be
pending.
"""
