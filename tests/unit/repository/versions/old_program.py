"""A program that uses a repository, for a process of another version: `python old_program.py ROOT KEY STEP…`.

It prints a line of JSON for each step, and calls only what the kept versions have. KEY is a key file, or `-`. Steps: `init`,
`capture NUMBER TEXT`, `incremental NUMBER PARENT TEXT`, `read`, `gc`, `forget NUMBER`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.errors import FreezeframeError
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import ManifestUnreadable
from freezeframe.repository.garbage import collect

CHUNK = 4096
GUEST = "6f1c2f6e-0f5b-4a3e-9d0e-2f6b8a1c3d4e"


def capture_id(number: int) -> str:
    """Return an id that sorts as `number` does."""
    return f"01HZ{number:022d}"


@dataclass(frozen=True)
class Key:
    """The key file, if there is one."""

    file: Path | None

    @property
    def expected(self) -> bool:
        return self.file is not None

    def secret(self) -> Secret | None:
        return None if self.file is None else Secret.key_file(self.file)


def disk_of(text: str) -> bytes:
    """Return a disk with one chunk for each letter."""
    return b"".join((letter.encode() * CHUNK)[:CHUNK] for letter in text)


def write(repository: Repository, number: int, text: str, parent: str | None = None) -> str:
    """Store a disk in a session, and seal a capture of it; the digest of its index."""
    disk = disk_of(text)
    with repository.session("old_program", capture_id(number)):
        with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
            for offset in range(0, len(disk), CHUNK):
                writer.write_chunk(offset // CHUNK, disk[offset : offset + CHUNK])
            index = writer.finish().digest
        repository.seal(manifest_of(number, index, len(disk), parent))
    return index


def manifest_of(number: int, index: str, size_bytes: int, parent: str | None) -> Manifest:
    """Return the manifest of a guest with one disk."""
    kind = CaptureKind.FULL if parent is None else CaptureKind.INCREMENTAL
    disk = DiskCapture(
        target="vda",
        source="/images/disk.qcow2",
        source_format="qcow2",
        size_bytes=size_bytes,
        chunk_bytes=CHUNK,
        kind=kind,
        parent_index=parent,
        index=index,
        bytes_read=size_bytes,
        bytes_stored=size_bytes,
        chunks_new=1,
        chunks_known=0,
    )
    guest = GuestCapture(
        guest_uuid=GUEST,
        name="db1",
        host_id="host-a.example",
        domain_xml="<domain/>",
        consistency=Consistency.GUEST,
        hold_ms=52.5,
        disks=(disk,),
    )
    now = datetime.now(UTC)
    return Manifest(
        capture_id=capture_id(number),
        created_at=now,
        instant=Instant(at=now),
        hold=HoldKind.FREEZE,
        policy=Policy.ALL,
        consistency=Consistency.GUEST,
        kind=kind,
        guests=(guest,),
        proof=None,
    )


def read(repository: Repository) -> dict[str, Any]:
    """Return the text of each capture's disk, and the code and message of what cannot be read."""
    unreadable: list[ManifestUnreadable] = []
    found = {}
    for manifest in repository.manifests(on_damaged=unreadable.append):
        with repository.disk_reader(manifest.guests[0].disks[0].index) as reader:
            data = b"".join(bytes(one.length) if one.data is None else one.data for one in reader)
        found[manifest.capture_id] = "".join(chr(data[at]) for at in range(0, len(data), CHUNK))
    return {"captures": found, "unreadable": [told(one) for one in unreadable]}


def told(error: FreezeframeError) -> dict[str, str]:
    """Return what a person would be told."""
    return {"code": error.code, "message": error.message, "advice": error.hint}


def step(root: Path, key: Key, words: list[str]) -> Any:
    """Do one step. Raises what the program raises."""
    if words[0] == "init":
        Repository.init(root, chunk_bytes=CHUNK, secret=key.secret(), label="first")
        return None
    repository = Repository.open(root, key)
    if words[0] == "capture":
        return write(repository, int(words[1]), words[2])
    if words[0] == "incremental":
        return write(repository, int(words[1]), words[3], words[2])
    if words[0] == "read":
        return read(repository)
    if words[0] == "gc":
        return collect(repository, grace=timedelta(0)).deleted.objects
    if words[0] == "forget":
        repository.forget(capture_id(int(words[1])))
        return None
    raise ValueError(words[0])


def main(root: str, key: str, *steps: str) -> None:
    """Do all steps, each a sentence, and print what each gave."""
    source = Key(None if key == "-" else Path(key))
    for words in steps:
        try:
            given = {"gave": step(Path(root), source, words.split())}
        except FreezeframeError as error:
            given = {"error": told(error)}
        print(json.dumps(given))


if __name__ == "__main__":
    main(*sys.argv[1:])
