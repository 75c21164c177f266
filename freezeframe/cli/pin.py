"""`freezeframe repo pin`: which repository is expected at an address, and how new it is, so that an older one is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import BaseModel
from rich.text import Text

from freezeframe.cli.output import AsJson, err, fields, out, print_json
from freezeframe.cli.secret import known_file, open_repository, pinned, protection_of
from freezeframe.known_repositories import Known, remember_pinned
from freezeframe.printable import one_line
from freezeframe.repository import Repository
from freezeframe.repository.chain import Chain, read_chain
from freezeframe.repository.document import DocumentDamagedError, DocumentNewerError, understood
from freezeframe.repository.errors import NotPinned
from freezeframe.repository.freshness import Accepted, Pin, Pinned, check_chain, holes, pin_of
from freezeframe.settings import RepositorySettings, load


class _File(BaseModel):
    """The part of `repo pin --json` that is compared."""

    id: UUID
    pin: Pin | None = None
    accepted: tuple[Accepted, ...] = ()


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

    Exit code: 0 as new as it was; 7 older than it was, or captures are damaged, or missing though nobody has forgotten them;
    4 with --check, nothing is pinned; 5 that cannot be told: the storage refuses something, or a newer version has written it.
    """
    if (against is not None and not check) or (check and accept):
        raise typer.BadParameter("--against goes with --check, and --check without --accept")
    opened = open_repository(accept=accept)
    chain = read_chain(opened)
    if check:
        known = pinned(opened) if against is None else _pinned_in(against, opened)
        check_chain(opened, chain, known, accept=_accept(against))
        if known.pin is None:
            raise _not_pinned(opened, against)
        _show(opened, Pinned(pin=pin_of(chain), accepted=known.accepted), as_json=as_json)
    else:
        _show(opened, _pin(opened, chain, accept=accept), as_json=as_json)


def _not_pinned(opened: Repository, against: Path | None) -> NotPinned:
    if against is not None:
        return NotPinned(f"{against} has no pin: the repository had no capture when it was printed.")
    file = known_file(load(RepositorySettings))
    return NotPinned(f"No capture of the repository at {opened.address} is pinned in {file}: nothing to compare with.")


def _pin(opened: Repository, chain: Chain, *, accept: bool) -> Pinned:
    """Remember the newest capture once it was compared, or accepted. What was accepted and is not as it was, stays so."""
    known, doubts = pinned(opened), [one.about for one in holes(chain)]
    if accept:
        for error in chain.unclear:
            err().print(Text.assemble(("not compared: ", "bold yellow"), one_line(error.message)), soft_wrap=True)
    else:
        check_chain(opened, chain, known)
        doubts = [one for one in doubts if one in known.accepted]
    made = Pinned(pin=pin_of(chain), accepted=tuple(doubts))
    seen = Known.of(opened.config, made)

    def may_go_back(pin: Pin) -> bool:
        return accept or chain.has_forgotten(pin.capture_id, pin.digest)

    remember_pinned(known_file(load(RepositorySettings)), opened.address, seen, known, may_go_back)
    return made


def _pinned_in(file: Path, opened: Repository) -> Pinned:
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise DocumentDamagedError("is no object")
        found = understood(_File, content)
    except (OSError, ValueError, RecursionError) as error:
        newer = isinstance(error, DocumentNewerError)
        why = "was written by a newer version" if newer else "cannot be read, or is not what `repo pin --json` prints"
        raise typer.BadParameter(f"{file} {why}") from error
    if found.id != opened.config.id:
        raise typer.BadParameter(f"{file} is of the repository {found.id}, and this one is {opened.config.id}")
    return Pinned(pin=found.pin, accepted=found.accepted)


def _accept(against: Path | None) -> str:
    """Return the words that accept the repository as it is. A file with a pin must be written anew too."""
    return "--accept" if against is None else f"--accept --json >{shlex.quote(str(against))}"


def _show(opened: Repository, found: Pinned, *, as_json: bool) -> None:
    pin, file = found.pin, known_file(load(RepositorySettings))
    if as_json:
        shown = {"address": opened.address, "id": str(opened.config.id), **protection_of(opened)}
        print_json({**shown, "pin": pin, "accepted": found.accepted, "remembered_in": str(file)})
        return
    pairs = [
        ("repository", opened.address),
        ("id", str(opened.config.id)),
        *((word, "yes" if so else "no") for word, so in protection_of(opened).items()),
        ("newest capture", f"{pin.capture_id}, number {pin.counter}" if pin else "none"),
        ("its digest", pin.digest if pin else "–"),
        ("remembered in", str(file)),
        *(("accepted as it is", one.name) for one in found.accepted),
    ]
    out().print(fields(pairs))
