"""What a host tells of its results: definitions once, in a key of their own, and with the result or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from freezeframe.contract import names
from freezeframe.contract.definition import Definition
from freezeframe.contract.fault import Fault
from freezeframe.contract.order import PrepareOrder
from freezeframe.contract.result import PreparedGuest, PrepareResult
from freezeframe.contract.words import Method, Step
from workers.host import Host
from workers.steps import publication
from workers.steps.publication import RESULTS_KEEP_S, publish, publish_again

CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
ALPHA, BETA = (f"00000000-0000-4000-8000-00000000000{letter}" for letter in "ab")
RESULTS, DEFINITIONS = names.results_key(CAPTURE), names.definitions_key(CAPTURE)
FIELD = names.result_field(Step.PREPARE, "host-a")
TROUBLE = Fault(code="no-room", message="No room.", guest="beta")

ORDER = PrepareOrder(
    capture_id=CAPTURE,
    epoch=1,
    host_id="host-a",
    not_after=datetime.now(UTC) + timedelta(hours=1),
    method=next(iter(Method)),
    repository_id="r",
    chunk_bytes=4096,
    guests=(),
)
PREPARED = PrepareResult(
    capture_id=CAPTURE,
    host_id="host-a",
    guests=(
        PreparedGuest(guest_uuid=ALPHA, name="alpha", domain_xml="<stored/>", live_xml="<live/>"),
        PreparedGuest(guest_uuid=BETA, name="beta", fault=TROUBLE),
    ),
)
DEFINITION = Definition(domain_xml="<stored/>", live_xml="<live/>")
SIZE = len(DEFINITION.model_dump_json())
BARE = PREPARED.model_copy(
    update={"guests": (PreparedGuest(guest_uuid=ALPHA, name="alpha", definition_bytes=SIZE), PREPARED.guests[1])}
).model_dump_json()


def definitions(host: Host) -> dict[str, Definition]:
    found: dict[str, str] = host.redis.hgetall(DEFINITIONS)  # type: ignore[assignment]
    return {field: Definition.model_validate_json(text) for field, text in found.items()}


TOLD = {names.definition_field("host-a", ALPHA): DEFINITION}


def test_definitions_are_told_apart_from_what_every_look_reads(host: Host) -> None:
    publish(host, Step.PREPARE, ORDER, PREPARED.model_dump_json())
    assert host.redis.hgetall(RESULTS) == {FIELD: BARE}
    assert "xml" not in BARE
    assert definitions(host) == TOLD
    assert 0 < host.redis.ttl(DEFINITIONS) <= RESULTS_KEEP_S
    assert 0 < host.redis.ttl(RESULTS) <= RESULTS_KEEP_S


def test_what_redis_has_lost_is_told_again_with_its_definitions(host: Host) -> None:
    journal = host.journal.of(CAPTURE)
    journal.store_result(Step.PREPARE, "", PREPARED.model_dump_json())
    publish_again(host, journal)
    assert host.redis.hgetall(RESULTS) == {FIELD: BARE}
    assert definitions(host) == TOLD


def test_what_redis_has_is_not_sent_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery comes every few seconds, on every host, for as long as a capture goes on."""
    journal = host.journal.of(CAPTURE)
    journal.store_result(Step.PREPARE, "", PREPARED.model_dump_json())
    publish_again(host, journal)
    monkeypatch.setattr(publication, "_put", lambda *_: pytest.fail("it was sent again"))
    publish_again(host, journal)


def test_the_first_result_stands(host: Host) -> None:
    host.redis.hset(RESULTS, FIELD, "first")
    publish(host, Step.PREPARE, ORDER, PREPARED.model_dump_json())
    assert host.redis.hgetall(RESULTS) == {FIELD: "first"}


def test_a_result_is_never_there_without_its_definitions(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis goes away between the two: then there is neither, and both are told when it is back."""
    monkeypatch.setattr(publication, "PUBLISH_PAUSE_S", 0)
    pipeline = host.redis.pipeline

    def breaking(*, transaction: bool) -> redis.client.Pipeline:
        assert transaction
        made = pipeline(transaction=True)

        def execute(raise_on_error: bool = True) -> list[object]:  # noqa: FBT001, FBT002 - as redis-py has it
            raise redis.ConnectionError("away")

        monkeypatch.setattr(made, "execute", execute)
        return made

    with monkeypatch.context() as away:
        away.setattr(host.redis, "pipeline", breaking)
        publish(host, Step.PREPARE, ORDER, PREPARED.model_dump_json())
    assert host.redis.exists(RESULTS, DEFINITIONS) == 0
    publish(host, Step.PREPARE, ORDER, PREPARED.model_dump_json())
    assert (host.redis.hget(RESULTS, FIELD), definitions(host)) == (BARE, TOLD)


@pytest.mark.parametrize("text", ["answer", json.dumps({"v": 2, "guests": [{"domain_xml": "<x/>"}]}), "[]"])
def test_a_result_that_this_version_cannot_read_is_told_as_it_is(host: Host, text: str) -> None:
    """Whoever reads it says that it cannot be read."""
    publish(host, Step.PREPARE, ORDER, text)
    assert host.redis.hgetall(RESULTS) == {FIELD: text}
    assert host.redis.exists(DEFINITIONS) == 0
