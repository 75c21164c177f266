"""What a worker had taken when it was killed is put back on its queue, once, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery

from freezeframe import bus
from freezeframe.contract import names
from freezeframe.settings import BusSettings


@pytest.fixture
def app(bus_settings: BusSettings) -> Celery:
    return bus.celery_app("orchestrator", bus_settings)


@contextmanager
def channel_of(app: Celery) -> Iterator[Any]:
    with app.connection_for_write() as connection, connection.channel() as channel:
        yield channel


def ask(app: Celery, *words: str) -> None:
    for word in words:
        app.send_task(names.INTAKE_TASK, [word], queue=names.ORCHESTRATOR_QUEUE, ignore_result=True)


def take(app: Celery) -> str:
    """Take a message as a worker does; return what it asks for, or "" if there is none."""
    with channel_of(app) as channel:
        message = channel.basic_get(names.ORCHESTRATOR_QUEUE)
        if message is None:
            return ""
        channel.qos._delivered.clear()  # a worker that is killed gives nothing back
        return str(message.decode()[0][0])


def test_all_that_was_taken_is_there_again_once(app: Celery) -> None:
    ask(app, "one", "two", "three")
    assert [take(app), take(app)] == ["one", "two"]
    assert bus.give_back(app) == 2
    assert sorted(take(app) for _ in range(3)) == ["one", "three", "two"]
    assert take(app) == ""


def test_what_was_acknowledged_is_not_given_back(app: Celery) -> None:
    ask(app, "one")
    with channel_of(app) as channel:
        message = channel.basic_get(names.ORCHESTRATOR_QUEUE)
        message.ack()
    assert bus.give_back(app) == 0
    assert take(app) == ""


def test_another_apps_messages_are_left_alone(app: Celery, bus_settings: BusSettings) -> None:
    """Those of a host: an order that is done twice at once is no order done once."""
    ask(app, "one")
    assert take(app) == "one"
    assert bus.give_back(bus.celery_app("host.host-a", bus_settings)) == 0
    assert bus.give_back(app) == 1
