"""What the parts say to each other: task names, queues, keys, and the messages that travel on them.

Every message is a frozen pydantic model with a version (`v`), unknown fields refused, JSON on the wire. An *order* goes
from the orchestrator to a host and asks for one step of the path; a *result* comes back, failures included, and never as
an exception. A *fault* is an error in a form that crosses the wire. The *proof* is what shows that a capture's guests
share one instant; the label of a capture is computed from it and from nothing else.

    request ─▶ plan ─▶ PrepareOrder ─▶ HoldOrder ─▶ TransferOrder ─▶ manifest ─▶ ReleaseOrder
                       PrepareResult   HoldResult   TransferResult               ReleaseResult
                       per host        per host     per disk                     per host
"""
