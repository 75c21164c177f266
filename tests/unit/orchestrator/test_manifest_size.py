"""A capture whose manifest no repository takes ends before any guest is held (D16 of the orchestrator's review)."""

from __future__ import annotations

import pytest

from freezeframe.contract.definition import Definition
from freezeframe.contract.result import PrepareResult
from freezeframe.contract.words import Policy, RunState
from freezeframe.repository.layout import OBJECT_BYTES_MAX
from freezeframe.settings import OrchestratorSettings
from orchestrator import decision, manifest_size
from orchestrator.seal import manifest_of
from tests.scale.capture import NOW, ManyGuests

XML = '<domain type="kvm">\n  <name>of some length</name>\n</domain>\n'


def prepared(many: ManyGuests, definition_bytes: int) -> list[PrepareResult]:
    """Return what the hosts have told, with definitions of that size."""
    return [
        result.model_copy(
            update={
                "guests": tuple(
                    guest.model_copy(update={"definition_bytes": definition_bytes}) for guest in result.guests
                )
            }
        )
        for result in many.prepared
    ]


@pytest.mark.parametrize("disks", [1, 2, 10, 26])
@pytest.mark.parametrize("times", [1, 100, 1000])
def test_the_estimate_is_above_the_manifest_by_a_few_kib_for_a_guest_and_a_disk(disks: int, times: int) -> None:
    many = ManyGuests(20, 10, disks)
    definition = Definition(domain_xml=XML * times, live_xml=XML * times)
    definitions = dict.fromkeys(many.definitions, definition)
    held, transferred, seen = many.held, many.transferred, ()
    manifest = manifest_of(many.run(RunState.SEALING), many.prepared, held, transferred, seen, definitions)
    real = len(manifest.model_dump_json().encode())
    told = prepared(many, len(definition.model_dump_json().encode()))
    above = manifest_size.estimate(told, many.every_uuid) - real
    assert 0 < above < many.guests * ((3 << 10) + disks * (2 << 10))


def test_ten_thousand_guests_of_two_disks_fit() -> None:
    assert manifest_size.check(prepared(ManyGuests(1000, 10, 2), 6 << 10), ManyGuests(1000, 10, 2).every_uuid) is None


@pytest.mark.parametrize("policy", list(Policy))
def test_a_capture_that_is_too_large_ends_after_prepare(policy: Policy) -> None:
    many = ManyGuests(10, 10, 2)
    run = many.run(RunState.PREPARING, policy)
    results = prepared(many, OBJECT_BYTES_MAX // 100)
    following = decision.after_prepare(run, results, NOW, OrchestratorSettings(), many.inventory)
    assert following is not None
    assert (following.state, following.kept) == (RunState.RELEASING, ())
    assert [fault.code for fault in following.faults] == ["capture-too-large"]
    assert "100 guests" in following.faults[0].message


def test_only_guests_that_are_ready_count() -> None:
    many = ManyGuests(10, 10, 2)
    results = prepared(many, OBJECT_BYTES_MAX // 20)
    assert manifest_size.check(results, many.every_uuid) is not None
    assert manifest_size.check(results, many.every_uuid[:10]) is None
