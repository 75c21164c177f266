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
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.fault import Fault
from freezeframe.contract.message import OWN_VERSION
from freezeframe.contract.result import HoldResult, PrepareResult, ReleaseResult, SeenUses, TransferResult
from freezeframe.contract.words import Step
from freezeframe.errors import FreezeframeError

#: What a host has put into a run's results.
Answer = PrepareResult | HoldResult | TransferResult | ReleaseResult | SeenUses

log = structlog.get_logger("answers")


class UnreadableAnswerError(FreezeframeError):
    """A host has answered, and this version cannot read the answer."""

    code = "unreadable-answer"

    def __init__(self, host_id: str, what: str, why: str) -> None:
        super().__init__(
            f"Host {host_id} has told what this orchestrator cannot read: {what} {why}.",
            advice=f"Bring freezeframe on the orchestrator's machine and on host {host_id} to one version, the newer of the "
            "two: `freezeframe version` on each tells which it has. If it is one already, what Redis keeps was damaged there: "
            "nothing else may write to its keys. Then capture again.",
        )


class Unread(NamedTuple):
    """What is there and cannot be read, and why."""

    why: str


_UNREAD_USES = "it has told of one, in words that this orchestrator does not read"


@dataclass(frozen=True)
class Answers:
    """The results that have come for a run, by step, each step's in a fixed order."""

    prepared: tuple[PrepareResult, ...] = ()
    held: tuple[HoldResult, ...] = ()
    transferred: tuple[TransferResult, ...] = ()
    released: tuple[ReleaseResult, ...] = ()
    seen: tuple[SeenUses, ...] = ()
    #: Where an answer is, by names.result_field: also one that is of no order.
    fields: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def read(cls, capture_id: str, raw: Mapping[str, str]) -> Answers:
        """Return the results of a run from its record: texts by `names.result_field`."""
        return cls.of({field: parsed(capture_id, field, text) for field, text in raw.items()})

    @classmethod
    def of(cls, by_field: Mapping[str, Answer | None]) -> Answers:
        """Return results by `names.result_field`, as `parsed` returns each."""
        found = [by_field[field] for field in sorted(by_field)]
        return cls(
            prepared=tuple(one for one in found if isinstance(one, PrepareResult)),
            held=tuple(one for one in found if isinstance(one, HoldResult)),
            transferred=tuple(one for one in found if isinstance(one, TransferResult)),
            released=tuple(one for one in found if isinstance(one, ReleaseResult)),
            seen=tuple(one for one in found if isinstance(one, SeenUses)),
            fields=frozenset(by_field),
        )


def parsed(capture_id: str, field: str, text: str) -> Answer | None:
    """Return what a host has answered; a result that has failed for one that cannot be read, None for one of no order."""
    word, _, place = field.partition("/")
    host_id, _, part = place.partition("/")
    if word == names.SEEN_USES:
        return _seen(capture_id, host_id, text)
    kind = next((kind for step, kind in _KINDS.items() if word == step), None)
    if kind is None:
        return None
    try:
        return kind.result.model_validate_json(text)
    except ValidationError as error:
        fault = Fault.of(
            UnreadableAnswerError(host_id, f"its answer to the order to {word}", why_unread(text, error)), host=host_id
        )
    try:
        return kind.failed(capture_id, host_id, part, fault)
    except ValueError:  # a field that no host of ours writes, for which nobody waits
        log.warning("a result is of no order", field=field)
        return None


def _seen(capture_id: str, host_id: str, text: str) -> SeenUses:
    """Return what a host has seen on its own; of what cannot be read, that its host's writers are unknown."""
    try:
        return SeenUses.model_validate_json(text)
    except ValidationError as error:
        log.warning("what a host has seen cannot be read", host=host_id, faults=error.error_count())
        return SeenUses(capture_id=capture_id, host_id=host_id, uses=(), writers_unseen=_UNREAD_USES)


def why_unread(text: str, error: ValidationError) -> str:
    """Return why a message cannot be read, as the end of a sentence. Pure."""
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


class _Kind(NamedTuple):
    """The reader of the answers to a step, and the maker of a failed one for an answer that cannot be read."""

    result: type[PrepareResult | HoldResult | TransferResult | ReleaseResult]
    failed: Callable[[str, str, str, Fault], Answer]


_KINDS: Final = {
    Step.PREPARE: _Kind(PrepareResult, _not_prepared),
    Step.HOLD: _Kind(HoldResult, _not_held),
    Step.TRANSFER: _Kind(TransferResult, _not_stored),
    Step.RELEASE: _Kind(ReleaseResult, _not_released),
}
