"""Messages that a worker has taken and not acknowledged: given back to the queue by its own app, and by no other host's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from freezeframe import bus
from freezeframe.settings import BusSettings

QUEUE = "host.host-a.control"


@pytest.fixture
def channel(bus_settings: BusSettings) -> Iterator[Callable[[str], Any]]:
    """A channel of the app with that name; every message counts as taken too long ago at once."""
    with ExitStack() as stack:

        def opened(name: str) -> Any:
            app = bus.celery_app(name, bus_settings)
            options = app.conf.broker_transport_options
            app.conf.broker_transport_options = {**options, "visibility_timeout": 0}
            connection = stack.enter_context(app.connection_for_write())
            return stack.enter_context(connection.channel())

        yield opened


def test_a_host_never_gives_back_what_another_has_taken(
    channel: Callable[[str], Any], bus_settings: BusSettings
) -> None:
    queue = bus.connect(bus_settings)
    app = bus.celery_app("orchestrator", bus_settings)
    with app.connection_for_write() as connection:
        app.send_task("host.hold", queue=QUEUE, connection=connection)
    one, other = channel("host.host-a"), channel("host.host-b")
    assert one.basic_get(QUEUE) is not None
    assert waiting(queue) == 0
    other.qos.restore_visible(num=10)
    assert waiting(queue) == 0
    one.qos.restore_visible(num=10)
    assert waiting(queue) == 1  # so the test would see it


def test_a_channel_without_its_connection_is_closed_all_the_same(
    channel: Callable[[str], Any], bus_settings: BusSettings
) -> None:
    """As a worker leaves it when Redis is gone and a message in hand; anything that is raised here ends the worker."""
    app = bus.celery_app("orchestrator", bus_settings)
    with app.connection_for_write() as connection:
        app.send_task("host.hold", queue=QUEUE, connection=connection)
    one = channel("host.host-a")
    assert one.basic_get(QUEUE) is not None
    one.connection.client = None
    one.close()
    assert one.closed


def waiting(client: redis.Redis) -> int:
    return int(client.llen(QUEUE))
