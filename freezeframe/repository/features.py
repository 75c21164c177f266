"""Features: what a program must know of, beyond the format, to use a repository. This is the list of all there are.

A feature that a repository has stands in its config, by its name; a program that does not know the name refuses the repository.
So a later version may add one here, and `freezeframe repo feature enable` switches it on in a repository that is in use
(`switching.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENCRYPTION: Final = "encryption"
AUTHENTICATION: Final = "authentication"


@dataclass(frozen=True)
class Feature:
    """A feature that this version knows. Its name has lower-case letters and digits only, as it is part of an object's."""

    meaning: str
    can_be_enabled: bool = True  # in a repository that exists; else only `init` gives it


FEATURES: Final[dict[str, Feature]] = {
    ENCRYPTION: Feature("All objects are encrypted, under names that only the master key gives.", can_be_enabled=False),
    AUTHENTICATION: Feature(
        "All objects are authenticated and not encrypted, under names that only the master key gives.",
        can_be_enabled=False,
    ),
}
