"""Every error a user can meet: what happened, to which guest, host or disk, and what to do about it.

An error is a class. The class owns its `code` (a stable word for programs), its `exit_code` (for scripts) and its usual
`advice`; the instance owns the sentence. Errors cross the wire as `freezeframe.contract.fault.Fault`, never as pickles.

Exit codes: 0 done · 1 failed · 2 wrong usage (the CLI library's) · 3 refused, nothing was touched: of a capture no guest was
held (`orchestrator/touched.py` sees to that) · 4 not found ·
5 repository · 6 a host or service does not answer · 7 the data is damaged · 10 done, but with less than was asked for ·
130 interrupted.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

EXIT_FAILED = 1
EXIT_REFUSED = 3
EXIT_NOT_FOUND = 4
EXIT_REPOSITORY = 5
EXIT_UNREACHABLE = 6
EXIT_DAMAGED = 7
EXIT_PARTIAL = 10
EXIT_INTERRUPTED = 130


#: Bytes of a name that is not UTF-8, as Python has them, or half a character of a JSON document.
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """Return the text without surrogates, which have no UTF-8: an error is told over the wire, and must not fail there."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


class FreezeframeError(Exception):
    """The capture failed."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = EXIT_FAILED
    advice: ClassVar[str] = ""

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        message = whole_text(message)
        super().__init__(message)
        self.message = message
        self.hint = whole_text(self.advice if advice is None else advice)
        self.guest: str | None = None  # whom it concerns, where that is known before it is told

    def __str__(self) -> str:
        return self.message
