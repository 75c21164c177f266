"""`freezeframe hosts`: who is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from freezeframe.cli.address import bus_settings
from freezeframe.cli.completion import host_ids
from freezeframe.cli.output import AsJson, out, print_json, table, when_text
from freezeframe.cli.verbs import VerbGroup
from freezeframe.client import Client
from freezeframe.errors import EXIT_NOT_FOUND, EXIT_REFUSED, FreezeframeError
from freezeframe.presence import UNREAD_ADVICE, KnownHost, UnreadHost

hosts = typer.Typer(add_completion=False, cls=VerbGroup, invoke_without_command=True)


class HostAliveError(FreezeframeError):
    """The host is up."""

    code = "host-alive"
    exit_code = EXIT_REFUSED
    advice = "End its workers first; a host that is up publishes itself again."


class UnknownHostError(FreezeframeError):
    """No host of this id has been heard of."""

    code = "unknown-host"
    exit_code = EXIT_NOT_FOUND
    advice = "`freezeframe hosts` lists those that have been."


@hosts.callback()
def list_hosts(ctx: typer.Context, *, as_json: AsJson = False) -> None:
    """List the hosts that were heard of, those that are down too; `hosts forget` takes one out that is gone for good."""
    if ctx.invoked_subcommand is not None:
        return
    client = Client(bus_settings())
    known, unread = client.hosts(), client.unread_hosts()
    if as_json:
        listed = [{"alive": host.alive, **host.entry.model_dump(mode="json")} for host in known]
        print_json({"hosts": listed, "unread_hosts": [asdict(host) for host in unread]})
        return
    show_unread(unread)
    if not known and unread:
        return
    if not known:
        out().print("No host has been heard of. `freezeframe worker control` on a host makes it known.")
        return
    columns = ["host", "state", "running", "guests", "libvirt", "QEMU", "freezeframe", "open captures"]
    out().print(table(columns, [_row(host) for host in known], right=["running", "guests"]))
    for host in known:
        for stuck in host.entry.stuck:
            for problem in stuck.problems:
                out().print(
                    f"Host {host.entry.host_id} could not undo capture {stuck.capture_id}: {problem}", markup=False
                )


@hosts.command("forget")
def forget(
    host: Annotated[
        str,
        typer.Argument(metavar="HOST", help="A host's id.", autocompletion=host_ids, show_default=False),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Take a host that is gone for good out of the inventory, with its guests and the orders that wait for it.

    Captures that it took part in stay in the repository. A host that is up is refused. If it comes back it is known again.

    Exit code: 0 done; 3 the host is up; 4 there is none of that id; 6 Redis does not answer.
    """
    forgotten = Client(bus_settings()).forget_host(host)
    if forgotten is None:
        raise UnknownHostError(f"No host {host} has been heard of.")
    if forgotten.alive:
        raise HostAliveError(f"Host {host} is up.")
    if isinstance(forgotten, UnreadHost):
        if as_json:
            print_json({"forgotten": host, "guests": None})
        else:
            out().print(f"Host {host} is forgotten. Its guests were not known here.", soft_wrap=True)
        return
    guests = [guest.name for guest in forgotten.entry.guests]
    if as_json:
        print_json({"forgotten": host, "guests": guests})
    else:
        out().print(
            f"Host {host} is forgotten, with {len(guests)} guest{'' if len(guests) == 1 else 's'}.", soft_wrap=True
        )


def show_unread(unread: Sequence[UnreadHost]) -> None:
    """Tell of each host whose guests are not known, and what to do."""
    for host in unread:
        out().print(Text(f"{host} Its guests are not known here. {UNREAD_ADVICE}", "red"), soft_wrap=True)


def state_text(host: KnownHost) -> Text:
    """`up`, or since when it is down: it was last heard of then."""
    return Text("up", "green") if host.alive else Text(f"down since {when_text(host.entry.at)} UTC", "red")


def _row(host: KnownHost) -> list[str | Text]:
    entry = host.entry
    running = sum(guest.state == "running" for guest in entry.guests)
    versions = [entry.libvirt_version, entry.qemu_version, entry.freezeframe_version]
    opened = "\n".join(entry.open_captures) or "–"
    return [entry.host_id, state_text(host), str(running), str(len(entry.guests)), *versions, opened]
