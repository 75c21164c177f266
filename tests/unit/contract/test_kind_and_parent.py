"""An incremental without a parent, whose clean chunks would become holes, cannot be ordered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import PreparedDisk
from freezeframe.contract.words import CaptureKind

INDEX = "ab" * 32


def order(kind: CaptureKind, parent_index: str | None) -> TransferOrder:
    return TransferOrder(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA",
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC),
        guest_uuid="00000000-0000-4000-8000-00000000000a",
        guest_name="alpha",
        target="vda",
        size_bytes=1,
        chunk_bytes=4096,
        kind=kind,
        checkpoint=None,
        parent_index=parent_index,
    )


def disk(kind: CaptureKind, parent_index: str | None) -> PreparedDisk:
    return PreparedDisk(
        target="vda", source="/i", source_format="qcow2", size_bytes=1, kind=kind, parent_index=parent_index
    )


@pytest.mark.parametrize("make", [order, disk])
@pytest.mark.parametrize(("kind", "parent"), [(CaptureKind.INCREMENTAL, None), (CaptureKind.FULL, INDEX)])
def test_a_kind_that_does_not_fit_the_parent_is_refused(
    make: type[object], kind: CaptureKind, parent: str | None
) -> None:
    with pytest.raises(ValidationError, match="parent"):
        make(kind, parent)  # type: ignore[call-arg]


@pytest.mark.parametrize("make", [order, disk])
@pytest.mark.parametrize(("kind", "parent"), [(CaptureKind.INCREMENTAL, INDEX), (CaptureKind.FULL, None)])
def test_one_that_fits_is_not(make: type[object], kind: CaptureKind, parent: str | None) -> None:
    make(kind, parent)  # type: ignore[call-arg]
