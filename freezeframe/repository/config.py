"""A repository's config: its version, what one must know to use it, and its defaults.

Its checksum tells damage; in a repository with keys its MAC tells, beyond that, what somebody without them has changed.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, field_validator, model_validator

from freezeframe.repository.crypto.cipher import Suite
from freezeframe.repository.document import Document, DocumentDamagedError, DocumentNewerError, bare, checked, parse
from freezeframe.repository.errors import ConfigDamaged, RepositoryUnsupported
from freezeframe.repository.features import AUTHENTICATION, ENCRYPTION, FEATURES
from freezeframe.repository.layout import FAN_OUT, is_chunk_size

if TYPE_CHECKING:
    from freezeframe.repository.crypto.keys import Keys

#: 1 had envelopes that did not state the length of their data.
FORMAT: Final = 2

#: Between what incrementals read for a scattered write (7.7 bytes for one; 3.9 at 256 KiB, 14.9 at 1 MiB) and the number of
#: objects (210 million at 100 TiB; 419 and 105). docs/repository.md, Choices.
DEFAULT_CHUNK_BYTES: Final = 512 << 10
#: In object storage each chunk is a request, and is paid for as one: an eighth of them, for more that is stored again.
OBJECT_STORAGE_CHUNK_BYTES: Final = 4 << 20

#: The features that say how all objects are sealed. A repository has one of them, or none.
_SUITES: Final = {ENCRYPTION: Suite.ENCRYPTED, AUTHENTICATION: Suite.AUTHENTICATED}

#: The folders of chunks, and of indexes, in a repository whose config does not say it, and the only number that is known yet.
DEFAULT_FAN_OUT: Final = len(FAN_OUT)


def default_chunk_bytes(address: str) -> int:
    """Return the chunk size of a new repository at an address, if nobody says another."""
    return OBJECT_STORAGE_CHUNK_BYTES if address.startswith("s3://") else DEFAULT_CHUNK_BYTES


class Config(Document):
    """The config of a repository."""

    format: Literal[2] = FORMAT
    features: tuple[str, ...] = ()
    id: UUID
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    digest: Literal["sha256"] = "sha256"
    fan_out: Annotated[int, Field(exclude_if=lambda folders: folders == DEFAULT_FAN_OUT)] = DEFAULT_FAN_OUT
    mac: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None, Field(exclude_if=lambda mac: mac is None)
    ] = None

    @field_validator("chunk_bytes")
    @classmethod
    def _power_of_two(cls, chunk_bytes: int) -> int:
        if not is_chunk_size(chunk_bytes):
            raise ValueError("a chunk size is a power of two from 4 KiB to 16 MiB")
        return chunk_bytes

    @model_validator(mode="after")
    def _one_suite_and_its_mac(self) -> Self:
        suites = _SUITES.keys() & set(self.features)
        if len(suites) > 1:
            raise ValueError("a repository is encrypted, or authenticated and not encrypted")
        if bool(suites) != (self.mac is not None):
            raise ValueError("the config of a repository with keys has a mac, and no other has one")
        return self

    @property
    def suite(self) -> Suite | None:
        """Return how all objects are sealed; None if they are not."""
        return next((suite for feature, suite in _SUITES.items() if feature in self.features), None)

    @property
    def encrypted(self) -> bool:
        return self.suite is Suite.ENCRYPTED

    @property
    def authenticated(self) -> bool:
        """Return True if nobody without the keys can write anything that is believed: so is an encrypted one."""
        return self.suite is not None


def sealed_config(repository: UUID, chunk_bytes: int, keys: Keys, suite: Suite) -> Config:
    """Return the config of a new repository with keys. Raises ValueError for a chunk size that cannot be."""
    (feature,) = (name for name, one in _SUITES.items() if one is suite)
    content = {**Config(id=repository, chunk_bytes=chunk_bytes).content(), "features": [feature]}
    return Config.model_validate({**content, "mac": _mac(content, keys)})


def is_authentic(data: bytes, keys: Keys) -> bool:
    """Return True if a program with the repository's keys has written the config in `data`, which can be read, so.

    The MAC is of what is stored, not of what this version makes of it.
    """
    content = bare(json.loads(data))
    return hmac.compare_digest(str(content.get("mac")), _mac(content, keys))


def add_feature(data: bytes, address: str, name: str, keys: Keys | None) -> bytes:
    """Return the config in `data`, with one more feature; what this version does not know of it stays.

    Raises RepositoryUnsupported and ConfigDamaged.
    """
    config = read_config(data, address)
    content = {**bare(json.loads(data)), "features": [*config.features, name]}
    return checked(content if keys is None else {**content, "mac": _mac(content, keys)})


def _mac(content: dict[str, Any], keys: Keys) -> str:
    bare = {key: value for key, value in content.items() if key != "mac"}
    return keys.config_mac(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hex()


def read_config(data: bytes, address: str) -> Config:
    """The config in `data`, which was found at `address`.

    The version and the features are looked at before anything else, the checksum too, since a newer format may change all
    the rest.
    Raises RepositoryUnsupported for one that this program does not know, and ConfigDamaged.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigDamaged(f"The config of {address} is not JSON.") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int):
        raise ConfigDamaged(f"The config of {address} has no format version.")
    _refuse_unknown(raw, address)
    config = _parsed(data, address)
    if config.fan_out != DEFAULT_FAN_OUT:
        raise RepositoryUnsupported(
            f"The repository at {address} spreads its objects over {config.fan_out} folders; this version knows "
            f"{DEFAULT_FAN_OUT}. A newer freezeframe is needed."
        )
    return config


def _parsed(data: bytes, address: str) -> Config:
    try:
        return parse(Config, data)
    except DocumentNewerError as error:
        raise RepositoryUnsupported(
            f"The config of {address} was written by a newer version of freezeframe: {error}."
        ) from error
    except DocumentDamagedError as error:
        raise ConfigDamaged(f"The config of {address} {error}.") from error


def _refuse_unknown(raw: dict[str, Any], address: str) -> None:
    if raw["format"] != FORMAT:
        raise RepositoryUnsupported(
            f"The repository at {address} has format {raw['format']}; this program knows {FORMAT}."
        )
    features = raw.get("features", [])
    unknown = sorted({str(one) for one in features} - FEATURES.keys()) if isinstance(features, list) else []
    if unknown:
        raise RepositoryUnsupported(
            f"The repository at {address} has features that this version does not know: {', '.join(unknown)}. A newer "
            "freezeframe is needed."
        )
