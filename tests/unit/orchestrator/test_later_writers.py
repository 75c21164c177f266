"""A writer of another host that comes after prepare: which guests are kept then, and what is claimed of them (P2)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from freezeframe.contract import names
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.contract.result import (
    HoldResult,
    PreparedDisk,
    PreparedGuest,
    PrepareResult,
    SeenUses,
    StorageUse,
    TransferResult,
)
from freezeframe.contract.words import CaptureKind, Consistency, Policy, RunState, Step
from orchestrator import decision, unseen
from orchestrator.answers import Answers
from orchestrator.decision import proof_of
from orchestrator.look import Orchestrator
from orchestrator.run import Run
from orchestrator.seal import manifest_of
from tests.unit.orchestrator.telling import definitions_of
from tests.unit.orchestrator.test_decision import ALPHA, BETA, CAPTURE, EXPECTED, NOW, SETTINGS, held, run, transferred

GAMMA = "00000000-0000-4000-8000-00000000000c"
LUN = Layer(kind="block", place="/dev/dm-0", facts={"SCSI WWID": "naa.6001405"})
IMAGE = Layer(kind="file", place="/own", facts={"path": "/own"})
WRITER = StorageUse(guest_uuid=GAMMA, guest="gamma", target="vdc", writes=("wwid naa.6001405 ",))

pytestmark = pytest.mark.case("P2")


def prepared(host: str, guest: str, storage: Layer) -> PrepareResult:
    disk = PreparedDisk(
        target="vda",
        source="/dev/san",
        source_format="raw",
        size_bytes=4096,
        kind=CaptureKind.FULL,
        identity=DiskIdentity(active=storage),
    )
    made = PreparedGuest(guest_uuid=guest, name=f"guest {guest[-1]}", disks=(disk,))
    return PrepareResult(capture_id=CAPTURE, host_id=host, guests=(made,))


PREPARED = (prepared("host-a", ALPHA, LUN), prepared("host-b", BETA, IMAGE))


def next_of(
    state: Run,
    *,
    held: tuple[HoldResult, ...] = (),
    transferred: tuple[TransferResult, ...] = (),
    seen: tuple[SeenUses, ...] = (),
) -> Run | None:
    """Return what the orchestrator makes of the results of a run."""
    nothing = cast("Any", None)
    one = Orchestrator(app=nothing, redis=nothing, runs=nothing, settings=SETTINGS, repository=nothing)
    return one._next(state, Answers(PREPARED, held, transferred, (), seen), state.entered_at, {})


@pytest.mark.parametrize("policy", list(Policy))
def test_a_guest_whose_disk_another_host_writes_to_when_it_was_held_is_not_transferred(policy: Policy) -> None:
    results = (held("host-a"), held("host-b").model_copy(update={"uses": (WRITER,)}))
    following = next_of(run(RunState.HOLDING, policy), held=results)
    assert following is not None
    assert [(fault.code, fault.guest) for fault in following.faults] == [("disk-shared", "guest a")]
    kept: tuple[str, ...] = () if policy is Policy.ALL else (BETA,)
    state = RunState.RELEASING if policy is Policy.ALL else RunState.TRANSFERRING
    assert (following.state, following.kept) == (state, kept)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_guest_whose_disk_another_host_writes_to_when_it_was_read_is_not_sealed(policy: Policy) -> None:
    results = (transferred("host-a"), transferred("host-b").model_copy(update={"uses": (WRITER,)}))
    following = next_of(run(RunState.TRANSFERRING, policy), transferred=results)
    assert following is not None
    assert [(fault.code, fault.guest) for fault in following.faults] == [("disk-shared", "guest a")]
    kept: tuple[str, ...] = () if policy is Policy.ALL else (BETA,)
    state = RunState.RELEASING if policy is Policy.ALL else RunState.SEALING
    assert (following.state, following.kept) == (state, kept)


def test_under_policy_all_the_first_word_of_such_a_writer_ends_the_capture() -> None:
    results = (transferred("host-b").model_copy(update={"uses": (WRITER,)}),)
    following = next_of(run(RunState.TRANSFERRING, Policy.ALL), transferred=results)
    assert following is not None
    assert following.state is RunState.RELEASING
    assert next_of(run(RunState.TRANSFERRING, Policy.DEGRADE), transferred=results) is None  # the others are waited for


def blind(host: str) -> HoldResult:
    return held(host).model_copy(update={"writers_unseen": "libvirt does not answer", "release_arrivals": 2})


@pytest.mark.parametrize(
    ("seeing", "label"),
    [
        ((held("host-a"), held("host-b")), Consistency.GROUP),
        ((held("host-a"), blind("host-b")), Consistency.CRASH),
        ((blind("host-a"), held("host-b")), Consistency.GROUP),  # of its own guests it tells by itself
    ],
)
def test_a_host_that_could_not_see_its_writers_takes_the_label_of_what_others_may_share_with_it(
    seeing: tuple[HoldResult, ...], label: Consistency
) -> None:
    reads = [transferred("host-a"), transferred("host-b")]
    manifest = manifest_of(run(RunState.SEALING), PREPARED, seeing, reads, (), definitions_of(*PREPARED))
    alpha, beta = manifest.guests
    assert alpha.consistency is label
    assert beta.warnings == ()
    warned = (
        "Since the hold it is not known whether a guest of host host-b writes to disk vda of guest a: "
        "libvirt does not answer. The guest's label is crash."
    )
    assert alpha.warnings == ((warned,) if label is Consistency.CRASH else ())


def test_such_a_capture_is_no_failure_of_policy_all() -> None:
    """As where a host could not see whether its own guests share a disk."""
    following = next_of(run(RunState.HOLDING), held=(held("host-a"), blind("host-b")))
    assert following is not None
    assert (following.state, following.faults) == (RunState.TRANSFERRING, ())


def test_a_proof_claims_less_of_the_disks_that_were_not_seen_and_of_no_others() -> None:
    proof = proof_of(run(RunState.SEALING), [held("host-a"), held("host-b")])
    less = unseen.claim_less(proof, [unseen.Unseen(BETA, target, "") for target in ("vdb", "vda", "vda")])
    assert [[guest.moving_disks for guest in host.guests] for host in less.hosts] == [[()], [("vda", "vdb")]]
    assert unseen.claim_less(less, [unseen.Unseen(BETA, "vda", "")]) == less


def test_disks_that_were_all_stored_are_sealed() -> None:
    results = [transferred("host-a"), transferred("host-b")]
    following = decision.after_transfer(run(RunState.TRANSFERRING), results, EXPECTED, NOW, SETTINGS)
    assert following is not None
    assert following.state is RunState.SEALING


SEEN = SeenUses(capture_id=CAPTURE, host_id="host-b", uses=(WRITER,))


@pytest.mark.parametrize("policy", list(Policy))
def test_a_writer_that_a_host_has_seen_when_it_had_read_all_its_disks_is_found_too(policy: Policy) -> None:
    results = (transferred("host-a"), transferred("host-b"))
    following = next_of(run(RunState.TRANSFERRING, policy), transferred=results, seen=(SEEN,))
    assert following is not None
    assert [(fault.code, fault.guest) for fault in following.faults] == [("disk-shared", "guest a")]
    assert following.kept == (() if policy is Policy.ALL else (BETA,))


def test_what_hosts_have_seen_is_read_beside_the_results_of_steps() -> None:
    raw = {
        names.result_field(names.SEEN_USES, "host-b", "1"): SEEN.model_dump_json(),
        names.result_field(names.SEEN_USES, "host-b", "2"): "{",
        names.result_field(Step.TRANSFER, "host-a", f"{ALPHA}.vda"): transferred("host-a").model_dump_json(),
    }
    unread = SeenUses(capture_id=CAPTURE, host_id="host-b", uses=(), writers_unseen=UNREAD)
    assert Answers.read(CAPTURE, raw) == Answers((), (), (transferred("host-a"),), (), (SEEN, unread))


UNREAD = "it has told of one, in words that this orchestrator does not read"


@pytest.mark.case("S5")
@pytest.mark.parametrize("text", ["{", "[]", '{"v": 99, "uses": []}'])
@pytest.mark.parametrize(("teller", "warned"), [("host-b", (ALPHA, BETA)), ("host-a", (ALPHA,))])
def test_a_writer_of_whom_a_host_has_told_in_words_that_are_not_read_is_not_taken_for_none(
    text: str, teller: str, warned: tuple[str, ...]
) -> None:
    """Nor for one that writes to disks of other hosts alone. Only alpha's disk may be had by another host."""
    seen = Answers.read(CAPTURE, {names.result_field(names.SEEN_USES, teller, "1"): text}).seen
    check_labels(seen, teller, warned, UNREAD)


@pytest.mark.parametrize(("teller", "warned"), [("host-b", (ALPHA, BETA)), ("host-a", (ALPHA,))])
def test_a_writer_that_was_gone_before_its_host_knew_what_it_had_takes_the_labels_of_that_host_s_guests(
    teller: str, warned: tuple[str, ...]
) -> None:
    """No look at what runs when a disk has been read can find it any more."""
    seen = SeenUses(capture_id=CAPTURE, host_id=teller, uses=(), writers_unseen="it is gone")
    check_labels((seen,), teller, warned, "it is gone")


def check_labels(seen: tuple[SeenUses, ...], teller: str, warned: tuple[str, ...], why: str) -> None:
    reads = [transferred("host-a"), transferred("host-b")]
    both, told = (held("host-a"), held("host-b")), definitions_of(*PREPARED)
    guests = manifest_of(run(RunState.SEALING), PREPARED, both, reads, seen, told).guests
    for guest, uuid in zip(guests, (ALPHA, BETA), strict=True):
        warning = (
            f"Since the hold it is not known whether a guest of host {teller} writes to disk vda of guest {uuid[-1]}: {why}. "
            "The guest's label is crash."
        )
        assert guest.warnings == ((warning,) if uuid in warned else ())
        assert (guest.consistency is Consistency.CRASH) == (uuid in warned)
