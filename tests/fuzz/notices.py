"""The notices that programs leave for each other in a repository: a target for each kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from freezeframe.contract.fault import Fault
from freezeframe.errors import FreezeframeError
from freezeframe.repository import Tier
from freezeframe.repository.aside import AsideDocument, Kind
from freezeframe.repository.document import DocumentDamagedError, DocumentNewerError, parse
from freezeframe.repository.garbage.record import RunRecord
from freezeframe.repository.lineage import Link, Tombstone
from freezeframe.repository.notice import Notice
from freezeframe.repository.session import Session, SessionState
from freezeframe.repository.suspects import Suspect
from freezeframe.repository.switching import Switched
from freezeframe.repository.verify.record import FolderRecord, IndexesRecord, RestoredRecord, Verified
from tests.fuzz.target import Target, mend_document
from tests.unit.repository.samples import capture_id

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DIGEST = "ab" * 32

_SEEDS: dict[str, tuple[Notice, ...]] = {
    "session": (
        Session(session_id=capture_id(1), begun_at=AT, expires_at=AT, host="h", pid=1, program="p"),
        Session(
            session_id=capture_id(2),
            begun_at=AT,
            expires_at=AT,
            host="h",
            pid=2,
            program="p",
            installation="i",
            state=SessionState.SEALED,
            ended_at=AT,
        ),
    ),
    "run": (RunRecord(run_id=capture_id(1), begun_at=AT), RunRecord(run_id=capture_id(2), begun_at=AT, finished_at=AT)),
    "tombstone": (
        Tombstone(at=AT, host="h", program="p", captures=(Link(capture_id=capture_id(1), digest=DIGEST),)),
        Tombstone(at=AT, host="h", program="p", captures=()),
    ),
    "feature": (Switched(feature="f", host="h", at=AT),),
    "aside": tuple(AsideDocument(kind=kind, digest=DIGEST, found_at=AT, reason="r") for kind in Kind),
    "folder": (
        FolderRecord(),
        FolderRecord(tiers={tier: Verified(at=AT, chunks=1, bytes=2, damaged=3) for tier in Tier}),
    ),
    "indexes": (IndexesRecord(at=AT, captures=1, indexes=2, newest=capture_id(1)),),
    "restored": (RestoredRecord(captures={capture_id(1): AT}),),
    "suspect": (
        Suspect(
            capture_id=capture_id(1),
            index=DIGEST,
            guest="g",
            target="vda",
            found_by=capture_id(2),
            found_at=AT,
            reason="r",
        ),
    ),
}


def _seeds(name: str) -> list[bytes]:
    return [one.to_json() for one in _SEEDS[name]]


def _check(kind: type[Notice], data: bytes) -> None:
    """It is refused by one of two errors, whose text can be shown; or it is stored again as it was understood."""
    try:
        notice = parse(kind, data)
    except (DocumentNewerError, DocumentDamagedError) as error:
        Fault.of(FreezeframeError(str(error))).model_dump_json()  # raises if it cannot be told
        return
    again = parse(kind, notice.to_json())
    assert again.model_dump() == notice.model_dump()
    assert again.to_json() == notice.to_json()  # with the keys that it does not know, of which one may be no number


def _target(name: str, kind: type[Notice]) -> Target:
    check: Callable[[bytes], None] = partial(_check, kind)
    return Target(name, partial(_seeds, name), check, mend_document)


NOTICES = tuple(_target(name, type(some[0])) for name, some in _SEEDS.items())
