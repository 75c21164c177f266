"""Runs that are given up, and captures that exist all the same: the manifest decides, not what Redis has of it.

    given up ─▶ releasing, sealed: not known ─▶ the repository is asked ─▶ it has no manifest   not sealed, and never will be
                                                                       ├─▶ it has one           sealed: the guests that it has
                                                                       └─▶ it cannot be asked   hosts keep the new checkpoints,
                                                                                                and it is asked again at the end

A run can be given up after its capture was sealed: Redis refused the record of that, or came back as it was before; another
orchestrator was faster. Hosts that are told "not sealed" delete the checkpoints that the manifest names.

It is asked when the run has left the state in which it may be sealed. If there is no manifest the session is ended as failed,
so that a seal which is still at work, here or in another orchestrator, takes its manifest back (`final_manifest`). If it cannot
be ended, a run that has come to its seal is not known to be unsealed: hosts keep what its manifest would name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import structlog

from freezeframe.bounded import answered
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import SEAL_UNKNOWN
from freezeframe.contract.words import RunState
from freezeframe.errors import EXIT_REPOSITORY, FreezeframeError
from freezeframe.repository import Manifest, Repository
from freezeframe.repository.errors import AlreadyExists, ManifestUnreadable, SealUndecided, SessionLost
from freezeframe.repository.sealed import final_manifest, sealed_manifest
from orchestrator.defect import fault_of, words_of
from orchestrator.errors import NotInCaptureError
from orchestrator.run import Run
from orchestrator.sessions import PATIENCE_S

log = structlog.get_logger("seal state")

#: What a second seal meets because the first was one: told only if nothing is sealed after all.
_TRACES = frozenset({AlreadyExists.code, SessionLost.code})
_NONE: Final[AbstractSet[str]] = frozenset()


class SealUnknownError(FreezeframeError):
    """A run ends, and the repository does not tell whether its capture is sealed."""

    code = SEAL_UNKNOWN
    exit_code = EXIT_REPOSITORY

    def __init__(self, capture_id: str, why: str) -> None:
        super().__init__(
            f"It is not known whether capture {capture_id} is sealed: {why}",
            advice=f"When the repository answers again, `freezeframe captures show {capture_id}` shows the capture if it is. "
            "Its guests keep their new checkpoints until then.",
        )


@dataclass(frozen=True)
class SealState:
    """The repository's answer for a capture."""

    sealed: bool | None  # None: not known
    guests: tuple[str, ...] | None = None  # that the manifest has; None: not known, or there is no manifest
    why: str = ""  # something is not known


def ask(repository: Repository, run: Run, *, was_refused: bool = False) -> SealState:
    """Return whether a capture is sealed. If it is not, no seal of it that was begun succeeds after this.

    `was_refused`: its hosts' answers say that nothing can be sealed of it (`refused`), should the repository not answer.
    """
    capture_id = run.capture_id
    try:
        return answered(f"The repository at {repository.address}", PATIENCE_S, lambda: _found(repository, run))
    except ManifestUnreadable as error:
        return SealState(sealed=True, why=_words(error))
    except Exception as error:  # noqa: BLE001  unreadable is not absent, whatever the reason
        if was_refused and not isinstance(error, SealUndecided):
            return SealState(sealed=False)
        log.warning("it is not known whether a capture is sealed", capture=capture_id, why=words_of(error))
        return SealState(sealed=None, why=_words(error))


def _found(repository: Repository, run: Run) -> SealState:
    try:
        manifest = final_manifest(repository, run.capture_id)
    except SealUndecided:
        raise
    except (FreezeframeError, OSError) as error:
        # full or read-only storage keeps the session from being ended: no reason for a doubt if no seal was begun
        if run.seal_begun or sealed_manifest(repository, run.capture_id) is not None:
            raise
        log.warning("a session was not ended", capture=run.capture_id, why=words_of(error))
        manifest = None
    return SealState(sealed=False) if manifest is None else SealState(sealed=True, guests=_guests(manifest))


def _guests(manifest: Manifest) -> tuple[str, ...]:
    return tuple(guest.guest_uuid for guest in manifest.guests)


def _words(error: Exception) -> str:
    return str(fault_of(error))


def doubted(before: Run, following: Run) -> Run:
    """Return the run that follows `before`; one that is given up waits for what the repository says. Pure.

    The faults for which it is given up count only if nothing is sealed.
    """
    if following.state is not RunState.RELEASING or before.state is RunState.RELEASING or following.sealed:
        return following
    faults = following.faults[len(before.faults) :]
    return following.model_copy(update={"sealed": None, "kept": (), "faults": before.faults, "unsealed_faults": faults})


def settled(run: Run, found: SealState) -> Run:
    """Return the run as the repository knows it; unchanged while that is not known. Pure."""
    if found.sealed is False:
        faults = (*run.faults, *run.unsealed_faults)
        return run.model_copy(update={"sealed": False, "faults": faults, "unsealed_faults": ()})
    return run if found.guests is None else _sealed(run, found.guests)


def ended(run: Run, found: SealState, *, wait: bool) -> Run | None:
    """Return a run that ends as the repository knows it, of which it was not known whether it is sealed. Pure.

    None: it has to wait, as the repository does not say and there is time.
    """
    run = settled(run, found)
    if run.sealed is not None:
        return _in_its_state(run)
    faults = (*run.faults, *run.unsealed_faults)
    if found.sealed:  # the manifest is there and cannot be read: a warning of the receipt says so
        return _in_its_state(run.model_copy(update={"sealed": True, "faults": faults, "unsealed_faults": ()}))
    if wait:
        return None
    unknown = Fault.of(SealUnknownError(run.capture_id, found.why))
    # what it was given up for comes first: it names the guest and the disk, and is what a person can mend
    return _in_its_state(run.model_copy(update={"faults": (*faults, unknown), "unsealed_faults": ()}))


def _in_its_state(run: Run) -> Run:
    return run.model_copy(update={"state": RunState.DONE if run.sealed else RunState.FAILED})


def _sealed(run: Run, guests: Sequence[str]) -> Run:
    """Return the run with exactly the guests that the manifest has. What is met after a seal is no fault of those."""
    planned = _Planned.of(run)
    missing, captured = planned.places.keys() - set(guests), planned.places.keys() & set(guests)
    met_by = {fault: planned.meant(fault) for fault in (*run.faults, *run.unsealed_faults)}
    faults = [one for one in run.faults if met_by[one] & missing or not met_by[one] & captured]
    faults += [one for one in run.unsealed_faults if met_by[one] & missing]
    stay = frozenset(faults)
    met = [
        f"The capture had been sealed when the orchestrator met this: {fault.message}"
        for fault in (*run.faults, *run.unsealed_faults)
        if fault not in stay and fault.code not in _TRACES
    ]
    unexplained = missing - {uuid for fault in faults for uuid in _explained(fault, met_by[fault])}
    faults += [_unexplained(*place) for uuid, place in planned.places.items() if uuid in unexplained]
    update = {
        "sealed": True,
        "kept": tuple(guests),
        "faults": tuple(faults),
        "unsealed_faults": (),
        "warnings": (*run.warnings, *met),
    }
    return run.model_copy(update=update)


@dataclass(frozen=True)
class _Planned:
    """The planned guests, by what a fault may name: a run of many guests may have a fault of each of their disks."""

    places: Mapping[str, tuple[str, str]]  # names and hosts, by UUID
    on_host: Mapping[str | None, AbstractSet[str]]
    called: Mapping[str, AbstractSet[str]]  # by name, or by UUID
    called_on_host: Mapping[tuple[str, str | None], AbstractSet[str]]

    @classmethod
    def of(cls, run: Run) -> _Planned:
        places: dict[str, tuple[str, str]] = {}
        on_host, called = defaultdict[str | None, set[str]](set), defaultdict[str, set[str]](set)
        called_on_host = defaultdict[tuple[str, str | None], set[str]](set)
        for host in run.plan.hosts if run.plan else ():
            for guest in host.guests:
                places[guest.guest_uuid] = guest.name, host.host_id
                on_host[host.host_id].add(guest.guest_uuid)
                for word in (guest.guest_uuid, guest.name):
                    called[word].add(guest.guest_uuid)
                    called_on_host[word, host.host_id].add(guest.guest_uuid)
        return cls(places, on_host, called, called_on_host)

    def meant(self, fault: Fault) -> AbstractSet[str]:
        """Return the UUIDs of the guests that a fault is told of, or of all guests of its host.

        A name is only a label: the guest of that name on the fault's host is meant, and without one there, any of that name
        may be.
        """
        if fault.guest is None:
            return self.on_host.get(fault.host, _NONE)
        return self.called_on_host.get((fault.guest, fault.host)) or self.called.get(fault.guest, _NONE)


def _explained(fault: Fault, meant: AbstractSet[str]) -> AbstractSet[str]:
    """Return the guests of which this fault says why they are missing: none if it may be told of another of the name."""
    return meant if fault.guest is None or len(meant) == 1 else _NONE


def _unexplained(name: str, host_id: str) -> Fault:
    where = f"Guest {name} on host {host_id}"
    error = NotInCaptureError(f"{where} is not in the capture that was sealed, and Redis has lost the reason.")
    return Fault.of(error, guest=name, host=host_id)
