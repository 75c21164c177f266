"""Secrets for people: what the settings name, else a passphrase that is asked for on the terminal, without an echo."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from freezeframe.access import ConfiguredKey
from freezeframe.repository import Repository
from freezeframe.repository.crypto import Secret
from freezeframe.repository.errors import SecretUnusable
from freezeframe.settings import RepositorySettings, load


@dataclass(frozen=True)
class TerminalKey:
    """What is configured; if nothing is, whoever sits at the terminal is asked."""

    configured: ConfiguredKey
    address: str

    @property
    def expected(self) -> bool:
        return self.configured.expected

    def secret(self) -> Secret | None:
        if self.configured.expected or not at_terminal():
            return self.configured.secret()
        return Secret.passphrase(_ask(f"Passphrase of {self.address}"))


def open_repository(address: str | Path | None = None) -> Repository:
    """The repository at an address, or that of the settings. Raises SettingsError, and what `Repository.open` raises."""
    settings = load(RepositorySettings)
    place = address or settings.repository
    return Repository.open(place, TerminalKey(ConfiguredKey.of(settings), str(place)))


def new_secret(key_file: Path | None, passphrase_file: Path | None = None) -> Secret:
    """What a new key slot is to open with: a file that was named, else a passphrase from the terminal, twice.

    Raises SecretUnusable, also if nobody can be asked.
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
    """Whether somebody can be asked; without a terminal what is typed could not be kept from showing."""
    return sys.stdin.isatty()


def _ask(text: str, *, again: str | bool = False) -> str:
    return str(typer.prompt(text, hide_input=True, confirmation_prompt=again, err=True))
