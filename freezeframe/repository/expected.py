"""The expected id and protection of the repository at an address, checked before anything but its config is used.

Whoever can write to a store can put a repository of his own there, without keys, so that nobody is asked for a
passphrase and everything in it verifies. Only who knows what should be there can tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from freezeframe.repository.errors import NotAuthenticated, NotEncrypted, WrongRepository

if TYPE_CHECKING:
    from freezeframe.repository.config import Config


@dataclass(frozen=True)
class Expected:
    """A repository's id, and how it is protected, as far as that is known; who says so, and what to do if it is not so."""

    id: UUID | None = None
    encrypted: bool | None = None
    authenticated: bool | None = None  # an encrypted one is
    says: str = "the settings"
    advice: str = (
        "It may be another repository, or somebody may have replaced its config. If this is the one you mean, correct "
        "FREEZEFRAME_REPOSITORY_ID, FREEZEFRAME_REPOSITORY_ENCRYPTED and FREEZEFRAME_REPOSITORY_AUTHENTICATED."
    )

    @property
    def is_nothing(self) -> bool:
        return self.id is None and not self.tells_protection

    @property
    def tells_protection(self) -> bool:
        """Return True if it says whether the repository is encrypted, or authenticated."""
        return self.encrypted is not None or self.authenticated is not None

    def check(self, config: Config, address: str) -> None:
        """Raise NotEncrypted, NotAuthenticated or WrongRepository for a config that is not the expected one."""
        named = f", with the id {self.id}" if self.id else ""
        if self.encrypted and not config.encrypted:
            raise NotEncrypted(
                f"The repository at {address} is not encrypted (its id is {config.id}), and {self.says} expect an encrypted "
                f"one{named}.",
                advice=self.advice,
            )
        if self.authenticated and not config.authenticated:
            raise NotAuthenticated(
                f"The repository at {address} is neither authenticated nor encrypted (its id is {config.id}), and {self.says} "
                f"expect one that is{named}.",
                advice=self.advice,
            )
        if self.authenticated is False and config.authenticated:
            how = "encrypted" if config.encrypted else "authenticated"
            raise WrongRepository(
                f"The repository at {address} is {how}, and {self.says} expect one that is neither encrypted nor "
                "authenticated.",
                advice=self.advice,
            )
        if self.encrypted is False and config.encrypted:
            raise WrongRepository(
                f"The repository at {address} is encrypted, and {self.says} expect one that is not.", advice=self.advice
            )
        if self.id is not None and config.id != self.id:
            raise WrongRepository(
                f"The repository at {address} has the id {config.id}, and {self.says} expect {self.id}.",
                advice=self.advice,
            )


ANYTHING: Final = Expected()
