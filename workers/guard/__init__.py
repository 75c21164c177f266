"""The thaw guard: a process on each host that lets go of every guest whose hold outlives its lease.

A *lease* says which guests a capture holds and for how long. The worker *arms* it before it holds anything, and *disarms* it
after it has let go and the guests have confirmed it. No acknowledgement, no hold.

    worker ── arm ──▶ guard: lease on disk, fsynced ── ack ──▶ worker: hold … let go … ── disarm ──▶ guard: lease removed
                        │
                        └─ deadline passes · the worker's connection closes · the guard starts and finds a lease ──▶ let go

Invariants: a lease is on disk before it is acknowledged, and leaves the disk only when it was disarmed or when every guest of
it has confirmed that it runs, or is gone. The guard needs libvirt only: not Redis, not Celery, not the workers. A guard that
is killed lets go of what it finds when its supervisor starts it again; a lease that the guard has let go of can no longer be
disarmed, so the worker learns that its hold was cut short and claims nothing for it.

Crash windows. Guard dies before the lease is on disk: not acknowledged, no hold. After, before the ack: the next guard lets go
of guests that were never held, which is harmless. Worker dies: the connection closes, and the guests are let go at once.
"""
