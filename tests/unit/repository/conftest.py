from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest

from freezeframe.repository import Repository
from freezeframe.repository.crypto import Suite
from ops.object_storage import BUCKET, ObjectStorage

from . import locked
from .meanwhile import Meanwhile
from .s3 import Answering, answering, settings
from .s3_bucket import FakeBucket
from .samples import CHUNK
from .times import Time, Waiting


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory in memory where there is one: crash suites make hundreds of repositories of 512 folders each.

    What they look at is what was fsynced when, which `power.Device` keeps; not what a real device makes of it.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a new directory in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def root(memory_path: Path) -> Path:
    return memory_path / "repository"


@pytest.fixture
def repository(root: Path) -> Repository:
    return Repository.init(root, chunk_bytes=CHUNK)


@pytest.fixture(params=[*Suite], ids=str)
def suite(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """How repositories with keys are sealed in the test: it is done with each."""
    found: Suite = request.param
    monkeypatch.setattr(locked, "UNSAID", found)
    return found


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> Meanwhile:
    """In memory, stamped by the test's clock."""
    return Meanwhile(time)


@pytest.fixture
def collected(store: Meanwhile, time: Time) -> Repository:
    """A repository in that store, to run garbage collection over."""
    made = Repository.init_in(store, chunk_bytes=CHUNK)
    return Repository(made.store, made.config, clock=time)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectStorage]:
    """A real one, in memory where there is some: its speed is not what is tested."""
    memory = Path("/dev/shm")  # noqa: S108 - a new directory in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path, ObjectStorage(Path(path)) as server:
        yield server


@pytest.fixture
def s3_address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address with nothing at it: on our server, or where FREEZEFRAME_TEST_S3 says, with the tester's own settings."""
    place = os.environ.get("FREEZEFRAME_TEST_S3")
    if place is None:
        for name, value in request.getfixturevalue("s3_server").settings().items():
            monkeypatch.setenv(name, value)
        place = f"s3://{BUCKET}"
    return f"{place}/{uuid4()}"


@pytest.fixture
def answering_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """A server that says what the test wants, with the settings for it."""
    with answering() as server:
        for name, value in settings(server.endpoint).items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(answering_server: Answering) -> FakeBucket:
    """Return the bucket of that server. A test may have it say something else."""
    made = FakeBucket()
    answering_server.answer = made
    return made


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()
