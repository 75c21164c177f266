"""The barrier: the only coordination inside a hold window.

A *gate* is one meeting of all *members* (hosts) of a run under one *epoch*. There are two: at `muster` the hosts meet while
no guest is held; at `held` each reports that all its guests are held and their backups begun. The last member to arrive
releases the gate in its own call: no third party is waited for.

    arrive ── arrive ── arrive (the last) ──▶ released: every member finds a wake-up in a list of its own
       └───────── a member gives up ────────▶ broken: every member that waits is told so

- Membership is a set, so arriving twice is arriving once. Who arrives in another *visit* (a second delivery of an order) is
  told "taken", and changes nothing: the others are released by what the first one reported.
- A gate is released or broken, never both, and stays what it is: both scripts decide in Redis, atomically. A host that
  gives up and finds the gate released was released; nobody can be told one thing and another host the other.
- Waiting is a blocking move with a timeout within a list of the member's own (pub/sub would lose who comes late), so a
  wake-up stays to be found by a member whose connection broke.
- Redis's clock stamps arrivals and the release. Hosts bound their waiting by their own monotonic clock; a Redis that does
  not answer costs a host its deadline and no more.
- Each host reads Redis's clock beside its own before the muster and after the hold (`clock`): for showing the steps of all
  hosts on one line, and for nothing else.
"""

from freezeframe.barrier.clock import await_clock, read_clock
from freezeframe.barrier.gate import Gate, GateBrokenError, GateReply, GateTakenError, GateUnreachableError, gate_client

__all__ = [
    "Gate",
    "GateBrokenError",
    "GateReply",
    "GateTakenError",
    "GateUnreachableError",
    "await_clock",
    "gate_client",
    "read_clock",
]
