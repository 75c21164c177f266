"""Orders to test with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from freezeframe.contract.order import PrepareOrder, TransferOrder
from freezeframe.contract.words import CaptureKind, Method


def prepare_order(**changes: Any) -> PrepareOrder:
    """Return an order to prepare no guest, valid for five minutes."""
    usual: dict[str, Any] = {
        "capture_id": "01KAAAAAAAAAAAAAAAAAAAAAAA",
        "epoch": 1,
        "host_id": "host-a",
        "not_after": datetime.now(UTC) + timedelta(minutes=5),
        "method": Method.BACKUP_PULL,
        "repository_id": "r",
        "chunk_bytes": 4096,
        "guests": (),
    }
    return PrepareOrder.model_validate(usual | changes)


def transfer_order(**changes: Any) -> TransferOrder:
    """Return an order to read a disk of one byte in full, valid for a minute."""
    usual: dict[str, Any] = {
        "capture_id": "01KAAAAAAAAAAAAAAAAAAAAAAA",
        "epoch": 1,
        "host_id": "host-a",
        "not_after": datetime.now(UTC) + timedelta(minutes=1),
        "guest_uuid": "00000000-0000-4000-8000-00000000000a",
        "guest_name": "alpha",
        "target": "vda",
        "size_bytes": 1,
        "chunk_bytes": 4096,
        "kind": CaptureKind.FULL,
        "checkpoint": None,
        "parent_index": None,
    }
    return TransferOrder.model_validate(usual | changes)
