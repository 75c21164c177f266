"""`freezeframe verify`: is what was captured still there, and does each label still follow from its proof?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from freezeframe.cli.completion import capture_ids
from freezeframe.cli.output import AsJson, print_json
from freezeframe.cli.progress import showing
from freezeframe.cli.rehearsal import find_rehearsal
from freezeframe.cli.secret import open_repository
from freezeframe.cli.suspects import Marked, show_suspects
from freezeframe.cli.verified import Labels, show_report
from freezeframe.cli.verify_status import show_status
from freezeframe.errors import EXIT_DAMAGED, EXIT_REPOSITORY
from freezeframe.repository import Manifest, Repository, Tier, VerifyReport
from freezeframe.repository.errors import (
    ManifestUnreadable,
    RepositoryDamaged,
    RepositoryFull,
    RepositoryNotWritable,
)
from freezeframe.repository.notice import Why
from freezeframe.repository.temporary import check_temporary
from freezeframe.repository.verify import Progress, parse_share, verify_restored, verify_share
from freezeframe.repository.verify import verify as verify_captures
from freezeframe.repository.verify.folders import folders_in

EVERYTHING = Fraction(1)


def _share(text: str) -> Fraction:
    try:
        return parse_share(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def verify(
    capture: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A capture's id, the beginning of one, or `latest`, which it is without any.",
            autocompletion=capture_ids,
            show_default=False,
        ),
    ] = None,
    *,
    every_capture: Annotated[bool, typer.Option("--all", help="Every capture of the repository.")] = False,
    share: Annotated[
        Any,
        typer.Option(
            parser=_share,
            metavar="SHARE",
            help="A part of all chunks of every capture, as in 1/30 or 3%: that which was verified longest ago.",
            show_default=False,
        ),
    ] = None,
    tier: Annotated[
        Tier,
        typer.Option(
            help="How closely to look. present: each chunk is there. decodable: and can be unpacked. rehashed: and is "
            "bit for bit what was captured. restored: and each disk, restored to a scratch file, reads back so."
        ),
    ] = Tier.REHASHED,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside/--no-set-aside",
            help="Move what is damaged to `damaged/`, so that the next capture writes it anew; or only look.",
        ),
    ] = True,
    set_aside_at_most: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Stop setting aside after so many, and only look. If it is not given: 16, or one of 1,000 looked at; a host "
            "that finds more is suspected itself.",
            show_default=False,
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For the tier restored: where to restore to. FREEZEFRAME_TMP_DIR, or else /var/tmp, if it is not given.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Only show when what was last verified, and what is set aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that captures can be brought back, and that their labels follow from their proofs.

    What seems damaged is read twice. A chunk that is damaged is set aside: captures that have it were damaged before, and the
    next capture of a guest that still has the same data writes it anew, which makes all of them whole again.

    With `--share` every run looks at another part of the repository, whichever host captured it, and notes it there; thirty
    nights of `--share 1/30` verify all of it once a month.

    If no capture is named, those are verified too that an incremental has marked, because the disk had other data. One that is
    as it was written is noted as such; it may be of another disk all the same, so compare it with the guest.

    A label that does not follow from its proof is damage. Clocks that do not fit together are a doubt: a warning that leaves
    the label as it is, because nothing that is proven rests on clocks.

    Exit code: 0 sound; 7 damaged, with every capture that is affected named; 5 something was written by a newer version, or
    is not given by the storage, and could not be verified.
    """
    _check_usage(capture, share, tier, scratch, every_capture=every_capture, status=status)
    if not status:
        check_temporary()
    repository = open_repository(ask=True, for_hours=True)
    if status:
        show_status(repository, as_json=as_json)
        return
    unreadable: list[ManifestUnreadable] = []
    if every_capture or share is not None:
        wanted = repository.manifests(on_damaged=unreadable.append)
    else:
        wanted = _named(repository, capture, unreadable)
    labels = Labels(wanted)
    if tier is Tier.RESTORED:
        report = _restored(repository, wanted, scratch, set_aside=set_aside, at_most=set_aside_at_most)
    elif every_capture or share is not None:
        report = _folders(repository, share or EVERYTHING, tier, set_aside=set_aside, at_most=set_aside_at_most)
    else:
        report = _captures(repository, wanted, tier, set_aside=set_aside, at_most=set_aside_at_most)
    _settle_suspects(repository, wanted, report, whole=share is None)
    marked = Marked.of(repository, wanted)
    sound = report.sound and not report.newer and not labels.wrong and not unreadable
    if as_json:
        document = {**dataclasses.asdict(report), "damaged_captures": report.damaged_captures}
        manifests = {"unreadable_manifests": [one.message for one in unreadable]}
        print_json({"sound": sound, **document, **labels.document(), **manifests, **marked.document()})
    else:
        show_report(report, labels, unreadable, sound=sound)
        show_suspects(marked)
    if not sound:
        damaged = any(isinstance(one, RepositoryDamaged) for one in unreadable) or not report.sound or labels.wrong
        raise typer.Exit(EXIT_DAMAGED if damaged else EXIT_REPOSITORY)


def _named(repository: Repository, capture: str | None, unreadable: list[ManifestUnreadable]) -> list[Manifest]:
    """Return the capture that was named; without a name the latest, and those that an audit has marked.

    Those of the latter that cannot be read are added to `unreadable`.
    """
    if capture is not None:
        return [repository.manifest(capture)]
    latest = repository.capture_id("latest")
    marked = _marked(repository) & set(repository.capture_ids())
    found = []
    for one in (latest, *sorted(marked - {latest})):
        try:
            found.append(repository.manifest(one))
        except ManifestUnreadable as error:
            unreadable.append(error)
    return found


def _marked(repository: Repository) -> set[str]:
    """Return the captures of marks that are to be verified, and of those that cannot be read, which may say so.

    One that a newer version has written is for that to look at.
    """
    marks = repository.suspects.look()
    pending = {one.capture_id for one in marks.suspects if one.verified_at is None}
    unread = [one for one in marks.unread if one.why is not Why.NEWER]
    if not unread:
        return pending
    captures = repository.each_manifest(on_damaged=lambda _: None)  # those are told by others
    return pending.union(*repository.suspects.captures_of(unread, captures).values())


def _settle_suspects(repository: Repository, wanted: Sequence[Manifest], report: VerifyReport, *, whole: bool) -> None:
    """Note marked captures that were looked at closely and are as they were written."""
    if whole and report.tier in {Tier.REHASHED, Tier.RESTORED}:
        sound = {one.capture_id for one in wanted} - set(report.damaged_captures) - report.newer_captures
        with suppress(RepositoryNotWritable, RepositoryFull):  # who may only read can verify all the same
            repository.suspects.note_verified(sound, datetime.now(UTC))


def _check_usage(
    capture: str | None,
    share: Fraction | None,
    tier: Tier,
    scratch: Path | None,
    *,
    every_capture: bool,
    status: bool,
) -> None:
    if every_capture and capture is not None:
        raise typer.BadParameter("name a capture, or say --all, and not both")
    if share is not None and (every_capture or capture is not None):
        raise typer.BadParameter("--share is of all captures: name none, and do not say --all")
    if share is not None and tier is Tier.RESTORED:
        raise typer.BadParameter("--share is of single chunks: to restore, name a capture or say --all")
    if scratch is not None and tier is not Tier.RESTORED:
        raise typer.BadParameter("--scratch is for --tier restored")
    if status and (every_capture or capture is not None or share is not None):
        raise typer.BadParameter("--status verifies nothing: name no capture, and say neither --all nor --share")


def _captures(
    repository: Repository, wanted: Sequence[Manifest], tier: Tier, *, set_aside: bool, at_most: int | None
) -> VerifyReport:
    with showing(amount=lambda count: f"{count:.0f} chunks") as progress:

        def move(now: Progress) -> None:
            progress.move(f"verify ({tier})", now.chunks_checked, now.chunks_total)

        return verify_captures(
            repository, wanted, tier, on_progress=move, set_aside=set_aside, set_aside_at_most=at_most
        )


def _folders(
    repository: Repository, share: Fraction, tier: Tier, *, set_aside: bool, at_most: int | None
) -> VerifyReport:
    with showing(amount=lambda count: f"{count:.0f} folders") as progress:
        total = folders_in(share)

        def move(now: Progress) -> None:
            progress.move(f"verify ({tier})", now.folders_done, total)

        return verify_share(repository, share, tier, on_progress=move, set_aside=set_aside, set_aside_at_most=at_most)


def _restored(
    repository: Repository, wanted: Sequence[Manifest], scratch: Path | None, *, set_aside: bool, at_most: int | None
) -> VerifyReport:
    rehearsal = find_rehearsal(scratch)
    with showing() as progress:

        def move(now: Progress) -> None:
            progress.move(f"verify ({Tier.RESTORED})", now.bytes_read, None)

        return verify_restored(
            repository, wanted, rehearsal, on_progress=move, set_aside=set_aside, set_aside_at_most=at_most
        )
