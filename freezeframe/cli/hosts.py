"""`freezeframe hosts`: who is there."""

from __future__ import annotations

from rich.text import Text

from freezeframe.cli.address import bus_settings
from freezeframe.cli.output import AsJson, out, print_json, table, when_text
from freezeframe.client import Client
from freezeframe.presence import KnownHost


def hosts(*, as_json: AsJson = False) -> None:
    """List the hosts that were heard of, those that are down too."""
    known = Client(bus_settings()).hosts()
    if as_json:
        print_json({"hosts": [{"alive": host.alive, **host.entry.model_dump(mode="json")} for host in known]})
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


def state_text(host: KnownHost) -> Text:
    """`up`, or since when it is down: it was last heard of then."""
    return Text("up", "green") if host.alive else Text(f"down since {when_text(host.entry.at)} UTC", "red")


def _row(host: KnownHost) -> list[str | Text]:
    entry = host.entry
    running = sum(guest.state == "running" for guest in entry.guests)
    versions = [entry.libvirt_version, entry.qemu_version, entry.freezeframe_version]
    opened = "\n".join(entry.open_captures) or "–"
    return [entry.host_id, state_text(host), str(running), str(len(entry.guests)), *versions, opened]
