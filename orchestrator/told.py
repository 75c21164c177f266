"""The records of runs that go on, read from Redis when they have changed; and their results, each read and parsed once.

    look ─▶ record, if it is another, and number of results, of one moment ─▶ as many as are known? ─▶ no more to read
                    ▲                                                                 │ no
                    └── another by now ◀─ record ◀─ the new ones, 200 at a time ◀─────┘
                                             └────▶ still the same: results and record are of the moment of the results' names

More results may come meanwhile: who waited for a moment without any would read names until all of them have come.

The record of a thousand hosts is 6 MB, and is looked at every 2 s for as long as its disks are read. Which one it is tells its
version and a word that was drawn when it was written: after a failover another record may have the same version.

A run that is as it is now and results that are older would be a run without its results: a guest whose answer had not been
read yet would be dropped from the capture. So both are of one moment, and results that Redis has lost are not known any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import redis

from freezeframe.contract import names
from orchestrator.answers import Answer, Answers, parsed

#: Fields that are read with one command. Redis answers nobody else meanwhile, and hosts may be waiting at a barrier.
AT_ONCE: Final = 200

#: Seconds after which the names are read again although their number is the same: a failover may have lost some results since,
#: and as many have come.
NAMES_S: Final = 30.0


_READ: Final = """
-- KEYS the run and its results, ARGV the version and the word of the record that is known. Changes nothing.
-- Returns {version, word, the record if it is another, how many results there are}, all of one moment.
local found = redis.call('HMGET', KEYS[1], 'version', 'written')
local record = false
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then record = redis.call('HGET', KEYS[1], 'record') end
return {found[1], found[2], record, redis.call('HLEN', KEYS[2])}
"""


class Record(NamedTuple):
    """A run's record as it was written, by its version and a word of its own."""

    version: str
    word: str
    text: str


@dataclass(frozen=True)
class _Known:
    """The results of one run that were read. It is replaced and never changed, so any thread may have it."""

    by_field: Mapping[str, Answer | None]
    answers: Answers
    read_at: float


_NO_RECORD: Final = Record("", "", "")
_NOTHING: Final = _Known({}, Answers(), float("-inf"))


class Told:
    """Reads records and results of any run. Any thread may call."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = client
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._records: dict[str, Record] = {}
        self._read_if_new = client.register_script(_READ)

    def record(self, capture_id: str) -> Record | None:
        """Return a run's record; None if there is none. Raises redis errors."""
        return self._record(capture_id)[0]

    def with_record(self, capture_id: str) -> tuple[Record | None, Answers]:
        """Return a run's record and its answers, of one moment. Raises redis errors."""
        record, number = self._record(capture_id)
        while True:
            known = self._known.get(capture_id, _NOTHING)
            if number == len(known.by_field) and self._clock() - known.read_at < NAMES_S:
                return record, known.answers
            answers = self._read(capture_id, known)
            before, (record, number) = record, self._record(capture_id)
            if record == before:
                return record, answers

    def forget(self, capture_id: str) -> None:
        """Keep nothing of a run that has ended."""
        self._known.pop(capture_id, None)
        self._records.pop(capture_id, None)

    def keep_only(self, captures: Collection[str]) -> None:
        """Keep nothing of other runs: one that another orchestrator has ended is looked at by nobody here any more."""
        for known in (self._known, self._records):
            for capture_id in [one for one in list(known) if one not in captures]:
                known.pop(capture_id, None)

    def _record(self, capture_id: str) -> tuple[Record | None, int]:
        """Return a run's record, and how many results there are at that moment."""
        known = self._records.get(capture_id, _NO_RECORD)
        keys = [names.run_key(capture_id), names.results_key(capture_id)]
        version, word, text, number = cast(
            "tuple[str | None, str | None, str | None, int]",
            self._read_if_new(keys=keys, args=[known.version, known.word]),
        )
        if version is None:
            return None, number
        if version == known.version and word == known.word:
            return known, number
        if text is None:
            return None, number
        record = Record(version, word or "", text)
        if word:  # an orchestrator of before writes none, and may have written more than one record of that version
            self._records[capture_id] = record
        return record, number

    def _read(self, capture_id: str, known: _Known) -> Answers:
        """Return all answers that are there; read what is not known. Those that are gone when their turn comes are lost."""
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
        return answers
