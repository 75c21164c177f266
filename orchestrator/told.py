"""The results of runs that go on, each read from Redis and parsed once: a result that is there never changes.

    look ─▶ record and number of results, of one moment ─▶ as many as are known? ─▶ no more to read
                    ▲                                              │ no
                    └──────── the new ones, 200 at a time ◀────────┘

A run that is as it is now and results that are older would be a run without its results: a guest whose answer had not been
read yet would be dropped from the capture. So both are of one moment, and results that Redis has lost are not known any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import redis

from freezeframe.contract import names
from orchestrator.answers import Answer, Answers, parsed

#: Fields that are read with one command. Redis answers nobody else meanwhile, and hosts may be waiting at a barrier.
AT_ONCE: Final = 200

#: Seconds after which the names are read again although their number is the same: a failover may have lost some results since,
#: and as many have come.
NAMES_S: Final = 30.0


@dataclass(frozen=True)
class _Known:
    """The results of one run that were read. It is replaced and never changed, so any thread may have it."""

    by_field: Mapping[str, Answer | None]
    answers: Answers
    read_at: float


_NOTHING: Final = _Known({}, Answers(), float("-inf"))


class Told:
    """Reads results of any run. Any thread may call."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def with_record(self, capture_id: str) -> tuple[list[str | None], Answers]:
        """Return the fields `record` and `version` of a run and its answers, of one moment. Raises redis errors."""
        while True:
            with self._redis.pipeline(transaction=True) as together:
                together.hmget(names.run_key(capture_id), ["record", "version"])
                together.hlen(names.results_key(capture_id))
                fields, number = together.execute()
            known = self._known.get(capture_id, _NOTHING)
            if number == len(known.by_field) and self._clock() - known.read_at < NAMES_S:
                return fields, known.answers
            self._read(capture_id, known)

    def forget(self, capture_id: str) -> None:
        """Keep nothing of a run that has ended."""
        self._known.pop(capture_id, None)

    def _read(self, capture_id: str, known: _Known) -> None:
        """Read the results that are there and not known. Those of which only the name is left are read by the next look."""
        at, key = self._clock(), names.results_key(capture_id)
        there = cast("list[str]", self._redis.hkeys(key))
        found = {field: known.by_field[field] for field in there if field in known.by_field}
        new = [field for field in there if field not in found]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            texts = cast("list[str | None]", self._redis.hmget(key, some))
            found |= {
                field: parsed(capture_id, field, text)
                for field, text in zip(some, texts, strict=True)
                if text is not None
            }
        same = found.keys() == known.by_field.keys()
        answers = known.answers if same else Answers.of(found)
        self._known[capture_id] = _Known(known.by_field if same else found, answers, at)
