"""Documents: the repository's small JSON objects (config, manifests, sessions, key slots and others), each with a checksum.

        {"…": …, "checksum": SHA-256 of the canonical form without it}

The checksum tells damage from what a writer meant, where nothing else would: a flipped bit in a number is a number. It is of
what was stored and not of what a program made of it, so a program that knows more keys reads what one wrote that knew
fewer. It keeps nobody out; what shows that somebody has *changed* an object is encryption.

A document whose checksum is right was written so. Versions N and N+1 of the program live together by this rule:

| a document has | then |
|---|---|
| a key that this version does not know, at any depth | it is ignored, and kept by a writer that rewrites the document |
| such a key, and its name is in the list `critical` | the document is *newer* |
| a word (of a closed set) that this version does not know | the document is newer |
| a later `format` | the document is newer, whatever its checksum: a later one may have another |

Newer is not damaged: nobody deletes it, moves it, writes over it, or advises to.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from freezeframe.repository.unknown_keys import (
    UnknownKey,
    first_critical,
    unknown_keys,
    value_at,
    with_them,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CHECKSUM: Final = "checksum"
CRITICAL: Final = "critical"

#: What pydantic says of a word that this version does not know.
_UNKNOWN_WORD: Final = frozenset({"literal_error", "enum"})


class DocumentNewerError(ValueError):
    """A newer version has written a document; the text says what this version does not know."""


class DocumentDamagedError(ValueError):
    """A document is not what any version writes; the text continues the sentence that its name begins."""


class Document(BaseModel):
    """A document as this version knows it. A subclass has a `format`, with the one that this version writes as its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: Names of keys, sorted, that a reader must understand: one that does not know such a key must not use the document.
    critical: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    _unknown: tuple[UnknownKey, ...] = PrivateAttr(default=())

    def content(self) -> dict[str, Any]:
        """Return what is stored but for the checksum, with the unknown keys that were read."""
        return with_them(self.model_dump(mode="json"), self._unknown)

    def to_json(self) -> bytes:
        """Return the stored form. A document has one form."""
        return checked(self.content())

    def keeping(self, unknown: Iterable[UnknownKey]) -> Self:
        """Have the document keep these unknown keys, and no others, and return it."""
        self._unknown = tuple(unknown)
        return self

    def has_unknown(self, key: str) -> bool:
        """Return True if this version does not know a key within the value of `key`."""
        return any(one.path[0] == key for one in self._unknown)

    def changed(self, update: Mapping[str, Any]) -> Self:
        """Return the document with other values, which keeps the unknown keys of all that stays as it was.

        Those within a value that changes say something of the old value, and go with it.
        """
        after = self.model_copy(update=dict(update))
        then, now = self.model_dump(mode="json"), after.model_dump(mode="json")
        stays = [one for one in self._unknown if not one.owner or value_at(then, one.owner) == value_at(now, one.owner)]
        return after.keeping(stays)


DocumentT = TypeVar("DocumentT", bound=BaseModel)


def canonical(content: dict[str, Any]) -> bytes:
    """Return the one form that a document has: keys sorted, no spaces, UTF-8, a newline at the end. Raises ValueError."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def checksum_of(content: dict[str, Any]) -> str:
    """Return the checksum in hex, of all but the checksum. Raises ValueError for what has no canonical form."""
    return hashlib.sha256(canonical(bare(content))).hexdigest()


def checked(content: dict[str, Any]) -> bytes:
    """Return the stored form, with its checksum."""
    return canonical({**content, CHECKSUM: checksum_of(content)})


def bare(content: dict[str, Any]) -> dict[str, Any]:
    """Return a document without its checksum."""
    return {key: value for key, value in content.items() if key != CHECKSUM}


def is_whole(raw: dict[str, Any]) -> bool:
    """Return True if a document is what was written."""
    try:
        return bool(raw.get(CHECKSUM) == checksum_of(raw))
    except (ValueError, RecursionError):
        return False


def parse(kind: type[DocumentT], data: bytes) -> DocumentT:
    """Return the document of that kind in `data`. Raises DocumentNewerError and DocumentDamagedError, whatever is in there."""
    return understood(kind, bare(whole(kind, data)))


def whole(kind: type[BaseModel], data: bytes, check: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
    """Return the JSON object in `data` after its format and its checksum were verified, or what `check` verifies.

    Raises DocumentNewerError and DocumentDamagedError.
    """
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DocumentDamagedError("is not JSON") from error
    if is_newer_format(raw, kind.model_fields["format"].default):
        raise DocumentNewerError(f"this one does not know format {raw['format']}")
    if not isinstance(raw, dict) or not (check or is_whole)(raw):
        raise DocumentDamagedError("has other bytes than were written")
    return raw


def understood(kind: type[DocumentT], content: dict[str, Any]) -> DocumentT:
    """Return what this version understands of a document that is whole; a Document keeps the rest.

    Raises DocumentNewerError and DocumentDamagedError.
    """
    critical = content.get(CRITICAL, [])
    try:
        unknown = unknown_keys(kind, content)
        if isinstance(critical, list) and (found := first_critical(unknown, map(str, critical))) is not None:
            raise DocumentNewerError(f"this one does not know {found}")
        document = kind.model_validate_json(canonical(without(content, unknown)))
    except ValidationError as error:
        raise _refusal(error) from error
    except RecursionError as error:
        raise DocumentDamagedError("is nested more deeply than any version writes") from error
    if isinstance(document, Document):
        document.keeping(unknown)
    return document


def _refusal(error: ValidationError) -> DocumentNewerError | DocumentDamagedError:
    found = error.errors(include_url=False)
    where = ".".join(str(part) for part in found[0]["loc"]) or "its beginning"
    if all(_is_unknown_word(one) for one in found):
        return DocumentNewerError(f"this one does not know the word at {where}")
    return DocumentDamagedError(f"cannot be read at {where}: {found[0]['msg']}")


def _is_unknown_word(error: Mapping[str, Any]) -> bool:
    if error["type"] == "union_tag_invalid":
        return True
    return error["type"] in _UNKNOWN_WORD and isinstance(error["input"], str) and error["loc"] != ("format",)


def is_newer_format(raw: object, known: int) -> bool:
    """Return True for a document of a later format than the one that this version knows."""
    found = raw.get("format") if isinstance(raw, dict) else None
    return isinstance(found, int) and not isinstance(found, bool) and found > known
