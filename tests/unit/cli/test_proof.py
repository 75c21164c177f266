"""`freezeframe captures show --proof`: who was there, what happened when, what follows from it, for people and programs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freezeframe.contract.proof import Proof
from freezeframe.contract.words import Consistency
from freezeframe.repository import Repository

from . import instants
from .instants import DB1, DB2, HOST_A, HOST_B, RELEASE_US, WEB, proof
from .manifests import capture_id, manifest_of
from .run import Ran, Run

Shown = Callable[..., Ran]


@pytest.fixture
def shown(run: Run, repository: Repository, no_bus: None) -> Shown:
    """What is shown of a capture with that proof."""

    def show(wanted: Proof, *arguments: str, label: Consistency = Consistency.GROUP) -> Ran:
        sealed = manifest_of(repository, capture_id(1), consistency=label)
        repository.write_manifest(instants.captured(sealed, wanted))
        return run("captures", "show", "latest", "--proof", *arguments)

    return show


def unreleased() -> Proof:
    """Nobody was told: each host let its guests go by itself, and host b did not measure its clock."""
    host_a = instants.host(HOST_A, -0.12, None, *proof().hosts[0].guests)
    host_b = instants.host(HOST_B, -21.4, None, *proof().hosts[1].guests, clock_before=None, clock_after=None)
    return proof(release_us=None, hosts=(host_a, host_b))


def line_of(ran: Ran, beginning: str) -> list[str]:
    return next(line.split() for line in ran.stdout.splitlines() if line.startswith(beginning))


def test_the_chain_is_told_in_words_and_the_label_follows(shown: Shown) -> None:
    ran = shown(proof())
    assert ran.exit_code == 0
    words = ran.stdout[ran.stdout.index("Every guest was still") :].splitlines()
    assert words == [
        "Every guest was still from before its backup began until it was let go.",
        "Every backup had begun before its host reported.",
        "Every report had come before the release.",
        "Every guest was let go after its host was told of the release.",
        "So every thaw came after every begin: all guests show one instant.",
        "The label group is what the proof gives.",
    ]
    assert line_of(ran, "release")[1:3] == ["2026-03-01", "12:00:00.000000"]
    assert line_of(ran, "epoch") == ["epoch", "1772366399000007"]


def test_arrivals_are_in_the_order_in_which_redis_saw_them(shown: Shown) -> None:
    ran = shown(proof())
    assert line_of(ran, HOST_B)[1:4] == ["−21.40", "−21.25", "+0.22"]
    assert line_of(ran, HOST_A)[1:4] == ["−0.12", "+0.00", "+0.15"]
    assert ran.stdout.index(f"\n{HOST_B}") < ran.stdout.index(f"\n{HOST_A}")


def test_steps_of_all_hosts_are_on_one_line(shown: Shown) -> None:
    """Host clocks that are hours apart; the earliest held comes first."""
    ran = shown(proof())
    assert line_of(ran, "db1")[1:6] == ["−83.40", "−52.00", "−0.50", "+0.30", "+9.10"]
    assert line_of(ran, "web")[1:6] == ["−79.90", "−61.00", "−22.00", "+0.41", "+6.30"]
    drawn = [line for line in ran.stdout.splitlines() if "█" in line and "│" in line]
    assert [line.split()[0] for line in drawn[:3]] == ["db1", "web", "db2"]
    assert len({line.index("│") for line in drawn[:3]}) == 1


def test_guests_of_one_name_are_told_apart(run: Run, repository: Repository, no_bus: None) -> None:
    manifest = instants.captured(manifest_of(repository, capture_id(1)), proof())
    guests = tuple(guest.model_copy(update={"name": "db"}) for guest in manifest.guests)
    repository.write_manifest(manifest.model_copy(update={"guests": guests}))
    assert f"db@{HOST_B}" in run("captures", "show", "latest", "--proof").stdout


def test_what_is_short_of_one_instant_is_said_by_name(shown: Shown) -> None:
    lost = instants.guest(HOST_B, WEB, -80, -60, -22, -10, -5, cut_short="the thaw guard let it go")
    broken = proof(hosts=(proof().hosts[0], instants.host(HOST_B, -21.4, 0.2, lost)))
    ran = shown(broken, label=Consistency.GUEST)
    assert "short of one instant: guest web was not held still while its backup began" in ran.stdout
    assert "one instant." not in ran.stdout
    assert "mislabelled: the capture is labelled guest, and its proof gives crash" in ran.stdout
    assert "mislabelled: guest web is labelled guest, and the proof gives crash" in ran.stdout


def test_without_a_release_times_count_from_the_last_report(shown: Shown) -> None:
    ran = shown(unreleased(), label=Consistency.GUEST)
    assert "ms from the last report" in ran.stdout
    assert line_of(ran, "release") == ["release", "never"]
    assert line_of(ran, "db1")[1] == "−83.40"
    assert "short of one instant: the barrier was never released" in ran.stdout
    assert "The label guest is what the proof gives." in ran.stdout


def test_a_host_that_did_not_measure_has_no_place_on_the_line(shown: Shown) -> None:
    ran = shown(unreleased(), label=Consistency.GUEST)
    assert f"Host {HOST_B} did not measure" in ran.stdout
    assert line_of(ran, "web") == ["web", "–", "–", "–", "–", "–", "–", "86", "ms"]


def test_a_hold_that_left_nothing_behind_can_be_shown(shown: Shown) -> None:
    ran = shown(proof(arrivals=(), release_us=None, hosts=()), label=Consistency.GUEST)
    assert ran.exit_code == 0
    assert "never" in line_of(ran, HOST_A)


def test_a_doubt_is_told_and_is_none_about_the_label(shown: Shown) -> None:
    stepped = instants.host(
        HOST_B, -21.4, 0.22, *proof().hosts[1].guests, clock_after=instants.reading(HOST_B, 500, wrong_ms=9)
    )
    ran = shown(proof(hosts=(proof().hosts[0], stepped)))
    assert f"doubt: host {HOST_B}: its clock and Redis's moved 9.000 ms" in ran.stdout
    assert "The label group is what the proof gives." in ran.stdout


def test_for_programs_it_is_the_proof_with_its_times(shown: Shown) -> None:
    document = shown(proof(), "--json").document
    assert document["proof"] == proof().model_dump(mode="json")
    assert (document["consistency"], document["proven"]) == ("group", "group")
    assert document["shortcomings"] == document["mislabels"] == document["doubts"] == []
    host_a, host_b = document["redis_times"]
    assert [guest["guest_uuid"] for guest in host_a["guests"]] == [DB1, DB2]
    begun = host_b["guests"][0]["steps"]["begun"]
    assert begun["redis_us"] == RELEASE_US - 22_000
    assert begun["from_release_ms"] == -22.0
    assert 60 <= begun["uncertainty_us"] <= 210
    assert host_a["offset_before_us"] == RELEASE_US - instants.UP_MS[HOST_A] * 1000


def test_for_programs_nothing_takes_the_place_of_a_release(shown: Shown) -> None:
    document = shown(unreleased(), "--json", label=Consistency.GUEST).document
    steps = document["redis_times"][0]["guests"][0]["steps"]
    assert steps["begun"]["redis_us"] == RELEASE_US - 500
    assert steps["begun"]["from_release_ms"] is None
    assert document["redis_times"][1]["guests"][0]["steps"]["begun"] is None


def test_a_capture_without_a_proof(run: Run, repository: Repository, no_bus: None) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)).model_copy(update={"proof": None}))
    assert "no proof" in run("captures", "show", "latest", "--proof").stdout
    assert run("captures", "show", "latest", "--proof", "--json").document["proof"] is None
