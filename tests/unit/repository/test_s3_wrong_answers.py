"""Wrong answers to each sort of request of each verb: an error at most, never a lost capture.

x, y condemned by R0 ─▶ 2, which counts on x, sealed ─▶ 3, which counts on y, at work ─▶ verbs, wrongly answered ─▶ 3 sealed
                                                    └─▶ or sealed too: nothing but the manifests keeps x and y
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from freezeframe.errors import FreezeframeError
from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.garbage import collect, collection

from .meanwhile import Meanwhile, run
from .s3 import KEY, SECRET, Asked, Reply
from .s3_bucket import FakeBucket
from .samples import CHUNK, capture_id, disk_capture, disk_of, manifest_of, read_disk, seal, store_disk
from .times import Time

X, Y, Z = disk_of(b"x"), disk_of(b"y"), disk_of(b"z")
HOUR = timedelta(hours=1)
PAGE = "<html><body>Bad luck.</body></html>"
BARE = {"ETag": "", "Last-Modified": ""}

ANSWERS = {
    "a page": Reply(200, PAGE, headers=BARE),
    "a page with a tag": Reply(200, PAGE, headers={"Content-Type": "text/html; charset=utf-8"}),
    "an error with status 200": Reply(200, Reply.error(500, "InternalError").body, headers=BARE),
    "a page with status 404": Reply(404, PAGE, headers=BARE),
    "a redirect": Reply(302, "", headers={**BARE, "Location": "/login"}),
    "cut": Reply(200, "half", length=4096),
}

#: Requests, by their method, and what the path has.
REQUESTS = {
    "GET of the config": "GET /bucket/a/config",
    "GET of a session": f"GET /bucket/a/sessions/{capture_id(3)}",
    "GET of a manifest": f"GET /bucket/a/manifests/{capture_id(2)}",
    "GET of a forgotten manifest": "GET .*/a/forgotten/",
    "GET of a condemned object": "GET /bucket/a/condemned/[^/]*/",
    "GET of a run": "GET /bucket/a/condemned/[^/]*json",
    "GET of an index": "GET /bucket/a/indexes/",
    "GET of a chunk": "GET /bucket/a/chunks/",
    "listing of sessions": "GET .*prefix=a%2Fsessions",
    "listing of manifests": "GET .*prefix=a%2Fmanifests",
    "listing of forgotten manifests": "GET .*prefix=a%2Fforgotten",
    "listing of runs": "GET .*prefix=a%2Fcondemned%2F&",
    "listing of a run": "GET .*prefix=a%2Fcondemned%2F[^&]",
    "listing of chunks": "GET .*prefix=a%2Fchunks",
    "listing of damage": "GET .*prefix=a%2Fdamaged",
    "any HEAD": "HEAD ",
    "any PUT": "PUT ",
    "any DELETE": "DELETE ",
}

UNDER_WAY = [(name, False) for name in REQUESTS]
SEALED = [(name, True) for name in REQUESTS if "manifest" in name or "index" in name]


@dataclass
class World:
    objects: dict[str, bytes]
    modified: dict[str, datetime]
    second: str  # the index of 2, which is sealed
    third: str  # of 3


def world_of(*, sealed: bool) -> World:
    """Return what happened hours ago. `sealed`: 3 too."""
    time = Time()
    time.now = datetime.now(UTC) - 12 * HOUR
    store = Meanwhile(time)
    made = Repository.init_in(store, chunk_bytes=CHUNK)
    repository = Repository(made.store, made.config, clock=time)
    seal(repository, 1, X + Y + Z)
    repository.forget(capture_id(1))
    time.pass_(hours=2)
    for number in (2, 3):
        repository.sessions.begin(capture_id(number), "test")
    second, third = store_disk(repository, X), store_disk(repository, Y)
    assert run(repository, time).condemned.objects == 4  # R0: x, y, z and the index of the first
    for number, index in ((2, second), (3, third))[: 2 if sealed else 1]:
        repository.seal(manifest_of(number, disk_capture(index, CHUNK)))
        repository.sessions.end(capture_id(number), sealed=True)
    time.pass_(hours=4)
    seal(repository, 4, Z)
    repository.forget(capture_id(4))
    objects = {f"a/{name}": data for name, data in store._objects.items()}
    return World(objects, {f"a/{name}": at for name, at in store._modified.items()}, second, third)


@pytest.fixture(scope="module")
def worlds() -> dict[bool, World]:
    return {sealed: world_of(sealed=sealed) for sealed in (True, False)}


@pytest.fixture
def held(bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch, worlds: dict[bool, World]) -> FakeBucket:
    """A bucket whose other folders are not listed: they are empty."""
    names = [name for world in worlds.values() for name in world.objects if re.search("chunks/|indexes/", name)]
    monkeypatch.setattr(collection, "FAN_OUT", tuple(sorted({name.split("/")[-2] for name in names})))
    return bucket


def gc(repository: Repository) -> None:
    collect(repository, grace=timedelta(0), threads=0)


def verified(repository: Repository) -> None:
    verify(repository, repository.manifests(), Tier.REHASHED, set_aside=True)


def forget(repository: Repository) -> None:
    repository.forget_all([capture_id(4)])


VERBS: dict[str, Callable[[Repository], None]] = {"gc": gc, "verify": verified, "forget": forget}


def say(bucket: FakeBucket, request: str, answer: Reply) -> list[Asked]:
    """Have the first request of a sort be answered so. Return it, once it has come."""
    told: list[Asked] = []

    def trouble(asked: Asked) -> Reply | None:
        if asked.path.startswith("/login"):
            return Reply(200, PAGE)
        if not told and re.match(REQUESTS[request], f"{asked.method} {asked.path}"):
            told.append(asked)
            return answer
        return None

    bucket.trouble = trouble
    return told


def refused(act: Callable[[], None]) -> str:
    """Do something that may fail; return the error's words."""
    try:
        act()
    except FreezeframeError as error:
        return f"{error} {error.hint}"
    return ""


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("to", "sealed"), [*UNDER_WAY, *SEALED])
def test_no_wrong_answer_loses_a_capture(
    held: FakeBucket, worlds: dict[bool, World], to: str, answer: str, *, sealed: bool
) -> None:
    world = worlds[sealed]
    held.objects, held.modified = dict(world.objects), dict(world.modified)
    repository = Repository.open("s3://bucket/a")
    told: list[Asked] = []
    for verb in VERBS.values():
        now = say(held, to, ANSWERS[answer])
        said = refused(lambda verb=verb: verb(repository))  # type: ignore[misc]
        held.trouble = lambda _: None
        told += now
        assert not [one for one in (KEY, SECRET, "Signature") if one in said]
    assert told
    if not sealed:
        repository.seal(manifest_of(3, disk_capture(world.third, CHUNK)))
    assert read_disk(repository, world.second) == X
    assert read_disk(repository, world.third) == Y
    assert {one.capture_id for one in repository.manifests()} == {capture_id(2), capture_id(3)}
