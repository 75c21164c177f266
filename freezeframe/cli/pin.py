"""`freezeframe repo pin`: which repository is expected at an address, and how new it is, so that an older one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError

from freezeframe.cli.output import AsJson, fields, out, print_json
from freezeframe.cli.secret import known_file, open_repository, pinned, remember
from freezeframe.repository import Repository
from freezeframe.repository.errors import RepositoryRolledBack
from freezeframe.repository.freshness import Chain, Pin, against_pin, holes, pin_of, read_chain
from freezeframe.settings import RepositorySettings, load


class _File(BaseModel):
    """The part of `repo pin --json` that is compared."""

    id: str
    pin: Pin | None = None


def pin(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the repository with what was remembered, and change nothing.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="With --check: a pin that `repo pin --json` printed earlier."),
    ] = None,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Take what is there now for the right one, whatever was expected of this address."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remember which repository is at this address, and its newest capture, and show them. Another repository there is
    refused from then on, and an older state of it is found.

    What is opened with a passphrase or a key is remembered by itself, but for the newest capture.

    Exit code: 0 as new as it was; 7 older than it was, or captures are missing that nobody has forgotten.
    """
    if (against is not None and not check) or (check and accept):
        raise typer.BadParameter("--against goes with --check, and --check without --accept")
    opened = open_repository(accept=accept)
    chain = read_chain(opened)
    if not accept:
        check_freshness(opened, chain, _pin_in(against, opened) if against else pinned(opened))
    found = pin_of(chain)
    if not check:
        remember(opened, found)
    _show(opened, found, as_json=as_json)


def check_freshness(opened: Repository, chain: Chain, known: Pin | None) -> None:
    """Raise RepositoryRolledBack if the repository is older than the pin, or captures are missing."""
    sentences = [*(against_pin(chain, known) if known else ()), *holes(chain)]
    if sentences:
        raise RepositoryRolledBack(f"The repository at {opened.address} is not as it was. {' '.join(sentences)}")


def _pin_in(file: Path, opened: Repository) -> Pin | None:
    try:
        found = _File.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise typer.BadParameter(f"{file} cannot be read, or is not what `repo pin --json` prints") from error
    if found.id != str(opened.config.id):
        raise typer.BadParameter(f"{file} is of the repository {found.id}, and this one is {opened.config.id}")
    return found.pin


def _show(opened: Repository, found: Pin | None, *, as_json: bool) -> None:
    file = known_file(load(RepositorySettings))
    if as_json:
        shown = {"address": opened.address, "id": str(opened.config.id), "encrypted": opened.config.encrypted}
        print_json({**shown, "pin": found, "remembered_in": str(file)})
        return
    pairs = [
        ("repository", opened.address),
        ("id", str(opened.config.id)),
        ("encrypted", "yes" if opened.config.encrypted else "no"),
        ("newest capture", f"{found.capture_id}, number {found.counter}" if found else "none"),
        ("its digest", found.digest if found else "–"),
        ("remembered in", str(file)),
    ]
    out().print(fields(pairs))
