"""Secrets for people: what the settings name, else a passphrase that is asked for on the terminal, without an echo."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.text import Text

from freezeframe import known_repositories
from freezeframe.access import ConfiguredKey, expected_of
from freezeframe.cli.output import err
from freezeframe.known_repositories import Known, KnownRepositoriesError
from freezeframe.printable import one_line
from freezeframe.repository import Repository
from freezeframe.repository.catalog import LATEST
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import RepositoryNotKnown, SecretUnusable
from freezeframe.repository.expected import ANYTHING, Expected
from freezeframe.repository.freshness import Pinned, check_pin
from freezeframe.repository.store.address import is_same_place, open_store, patience_with, transfer_patience
from freezeframe.settings import RepositorySettings, load


@dataclass(frozen=True)
class TerminalKey:
    """The secret that is configured; if there is none, the user at the terminal is asked for a passphrase."""

    configured: ConfiguredKey
    address: str

    @property
    def expected(self) -> bool:
        return self.configured.expected

    def secret(self) -> Secret | None:
        if self.configured.expected or not at_terminal():
            return self.configured.secret()
        return Secret.passphrase(_ask(f"Passphrase of {self.address}"))


def open_repository(
    address: str | Path | None = None,
    *,
    stated: Expected = ANYTHING,
    ask: bool = False,
    accept: bool = False,
    for_hours: bool = False,
) -> Repository:
    """Return the repository at an address, or that of the settings, once it is all that anybody expects of it.

    The settings expect something of their own repository, however its address is written; the options (`stated`) and the
    memory of earlier uses add to that. `ask`: a person at a terminal must agree to a repository without keys, if none
    of these says that it has none. `accept`: it may be another than is remembered. `for_hours`: once it is open, wait longer
    for object storage that is away.

    A repository that opens with a secret, or is agreed to, is remembered. Raises SettingsError, KnownRepositoriesError,
    RepositoryNotKnown and what `Repository.open` raises.
    """
    settings = load(RepositorySettings)
    place = str(address or settings.repository)
    patience = patience_with(place)
    store = open_store(place, patience=patience, deletes=settings.repository_deletes)
    remembered = () if accept else known_repositories.expected(known_file(settings), store.address)
    expected = (by_settings(settings, place), stated, *remembered)
    opened = Repository.open_in(store, TerminalKey(ConfiguredKey.of(settings), place), *expected)
    is_settled = opened.config.authenticated or any(one.tells_protection for one in expected)
    if ask and not is_settled and at_terminal():
        _agree(opened)
        remember(opened)
    elif opened.config.authenticated or accept:
        remember(opened)
    if for_hours:
        patience.seconds = transfer_patience(place).seconds
    return opened


def by_settings(settings: RepositorySettings, place: str) -> Expected:
    """Return what the settings expect of the repository at `place`. They speak of no other repository than their own."""
    expected = expected_of(settings)
    # of nothing expected nothing is asked: the settings' repository may lie on a mount that does not answer
    is_theirs = not expected.is_nothing and is_same_place(place, settings.repository)
    return expected if is_theirs else ANYTHING


def known_file(settings: RepositorySettings) -> Path:
    """Return the file that remembers repositories."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  Path.home() raises where there is none
    return settings.known_repositories or known_repositories.default_file(os.environ, home)


def pinned(opened: Repository) -> Pinned:
    """Return what is remembered of the chain of a repository, with the newest pin. Raises KnownRepositoriesError."""
    known = known_repositories.known(known_file(load(RepositorySettings)), opened.address)
    found = [one.pinned for one in known if one.id == opened.config.id]
    return max(found, key=lambda one: 0 if one.pin is None else one.pin.counter, default=Pinned())


def check_latest(opened: Repository, wanted: str) -> None:
    """Raise RepositoryRolledBack if the latest capture is wanted, and the repository is older than it was pinned.

    What cannot be read, and is not needed to tell, is shown.
    """
    if wanted == LATEST and (pin := pinned(opened).pin) is not None:
        for error in check_pin(opened, pin):
            err().print(Text.assemble(("warning: ", "bold yellow"), one_line(error.message)), soft_wrap=True)


def remember(opened: Repository) -> None:
    """Remember a repository at its address. Where that cannot be written, say so and go on."""
    file = known_file(load(RepositorySettings))
    seen = Known.of(opened.config)
    try:
        known_repositories.remember(file, opened.address, seen)
    except KnownRepositoriesError as error:
        err().print(f"This repository is not remembered: {error.message}", soft_wrap=True, markup=False)


def protection_of(opened: Repository) -> dict[str, bool]:
    """Return how a repository is protected, as verbs show it."""
    return {"encrypted": opened.config.encrypted, "authenticated": opened.config.authenticated}


def _agree(opened: Repository) -> None:
    question = (
        f"The repository at {opened.address} is neither encrypted nor authenticated, has the id {opened.config.id}, which "
        "anybody can copy, and was never used here. Whoever can write there can have put anything into it. Go on?"
    )
    if not typer.confirm(question, err=True):
        raise RepositoryNotKnown(f"The repository at {opened.address} was not agreed to. Nothing was read from it.")


def new_secret(key_file: Path | None, passphrase_file: Path | None = None) -> Secret:
    """Return the secret of a new key slot: from a file that was named, else a passphrase that is typed twice.

    Raises SecretUnusable, also without a terminal.
    """
    named = ConfiguredKey(key_file, passphrase_file).secret()
    if named is not None:
        return named
    if not at_terminal():
        raise SecretUnusable(
            "There is no terminal to ask for a new passphrase.", advice="Name a file, with --key-file."
        )
    return Secret.passphrase(_ask("New passphrase", again="The same again"))


def at_terminal() -> bool:
    """Return True if a passphrase can be asked for. Without a terminal it would show as it is typed."""
    return sys.stdin.isatty()


def _ask(text: str, *, again: str | bool = False) -> str:
    return str(typer.prompt(text, hide_input=True, confirmation_prompt=again, err=True))
