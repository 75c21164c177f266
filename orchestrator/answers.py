"""The results that hosts have put into a run's record, by step. Pure.

| a result                        | counts as                                                                      |
|---------------------------------|--------------------------------------------------------------------------------|
| that can be read                | itself                                                                         |
| of a later version, or damaged  | an answer too: that step of that host, or that disk's transfer, has failed     |

Who waits for a result that is there and cannot be read would wait in vain: the first result of a step is the only one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.message import Message
from freezeframe.contract.result import HoldResult, PrepareResult, ReleaseResult, Result, SeenUses, TransferResult
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError

ResultT = TypeVar("ResultT", bound=Result)

log = structlog.get_logger("answers")

#: The version of messages that this program writes and reads.
OWN_VERSION: int = Message.model_fields["v"].default


class UnreadableAnswerError(FreezeframeError):
    """A host has answered, and this version cannot read the answer."""

    code = "unreadable-answer"

    def __init__(self, host_id: str, step: Step, why: str) -> None:
        super().__init__(
            f"Another version of Freezeframe is on host {host_id}: its answer to the order to {step} {why}.",
            advice=f"Bring freezeframe on the orchestrator's machine and on host {host_id} to one version, the newer of the "
            "two: `freezeframe version` on each tells which it has.",
        )


_UNREAD_USES = "it has told of one, in words that this orchestrator does not read"


@dataclass(frozen=True)
class Answers:
    """The results that have come for a run, by step, each step's in a fixed order."""

    prepared: tuple[PrepareResult, ...] = ()
    held: tuple[HoldResult, ...] = ()
    transferred: tuple[TransferResult, ...] = ()
    released: tuple[ReleaseResult, ...] = ()
    seen: tuple[SeenUses, ...] = ()

    @classmethod
    def read(cls, capture_id: str, raw: Mapping[str, str]) -> Answers:
        """Return the results of a run from its record: texts by `names.result_field`."""
        return cls(
            prepared=_of(raw, Step.PREPARE, PrepareResult, lambda *place: _not_prepared(capture_id, *place)),
            held=_of(raw, Step.HOLD, HoldResult, lambda *place: _not_held(capture_id, *place)),
            transferred=_of(raw, Step.TRANSFER, TransferResult, lambda *place: _not_stored(capture_id, *place)),
            released=_of(raw, Step.RELEASE, ReleaseResult, lambda *place: _not_released(capture_id, *place)),
            seen=_seen(capture_id, raw),
        )


def _of(
    raw: Mapping[str, str], step: Step, kind: type[ResultT], failed: Callable[[str, str, Fault], ResultT]
) -> tuple[ResultT, ...]:
    found = []
    for field, text in sorted(raw.items()):
        if not field.startswith(f"{step}/"):
            continue
        try:
            found.append(kind.model_validate_json(text))
        except ValidationError as error:
            host_id, _, part = field.removeprefix(f"{step}/").partition("/")
            fault = Fault.of(UnreadableAnswerError(host_id, step, _why(text, error)), host=host_id)
            try:
                found.append(failed(host_id, part, fault))
            except ValueError:  # a field that no host of ours writes, for which nobody waits
                log.warning("a result is of no order", field=field)
    return tuple(found)


def _seen(capture_id: str, raw: Mapping[str, str]) -> tuple[SeenUses, ...]:
    """Return what hosts have seen on their own; of one that cannot be read, that its host's writers are unknown."""
    found = []
    for field, text in sorted(raw.items()):
        if field.startswith(f"{names.SEEN_USES}/"):
            try:
                found.append(SeenUses.model_validate_json(text))
            except ValidationError as error:
                log.warning("what a host has seen cannot be read", field=field, faults=error.error_count())
                host_id = field.split("/")[1]
                found.append(SeenUses(capture_id=capture_id, host_id=host_id, uses=(), writers_unseen=_UNREAD_USES))
    return tuple(found)


def _why(text: str, error: ValidationError) -> str:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    version = document.get("v") if isinstance(document, dict) else None
    if isinstance(version, int) and version > OWN_VERSION:
        return f"is of version {version} of the format, and this orchestrator reads version {OWN_VERSION}"
    return f"cannot be read ({error.error_count()} faults)"


def _not_prepared(capture_id: str, host_id: str, part: str, fault: Fault) -> PrepareResult:
    """Raise ValueError for a part that is no round."""
    number = int(part.removeprefix("round")) if part else 0
    return PrepareResult(capture_id=capture_id, host_id=host_id, fault=fault, round=number)


def _not_held(capture_id: str, host_id: str, _: str, fault: Fault) -> HoldResult:
    """Count the writes of the host's other guests as unknown (`unseen`): they are in the same unreadable answer."""
    return HoldResult(
        capture_id=capture_id, host_id=host_id, fault=fault, writers_unseen="another version of Freezeframe is there"
    )


def _not_stored(capture_id: str, host_id: str, part: str, fault: Fault) -> TransferResult:
    """Raise ValueError for a part that is no disk of a guest."""
    guest_uuid, _, target = part.partition(".")
    return TransferResult(capture_id=capture_id, host_id=host_id, guest_uuid=guest_uuid, target=target, fault=fault)


def _not_released(capture_id: str, host_id: str, _: str, fault: Fault) -> ReleaseResult:
    return ReleaseResult(capture_id=capture_id, host_id=host_id, fault=fault)
