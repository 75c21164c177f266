"""`freezeframe guests`: what can be captured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.address import bus_settings
from freezeframe.cli.completion import host_ids
from freezeframe.cli.hosts import show_unread
from freezeframe.cli.output import AsJson, out, print_json, table, when_text
from freezeframe.client import Client
from freezeframe.presence import Place, places


def guests(
    host: Annotated[str | None, typer.Option(help="Only those of this host.", autocompletion=host_ids)] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the guests of all hosts, as their hosts last saw them."""
    client = Client(bus_settings())
    found = [place for place in places(client.hosts()) if host in {None, place.host.entry.host_id}]
    unread = [one for one in client.unread_hosts() if host in {None, one.host_id}]
    if as_json:
        print_json({"guests": [_document(place) for place in found], "unread_hosts": [asdict(one) for one in unread]})
        return
    show_unread(unread)
    if not found:
        out().print("No guests are known. `freezeframe hosts` lists the hosts that were heard of.")
    else:
        out().print(table(["guest", "host", "state", "being captured by", "uuid"], [_row(place) for place in found]))
        for place in found:
            if place.guest.trouble:
                out().print(
                    Text(f"{place.guest.name} on host {place.host.entry.host_id}: {place.guest.trouble}", "red")
                )


def _document(place: Place) -> dict[str, object]:
    host = place.host
    return {
        **place.guest.model_dump(mode="json"),
        "host_id": host.entry.host_id,
        "host_alive": host.alive,
        "at": host.entry.at,
    }


def _row(place: Place) -> list[str | Text]:
    guest, host = place.guest, place.host
    state = Text(guest.state, "green" if guest.state == "running" else "")
    if not host.alive:
        state = Text(f"{guest.state} at {when_text(host.entry.at)} UTC; the host is down since", "red")
    return [guest.name, host.entry.host_id, state, guest.captured_by or "–", guest.guest_uuid]
