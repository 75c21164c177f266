"""`ops/try`: the main job, on a lab of its own that is gone afterwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ops.install import Environment, Wheelhouse, build_wheel
from ops.lab import Lab, LabSpec
from ops.lab.daemon import PASSABLE
from ops.program import Program
from ops.system import System
from ops.trial.account import Account
from ops.trial.story import Trial

HOSTS, GUESTS, DISKS = 2, 3, 2


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found to this file, as JSON.")
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Build the wheel, install it, and try the command of that installation.")
    ] = False,
) -> None:
    """Capture three real guests on two hosts at one instant, twice; bring both captures back and compare every byte."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    account = Account()
    try:
        account = _trial(say, installed=installed)
    finally:
        account.seconds = round(time.monotonic() - began, 1)
        if json_file is not None:
            json_file.write_text(account.model_dump_json(indent=2) + "\n")
    print("All was identical." if account.ok else "NOT all was identical.")
    sys.exit(0 if account.ok else 1)


def _trial(say: Callable[[str], None], *, installed: bool) -> Account:
    directory = Path(tempfile.mkdtemp(prefix="ff-try-", dir="/var/tmp"))
    directory.chmod(PASSABLE)
    try:
        program = _install(directory, say) if installed else Program.of_checkout()
        with Lab.up(LabSpec.of(hosts=HOSTS, guests=GUESTS, disks=DISKS), directory / "lab") as lab:
            say(f"lab: {len(lab.hosts)} hosts, {len(lab.guests)} guests with {DISKS} disks each, by {lab.accelerator}")
            with System(lab, directory / "system", program=program) as system:
                say("system: Redis, orchestrator, and guard, control and data worker on each host")
                return Trial(system, directory, say).run()
    finally:
        shutil.rmtree(directory)


def _install(directory: Path, say: Callable[[str], None]) -> Program:
    wheelhouse = Wheelhouse.fill(directory / "wheelhouse", build_wheel(directory / "wheel"))
    made = Environment.create(directory / "environment", wheelhouse, ("host", "control"), system_packages=True)
    say(f"installed: {made.command}, from the wheel, in an environment of its own")
    return Program.installed_in(made.directory)


if __name__ == "__main__":
    typer.run(main)
