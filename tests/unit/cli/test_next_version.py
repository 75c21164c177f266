"""The next version at work beside this one: one more key, one more critical key, a later format, in each kind of document (R4).

Every verb is run on it. A key that need not be known changes nothing; what is newer is named by the verbs that need it, no verb
deletes it or writes over it, and nobody is told that anything is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from freezeframe.errors import EXIT_REPOSITORY
from freezeframe.repository import Repository, Tier
from freezeframe.repository.aside import AsideDocument, Kind
from freezeframe.repository.document import canonical, checked, checksum_of
from freezeframe.repository.garbage.record import Records, RunRecord
from freezeframe.repository.layout import (
    damaged_document,
    damaged_name,
    forgotten_name,
    manifest_name,
    run_name,
    session_name,
    verified_name,
)
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.verify.record import (
    IndexesRecord,
    Verified,
    write_folder,
    write_indexes,
    write_restored,
)

from .manifests import capture_id, manifest_of
from .run import Ran, Run

pytestmark = pytest.mark.case("R4")

#: Of a week ago: nothing waits for a grace.
THEN = datetime.now(UTC) - timedelta(days=7)

VERBS: dict[str, tuple[str, ...]] = {
    "captures": ("captures",),
    "show": ("captures", "show", capture_id(2)),
    "info": ("repo", "info"),
    "pin": ("repo", "pin"),
    "status": ("verify", "--status"),
    "check": ("repo", "check"),
    "verify": ("verify", capture_id(2)),
    "share": ("verify", "--share", "1%"),
    "restore": ("restore", "latest", "--to", "restored"),
    "export": ("export", "latest", "--to", "exported"),
    "rules": ("forget", "--keep-last", "9"),
    "forget": ("forget", capture_id(2), "--dry-run"),
    "gc": ("gc", "--grace", "0", "--nobody-else-writes"),
    "gc again": ("gc", "--grace", "0", "--nobody-else-writes"),
}

#: Where each kind of document is, and the verbs that cannot do without it.
NEEDED_BY: dict[str, set[str]] = {
    "config": set(VERBS),
    "manifest": {"show", "check", "verify", "share", "restore", "export", "forget", "gc", "gc again"},
    "forgotten": {"gc", "gc again"},
    "session": {"gc", "gc again"},
    "run": {"gc", "gc again"},
    "aside": set(),
    "suspect": set(),
    "folder": set(),
    "indexes": set(),
    "restored": set(),
}
KEEPS_GARBAGE = {"config", "manifest", "forgotten", "session", "run"}

Form = Callable[[dict[str, Any]], bytes]
NEWER: dict[str, Form] = {
    "critical": lambda content: checked({**content, "tomorrow": {"of": 1}, "critical": ["tomorrow"]}),
    "format": lambda content: checked({**content, "format": content["format"] + 1, "tomorrow": 1}),
    "format with another checksum": lambda content: canonical({**content, "format": 99, "checksum": "blake3:1"}),
}


class World:
    """A repository with a document of each kind, and garbage that two runs of `gc` would free."""

    def __init__(self, run: Run, place: Path) -> None:
        self.run = run
        self.place = place
        self.root = place / "repository"
        self.repository = repository = Repository.init(self.root, chunk_bytes=4096)
        for number in (1, 3, 2):  # no other names the last as its predecessor, so its bytes may be others
            repository.write_manifest(manifest_of(repository, capture_id(number)))
        repository.forget(capture_id(3))
        repository.sessions.begin(capture_id(4), "freezeframe")
        repository.sessions.end(capture_id(4), sealed=False)
        records = Records(repository.objects)
        records.put(RunRecord(run_id=capture_id(5), begun_at=THEN, finished_at=THEN))
        self.names = {
            "config": "config",
            "manifest": manifest_name(capture_id(2)),
            "forgotten": forgotten_name(manifest_name(capture_id(3))),
            "session": session_name(capture_id(4)),
            "run": run_name(capture_id(5)),
            "aside": self._set_aside(),
            "suspect": self._suspect(),
            "folder": verified_name("00"),
            "indexes": verified_name("indexes"),
            "restored": verified_name("restored"),
        }
        write_folder(repository.objects, "00", Tier.REHASHED, Verified(at=THEN, chunks=1, bytes=1))
        write_indexes(repository.objects, IndexesRecord(at=THEN, captures=1, indexes=1))
        write_restored(repository.objects, {capture_id(1): THEN})

    def _set_aside(self) -> str:
        """A chunk that was set aside, and written anew since."""
        with self.repository.index(self.repository.manifest(capture_id(1)).guests[0].disks[0].index) as index:
            digest = next(digest for _, digest in index.used_slots())
        name = self.repository.objects.protection.locate(digest)
        document = AsideDocument(kind=Kind.CHUNK, digest=digest.hex(), found_at=THEN, reason="x")
        self.put(damaged_document(name), document.to_json())
        self.put(damaged_name(name), b"damaged")
        return damaged_document(name)

    def _suspect(self) -> str:
        disk = self.repository.manifest(capture_id(1)).guests[0].disks[0]
        made = Suspect(
            capture_id=capture_id(1),
            index=disk.index,
            guest="db1",
            target="vda",
            found_by=capture_id(2),
            found_at=THEN,
            reason="it differs",
        )
        self.repository.suspects.mark(made)
        (name,) = [one for one in self.repository.store.names("verified") if "suspect" in one]
        return name

    def put(self, name: str, data: bytes) -> None:
        self.repository.store.put_many([(name, data)])

    def change(self, kind: str, form: Form) -> None:
        content = json.loads(self.repository.store.get(self.names[kind]))
        del content["checksum"]
        path = self.root / self.names[kind]
        path.chmod(0o600)
        path.write_bytes(form(content))

    def verbs(self) -> dict[str, Ran]:
        there = [str(self.place / one) for one in ("restored", "exported")]
        places = dict(zip(("restored", "exported"), there, strict=True))
        return {name: self.run(*(places.get(one, one) for one in verb)) for name, verb in VERBS.items()}

    def objects(self) -> dict[str, bytes]:
        """All but what verification changes."""
        found = {path.relative_to(self.root): path for path in self.root.rglob("*") if path.is_file()}
        return {
            str(name): path.read_bytes() for name, path in found.items() if name.parts[0] not in {"verified", "damaged"}
        }


@pytest.fixture
def world(run: Run, place: Path) -> World:
    return World(run, place)


def test_the_world_is_as_it_should_be_without_a_newer_version(world: World) -> None:
    before = world.objects()
    assert {name for name, ran in world.verbs().items() if ran.exit_code} == set()
    assert len(before) - len(world.objects()) >= 5  # two chunks, an index, a manifest, a session
    assert not (world.root / world.names["aside"]).exists()


@pytest.mark.parametrize("kind", NEEDED_BY)
def test_a_key_that_need_not_be_known_changes_nothing(world: World, kind: str) -> None:
    world.change(kind, lambda content: checked({**content, "tomorrow": {"of": [1]}}))
    before = world.objects()
    ran = world.verbs()
    assert {name: one.stderr for name, one in ran.items() if one.exit_code} == {}
    assert all("newer" not in one.stdout + one.stderr for one in ran.values())
    assert len(before) - len(world.objects()) >= 5
    path = world.root / world.names[kind]
    if path.exists():  # what is over is deleted, as if the key were not there
        assert json.loads(path.read_bytes())["tomorrow"] == {"of": [1]}
    else:
        assert kind in {"forgotten", "session", "run", "aside"}


@pytest.mark.parametrize("form", NEWER.values(), ids=NEWER)
@pytest.mark.parametrize("kind", NEEDED_BY)
def test_what_is_newer_stops_the_verbs_that_need_it_and_is_left_alone(world: World, kind: str, form: Form) -> None:
    world.change(kind, form)
    path = world.root / world.names[kind]
    stored, before = path.read_bytes(), world.objects()
    ran = world.verbs()
    needed_by = NEEDED_BY[kind]
    if (kind, form) == ("manifest", NEWER["format with another checksum"]):
        needed_by = needed_by | {"pin"}  # what it names as its predecessor nobody can tell
    assert {name for name, one in ran.items() if one.exit_code} == needed_by
    for name in needed_by:
        assert ran[name].exit_code == EXIT_REPOSITORY
    for one in ran.values():
        said = (one.stdout + one.stderr).lower()
        assert "`freezeframe forget" not in said
        assert "delete that" not in said
        assert not one.exit_code or "newer" in said
        assert not one.exit_code or "damage" not in said.replace("damaged/", "")
    assert path.read_bytes() == stored
    if kind in KEEPS_GARBAGE:
        assert world.objects() == before
    else:
        assert len(before) - len(world.objects()) >= 5


@pytest.mark.parametrize("form", NEWER.values(), ids=NEWER)
def test_a_newer_manifest_keeps_nobody_from_other_captures(world: World, form: Form) -> None:
    world.change("manifest", form)
    ran = world.run("restore", capture_id(1), "--to", str(world.place / "one"))
    assert (ran.exit_code, (world.place / "one").exists()) == (0, True)
    rules = world.run("forget", "--keep-last", "1", "--json").document
    assert (rules["forgotten"], len(rules["newer"])) == ([], 1)


@pytest.mark.parametrize("more", [{"tomorrow": 1}, {"tomorrow": 1, "critical": ["tomorrow"]}, {"format": 2}])
def test_a_key_slot_of_the_next_version(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    key = place / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    assert run("repo", "init", "--encrypt", "--key-file", str(key)).exit_code == 0
    monkeypatch.setenv("FREEZEFRAME_KEY_FILE", str(key))
    (slot,) = (place / "repository" / "keys").iterdir()
    name = f"keys/{slot.name}"
    content = {**json.loads(slot.read_bytes()), **more}
    del content["checksum"]
    stored = canonical({**content, "checksum": checksum_of({**content, "name": name})})
    slot.chmod(0o600)
    slot.write_bytes(stored)
    opens = more == {"tomorrow": 1}
    for verb in (("captures",), ("key", "list"), ("repo", "check"), ("gc",), ("verify", "--all")):
        ran = run(*verb)
        assert ran.exit_code == (0 if opens else EXIT_REPOSITORY)
        assert ("newer version of freezeframe" in ran.stderr) is not opens
        assert slot.read_bytes() == stored
