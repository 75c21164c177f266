"""Text for a terminal or a log: what came from guests, hosts, manifests or Redis must not steer the terminal that shows it.

    C0 (but tab and newline), DEL, C1         escape sequences: titles, colours, the clipboard, a screen that is written anew
    marks and overrides of the direction      text that reads as another than it is
    line and paragraph separators             lines that no newline has ended
    surrogates                                bytes of a name that is not UTF-8, which stdout refuses

Each becomes U+FFFD, one for one, so that styles and widths of a text stay where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

_REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
#: A newline in a text that is one line, and that could pass for the beginning of another message.
_NEWLINE: Final = "\N{SYMBOL FOR NEWLINE}"

#: Directions: ALM, LRM, RLM, embeddings and overrides, isolates. [Unicode Standard Annex 9, table 4]
_STEERING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text with a replacement for each character that would steer a terminal. Tabs and newlines stay."""
    return _STEERING.sub(_REPLACED, text)


def one_line(text: str) -> str:
    """Return the text as `printable`, on one line: for a message that others had a hand in."""
    return printable(text.rstrip("\n")).replace("\n", _NEWLINE)


def json_text(document: Any, default: Callable[[Any], Any] | None = None, indent: int | None = None) -> str:
    """Return a document as JSON that means the same and steers no terminal: JSON itself escapes C0 only."""
    text = json.dumps(document, default=default, ensure_ascii=False, indent=indent)
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
