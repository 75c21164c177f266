"""The one console of all verbs: whatever it is given, it writes nothing that steers the terminal but its own styles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from freezeframe.printable import printable


class Terminal(Console):
    """A console that takes no markup, and shows a replacement for control characters in any text."""

    def __init__(self, **options: Any) -> None:
        """Take the options of a console."""
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as a console does. Segments with `control` are its own, such as the movements of a progress bar."""
        for segment in super().render(renderable, options):
            if segment.control or printable(segment.text) == segment.text:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
