"""Twisting a JSON document: one value in it, anywhere, becomes another."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

Mutate = Callable[[bytes], bytes]

#: What a program may not have thought of.
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 4096, 5000, 1 << 20, 1 << 30, 1 << 31, 1 << 64, -(1 << 63), 10**400),
    *(
        0.5,
        1e308,
        float("inf"),
        float("nan"),
        "",
        "0",
        "\0",
        "\ud800",
        "é",
        "1e5",
        "x" * 300,
        [],
        {},
        [[]],
        [None],
        {"": 0},
    ),
    *(
        "2026-03-01T12:00:00Z",
        "9999-12-31T23:59:60+14:00",
        "scrypt",
        "hkdf-sha256",
        "ab" * 32,
        "encryption",
        "../config",
    ),
)


def twisted(content: Any, chance: Random, mutate: Mutate) -> Any:
    """A copy. `mutate` is for strings."""
    if isinstance(content, dict) and content and chance.random() < 0.8:
        return _twisted_dict(content, chance, mutate)
    if isinstance(content, list) and content and chance.random() < 0.8:
        at = chance.randrange(len(content))
        more = content[at:] if chance.random() < 0.1 else content[at + 1 :]
        return [*content[:at], twisted(content[at], chance, mutate), *more]
    if chance.random() < 0.4:
        if isinstance(content, str):
            return text(mutate(content.encode(errors="replace")))
        if isinstance(content, int):
            return content + chance.choice((-1, 1)) * (1 << chance.randrange(70))
    return nested(chance.randrange(1, 3000)) if chance.random() < 0.02 else chance.choice(_ODD)


def _twisted_dict(content: dict[str, Any], chance: Random, mutate: Mutate) -> dict[str, Any]:
    """A key less, under another name, or with another value."""
    key, way = chance.choice(sorted(content)), chance.random()
    rest = {name: value for name, value in content.items() if name != key}
    if way < 0.05:
        return rest
    if way < 0.1:
        return {**rest, text(mutate(key.encode(errors="replace"))): content[key]}
    return {**rest, key: twisted(content[key], chance, mutate)}


def text(data: bytes) -> str:
    return data.decode(errors="replace")


def nested(depth: int) -> Any:
    """Deeper than a parser that calls itself may like."""
    try:
        return json.loads("[" * depth + "]" * depth)
    except RecursionError:
        return []
