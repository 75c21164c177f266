"""Carrying out `freezeframe forget`: decide, show, then delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from freezeframe import naming
from freezeframe.cli.output import out, print_json
from freezeframe.cli.verdicts import candidate_document, plan_document, show_named, show_plan, show_warnings
from freezeframe.cli.verified import show_unreadable, unreadable_document
from freezeframe.contract.retention import Retention, Selection
from freezeframe.repository import Repository
from freezeframe.repository.candidate import Candidate
from freezeframe.repository.errors import AmbiguousGuest, ManifestNewer, ManifestUnreadable, WouldForgetAll
from freezeframe.repository.retention import Rule
from freezeframe.repository.series import Plan, guests_without, plan

_SPACE: Final = "`freezeframe gc` frees what only they needed."


class Decided:
    """The captures to keep and to forget by rules. They are decided when this is made, so they can be shown before."""

    def __init__(self, repository: Repository, retention: Retention, selection: Selection) -> None:
        """Raises AmbiguousGuest for a name that more than one guest has."""
        self._repository, self._retention = repository, retention
        self._unreadable: list[ManifestUnreadable] = []
        stored_at = repository.stored_at()
        known, hosts = [], {}
        for one in repository.each_manifest(self._unreadable.append):
            known.append(Candidate.of(one, stored_at.get(one.capture_id)))
            hosts.update({guest.guest_uuid: guest.host_id for guest in one.guests if guest.guest_uuid not in hosts})
        check_one_meant(selection, known, hosts)
        self._plan = plan([one for one in known if one.selected_by(selection)], retention, datetime.now(UTC))
        self._warnings = _warnings(self._plan, known)

    def carry_out(self, *, allow_none_left: bool, dry_run: bool, as_json: bool) -> None:
        """Raises WouldForgetAll, before anything is deleted."""
        if not as_json:
            self._show()
        if self._plan.emptied and not allow_none_left:
            names = "; ".join(one.name for one in self._plan.emptied)
            raise WouldForgetAll(f"These rules would keep nothing at all of: {names}. Nothing is forgotten.")
        if not dry_run:
            left = _marks_left(self._repository.forget_all(self._plan.forgotten))
            self._warnings += left
            if not as_json:
                show_warnings(left)
        if as_json:
            print_json(self._document(dry_run=dry_run))
        elif self._plan.series:
            _show_end(len(self._plan.forgotten), len(self._plan.kept), dry_run=dry_run)

    def _show(self) -> None:
        show_plan(self._plan, utc=self._retention.utc)
        if not self._plan.series:
            out().print("No captures to decide about.")
        for error in self._unreadable:
            show_unreadable(error, ", left alone")
        show_warnings(self._warnings)

    def _document(self, *, dry_run: bool) -> dict[str, object]:
        return {
            "dry_run": dry_run,
            "retention": self._retention,
            "series": plan_document(self._plan),
            "guest_sets": self._plan.guest_sets,
            "forgotten": self._plan.forgotten,
            "kept": self._plan.kept,
            **unreadable_document(self._unreadable),
            "warnings": self._warnings,
        }


def check_one_meant(selection: Selection, known: Iterable[Candidate], hosts: Mapping[str, str]) -> None:
    """Raise AmbiguousGuest if a name means more than one guest: captures of each would be forgotten for the other's sake.

    `hosts`: the host of each guest, by UUID, in the newest capture.
    """
    guests = {guest: None for one in known for guest in one.guests}
    for word in selection.guests:
        meant = naming.meant(word, guests, lambda guest: guest[0], lambda guest: guest[1])
        uuids = sorted({uuid for uuid, _ in meant})
        if len(uuids) > 1:
            named = naming.told_apart((uuid, hosts[uuid]) for uuid in uuids)
            raise AmbiguousGuest(
                f"There are captures of more than one guest named {word}: {named}. Nothing is forgotten.",
                advice=f"Name one by its UUID, {naming.guest_options(uuids)}, or each of them.",
            )


def _warnings(made: Plan, known: list[Candidate]) -> list[str]:
    lost = guests_without(known, set(made.forgotten))
    ahead = [
        one.capture.capture_id
        for series in made.series
        for one in series.verdicts
        if any(reason.rule is Rule.AHEAD for reason in one.reasons)
    ]
    back = [one.capture.capture_id for series in made.series for one in series.verdicts if one.capture.back]
    return [
        *_apart(made),
        *(f"capture {one} is dated earlier than it was asked for; it counts as of then." for one in back),
        *(f"guest {name} ({uuid}) is in no capture that is kept." for uuid, name in lost.items()),
        *(
            f"of {one.name} no capture is kept that proves as much as the best that is forgotten ({one.label_lost}); "
            "--min-consistency counts only such ones."
            for one in made.series
            if one.label_lost
        ),
        *(
            f"capture {one} is dated later than now, or than it was stored; it is kept, and not counted."
            for one in ahead
        ),
    ]


#: Sets of guests that overlap, each counted by itself, from which it is told though something is forgotten.
_MANY_SETS: Final = 10


def _apart(made: Plan) -> list[str]:
    """Tell that rules keep so much because each set of guests keeps its own, for ever: a set that is gone has no newer ones."""
    sets = made.guest_sets
    if sets < 2 or (made.forgotten and sets < _MANY_SETS):
        return []
    kept = len(made.kept)
    return [
        (
            f"{kept} of {kept + len(made.forgotten)} captures are kept, in {sets} series of guests that overlap: each set of "
            "guests is counted by itself, and keeps its own for ever. Capture with --group NAME; for those that are there, "
            "count all of one guest's together: --guest NAME --group-by none."
        )
    ]


def forget_named(repository: Repository, wanted: list[str], *, dry_run: bool, as_json: bool) -> None:
    """Delete captures by ids, beginnings of ids or `latest`.

    Raises CaptureNotFound, and ManifestNewer for one that a newer version has written, before anything is deleted.
    """
    ids = list(dict.fromkeys(map(repository.capture_id, wanted)))
    found, damaged = [], []
    for capture_id in ids:
        try:
            found.append(Candidate.of(repository.manifest(capture_id)))
        except ManifestNewer as error:
            raise ManifestNewer(f"{error.message} Nothing is forgotten.") from error
        except ManifestUnreadable:
            damaged.append(capture_id)
    if not as_json:
        show_named(found, damaged)
    left = [] if dry_run else _marks_left(repository.forget_all(ids))
    if as_json:
        named = [candidate_document(one) for one in found]
        print_json({"dry_run": dry_run, "named": named, "forgotten": ids, "damaged": damaged, "warnings": left})
    else:
        show_warnings(left)
        _show_end(len(ids), None, dry_run=dry_run)


def _marks_left(reasons: Iterable[str]) -> list[str]:
    return [
        f"a mark of a suspect disk, perhaps of a forgotten capture, could not be looked at: {one}" for one in reasons
    ]


def _show_end(forgotten: int, kept: int | None, *, dry_run: bool) -> None:
    """`12 captures are forgotten, 5 kept.`"""
    rest = "" if kept is None else f", {kept} kept"
    captures = f"{forgotten} capture{'' if forgotten == 1 else 's'}"
    if dry_run:
        out().print(f"{captures} would be forgotten{rest}. Nothing was changed.", soft_wrap=True)
    else:
        verb = "is" if forgotten == 1 else "are"
        out().print(f"{captures} {verb} forgotten{rest}." + (f" {_SPACE}" if forgotten else ""), soft_wrap=True)
