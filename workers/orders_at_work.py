"""Orders at work: which ones this process does now, so that a second delivery of one returns at once.

A worker does as many orders at once as it has threads. A second delivery that waited for the first would take one of them, for
as long as the first takes. Another process is another matter: it may be dying with the order's lock, and then this one has to
do the order, so that it waits for the lock (`CaptureJournal.lock`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from freezeframe.contract.order import Order
from freezeframe.contract.words import Step


class OrdersAtWork:
    """The orders that threads of this process are at work on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: set[tuple[str, Step, str]] = set()

    @contextmanager
    def first(self, step: Step, order: Order) -> Iterator[bool]:
        """Yield True, and have the order at work within the block; yield False if another thread is at work on it."""
        key = (order.capture_id, step, order.part)
        with self._lock:
            is_first = key not in self._orders
            self._orders.add(key)
        try:
            yield is_first
        finally:
            if is_first:
                with self._lock:
                    self._orders.discard(key)
