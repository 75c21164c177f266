"""A libvirt connection while it is one caller's."""

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Loan:
    """Whoever keeps it keeps the connection; it goes back when nobody does."""

    connection: Any
