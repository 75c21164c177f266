"""The lab's verbs, for people: up, status, exec, console, down."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ops.lab.lab import Lab
from ops.lab.spec import LabSpec

app = typer.Typer(help="A real lab on this machine: hosts, guests, agents.", no_args_is_help=True, add_completion=False)

_FOLLOW_INTERVAL_S = 0.2


def _default_directory() -> Path:
    return Path(f"/var/tmp/freezeframe-lab-{os.getuid()}")  # noqa: S108 - made by us, and refused if it is in use


Directory = Annotated[
    Path, typer.Option("--dir", help="The lab's directory.", default_factory=_default_directory, show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _facts(lab: Lab) -> dict[str, Any]:
    hosts = [
        {"host": host.name, "address": str(host.address), "uri": host.uri, "up": host.is_up}
        for host in lab.hosts.values()
    ]
    guests = [
        {"guest": name, "host": guest.host.name, "uuid": guest.uuid, "running": bool(guest.domain.isActive())}
        for name, guest in sorted(lab.guests.items())
    ]
    return {
        "directory": str(lab.directory),
        "accelerator": lab.accelerator,
        "address": str(lab.address),
        "hosts": hosts,
        "guests": guests,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0]) if rows else Table("nothing")
    for row in rows:
        table.add_row(*(str(cell) for cell in row.values()))
    return table


def _show(lab: Lab, *, as_json: bool) -> None:
    facts = _facts(lab)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    console = Console()
    console.print(f"{facts['directory']} · {facts['accelerator']} · the machine is {facts['address']}")
    console.print(_table(facts["hosts"]), _table(facts["guests"]))


@app.command()
def up(
    directory: Directory,
    hosts: Annotated[int, typer.Option(min=1, max=26)] = 2,
    guests: Annotated[int, typer.Option(min=0, help="Shared out over the hosts.")] = 3,
    disks: Annotated[int, typer.Option(min=1, max=26, help="Of each guest.")] = 2,
    size_mib: Annotated[int, typer.Option(min=32, help="Of each disk.")] = 512,
    *,
    as_json: Json = False,
) -> None:
    """Make a lab; it outlives this command."""
    _show(Lab.up(LabSpec.of(hosts, guests, disks, size_mib=size_mib), directory), as_json=as_json)


@app.command()
def status(directory: Directory, *, as_json: Json = False) -> None:
    """Hosts and guests, as libvirt has them now."""
    _show(Lab.attach(directory), as_json=as_json)


@app.command("exec", context_settings={"ignore_unknown_options": True})
def execute(host: str, command: list[str], directory: Directory) -> None:
    """Run a program on a host: exec host-a -- virsh list."""
    raise typer.Exit(subprocess.call(Lab.attach(directory).host(host).inside(command)))


@app.command()
def console(
    guest: str, directory: Directory, *, follow: Annotated[bool, typer.Option("--follow", "-f")] = False
) -> None:
    """What a guest has said on its console."""
    with Lab.attach(directory).guest(guest).serial.open(errors="replace") as log:
        print(log.read(), end="", flush=True)
        while follow:
            print(log.read(), end="", flush=True)
            time.sleep(_FOLLOW_INTERVAL_S)


@app.command()
def down(directory: Directory) -> None:
    """Take the lab down, whatever state it is in; nothing of it is left."""
    Lab.attach(directory).down()
