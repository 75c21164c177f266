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

from ops.lab import Lab, LabSpec
from ops.system import System
from ops.trial.account import Account
from ops.trial.story import Trial

HOSTS, GUESTS, DISKS = 2, 3, 2


def main(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found to this file, as JSON.")
    ] = None,
) -> None:
    """Capture three real guests on two hosts at one instant, twice; bring both captures back and compare every byte."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    account = Account()
    try:
        account = _trial(say)
    finally:
        account.seconds = round(time.monotonic() - began, 1)
        if json_file is not None:
            json_file.write_text(account.model_dump_json(indent=2) + "\n")
    print("All was identical." if account.ok else "NOT all was identical.")
    sys.exit(0 if account.ok else 1)


def _trial(say: Callable[[str], None]) -> Account:
    directory = Path(tempfile.mkdtemp(prefix="ff-try-", dir="/var/tmp"))
    try:
        with Lab.up(LabSpec.of(hosts=HOSTS, guests=GUESTS, disks=DISKS), directory / "lab") as lab:
            say(f"lab: {len(lab.hosts)} hosts, {len(lab.guests)} guests with {DISKS} disks each, by {lab.accelerator}")
            with System(lab, directory / "system") as system:
                say("system: Redis, orchestrator, and guard, control and data worker on each host")
                return Trial(system, directory, say).run()
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    typer.run(main)
