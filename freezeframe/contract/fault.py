"""An error in the form in which it crosses the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezeframe.contract.message import Shape

if TYPE_CHECKING:
    from freezeframe.errors import FreezeframeError


class Fault(Shape):
    """What happened, to whom, and what to do: `code` and `exit_code` for programs, the rest for people."""

    code: str
    message: str
    advice: str = ""
    exit_code: int = 1
    guest: str | None = None
    host: str | None = None
    disk: str | None = None

    @classmethod
    def of(
        cls, error: FreezeframeError, *, guest: str | None = None, host: str | None = None, disk: str | None = None
    ) -> Fault:
        return cls(
            code=error.code,
            message=error.message,
            advice=error.hint,
            exit_code=error.exit_code,
            guest=guest or error.guest,
            host=host,
            disk=disk,
        )

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()
