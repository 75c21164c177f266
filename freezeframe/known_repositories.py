"""Known repositories: what a user has seen of each repository that was opened here, by its address, as ssh does with hosts.

    opened with a passphrase or a key, made, or agreed to ──▶ remembered: id, encrypted or not
    opened again ──▶ another id, or less encryption or authentication than there was: refused

One file a user (mode 0600), a document with a checksum. A file that cannot be read is not absent: the next repository of an
attacker would be taken for a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from freezeframe.errors import FreezeframeError
from freezeframe.repository.config import Config
from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, parse
from freezeframe.repository.errors import RepositoryRolledBack
from freezeframe.repository.expected import Expected
from freezeframe.repository.freshness import Accepted, Pin, Pinned, advice_for
from freezeframe.repository.store.address import spellings

#: A key that a reader must understand, where there is one.
_CRITICAL: Final = "authenticated"

#: A known repository takes some 300 bytes; of a longer file no more is read.
_MOST_BYTES: Final = 16 << 20

_ACCEPT: Final = (
    "Somebody may have put another repository in its place: restore nothing from it before you know. If you mean to use what "
    "is there now: `FREEZEFRAME_REPOSITORY={address} freezeframe repo pin --accept`."
)


class KnownRepositoriesError(FreezeframeError):
    """The file that remembers repositories cannot be used."""

    code = "known-repositories"
    advice = (
        "Move that file away, or name another one with FREEZEFRAME_KNOWN_REPOSITORIES; then say what you expect: "
        "FREEZEFRAME_REPOSITORY_ID, FREEZEFRAME_REPOSITORY_ENCRYPTED and FREEZEFRAME_REPOSITORY_AUTHENTICATED."
    )


class Known(BaseModel):
    """The id and the protection of the repository at one address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    encrypted: bool
    #: True, and there, of one that is authenticated and not encrypted. A program that does not know the key takes that one for
    #: plain, and would believe a plain one in its place: so it is critical.
    authenticated: Annotated[bool, Field(exclude_if=lambda authenticated: not authenticated)] = False
    pin: Annotated[Pin | None, Field(exclude_if=lambda pin: pin is None)] = (
        None  # the newest capture, once it was pinned
    )
    #: What was missing or damaged when the repository was accepted as it was, and still is.
    accepted: Annotated[tuple[Accepted, ...], Field(exclude_if=lambda accepted: not accepted)] = ()

    @classmethod
    def of(cls, config: Config, pinned: Pinned | None = None) -> Known:
        """Return what is remembered of a repository with that config, with what was pinned of it."""
        pinned = pinned or Pinned()
        bare = config.authenticated and not config.encrypted
        return cls(
            id=config.id, encrypted=config.encrypted, authenticated=bare, pin=pinned.pin, accepted=pinned.accepted
        )

    @property
    def pinned(self) -> Pinned:
        return Pinned(pin=self.pin, accepted=self.accepted)


class KnownRepositories(Document):
    """The content of the file."""

    format: Literal[1] = 1
    repositories: dict[str, Known] = Field(default_factory=dict)


def default_file(env: Mapping[str, str], home: Path) -> Path:
    """Return the file of a user for whom the settings name none."""
    state = Path(env.get("XDG_STATE_HOME") or "relative")
    return (state if state.is_absolute() else home / ".local/state") / "freezeframe" / "repositories.json"


def known(file: Path, address: str) -> tuple[Known, ...]:
    """Return each memory of the repository at an address: two, if links lead there. Raises KnownRepositoriesError."""
    remembered = _read(file).repositories
    return tuple(remembered[one] for one in spellings(address) if one in remembered)


def expected(file: Path, address: str) -> tuple[Expected, ...]:
    """Return the expectations of the repository at an address. Raises KnownRepositoriesError."""
    advice = _ACCEPT.format(address=shlex.quote(address))
    says = f"earlier uses of it (remembered in {file})"
    return tuple(
        Expected(one.id, one.encrypted, one.encrypted or one.authenticated, says, advice)
        for one in known(file, address)
    )


def remember(file: Path, address: str, seen: Known) -> None:
    """Remember a repository, durably when this returns. What was pinned of the same repository stays.

    Raises KnownRepositoriesError.
    """
    _remember(file, address, seen, lambda last: seen.model_copy(update={"pin": last.pin, "accepted": last.accepted}))


def remember_pinned(
    file: Path, address: str, seen: Known, compared: Pinned, may_go_back: Callable[[Pin], bool]
) -> None:
    """Remember a repository with its newest capture, which was `compared` with what was pinned before.

    The pin of a newer capture is given up only if it may be. One that another verb has remembered meanwhile stays.
    Raises KnownRepositoriesError and RepositoryRolledBack.
    """

    def newer(last: Known) -> Known:
        if last.pin is None or (seen.pin is not None and seen.pin.counter >= last.pin.counter) or may_go_back(last.pin):
            return seen
        if last.pin != compared.pin:
            return last
        now = "there is none now" if seen.pin is None else f"now it is {seen.pin.capture_id}, number {seen.pin.counter}"
        raise RepositoryRolledBack(
            f"Capture {last.pin.capture_id}, number {last.pin.counter}, was the newest that could be read at {address} when it "
            f"was pinned; {now}.",
            advice=advice_for(address),
        )

    _remember(file, address, seen, newer)


def _remember(file: Path, address: str, seen: Known, again: Callable[[Known], Known]) -> None:
    """Remember a repository as `seen`; where the same one is remembered already, as what `again` makes of that."""
    with _locked(file):
        before = _read(file)
        after = {**before.repositories}
        for one in spellings(address):
            last = after.get(one)
            after[one] = again(last) if last is not None and last.id == seen.id else seen
        if after != before.repositories:
            names = {_CRITICAL} if any(one.authenticated for one in after.values()) else set()
            critical = tuple(sorted(names.union(before.critical)))
            _write(file, before.changed({"repositories": after, "critical": critical}))


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Two verbs at once must not lose what the other remembers."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KnownRepositoriesError(f"{file} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(file: Path) -> KnownRepositories:
    try:
        with file.open("rb") as source:
            return parse(KnownRepositories, source.read(_MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return KnownRepositories()
    except OSError as error:
        raise KnownRepositoriesError(f"{file} cannot be read: {error.strerror}.") from error
    except DocumentNewerError as error:
        raise KnownRepositoriesError(
            f"{file} was written by a newer version of freezeframe: {error}.",
            advice="Update freezeframe on this machine.",
        ) from error
    except DocumentDamagedError as error:
        raise KnownRepositoriesError(f"{file} {error}.") from error


def _write(file: Path, content: KnownRepositories) -> None:
    new = file.with_name(f"{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(content.to_json())
            target.flush()
            os.fsync(target.fileno())
        new.replace(file)
    except OSError as error:
        raise KnownRepositoriesError(f"{file} cannot be written: {error.strerror}.") from error
