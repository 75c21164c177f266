from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.repository.config import Config, default_chunk_bytes, read_config
from freezeframe.repository.document import checked
from freezeframe.repository.errors import ConfigDamaged, RepositoryError, RepositoryUnsupported

CONFIG = Config(id=uuid4())


def changed(**change: object) -> bytes:
    """As somebody would write it who meant it: with the checksum that it needs."""
    return checked({**json.loads(CONFIG.to_json()), **change})


@pytest.mark.parametrize(
    ("address", "chunk_bytes"), [("/a", 512 << 10), ("file:///s3", 512 << 10), ("s3://bucket/prefix", 4 << 20)]
)
def test_chunks_are_larger_where_each_is_a_request(address: str, chunk_bytes: int) -> None:
    assert default_chunk_bytes(address) == chunk_bytes


def test_what_is_written_is_read() -> None:
    assert read_config(CONFIG.to_json(), "there") == CONFIG


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 1}, "format 1"),
        ({"format": 3}, "format 3"),
        ({"format": 3, "id": 7, "new": 1}, "format 3"),
        ({"features": ["packs"]}, "packs"),
        ({"z": 1, "critical": ["z"]}, "z"),
        ({"digest": "blake3"}, "digest"),
        ({"fan_out": 16}, "over 16 folders"),
        ({"fan_out": 65536}, "over 65536 folders"),
    ],
)
def test_what_is_older_or_newer_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(RepositoryUnsupported, match=named):
        read_config(changed(**change), "there")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "x"},
        {"chunk_bytes": 5000},
        {"chunk_bytes": 1},
        {"digest": 7},
        {"fan_out": "many"},
        {"fan_out": None},
        {"features": 1},
        {"format": "1"},
        {"critical": "z", "z": 1},
    ],
)
def test_what_is_wrong_is_damage(change: dict[str, object]) -> None:
    with pytest.raises(ConfigDamaged, match="there"):
        read_config(changed(**change), "there")


def test_a_config_may_say_that_it_has_the_folders_that_all_have() -> None:
    assert "fan_out" not in json.loads(CONFIG.to_json())
    assert read_config(changed(fan_out=256), "there") == CONFIG


def test_a_fan_out_that_was_damaged_is_not_taken_for_a_newer_one() -> None:
    content = {**json.loads(CONFIG.to_json()), "fan_out": 16}
    with pytest.raises(ConfigDamaged, match="other bytes"):
        read_config(json.dumps(content).encode(), "there")


def test_a_config_is_a_document_as_documented() -> None:
    stored = CONFIG.to_json()
    content = json.loads(stored)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert stored == text.encode()
    claimed = content.pop("checksum")
    bare = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert claimed == hashlib.sha256(bare.encode()).hexdigest()


@pytest.mark.parametrize(
    "change", [{"chunk_bytes": 8192}, {"id": str(uuid4())}, {"checksum": None}, {"checksum": "0" * 64}]
)
def test_what_was_not_written_so_is_damage(change: dict[str, object]) -> None:
    """Each would be a right config by itself."""
    content = {**json.loads(CONFIG.to_json()), **change}
    with pytest.raises(ConfigDamaged, match="other bytes"):
        read_config(json.dumps(content).encode(), "there")


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: json.dumps(text).encode()))
def test_garbage_is_damage(garbage: bytes) -> None:
    with pytest.raises(ConfigDamaged):
        read_config(garbage, "there")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_value_in_any_key_is_answered(value: object) -> None:
    for key in ("format", "features", "id", "chunk_bytes", "digest", "fan_out"):
        with suppress(RepositoryError):
            read_config(changed(**{key: value}), "there")
