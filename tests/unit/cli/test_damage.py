"""Damage of every sort to every object, seen through the verbs: an error of ours or what was there, never a defect."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret

from .manifests import capture_id, manifest_of
from .run import Run

RANDOM = Random(4)  # noqa: S311 - the same damage each time


def flipped(data: bytes) -> bytes:
    at = RANDOM.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << RANDOM.randrange(8)]) + data[at + 1 :]


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "cut": lambda data: data[: len(data) // 2],
    "gone": lambda _: b"",
    "another's": lambda _: b"",
}

VERBS = (
    ("captures",),
    ("captures", "show", "latest"),
    ("verify", "--all"),
    ("restore", "latest", "--to", "{to}", "--format", "raw"),
    ("forget", "--keep-last", "1", "--dry-run"),
    ("forget", "latest", "--dry-run"),
    ("repo", "info"),
    ("key", "list"),
)


@pytest.fixture(params=["plain", "encrypted"])
def objects(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """A repository of one capture; what is in each file."""
    secret = None
    if request.param == "encrypted":
        (place / "key").write_bytes(os.urandom(32))
        (place / "key").chmod(0o600)
        monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(place / "key"))
        secret = Secret.key_file(place / "key")
    repository = Repository.init(place / "repository", chunk_bytes=4096, secret=secret)
    repository.write_manifest(manifest_of(repository, capture_id(1)))
    return {path: path.read_bytes() for path in (place / "repository").rglob("*") if path.is_file()}


def harm(path: Path, way: str, objects: dict[Path, bytes]) -> None:
    path.write_bytes(WAYS[way](objects[path]))
    if way == "gone":
        path.unlink()
    if way == "another's":
        paths = sorted(objects)
        path.write_bytes(objects[paths[paths.index(path) - 1]])


@pytest.mark.parametrize("way", WAYS)
def test_no_damage_is_a_defect(run: Run, place: Path, objects: dict[Path, bytes], way: str) -> None:
    for path, sound in objects.items():
        harm(path, way, objects)
        codes = []
        for verb in VERBS:
            ran = run(*(word.format(to=place / "to") for word in verb))
            assert "This is a defect" not in ran.stderr, (path, verb, ran.stderr)
            codes.append(ran.exit_code)
            shutil.rmtree(place / "to", ignore_errors=True)
        path.write_bytes(sound)
        # someone tells; a chunk's bit that changes nothing of what is read is no damage
        assert 7 in codes or path.name == "config" or way in {"flipped", "gone"}, (path, codes)
