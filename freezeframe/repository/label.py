"""Labels that claim something else than what follows from the proof: an error, whichever way they are wrong."""

from __future__ import annotations

from freezeframe.contract.proof import consistency, guest_consistency, shortcomings
from freezeframe.repository.manifest import Manifest


def mislabels(manifest: Manifest) -> list[str]:
    """What the labels of a capture and its guests claim that the proof does not give; empty if they follow from it.

    A guest of which the proof says nothing makes any label too good. Without a proof there is nothing to compare.
    """
    proof = manifest.proof
    if proof is None:
        return []
    found = []
    if (given := consistency(proof)) is not manifest.consistency:
        found.append(f"the capture is labelled {manifest.consistency}, and its proof gives {given}")
    lacking = shortcomings(proof)
    steps = {(host.host_id, guest.guest_uuid): guest for host in proof.hosts for guest in host.guests}
    for guest in manifest.guests:
        seen = steps.get((guest.host_id, guest.guest_uuid))
        if seen is None:
            found.append(f"guest {guest.name} is labelled {guest.consistency}, and the proof says nothing of it")
        elif (given := guest_consistency(lacking, seen)) is not guest.consistency:
            found.append(f"guest {guest.name} is labelled {guest.consistency}, and the proof gives {given}")
    return found
