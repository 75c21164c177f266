"""The commands that a Redis is given while something is done, and the shape of what is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from freezeframe import bus
from freezeframe.settings import BusSettings

#: Ids that differ each time: of tasks, groups and deliveries; and which host's messages are not acknowledged.
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1345][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_GUEST = re.compile(r"00000000-0000-4000-8000-[0-9a-f]{12}")
_OWNER = re.compile(r"(unacked(_index)?)\.host\.\S+")
#: Which of the hosts comes last, and is not woken, is chance.
_WOKEN = re.compile(r"(:wake):\S+")
_END = "monitoring-ends"


@contextmanager
def monitored(settings: BusSettings) -> Iterator[list[str]]:
    """Note each command as `NAME key`, those of scripts too; the list is complete when the block is over."""
    found: list[str] = []
    ready = threading.Event()

    def listen() -> None:
        with bus.connect(settings) as client, client.monitor() as monitor:
            ready.set()
            for one in monitor.listen():
                words = one["command"].split(" ")
                if words == ["ECHO", _END]:
                    return
                found.append(_normal(words))

    thread = threading.Thread(target=listen)
    thread.start()
    assert ready.wait(20)
    try:
        yield found
    finally:
        with bus.connect(settings) as client:
            client.echo(_END)
        thread.join()


def _normal(words: list[str]) -> str:
    name, *rest = words
    key = rest[0] if rest else ""
    if name.upper() in {"EVALSHA", "EVAL"}:
        key = rest[2] if len(rest) > 2 else ""
    key = _WOKEN.sub(r"\1:*", _OWNER.sub(r"\1.host", key))
    return f"{name.upper()} {_ID.sub(lambda found: found[0] if _GUEST.fullmatch(found[0]) else '*', key)}".strip()


def shape(value: object) -> Any:
    """Return what of a message is told: the names of fields that have a value, of what is there several times for the first."""
    if isinstance(value, BaseModel):
        return {
            name: shape(getattr(value, name))
            for name in sorted(value.model_fields_set)
            if getattr(value, name) not in (None, (), "")
        }
    if isinstance(value, tuple):
        return [shape(value[0])] if value else []
    return type(value).__name__
