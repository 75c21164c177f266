"""Results in the run's record in Redis, where the orchestrator reads them; the journal has them too."""

from __future__ import annotations

import time
from typing import cast

import redis
import structlog

from freezeframe.contract import names
from freezeframe.contract.order import Order
from freezeframe.contract.words import Step
from workers.host import Host
from workers.journal import CaptureJournal

log = structlog.get_logger("step")

#: Tries to publish a result, and seconds between them; after that recovery tells it when Redis is back.
PUBLISH_TRIES = 5
PUBLISH_PAUSE_S = 0.5
#: Seconds that results stay in Redis, like the run's record.
RESULTS_KEEP_S = 7 * 86400


def publish(host: Host, step: Step, order: Order, text: str) -> None:
    """Put a result into the run's record, unless it has one for that step already."""
    key = names.results_key(order.capture_id)
    for _ in range(PUBLISH_TRIES):
        try:
            host.redis.hsetnx(key, names.result_field(step, host.host_id, order.part), text)
            host.redis.expire(key, RESULTS_KEEP_S)
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
    key = names.results_key(journal.capture_id)
    try:
        for step, part, text in journal.results():
            if host.redis.hsetnx(key, names.result_field(step, host.host_id, part), text):
                log.warning("result published late", capture=journal.capture_id, step=step, part=part)
                host.redis.expire(key, RESULTS_KEEP_S)
    except redis.RedisError as error:
        log.warning("results not published yet", capture=journal.capture_id, why=str(error))
