"""Results in the run's record in Redis, where the orchestrator reads them; the journal has them too.

the journal's text ─┬─▶ the result without definitions ─▶ results_key       read at every look
└─▶ the definitions of its guests  ─▶ definitions_key   read by the seal
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import redis
import structlog
from pydantic import ValidationError

from freezeframe.contract import names
from freezeframe.contract.definition import Definition
from freezeframe.contract.order import Order
from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.contract.words import Step
from workers.host import Host
from workers.journal import CaptureJournal

log = structlog.get_logger("step")

#: Tries to publish a result, and seconds between them; after that recovery tells it when Redis is back.
PUBLISH_TRIES = 5
PUBLISH_PAUSE_S = 0.5
#: Seconds that results stay in Redis, like the run's record.
RESULTS_KEEP_S = 7 * 86400

_MISSING = """
-- KEYS[1] a run's results, ARGV[…] fields. Returns those that are not there.
local missing = {}
for _, field in ipairs(ARGV) do
    if redis.call('HEXISTS', KEYS[1], field) == 0 then missing[#missing + 1] = field end
end
return missing
"""


def publish(host: Host, step: Step, order: Order, text: str) -> None:
    """Put a result into the run's record, unless it has one for that step already."""
    for _ in range(PUBLISH_TRIES):
        try:
            _put(host, order.capture_id, step, order.part, text)
        except redis.RedisError as error:
            log.warning("result not published yet", why=str(error))
            time.sleep(PUBLISH_PAUSE_S)
        else:
            return


def published(host: Host, step: Step, order: Order) -> str | None:
    """Return the result that the run's record has of an order; None if there is none, or Redis does not say."""
    field = names.result_field(step, host.host_id, order.part)
    try:
        return cast("str | None", host.redis.hget(names.results_key(order.capture_id), field))
    except redis.RedisError as error:
        log.warning("whether a result was told is not known", why=str(error))
        return None


def publish_again(host: Host, journal: CaptureJournal) -> None:
    """Publish all stored results of a running capture that are missing in Redis, as after an outage."""
    try:
        told = {
            names.result_field(step, host.host_id, part): (step, part, text) for step, part, text in journal.results()
        }
        for field in _missing(host, journal.capture_id, list(told)):
            step, part, text = told[field]
            if _put(host, journal.capture_id, step, part, text):
                log.warning("result published late", capture=journal.capture_id, step=step, part=part)
    except redis.RedisError as error:
        log.warning("results not published yet", capture=journal.capture_id, why=str(error))


def _missing(host: Host, capture_id: str, fields: Sequence[str]) -> list[str]:
    """Return those of a host's own results that Redis does not have. Raises redis errors.

    Every host asks every few seconds, for as long as a capture goes on: the names of all hosts' results would be megabytes.
    """
    if not fields:
        return []
    ask = host.redis.register_script(_MISSING)
    return cast("list[str]", ask(keys=[names.results_key(capture_id)], args=list(fields)))


def _put(host: Host, capture_id: str, step: Step | str, part: str, text: str) -> bool:
    """Publish a result that the journal has; return True if there was none. Raises redis errors.

    Its definitions come with it: whoever sees the result finds them.
    """
    results, definitions = names.results_key(capture_id), names.definitions_key(capture_id)
    short, found = _parted(host.host_id, text) if step == Step.PREPARE else (text, {})
    with host.redis.pipeline(transaction=True) as together:
        for field, definition in found.items():
            together.hset(definitions, field, definition)
            together.expire(definitions, RESULTS_KEEP_S)
        together.hsetnx(results, names.result_field(step, host.host_id, part), short)
        together.expire(results, RESULTS_KEEP_S)
        answers: list[Any] = together.execute()
    return bool(answers[-2])


def _parted(host_id: str, text: str) -> tuple[str, dict[str, str]]:
    """Return the text of a prepare without definitions, and these by their fields; a text that is none as it is. Pure."""
    try:
        result = PrepareResult.model_validate_json(text)
    except ValidationError:  # damaged, or of another version: whoever reads it says so
        return text, {}
    found = {
        names.definition_field(host_id, guest.guest_uuid): Definition(
            domain_xml=guest.domain_xml, live_xml=guest.live_xml
        ).model_dump_json()
        for guest in result.guests
        if guest.domain_xml
    }
    bare = tuple(
        _without_definition(guest, found.get(names.definition_field(host_id, guest.guest_uuid), ""))
        for guest in result.guests
    )
    return result.model_copy(update={"guests": bare}).model_dump_json(), found


def _without_definition(guest: PreparedGuest, definition: str) -> PreparedGuest:
    """Return a guest with the size of its definition in place of it."""
    return guest.model_copy(update={"domain_xml": "", "live_xml": "", "definition_bytes": len(definition.encode())})
