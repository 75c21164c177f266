"""The refusal of a copy that has captures which cannot have come from its source."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from freezeframe.repository.copying.errors import CopyDiverged
from freezeframe.repository.copying.plan import foreign_of
from freezeframe.repository.errors import NewerFormat, RepositoryNotReadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezeframe.repository.chain import Chain
    from freezeframe.repository.copying.plan import Foreign

#: Ids that are named in a message.
_SHOWN: Final = 3


def refuse_foreign(source: str, destination: str, chain: Chain, there: Chain) -> None:
    """Raise CopyDiverged if somebody has captured into the copy, or its source is an older state of the store.

    `source`, `destination`: their addresses. Raises NewerFormat or RepositoryNotReadable if that cannot be told.
    """
    found = foreign_of(chain, there)
    if found.unknown or found.other:
        raise CopyDiverged(_said(source, destination, found), advice=_advice(source, destination, found))
    if found.unclear:
        error = chain.unclear_tombstones[0]
        kind = NewerFormat if isinstance(error, NewerFormat) else RepositoryNotReadable
        raise kind(
            f"Whether {_some(found.unclear)} in {destination} came from {source} cannot be told: it is not there any more, "
            f"and a tombstone there cannot be read. {error.message}"
        )


def _said(source: str, destination: str, found: Foreign) -> str:
    said = []
    if found.unknown:
        said.append(
            f"The copy at {destination} has captures that the repository at {source} neither has nor has forgotten: "
            f"{_some(found.unknown)}."
        )
    if found.other:
        said.append(f"The manifests of {_some(found.other)} at {destination} are others than those at {source}.")
    return " ".join(said)


def _advice(source: str, destination: str, found: Foreign) -> str:
    here, there = shlex.quote(source), shlex.quote(destination)
    check = f"FREEZEFRAME_REPOSITORY={here} freezeframe repo pin --check"
    back = f"freezeframe repo copy {here} --repository {there}"
    mend = "" if found.other else f"If the source has lost these captures, `{back}` copies them back. "
    return (
        f"Either the source is an older state than was copied before, which `{check}` tells if it was pinned; or something "
        f"captures into the copy: capture into one of the two only. {mend}To go on without them, let --create make a new copy "
        "at an empty place."
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
