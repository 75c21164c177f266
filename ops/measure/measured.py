"""One measurement in a process of its own: `python -m ops.measure.measured transfer|open …`; the last line is a JSON object.

Memory is what the kernel says of the process: at its peak, and by how much that is more than before it began, when all that it
needs was imported. From /proc (VmHWM), and not from getrusage: ru_maxrss goes through an exec, so that whatever the process was
started by counts as its own. [linux fs/exec.c exec_mmap, setmax_mm_hiwater_rss]
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from freezeframe.contract.order import TransferOrder
from freezeframe.contract.words import CaptureKind
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES
from workers.host import this_host
from workers.steps.transfer import transfer


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def transferred(capture_id: str, guest_uuid: str, size_bytes: int) -> dict[str, Any]:
    """A whole transfer of the disk that is served in the run directory."""
    order = TransferOrder(
        capture_id=capture_id,
        epoch=1,
        host_id="host-a",
        not_after=datetime.now(UTC) + timedelta(hours=1),
        guest_uuid=guest_uuid,
        guest_name="alpha",
        target="vda",
        size_bytes=size_bytes,
        chunk_bytes=DEFAULT_CHUNK_BYTES,
        kind=CaptureKind.FULL,
        checkpoint=None,
        parent_index=None,
    )
    result = transfer(this_host(), order)
    return {"index": result.index, "bytes_read": result.bytes_read}


def opened(index: str) -> dict[str, Any]:
    """The disk's first data as a restore reads it, and a writer upon it as an incremental has one; ms from opening the
    repository on.
    """
    began = time.monotonic()
    repository = this_host().open_repository()
    with repository.disk_reader(index) as reader:
        next(extent for extent in reader if extent.data is not None)
        read = time.monotonic()
        size_bytes = reader.header.size_bytes
    again = time.monotonic()
    repository = this_host().open_repository()
    with repository.disk_writer(size_bytes, parent_index_digest=index):
        written = time.monotonic()
    return {"reader_ms": (read - began) * 1000, "writer_ms": (written - again) * 1000}


def main() -> None:
    what, *arguments = sys.argv[1:]
    before = peak_mib()
    found = transferred(arguments[0], arguments[1], int(arguments[2])) if what == "transfer" else opened(arguments[0])
    print(json.dumps({**found, "peak_mib": peak_mib(), "grown_mib": peak_mib() - before}))


if __name__ == "__main__":
    main()
