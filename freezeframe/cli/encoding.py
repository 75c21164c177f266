r"""Encoding: what a locale without a character shows in its place.

In the locale C, as cron has it, standard output may be ASCII: a dash, an arrow or a name of a guest would end the verb with
UnicodeEncodeError. Such a character is written as JSON writes it, so that a document stays the one that it was:

    ä ──▶ \u00e4        😀 ──▶ \ud83d\ude00
"""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import Final

_ESCAPED: Final = "freezeframe.escaped"


def escape_unknown_characters() -> None:
    """Have standard output and standard error escape the characters that their encoding does not have."""
    codecs.register_error(_ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a process may have been started without
            stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
