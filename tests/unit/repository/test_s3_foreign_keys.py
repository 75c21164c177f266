"""Keys that are no names of ours: anybody may leave one in a bucket. What is ours beside it is listed, all of it."""

from __future__ import annotations

import pytest

from freezeframe.repository import Repository, Tier, verify
from freezeframe.repository.check import check
from freezeframe.repository.errors import RepositoryExists
from freezeframe.repository.garbage import collect
from freezeframe.repository.layout import (
    CHUNKS,
    CONDEMNED,
    CONFIG,
    INDEXES,
    MANIFESTS,
    TMP,
    condemned_folder,
    condemned_name,
    folder_of,
    folders,
    locate,
    manifest_name,
    run_name,
)
from freezeframe.repository.store.address import create_store, open_store
from freezeframe.repository.store.patience import Patience

from .s3_bucket import FakeBucket
from .samples import CHUNK, capture_id, disk_of, seal

FOLDER = "chunks/00"
NAMES = sorted(locate(bytes(1) + number.to_bytes(2, "big") + bytes(29)) for number in range(300))

#: Below a folder: an empty segment, `.` and `..`, and control characters, before, among and after names of ours.
FOREIGN = (
    "/x",
    "//",
    "./x",
    "../x",
    ".",
    "..",
    "00//",
    "00/../x",
    "0\tx",
    "a//",
    "zz//x",
    "z\x7f",
    "\x01",
    '"//" contained',
)

ULID = capture_id(7)


@pytest.mark.parametrize("prefix", ["a/", ""])
@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize(
    ("folder", "ours"),
    [
        (MANIFESTS, manifest_name(ULID)),
        (TMP, f"tmp/{'a' * 32}"),
        (FOLDER, NAMES[0]),
        (CONDEMNED, run_name(ULID)),
        (condemned_folder(ULID), None),
        (condemned_folder(ULID) + "/chunks/00", condemned_name(ULID, NAMES[0])),
        (CHUNKS, None),
        (INDEXES, None),
        ("", CONFIG),
    ],
)
def test_a_folder_of_any_kind_is_listed_past_a_key_of_any_kind(
    bucket: FakeBucket, folder: str, ours: str | None, key: str, prefix: str
) -> None:
    store = open_store(f"s3://bucket/{prefix}", patience=Patience(0))
    under = f"{prefix}{folder}/" if folder else prefix
    bucket.put(f"{under}{key}", b"foreign")
    if ours is not None:
        bucket.put(f"{prefix}{ours}", b"ours!")
    found = [(one.name, one.size) for one in store.entries(folder)]
    assert found == ([] if ours is None else [(ours, 5)])


def test_a_listing_is_whole_with_several_such_keys_in_many_pages(bucket: FakeBucket) -> None:
    bucket.page = 10
    for name in NAMES:
        bucket.put(f"a/{name}", b"chunk")
    for name in NAMES[::37]:
        bucket.put(f"a/{name}//", b"")
        bucket.put(f"a/{name}\n", b"")
    bucket.put(f"a/{FOLDER}//", b"")
    found = list(open_store("s3://bucket/a").entries(FOLDER))
    assert [one.name for one in found] == NAMES
    assert {one.size for one in found} == {5}
    assert {one.modified for one in found} == {bucket.modified[f"a/{name}"].replace(microsecond=0) for name in NAMES}


@pytest.mark.parametrize("name", [manifest_name(ULID), NAMES[0], run_name(ULID)])
def test_a_servers_own_marker_of_a_folder_is_no_object(bucket: FakeBucket, name: str) -> None:
    bucket.put(f"a/{name}/", b"")
    bucket.put(f"a/{folder_of(name)}/", b"")
    assert list(open_store("s3://bucket/a").entries(folder_of(name))) == []


@pytest.mark.parametrize(("key", "named"), [("a//x", "/"), ("a/./x", "."), ("a/../x", ".."), ("a/q\t/x", "q\t")])
def test_a_place_with_such_a_key_is_not_empty(bucket: FakeBucket, key: str, named: str) -> None:
    bucket.put(key, b"")
    with pytest.raises(RepositoryExists) as caught:
        create_store("s3://bucket/a")
    assert f"is not empty: {named} is there" in str(caught.value)


def test_every_verb_ignores_such_keys_in_every_folder(bucket: FakeBucket) -> None:
    bucket.page = 1000
    repository = Repository.init("s3://bucket/a", chunk_bytes=CHUNK)
    first = seal(repository, 1, disk_of(b"one", b"two"))
    strange = [f"a/{folder}/{key}" for folder in folders(authenticated=False) for key in ("/x", "..", "0//")]
    for key in strange:
        bucket.put(key, b"")
    again = Repository.open("s3://bucket/a")
    assert again.manifests() == [first]
    seal(again, 2, disk_of(b"one", b"three"))
    assert len(again.manifests()) == 2
    assert verify(again, again.manifests(), Tier.REHASHED).sound
    assert check(again).sound
    collect(again)
    assert set(strange) <= set(bucket.objects)
