"""What the shell may complete: guests and hosts from the inventory, captures from the repository. Never slow, never loud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from freezeframe.printable import one_line

if TYPE_CHECKING:
    from freezeframe.client import Client

#: Seconds for an exchange with Redis or object storage while somebody waits for the Tab key.
PATIENCE_S = 0.5


def guest_names(incomplete: str) -> list[str]:
    """Names of running guests, but for those that would steer the terminal or that nobody can type."""
    return _quietly(_running_guests, incomplete)


def host_ids(incomplete: str) -> list[str]:
    return _quietly(_hosts, incomplete)


def capture_ids(incomplete: str) -> list[str]:
    """Ids of captures, newest first, and `latest`."""
    return _quietly(_captures, incomplete)


def _running_guests() -> Iterator[str]:
    from freezeframe.presence import places  # noqa: PLC0415  as in `_client`

    for place in places(_client().hosts()):
        if place.guest.state == "running":
            yield place.guest.name


def _hosts() -> Iterator[str]:
    for host in _client().hosts():
        yield host.entry.host_id


def _client() -> Client:
    """Loaded here: verbs that only need the repository are not to wait 0.4 s for the libraries of the bus."""
    from freezeframe.cli.address import bus_settings  # noqa: PLC0415
    from freezeframe.client import Client  # noqa: PLC0415

    return Client(bus_settings(PATIENCE_S))


def _captures() -> Iterator[str]:
    yield "latest"
    from freezeframe.access import open_repository  # noqa: PLC0415  and the other way round
    from freezeframe.settings import S3Settings, load  # noqa: PLC0415

    haste = load(S3Settings).model_copy(update={"s3_timeout_s": PATIENCE_S, "s3_patience_s": 0})
    yield from open_repository(haste).capture_ids()


def _quietly(source: Callable[[], Iterator[str]], incomplete: str) -> list[str]:
    try:
        return [one for one in source() if one.startswith(incomplete) and one_line(one) == one]
    except Exception:  # noqa: BLE001  whatever it is, the command line that is being typed is no place to tell it
        return []
