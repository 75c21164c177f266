"""Two identities are of one disk only if every fact of every layer agrees, and the difference is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.contract.identity import DiskIdentity, Layer, difference

A = Layer(kind="file", place="/images/a.qcow2", facts={"path": "/images/a.qcow2", "inode": "7", "birth time": "11"})
DATA = Layer(kind="file", place="/images/a.data", facts={"path": "/images/a.data", "inode": "8"})
BASE = Layer(kind="file", place="/images/base", facts={"path": "/images/base", "inode": "9", "modified": "3"})
DISK = DiskIdentity(active=A, data_file=DATA, backing=(BASE,))


def changed(layer: Layer, **facts: str) -> Layer:
    named = {name.replace("_", " "): value for name, value in facts.items()}
    return layer.model_copy(update={"facts": {**layer.facts, **named}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"active": changed(A, inode="12")}, "its storage is another: inode 12 instead of 7"),
        ({"active": changed(A, birth_time="12")}, "birth time 12 instead of 11"),
        ({"active": changed(A, path="/b")}, "path /b instead of /images/a.qcow2"),
        ({"active": A.model_copy(update={"kind": "block"})}, "is a block instead of a file"),
        ({"active": A.model_copy(update={"facts": {"inode": "7"}})}, "birth time unknown instead of 11"),
        ({"data_file": changed(DATA, inode="1")}, "its data file is another: inode 1 instead of 8"),
        ({"data_file": None}, "it had a data file"),
        ({"backing": ()}, "it has 0 backing images instead of 1"),
        (
            {"backing": (changed(BASE, modified="4"),)},
            "its backing image /images/base is another: modified 4 instead of 3",
        ),
        ({"scheme": 2}, "found out in another way"),
    ],
)
def test_every_difference_is_told(changes: dict[str, Any], said: str) -> None:
    now = DISK.model_copy(update=changes)
    assert said in (difference(DISK, now) or "")
    assert now.key != DISK.key


def test_a_data_file_that_was_added_is_told_as_one() -> None:
    assert difference(DISK.model_copy(update={"data_file": None}), DISK) == "it had no data file"


def test_where_a_layer_was_found_is_no_difference() -> None:
    """A device keeps its own id when the kernel gives it another number."""
    disk = Layer(kind="block", place="/dev/dm-3", facts={"device-mapper UUID": "LVM-x"})
    before, now = DiskIdentity(active=disk), DiskIdentity(active=disk.model_copy(update={"place": "/dev/dm-5"}))
    assert difference(before, now) is None
    assert before.key == now.key


def test_what_a_later_program_adds_is_passed_over() -> None:
    raw = {**DISK.model_dump(mode="json"), "flavour": "new", "active": {**A.model_dump(mode="json"), "colour": "red"}}
    assert DiskIdentity.model_validate(raw) == DISK


layers = st.builds(
    Layer,
    kind=st.sampled_from(["file", "block"]),
    place=st.just("x"),
    facts=st.dictionaries(st.sampled_from(["path", "inode", "birth time"]), st.sampled_from(["1", "2"]), max_size=3),
)
identities = st.builds(
    DiskIdentity, active=layers, data_file=st.none() | layers, backing=st.lists(layers, max_size=2).map(tuple)
)


@given(identities, identities)
def test_the_key_says_what_the_difference_says(one: DiskIdentity, other: DiskIdentity) -> None:
    assert (one.key == other.key) == (difference(one, other) is None)
