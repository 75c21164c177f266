"""`freezeframe verify`: damage is named and has its exit code, and so has a label that the proof does not bear out."""

from __future__ import annotations

from pathlib import Path

from freezeframe.contract.words import Consistency
from freezeframe.repository import Repository

from . import instants
from .instants import HOST_B
from .manifests import capture_id, manifest_of, proof_of
from .run import Run


def a_chunk(place: Path) -> Path:
    return next(path for path in (place / "repository" / "chunks").rglob("*") if path.is_file())


def test_sound(run: Run, repository: Repository) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    ran = run("verify")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("sound: 1 capture, 2 chunks")
    for tier in ("present", "decodable", "rehashed"):
        assert run("verify", "--all", "--tier", tier, "--json").document["sound"] is True


def test_damage_is_7_and_names_every_capture(run: Run, repository: Repository, place: Path) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    a_chunk(place).unlink()
    ran = run("verify", capture_id(1))
    assert ran.exit_code == 7
    assert "is missing" in ran.stderr
    assert f"{capture_id(1)}  guest db1, disk vda" in ran.stderr
    ran = run("verify", "--all", "--tier", "present", "--json")
    assert ran.exit_code == 7
    assert ran.document["damaged_captures"] == [capture_id(1)]


def test_a_label_better_than_its_proof_is_damage(run: Run, repository: Repository) -> None:
    proof = proof_of(released=False)
    repository.write_manifest(manifest_of(repository, capture_id(1), proof=proof, consistency=Consistency.GROUP))
    ran = run("verify", "--json")
    assert ran.exit_code == 7
    assert ran.document["mislabelled"] == [capture_id(1)]
    assert ran.document["sound"] is False
    assert "mislabelled" in run("verify").stderr


def test_a_guests_label_better_than_its_proof_is_damage(run: Run, repository: Repository) -> None:
    manifest = manifest_of(repository, capture_id(1), proof=proof_of(released=False), consistency=Consistency.GUEST)
    guest = manifest.guests[0].model_copy(update={"consistency": Consistency.GROUP})
    repository.write_manifest(manifest.model_copy(update={"guests": (guest,)}))
    ran = run("verify")
    assert ran.exit_code == 7
    assert "guest db1 is labelled group, and the proof gives guest" in ran.stderr
    assert "--full" not in ran.stderr  # nothing is wrong with what was captured


def test_clocks_that_do_not_fit_together_are_a_doubt_and_no_damage(run: Run, repository: Repository) -> None:
    stepped = instants.host(
        HOST_B, -21.4, 0.22, *instants.proof().hosts[1].guests, clock_after=instants.reading(HOST_B, 500, wrong_ms=9)
    )
    proof = instants.proof(hosts=(instants.proof().hosts[0], stepped))
    repository.write_manifest(instants.captured(manifest_of(repository, capture_id(1)), proof))
    ran = run("verify")
    assert ran.exit_code == 0
    assert f"doubt: {capture_id(1)}: host {HOST_B}: its clock and Redis's moved" in ran.stderr
    assert ran.stdout.startswith("sound")
    document = run("verify", "--json").document
    assert document["sound"] is True
    assert list(document["doubts"]) == [capture_id(1)]


def test_a_manifest_that_cannot_be_read_is_damage(run: Run, repository: Repository, place: Path) -> None:
    (place / "repository" / "manifests" / f"{capture_id(1)}.json").write_text("{}")
    assert run("verify", "--all").exit_code == 7


def test_of_what_is_not_there(run: Run, repository: Repository) -> None:
    assert run("verify").exit_code == 4
    assert run("verify", "latest", "--all").exit_code == 2


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_damage_is_set_aside_and_told_so_until_it_is_repaired(run: Run, repository: Repository, place: Path) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    chunk = a_chunk(place)
    whole = chunk.read_bytes()
    spoil(chunk)
    ran = run("verify")
    assert ran.exit_code == 7
    assert "(set aside)" in ran.stderr
    assert "Capture these guests again" in ran.stderr
    assert not chunk.exists()
    ran = run("verify", "--status")
    assert ran.exit_code == 0
    assert "set aside" in ran.stdout
    assert chunk.name in ran.stdout
    assert run("verify", "--all", "--json").document["chunks"][0]["set_aside"] is True
    chunk.write_bytes(whole)  # as the next capture does
    ran = run("verify", "--all")
    assert ran.exit_code == 0
    assert f"Captures whole again: {capture_id(1)}" in ran.stdout
    assert run("verify", "--status", "--json").document["set_aside"] == []


def test_only_looking_leaves_it_where_it_is(run: Run, repository: Repository, place: Path) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    chunk = a_chunk(place)
    spoil(chunk)
    ran = run("verify", "--no-set-aside")
    assert ran.exit_code == 7
    assert "verify without --no-set-aside" in ran.stderr
    assert chunk.exists()


def test_a_share_is_verified_noted_and_shown(run: Run, repository: Repository) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    assert "never" in run("repo", "info").stdout
    document = run("verify", "--share", "1/4", "--json").document
    assert len(document["folders"]) == 64
    status = run("verify", "--status", "--json").document
    assert status["verified"]["rehashed"] == {"oldest": None, "folders_never": 192}
    assert status["verified"]["present"]["folders_never"] == 192
    assert status["indexes_read"]["newest"] == capture_id(1)
    assert run("verify", "--share", "75%").stdout.startswith("sound: 1 capture, 192 of 256 folders")
    assert run("verify", "--status", "--json").document["verified"]["rehashed"]["folders_never"] == 0
    assert "everything within" in run("verify", "--status").stdout
    assert "everything within" in run("repo", "info").stdout
    assert run("repo", "info", "--json").document["verified"]["rehashed"]["oldest"] is not None


def test_to_restore_and_compare(run: Run, repository: Repository, place: Path) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    scratch = place / "elsewhere"
    scratch.mkdir()
    ran = run("verify", "--tier", "restored", "--scratch", str(scratch), "--json")
    assert ran.exit_code == 0
    assert ran.document["tier"] == "restored"
    assert ran.document["chunks_checked"] == 2
    assert list(scratch.iterdir()) == []
    assert capture_id(1) in run("verify", "--status").stdout
    spoil(a_chunk(place))
    ran = run("verify", "--all", "--tier", "restored", "--scratch", str(scratch))
    assert ran.exit_code == 7
    assert f"{capture_id(1)}  guest db1, disk vda" in ran.stderr


def test_what_cannot_go_together_is_refused(run: Run, repository: Repository) -> None:
    for wrong in (
        ("--share", "1/30", "latest"),
        ("--share", "1/30", "--all"),
        ("--share", "2"),
        ("--share", "1/30", "--tier", "restored"),
        ("--scratch", "/nowhere"),
        ("--status", "--all"),
    ):
        assert run("verify", *wrong).exit_code == 2, wrong


def test_a_check_tells_damage_from_garbage(run: Run, repository: Repository, place: Path) -> None:
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    ran = run("repo", "check")
    assert ran.exit_code == 0
    assert ran.stdout.startswith("sound: captures: 1, indexes: 1, chunks: 2, all there")
    (place / "repository" / "tmp" / ("0" * 32)).write_bytes(b"half")
    ran = run("repo", "check")
    assert ran.exit_code == 0
    assert "garbage: 1 left in tmp/" in ran.stdout
    a_chunk(place).unlink()
    ran = run("repo", "check")
    assert ran.exit_code == 7
    assert f"{capture_id(1)}  guest db1, disk vda" in ran.stderr
    document = run("repo", "check", "--json").document
    assert document["damaged_captures"] == [capture_id(1)]
    assert document["garbage"]["tmp"] == [f"tmp/{'0' * 32}"]
