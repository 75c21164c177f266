"""Names that both sides must agree on: Celery tasks, queues, Redis keys. Nothing else in the code spells one out."""

from __future__ import annotations

from freezeframe.contract.words import Step

#: All keys in Redis that are ours and not Celery's start with this.
PREFIX = "freezeframe"

ORCHESTRATOR_QUEUE = "orchestrator"

# Tasks, named as in the drawing of the path.
INTAKE_TASK = "orchestrator.intake"
LOOK_TASK = "orchestrator.look"
CANCEL_TASK = "orchestrator.cancel"
STEP_TASKS = {
    Step.PREPARE: "host.prepare",
    Step.HOLD: "host.hold",
    Step.TRANSFER: "host.transfer",
    Step.RELEASE: "host.release",
}

#: Runs that have not ended, a set of capture ids.
ACTIVE_RUNS_KEY = f"{PREFIX}:runs:active"
#: Which runs may begin, and which wait for a place: a hash of capture ids to JSON, and its `version` (orchestrator.board).
ADMISSION_KEY = f"{PREFIX}:runs:admission"
#: The versions in which its entries were changed: a sorted set of capture ids.
ADMISSION_CHANGES_KEY = f"{PREFIX}:runs:admission:changes"
#: The guests that runs want or have: a hash of UUIDs to capture ids, with spaces between them (orchestrator.wanted_guests).
WANTED_GUESTS_KEY = f"{PREFIX}:runs:guests"
#: A random id of this Redis, by which a host knows the one that it has its orders from.
REDIS_ID_KEY = f"{PREFIX}:redis-id"
#: Guests that have left a host while they were held (`LeftHeld`): a hash of left_held_field to JSON.
LEFT_HELD_KEY = f"{PREFIX}:left-held"
#: The last epoch given out.
EPOCH_KEY = f"{PREFIX}:epoch"


def control_queue(host_id: str) -> str:
    """Return the queue of a host's short tasks that nobody waits for with guests held: prepare."""
    return f"host.{host_id}.control"


def hold_queue(host_id: str) -> str:
    """Return the queue of a host's tasks that must begin at once: hold, release."""
    return f"host.{host_id}.hold"


def data_queue(host_id: str) -> str:
    """Return the queue of a host's long tasks: transfers."""
    return f"host.{host_id}.data"


def host_queues(host_id: str) -> list[str]:
    """Return all queues of a host."""
    return [control_queue(host_id), hold_queue(host_id), data_queue(host_id)]


def step_queue(step: Step, host_id: str) -> str:
    """Return the queue of a step's orders."""
    match step:
        case Step.PREPARE:
            return control_queue(host_id)
        case Step.HOLD | Step.RELEASE:
            return hold_queue(host_id)
        case Step.TRANSFER:
            return data_queue(host_id)


def host_key(host_id: str) -> str:
    """A host's inventory entry, JSON."""
    return f"{PREFIX}:host:{host_id}"


def alive_key(host_id: str) -> str:
    """There while the host has been heard of lately."""
    return f"{PREFIX}:alive:{host_id}"


def machine_key(host_id: str) -> str:
    """The machine that a host's id is bound to, JSON."""
    return f"{PREFIX}:machine:{host_id}"


def contents_key(repository_id: str) -> str:
    """The guests of the captures of a repository, for planning: a hash of capture ids (`orchestrator.contents`)."""
    return f"{PREFIX}:contents:{repository_id}"


HOSTS_PATTERN = host_key("*")
#: The ids of all hosts that have published themselves, a set; and a mark that all keys were searched for hosts lately, which is
#: there for ten minutes: a host of a version before is in no set.
HOST_IDS_KEY = f"{PREFIX}:hosts"
HOSTS_SEARCHED_KEY = f"{PREFIX}:hosts:searched"


def run_key(capture_id: str) -> str:
    """A run: a hash of its record, and beside that what hosts read every few seconds, who have no use for the rest.

    | field     |                                                                                            |
    |-----------|--------------------------------------------------------------------------------------------|
    | `record`  | the orchestrator's whole record, JSON                                                      |
    | `version` | how often it was changed                                                                   |
    | `written` | a word that no other record has, also none of the same version after a failover             |
    | `stated`  | the version that the following fields are of: an orchestrator of before does not write them |
    | `v`       | the format of these fields and of the record                                               |
    | `state`   | the run's state                                                                            |
    | `kept`    | how many guests `kept_key` has                                                             |
    """
    return f"{PREFIX}:run:{capture_id}"


def kept_key(capture_id: str) -> str:
    """The guests that are still part of a capture, a set of UUIDs."""
    return f"{PREFIX}:run:{capture_id}:kept"


def wanted_key(capture_id: str) -> str:
    """Return the key of the guests that `WANTED_GUESTS_KEY` has of a run, a set of UUIDs."""
    return f"{PREFIX}:run:{capture_id}:wanted"


def results_key(capture_id: str) -> str:
    """The results of a run's steps: a hash of `step/host/part` to the first result that came."""
    return f"{PREFIX}:run:{capture_id}:results"


def definitions_key(capture_id: str) -> str:
    """The definitions of a run's guests: a hash of definition_field to a `Definition`."""
    return f"{PREFIX}:run:{capture_id}:definitions"


def definition_field(host_id: str, guest_uuid: str) -> str:
    """A guest that was looked for may have been prepared on two hosts."""
    return f"{host_id}/{guest_uuid}"


#: In place of a step, for what a host has seen of storage while a capture is under way (`SeenUses`).
SEEN_USES = "uses"


def result_field(step: Step | str, host_id: str, part: str = "") -> str:
    return f"{step}/{host_id}/{part}"


def transfer_part(guest_uuid: str, target: str) -> str:
    """Return the part of the step that is the transfer of one disk."""
    return f"{guest_uuid}.{target}"


def left_held_field(capture_id: str, guest_uuid: str) -> str:
    return f"{capture_id}/{guest_uuid}"


def events_key(capture_id: str) -> str:
    """A run's events, a stream."""
    return f"{PREFIX}:run:{capture_id}:events"


def pulse_key(capture_id: str) -> str:
    """The signs of life of a run's transfers: a hash of pulse_field to a number that changes as the transfer moves, a
    space, and one that changes while it waits for the repository or a limit.
    """
    return f"{PREFIX}:run:{capture_id}:pulse"


def pulse_field(host_id: str, part: str) -> str:
    return f"{host_id}/{part}"


def gate_key(capture_id: str, epoch: int, gate: str) -> str:
    """One gate of the barrier; see freezeframe.barrier."""
    return f"{PREFIX}:barrier:{{{capture_id}}}:{epoch}:{gate}"
