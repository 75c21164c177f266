"""Results as hosts tell them: a prepare's definitions in their own key, all else in the run's results."""

from __future__ import annotations

import redis

from freezeframe.contract import names
from freezeframe.contract.definition import Definition
from freezeframe.contract.result import PrepareResult, Result


def tell(client: redis.Redis, capture_id: str, field: str, result: Result) -> None:
    """Put a result where the orchestrator looks. `field` is that of `names.result_field`."""
    if isinstance(result, PrepareResult):
        for place, definition in definitions_of(result).items():
            client.hset(names.definitions_key(capture_id), place, definition.model_dump_json())
        bare = tuple(guest.model_copy(update={"domain_xml": "", "live_xml": ""}) for guest in result.guests)
        result = result.model_copy(update={"guests": bare})
    client.hset(names.results_key(capture_id), field, result.model_dump_json())


def definitions_of(*results: PrepareResult) -> dict[str, Definition]:
    """Return the definitions of all guests, by names.definition_field; of a guest without one a short one."""
    return {
        names.definition_field(result.host_id, guest.guest_uuid): Definition(
            domain_xml=guest.domain_xml or "<domain/>", live_xml=guest.live_xml
        )
        for result in results
        for guest in result.guests
    }
