"""The guests for which a capture cannot be sealed: found one by one when the manifest of all of them cannot be written.

| the seal meets                                                    | then                                                   |
|-------------------------------------------------------------------|--------------------------------------------------------|
| an index that is missing, damaged, of another disk, or newer      | it is the fault of that disk and guest                 |
| a part of the manifest that cannot be made                        | it is the fault of that guest                          |
| storage that is away, full or read-only; this host lacks threads  | it is nobody's fault, and is waited for                |
| or memory                                                         |                                                        |
| the same until the time is over, and the indexes of some guests   | the others' fault: nobody can tell whether those are   |
| can be read                                                       | whole                                                  |
| a session that is lost, a manifest that is there                  | it is the run's (`seal_state`)                         |
| answers of hosts that Redis has lost                              | it is the run's: what else is lost is not known        |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from freezeframe.bounded import is_shortage
from freezeframe.contract.fault import Fault
from freezeframe.repository import GuestCapture, Manifest, Repository
from freezeframe.repository.errors import AlreadyExists, IndexDamaged, SessionLost, is_store_trouble
from freezeframe.repository.sealed import check_index
from orchestrator.defect import fault_of
from orchestrator.errors import AnswersLostError
from orchestrator.run import Run
from orchestrator.seal_wait import passing

#: Whoever meets these finds no guest at fault.
_OF_THE_RUN = (AlreadyExists, AnswersLostError, SessionLost)


def find(
    repository: Repository, run: Run, error: Exception, manifest_of: Callable[[Run], Manifest], *, in_time: bool
) -> list[tuple[str, Fault]]:
    """Return the guests that cannot be sealed after `error`, each with a fault for each of its disks concerned.

    `manifest_of` makes the manifest of a run with some of its guests. Raises what is no guest's fault: that the repository is
    not there, or that indexes cannot be read, of any guest while there is time, and of all guests after that.
    """
    repository.check_there()  # a mount that is gone has no session and no index
    if isinstance(error, _OF_THE_RUN):
        return []
    found: list[tuple[str, Fault]] = []
    troubled: dict[str, Exception] = {}
    places = _places(run)
    for guest_uuid, made in _parts(run, run.kept, manifest_of):
        if isinstance(made, Exception):
            place = places.get(guest_uuid, {"guest": guest_uuid})
            found.append((guest_uuid, fault_of(made).model_copy(update=place)))
        else:
            found += _unfit_disks(repository, made, troubled)
    if troubled and (in_time or len(troubled) == len(run.kept)):
        raise next(iter(troubled.values()))
    return found


def _parts(
    run: Run, kept: Sequence[str], manifest_of: Callable[[Run], Manifest]
) -> Iterator[tuple[str, GuestCapture | Exception]]:
    """Yield these guests, each with its part of the manifest, or the reason why it cannot be made.

    As a rule all parts can be made, and one manifest has them all. If not, halves are tried: a manifest of one guest takes as
    long as one of all, since it is made of all answers.
    """
    if not kept:
        return
    try:
        manifest = manifest_of(run.model_copy(update={"kept": tuple(kept)}))
    except Exception as error:  # a defect that the answers of some of these guests meet
        if is_shortage(error) or isinstance(error, _OF_THE_RUN):  # of this host, or of the run, and no guest's
            raise
        if len(kept) == 1:
            yield kept[0], error
            return
    else:
        yield from ((guest.guest_uuid, guest) for guest in manifest.guests)
        return
    half = len(kept) // 2
    yield from _parts(run, kept[:half], manifest_of)
    yield from _parts(run, kept[half:], manifest_of)


def _places(run: Run) -> dict[str, dict[str, str]]:
    """Return names and hosts of the planned guests, as a fault has them, by UUID."""
    hosts = run.plan.hosts if run.plan else ()
    return {one.guest_uuid: {"guest": one.name, "host": host.host_id} for host in hosts for one in host.guests}


def _unfit_disks(
    repository: Repository, guest: GuestCapture, troubled: dict[str, Exception]
) -> list[tuple[str, Fault]]:
    found = []
    for disk in guest.disks:
        try:
            check_index(repository, disk)
        except Exception as error:  # noqa: BLE001  whatever it is, it is of this disk
            met = passing(error)
            if is_store_trouble(met):
                troubled[guest.guest_uuid] = met
            found.append((guest.guest_uuid, _fault(met, guest, disk.target)))
    return found


def _fault(error: Exception, guest: GuestCapture, target: str) -> Fault:
    fault = fault_of(error)
    again = f"capture the guest again: `freezeframe capture {guest.guest_uuid}`"  # another host's may have its name
    advice = f"Look at the storage of the repository, where the index was written a while ago; then {again}."
    return fault.model_copy(
        update={
            "message": f"Disk {target} of guest {guest.name} cannot be sealed: {fault.message}",
            "advice": advice if isinstance(error, IndexDamaged) else fault.advice,
            "guest": guest.name,
            "host": guest.host_id,
            "disk": target,
        }
    )
