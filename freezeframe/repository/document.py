"""Documents: the repository's small JSON objects (config, manifests, key slots, and those of verification), each with a
checksum of what it says.

        {"…": …, "checksum": SHA-256 of the canonical form without it}

The checksum tells damage from what a writer meant, where nothing else would: a flipped bit in a number is a number. It is of
what was stored and not of what a program made of it, so a program that knows more keys reads what one wrote that knew
fewer. It keeps nobody out; what shows that somebody has *changed* an object is encryption.

A document whose checksum is right was written so. If this version does not know its format, a key or a word of it, a newer one
has written it, and it is *newer*, not damaged. A format that is not known is looked at before the checksum, which a newer one
may not have.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

CHECKSUM: Final = "checksum"


def canonical(content: dict[str, Any]) -> bytes:
    """The one form that a document has: keys sorted, no spaces, UTF-8, a newline at the end. Raises ValueError."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def checksum_of(content: dict[str, Any]) -> str:
    """In hex, of all but the checksum. Raises ValueError for what has no canonical form."""
    bare = {key: value for key, value in content.items() if key != CHECKSUM}
    return hashlib.sha256(canonical(bare)).hexdigest()


def checked(content: dict[str, Any]) -> bytes:
    """The stored form, with its checksum."""
    return canonical({**content, CHECKSUM: checksum_of(content)})


def is_whole(raw: dict[str, Any]) -> bool:
    """Whether a document is what was written."""
    try:
        return bool(raw.get(CHECKSUM) == checksum_of(raw))
    except (ValueError, RecursionError):
        return False


def content_of(raw: dict[str, Any]) -> bytes | None:
    """What a document says, without its checksum and in canonical form; None if it is not what was written."""
    return canonical({key: value for key, value in raw.items() if key != CHECKSUM}) if is_whole(raw) else None


def read_content(data: bytes) -> bytes | None:
    """What the document in `data` says, as `content_of`; None also if it is no document at all."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return content_of(raw) if isinstance(raw, dict) else None


#: What pydantic says of a key, or a word, that this version does not know.
_UNKNOWN: Final = frozenset({"extra_forbidden", "literal_error", "enum", "union_tag_invalid"})


def is_newer_format(raw: object, known: int) -> bool:
    """Return True for a document of a later format than the one that this version knows."""
    found = raw.get("format") if isinstance(raw, dict) else None
    return isinstance(found, int) and not isinstance(found, bool) and found > known


def is_unknown_only(error: ValidationError) -> bool:
    """Return True if this version finds nothing wrong with a document but keys and words that it does not know."""
    found = error.errors(include_input=False, include_url=False)
    return all(one["type"] in _UNKNOWN and one["loc"] != ("format",) for one in found)
