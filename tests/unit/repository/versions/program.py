"""A program that uses repositories, for a process of any kept version: `python program.py`, which reads its steps.

Each line that it reads is a step, and each is answered with a line of JSON: what it gave, or its error. It calls only functions
of the kept versions. A step is `[ROOT, KEY, "WORD …"]` in JSON, where KEY is a key file, or `-`. The words:

    init · capture NUMBER TEXT · incremental NUMBER PARENT TEXT                      a capture, in a session of its own
    begin NUMBER · store TEXT [PARENT] · seal NUMBER TEXT INDEX [PARENT] · end NUMBER     one in parts; others work in between
    read · forget NUMBER · gc · gc-killed MOVES · verify · share · check · key FILE
    pin FILE · compare FILE                                                          not in versions without lineages
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

from freezeframe.contract.words import CaptureKind, Consistency, HoldKind, Policy
from freezeframe.errors import FreezeframeError
from freezeframe.repository import DiskCapture, GuestCapture, Instant, Manifest, Repository
from freezeframe.repository.check import check
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import ManifestUnreadable
from freezeframe.repository.garbage import collect
from freezeframe.repository.verify import Tier, VerifyReport, verify, verify_share

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


def store(repository: Repository, text: str, parent: str | None = None) -> str:
    """Store a disk; the digest of its index."""
    disk = disk_of(text)
    with repository.disk_writer(len(disk), CHUNK, parent_index_digest=parent) as writer:
        for offset in range(0, len(disk), CHUNK):
            writer.write_chunk(offset // CHUNK, disk[offset : offset + CHUNK])
        return writer.finish().digest


def write(repository: Repository, number: int, text: str, parent: str | None = None) -> str:
    """Store a disk in a session, and seal a capture of it; the digest of its index."""
    with repository.session("program", capture_id(number)):
        index = store(repository, text, parent)
        repository.seal(manifest_of(number, index, len(disk_of(text)), parent))
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


class Killed(BaseException):
    """The process is no more."""


def collect_killed(repository: Repository, moves: int) -> None:
    """Collect garbage, and be killed before one more object than `moves` is moved."""
    kind, left = type(repository.store), iter(range(moves))
    move = kind.move

    def moved(self: Any, *names: Any) -> None:
        if next(left, None) is None:
            raise Killed
        move(self, *names)

    kind.move = moved  # type: ignore[assignment, method-assign]
    try:
        with suppress(Killed):
            collect(repository, grace=timedelta(0))
    finally:
        kind.move = move  # type: ignore[method-assign]


def looked(report: VerifyReport) -> dict[str, Any]:
    """Return what a verification has found."""
    return {
        "damaged": report.damaged_captures,
        "newer": sorted(report.newer_captures),
        "repaired": len(report.repaired),
        "notes": report.notes,
    }


def checked(repository: Repository) -> dict[str, Any]:
    """Return what the check of the structure has found."""
    found = check(repository)
    return {"sound": found.sound, "captures": found.captures, "garbage": found.garbage.count, "newer": found.newer}


def pin(repository: Repository, file: Path) -> int | None:
    """Pin the newest capture in a file, as `repo pin` does; its number."""
    from freezeframe.known_repositories import Known, remember_pinned  # noqa: PLC0415  not in every kept version
    from freezeframe.repository.chain import read_chain  # noqa: PLC0415
    from freezeframe.repository.freshness import Pinned, check_chain, pin_of  # noqa: PLC0415

    chain, known = read_chain(repository), pinned(repository, file)
    check_chain(repository, chain, known)
    made = Pinned(pin=pin_of(chain))
    seen = Known(id=repository.config.id, encrypted=repository.config.encrypted, pin=made.pin)
    remember_pinned(file, repository.address, seen, known, lambda one: chain.has_forgotten(one.capture_id, one.digest))
    return made.pin.counter if made.pin else None


def compare(repository: Repository, file: Path) -> int | None:
    """Compare the repository with the pin, as `repo pin --check` does; the pin's number."""
    from freezeframe.repository.chain import read_chain  # noqa: PLC0415
    from freezeframe.repository.freshness import check_chain  # noqa: PLC0415

    known = pinned(repository, file)
    check_chain(repository, read_chain(repository), known)
    return int(known.pin.counter) if known.pin else None


def pinned(repository: Repository, file: Path) -> Any:
    """Return the part of the file that is of the repository."""
    from freezeframe.known_repositories import known  # noqa: PLC0415
    from freezeframe.repository.freshness import Pinned  # noqa: PLC0415

    return next((one.pinned for one in known(file, repository.address)), Pinned())


def add_key(repository: Repository, file: Path) -> None:
    """Add a slot for the key in a file."""
    slots, keys = repository.encryption
    slots.add(keys, Secret.key_file(file), "another")


#: What a step does with an open repository and its words.
STEPS: dict[str, Callable[..., Any]] = {
    "capture": lambda repository, number, text: write(repository, int(number), text),
    "incremental": lambda repository, number, parent, text: write(repository, int(number), text, parent),
    "begin": lambda repository, number: repository.sessions.begin(capture_id(int(number)), "program").session_id,
    "store": store,
    "seal": lambda repository, number, text, index, parent=None: repository.seal(
        manifest_of(int(number), index, len(disk_of(text)), parent)
    ),
    "end": lambda repository, number: repository.sessions.end(
        capture_id(int(number)), sealed=repository.is_sealed(capture_id(int(number)))
    ),
    "read": read,
    "forget": lambda repository, number: repository.forget(capture_id(int(number))),
    "gc": lambda repository: collect(repository, grace=timedelta(0)).deleted.objects,
    "gc-killed": lambda repository, moves: collect_killed(repository, int(moves)),
    "verify": lambda repository: looked(verify(repository, repository.manifests(), Tier.REHASHED, set_aside=True)),
    "share": lambda repository: looked(verify_share(repository, Fraction(1), Tier.REHASHED, set_aside=True)),
    "check": checked,
    "key": lambda repository, file: add_key(repository, Path(file)),
    "pin": lambda repository, file: pin(repository, Path(file)),
    "compare": lambda repository, file: compare(repository, Path(file)),
}


def step(root: Path, key: Key, words: list[str]) -> Any:
    """Do one step. Raises what the program raises."""
    name, *rest = words
    if name == "init":
        Repository.init(root, chunk_bytes=CHUNK, secret=key.secret(), label="first")
        return None
    return STEPS[name](Repository.open(root, key), *rest)


def answer(root: str, key: str, sentence: str) -> str:
    """Do one step, a sentence; a line of JSON with what it gave, or its error."""
    source = Key(None if key == "-" else Path(key))
    try:
        given = {"gave": step(Path(root), source, sentence.split())}
    except FreezeframeError as error:
        given = {"error": told(error)}
    return json.dumps(given)


def main() -> None:
    """Do each step that is read, and print what it gave."""
    for line in sys.stdin:
        print(answer(*json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
