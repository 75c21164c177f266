"""`freezeframe verify --status`: when what was last verified, and what is set aside."""

from __future__ import annotations

from datetime import UTC, datetime

from freezeframe.cli.output import duration_text, fields, out, print_json, when_text
from freezeframe.cli.suspects import Marked, show_suspects
from freezeframe.cli.verdicts import show_warnings
from freezeframe.repository import Repository
from freezeframe.repository.aside import Aside, list_aside
from freezeframe.repository.verify import CHUNK_TIERS, Tier
from freezeframe.repository.verify.record import Records, read_records


def show_status(repository: Repository, *, as_json: bool) -> None:
    records, aside = read_records(repository.objects), list_aside(repository.objects)
    marked = Marked.of(repository, ())
    if as_json:
        print_json({**status_document(records), "set_aside": [_document(one) for one in aside], **marked.document()})
        return
    pairs = [(tier.value, age_text(records, tier)) for tier in CHUNK_TIERS]
    pairs.append(("indexes", _indexes(records)))
    pairs.append(("restored", _restored(records)))
    pairs.append(("set aside", str(len(aside)) if aside else "nothing"))
    out().print(fields(pairs))
    for one in aside:
        if one.document is not None:
            out().print(f"  {one.document.kind} {one.document.digest}: {one.document.reason}", soft_wrap=True)
    show_warnings([*unreadable_records(records), *(one.refused for one in aside if one.refused)])
    show_suspects(marked)


def status_document(records: Records) -> dict[str, object]:
    """`oldest` is null for as long as a folder was never verified at that tier or a closer one."""
    tiers = {tier.value: {"oldest": records.oldest(tier), "folders_never": records.never(tier)} for tier in CHUNK_TIERS}
    indexes = None if records.indexes is None else records.indexes.model_dump(mode="json", exclude={"format"})
    restored = records.restored.model_dump(mode="json")["captures"]
    return {
        "verified": tiers,
        "indexes_read": indexes,
        "restored": restored,
        "unreadable_records": list(records.unreadable),
    }


def unreadable_records(records: Records) -> list[str]:
    """Return a warning for each record that the storage refuses."""
    return [f"A record of verification cannot be read, and counts as never. {one}" for one in records.unreadable]


def age_text(records: Records, tier: Tier) -> str:
    """`everything within 12 d 3 h (oldest: 2026-03-01 12:00:00 UTC)`"""
    never, oldest = records.never(tier), records.oldest(tier)
    if oldest is None:
        return "never" if never == 256 else f"{256 - never} of 256 folders; the others never"
    age_s = (datetime.now(UTC) - oldest).total_seconds()
    return f"everything within {duration_text(age_s)} (the oldest part at {when_text(oldest)} UTC)"


def _indexes(records: Records) -> str:
    if records.indexes is None:
        return "never"
    one = records.indexes
    damaged = f", {one.damaged} damaged" if one.damaged else ""
    return f"{one.indexes} of {one.captures} captures at {when_text(one.at)} UTC{damaged}"


def _restored(records: Records) -> str:
    latest = max(records.restored.captures.items(), key=lambda one: one[1], default=None)
    return "never" if latest is None else f"{latest[0]} at {when_text(latest[1])} UTC"


def _document(aside: Aside) -> dict[str, object]:
    found = None if aside.document is None else aside.document.model_dump(mode="json", exclude={"format"})
    return {
        "name": aside.object_name,
        "has_object": aside.has_object,
        "document": found,
        "unreadable": aside.refused or None,
    }
