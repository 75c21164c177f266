"""The manifest, its labels, the receipt, and what keeps guests from being sealed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

from freezeframe.cli.proof import _steps, _zero
from freezeframe.cli.proof_document import proof_document
from freezeframe.contract.doubts import doubts
from freezeframe.contract.fault import Fault
from freezeframe.contract.result import SeenUses
from freezeframe.contract.words import RunState
from freezeframe.repository import Manifest
from freezeframe.repository.label import mislabels
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision, seal_state, unsealable
from orchestrator.receipt import receipt_of
from orchestrator.run import Run
from orchestrator.seal import manifest_of
from orchestrator.seal_state import SealState
from tests.scale.capture import CAPTURE, NOW, ManyGuests
from tests.scale.counting import counted

Call = Callable[[], object]
SETTINGS: Final = OrchestratorSettings()
TROUBLE: Final = Fault(code="no-agent", message="The agent does not answer.")


def without_unsealable(many: ManyGuests) -> Call:
    run, found = counted((many.run(RunState.SEALING), [(one, TROUBLE) for one in many.every_uuid[::2]]))
    return lambda: decision.without_unsealable(run, found, NOW, SETTINGS)


def manifest(many: ManyGuests) -> Call:
    run, answers = counted((many.run(RunState.SEALING), many.answers))
    return lambda: manifest_of(run, *answers)


def manifest_with_warnings(many: ManyGuests) -> Call:
    """Of each disk: no host could see its writers, and each disk differs from its older capture."""
    held = [one.model_copy(update={"writers_unseen": "libvirt does not answer"}) for one in many.held]
    differs = [
        one.model_copy(update={"inherited_differs": True, "writers_unseen": "it hangs"}) for one in many.transferred
    ]
    seen = [
        SeenUses(capture_id=CAPTURE, host_id=host_id, uses=(), writers_unseen="it went") for host_id in many.host_ids
    ]
    run, prepared = counted((many.run(RunState.SEALING), many.prepared))
    results = counted((held, differs, seen, many.definitions))
    return lambda: manifest_of(run, prepared, *results)


def labels(many: ManyGuests) -> Call:
    made = counted(many.manifest)
    return lambda: (mislabels(made), doubts(made.proof) if made.proof else None)


def labels_of_a_proof_that_lacks_much(many: ManyGuests) -> Call:
    """Nothing was released, and each host's clock contradicts the others' of its boot."""
    assert many.manifest.proof is not None
    hosts = tuple(
        host.model_copy(
            update={
                "woken_ns": None,
                "clock_before": host.clock_before
                and host.clock_before.model_copy(update={"redis_us": host.clock_before.redis_us + number * 10**6}),
            }
        )
        for number, host in enumerate(many.manifest.proof.hosts)
    )
    lacking = many.manifest.proof.model_copy(update={"hosts": hosts, "release_us": None, "arrivals": ()})
    made = counted(many.manifest.changed({"proof": lacking}))
    assert made.proof is not None
    proof = made.proof
    return lambda: (mislabels(made), doubts(proof), proof_document(made), list(_steps(made, proof, _zero(proof))))


def receipt(many: ManyGuests) -> Call:
    run, made, transferred = counted((many.run(RunState.DONE, sealed=True), many.manifest, many.transferred))
    return lambda: receipt_of(run, NOW, made, transferred)


def a_run_that_was_sealed_meanwhile(many: ManyGuests) -> Call:
    """With a fault of each disk of each guest, of which the manifest has half."""
    faults = tuple(
        TROUBLE.model_copy(update={"guest": many.name(one), "host": host_id, "disk": target})
        for host, host_id in enumerate(many.host_ids)
        for one in many.uuids(host)
        for target in many.targets
    )
    half = len(faults) // 2
    run = many.run(RunState.RELEASING, sealed=None, faults=faults[:half], unsealed_faults=faults[half:])
    run, found = counted((run, SealState(sealed=True, guests=many.every_uuid[::2])))
    return lambda: seal_state.settled(run, found)


def guests_that_cannot_be_sealed(many: ManyGuests) -> Call:
    """The seal has met an index that is damaged: the indexes of all guests are looked at."""
    run, answers = counted((many.run(RunState.SEALING), many.answers))
    repository = cast("Any", SimpleNamespace(check_there=lambda: None, objects=None))

    def make(one: Run) -> Manifest:
        return manifest_of(one, *answers)

    return lambda: unsealable.find(repository, run, ValueError("an index"), make, in_time=True)
