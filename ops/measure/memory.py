"""`ops/bench memory`: what a transfer takes at its peak, and how long a capture takes to open, from 1 GiB to 1 TiB.

    sparse disk (data scattered over all of it) ─ qemu-nbd ─▶ a process that transfers it ─▶ repository ─▶ one that opens it
    dense index (every slot used, by few chunks) ───────────────────────────────────────────▶ repository ─▶ one that opens it

Each measurement is a process of its own (`measured.py`): a peak does not go down again. The data is the same amount on every
disk, so that only its size differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from freezeframe.repository import IndexReceipt, Repository
from freezeframe.repository.builder import IndexBuilder
from freezeframe.repository.config import DEFAULT_CHUNK_BYTES as CHUNK
from freezeframe.repository.crypto import Secret
from freezeframe.repository.layout import DIGEST_BYTES
from ops.measure.barrier import redis_server
from ops.qemu_export import FakeGuest, exporting
from workers.journal import Journal

GIB = 1 << 30
MIB = 1 << 20
SIZES_GIB = (1, 32, 1024)
#: More than a writer may queue, several times over.
DATA_MIB = 512
#: Distinct chunks of a dense disk.
DISTINCT = 64
CAPTURE = "01KAAAAAAAAAAAAAAAAAAAAAAA"
GUEST = "00000000-0000-4000-8000-00000000000a"


def run(directory: Path, rounds: int, sizes_gib: tuple[int, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Each size plain and encrypted; of `rounds` the highest peak and the fastest opening of each."""
    rows = []
    (directory / "key").write_bytes(os.urandom(32))
    (directory / "key").chmod(0o600)
    with redis_server() as url:
        for disk_gib in sizes_gib:
            for encrypted in (False, True):
                found = [
                    _round(directory / f"{disk_gib}-{encrypted}-{one}", url, disk_gib, encrypted)
                    for one in range(rounds)
                ]
                row = {"disk_gib": disk_gib, "encrypted": encrypted, **_worst_and_best(found)}
                say(json.dumps(row))
                rows.append(row)
    return {"bench": "memory", "rounds": rounds, "data_mib": DATA_MIB, "rows": rows, "cores": os.cpu_count()}


def _worst_and_best(found: list[dict[str, float]]) -> dict[str, float]:
    return {
        key: round(max(one[key] for one in found) if key.endswith("_mib") else min(one[key] for one in found), 1)
        for key in found[0]
    }


def _round(directory: Path, redis_url: str, disk_gib: int, encrypted: bool) -> dict[str, float]:
    directory.mkdir()
    key_file = directory.parent / "key"
    env = environment(directory, redis_url, key_file if encrypted else None)
    repository = Repository.init(directory / "repository", secret=Secret.key_file(key_file) if encrypted else None)
    repository.sessions.begin(CAPTURE, "ops/bench")
    make_disk(directory / "disk", disk_gib * GIB, DATA_MIB)
    with served(directory):
        transferred = measured(env, "transfer", CAPTURE, GUEST, str(disk_gib * GIB))
    (directory / "disk").unlink()
    sparse = measured(env, "open", str(transferred["index"]))
    dense = measured(env, "open", store_dense(repository, disk_gib * GIB).digest)
    subprocess.run(["rm", "-rf", str(directory)], check=True)
    return {
        "peak_rss_mib": transferred["peak_mib"],
        "transfer_mib": transferred["grown_mib"],
        "open_ms": sparse["reader_ms"],
        "dense_open_ms": dense["reader_ms"],
        "dense_writer_ms": dense["writer_ms"],
        "dense_open_mib": dense["grown_mib"],
    }


def make_disk(path: Path, size_bytes: int, data_mib: int) -> None:
    """A sparse disk with incompressible data, scattered over all of it."""
    with path.open("wb") as file:
        for number in range(data_mib):
            file.seek(number * (size_bytes // data_mib // MIB) * MIB)
            file.write(os.urandom(MIB))
        file.truncate(size_bytes)


def store_dense(repository: Repository, size_bytes: int) -> IndexReceipt:
    """A disk of which every slot is used, by DISTINCT chunks."""
    with repository.disk_writer(DISTINCT * CHUNK) as chunks:
        for slot in range(DISTINCT):
            chunks.write_chunk(slot, os.urandom(CHUNK))
        few = chunks.finish()
    with repository.index(few.digest) as index, IndexBuilder(size_bytes, CHUNK) as builder:
        piece = b"".join(digest for _, digest in index.used_slots()) * (MIB // DISTINCT // DIGEST_BYTES)
        for offset in range(0, builder.header.slots * DIGEST_BYTES, len(piece)):
            # a digest at a time takes seconds, and is not what is measured
            builder._table.fill(offset, piece[: builder.header.slots * DIGEST_BYTES - offset])  # noqa: SLF001
        digest, stored_bytes = builder.store(repository.objects)
    return IndexReceipt(digest.hex(), size_bytes, CHUNK, 0, builder.header.slots, 0, stored_bytes)


def environment(directory: Path, redis_url: str, key_file: Path | None) -> dict[str, str]:
    """The settings of a host whose everything is in `directory`."""
    settings = {
        "HOST_ID": "host-a",
        "REDIS_URL": redis_url,
        "REPOSITORY": str(directory / "repository"),
        "STATE_DIR": str(directory / "state"),
        "SCRATCH_DIR": str(directory / "scratch"),
        "RUN_DIR": str(directory),
        "LIBVIRT_RUN_DIR": str(directory),
        "CONFIG": os.devnull,
    }
    if key_file is not None:
        settings["KEY_FILE"] = str(key_file)
    others = {name: value for name, value in os.environ.items() if not name.startswith("FREEZEFRAME_")}
    return {**others, **{f"FREEZEFRAME_{name}": value for name, value in settings.items()}}


def measured(env: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What `measured.py` says, in a process of its own."""
    command = [sys.executable, "-m", "ops.measure.measured", *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=env, cwd=root, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def served(directory: Path) -> Iterator[None]:
    """The disk in `directory`, served there as in a backup that the host's journal knows."""
    guest = FakeGuest("alpha", GUEST, directory)
    with exporting(guest, guest.begun(Journal(directory / "state"), CAPTURE), directory / "disk"):
        yield
