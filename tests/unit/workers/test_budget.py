from __future__ import annotations

import os

import pytest

from freezeframe.settings import HostSettings
from workers import budget


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    made: list[tuple[str, object]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 4, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _pid, which: made.append(("processors", which)))
    monkeypatch.setattr(os, "nice", lambda by: made.append(("nice", by)))
    return made


def test_transfers_keep_to_some_processors_and_are_nice(calls: list[tuple[str, object]]) -> None:
    budget.keep_to(HostSettings(transfer_processors=2, transfer_nice=7))
    assert calls == [("processors", [4, 5]), ("nice", 7)]


def test_without_a_budget_nothing_is_changed(calls: list[tuple[str, object]]) -> None:
    budget.keep_to(HostSettings())
    assert calls == []


def test_more_processors_than_there_are_is_all_of_them(calls: list[tuple[str, object]]) -> None:
    budget.keep_to(HostSettings(transfer_processors=64))
    assert calls == [("processors", [0, 1, 4, 5])]


def test_a_transfer_has_a_thread_a_processor(calls: list[tuple[str, object]]) -> None:
    del calls
    assert HostSettings().transfer_threads == 4
