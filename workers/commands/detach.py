"""`freezeframe detach`: take every trace of captures off guests of this host, running or not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from freezeframe.cli.output import AsJson, err, out, print_json, table
from freezeframe.errors import EXIT_PARTIAL, FreezeframeError
from freezeframe.printable import one_line
from workers import detach as detaching
from workers.claims import GuestClaimedError
from workers.commands.named import named
from workers.detach import Traces
from workers.host import Host, this_host
from workers.hypervisor.connection import Hypervisor
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import GuestGoneError


def detach(
    guests: Annotated[
        list[str] | None, typer.Argument(metavar="GUEST", help="Names or UUIDs.", show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every guest of this host, running or not.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show what would be removed, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove every trace of captures from guests of this host, running or not, whichever repository the captures are in.

    That is: checkpoints, bitmaps, scratch files that are left, claims of captures that have ended. For a guest that is to be
    undefined (`virsh undefine` refuses one with checkpoints), that is to be reverted to an internal snapshot (QEMU refuses that
    with bitmaps), or whose repository has gone elsewhere. Captures in the repository stay; the next one reads disks in full.

    Exit code: 0 nothing of ours is left; 3 a capture has one of the guests in hand, and nothing was done; 4 there is no such
    guest; 10 something is left, or may be because an image cannot be read, and is named.
    """
    if bool(guests) == every:
        raise typer.BadParameter("name guests, or --all of them")
    host = this_host()
    domains = _chosen(host.hypervisor, None if every else guests)
    looked = [(domain, traces) for domain in domains if (traces := _look(host, domain, every=every)) is not None]
    found = [traces for _, traces in looked]
    if not dry_run and any(found):
        _confirm([one for one in found if one], yes=yes)
        for domain, traces in looked:
            if traces:
                _remove(host, domain, traces)
    _show(found, dry_run=dry_run, as_json=as_json)
    if any(one.problems for one in found):
        raise typer.Exit(EXIT_PARTIAL)


def _chosen(hypervisor: Hypervisor, wanted: Sequence[str] | None) -> list[Domain]:
    """Return the guests, each over a connection of its own. Raises GuestGoneError for the first named that is not here."""
    domains = hypervisor.domains()
    if wanted is not None:
        return [hypervisor.domain(domain.uuid) for domain in named(domains, wanted)]
    found = []
    for domain in domains:
        with contextlib.suppress(GuestGoneError):  # since it was listed
            found.append(hypervisor.domain(domain.uuid))
    return found


def _look(host: Host, domain: Domain, *, every: bool) -> Traces | None:
    """Return the traces on a guest. One of all guests that is gone has none, and what is wrong with one is told as its problem.

    Raises GuestClaimedError while a capture has the guest in hand, and any error about a guest that was named.
    """
    try:
        return detaching.look(host, domain)
    except (FreezeframeError, OSError) as error:
        if not every or isinstance(error, GuestClaimedError):
            raise
        if isinstance(error, GuestGoneError):
            return None
        return Traces(domain.name, domain.uuid, "unknown", problems=[str(error)])


def _remove(host: Host, domain: Domain, traces: Traces) -> None:
    """Remove the traces on a guest, and tell as its problem what keeps that from being done: the others' go all the same."""
    try:
        detaching.remove(host, domain, traces)
    except (FreezeframeError, OSError) as error:
        traces.problems.append(str(error))


def _confirm(found: Sequence[Traces], *, yes: bool) -> None:
    if yes:
        return
    names = ", ".join(one.guest for one in found)
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"this takes the next capture of {one_line(names)} back to a full one; --yes agrees to that"
        )
    err().print(f"All checkpoints and bitmaps of captures go from {names}; the next capture reads their disks in full.")
    typer.confirm("Detach?", abort=True, err=True)


def _show(found: Sequence[Traces], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"guests": [asdict(one) for one in found], "dry_run": dry_run})
        return
    if not any(one or one.problems for one in found):
        out().print("Nothing of ours is on these guests.")
        return
    rows = [(one.guest, one.state, _what(one), "\n".join(one.problems) or "–") for one in found]
    out().print(table(["guest", "state", "would go" if dry_run else "removed", "left"], rows))


def _what(one: Traces) -> str:
    lines = [f"checkpoint {name}" for name in one.checkpoints]
    lines += [
        f"bitmap {name} in {image}"
        for image, names in one.bitmaps.items()
        for name in names
        if name not in one.checkpoints
    ]
    lines += [f"scratch file {path}" for path in one.scratch]
    lines += [f"backup at {one.backup}"] if one.backup else []
    lines += [f"claim of capture {one.claim}"] if one.claim else []
    return "\n".join(lines) or "–"
