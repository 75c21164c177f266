"""An error in the form in which it crosses the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from freezeframe.contract.message import Shape
from freezeframe.errors import whole_text

if TYPE_CHECKING:
    from freezeframe.errors import FreezeframeError


_Text = Annotated[str, AfterValidator(whole_text)]


class Fault(Shape):
    """What happened, to whom, and what to do: `code` and `exit_code` for programs, the rest for people."""

    code: str
    message: _Text
    advice: _Text = ""
    exit_code: int = 1
    guest: _Text | None = None
    host: _Text | None = None
    disk: _Text | None = None

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
