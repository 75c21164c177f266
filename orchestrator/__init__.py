"""The control plane: what is asked is planned once, split into chords on the hosts' queues, checked and sealed.

    intake ─▶ planning ─▶ path: prepare ─▶ hold ─▶ transfer ─▶ seal ─▶ release
                 ▲  └────────────── look at the run, decide, go on ───────┘
              inventory

Words: a *run* is what the orchestrator keeps of a capture until it has ended; to *look* at a run is to read its record and
the results that have come, and to do what they call for.

Chords are the fast path, not the truth. The truth of a run is its record in Redis; each change of state is a compare-and-set,
so of two looks one goes on and the other finds nothing to do. Bodies of chords look; so does the reconciler, at every
run that has not ended, so a body that was lost costs time and nothing else. What to do is decided by pure functions
(`decision`; `search` for guests that have moved since they were planned), and done by `look`.

Crash windows. After a run is recorded as asked and before its plan is stored: the next look plans it. After its plan is stored
and before its chord is sent, or after a state was set and before the orders of that state are sent: the record says so
(`dispatched`), and the reconciler sends them (again: hosts answer a repeated order from their journals). While they are sent
the record says who sends them (`lease`), and no other look does. After the manifest is written and before the state is set:
sealing again finds the same manifest.

The orchestrator never touches libvirt, an NBD export or a guest's data.
"""
