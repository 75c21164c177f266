"""The account of all cells: docs/faults.md, written when a session has played every cell, and by nothing else."""

from __future__ import annotations

import os
import platform
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.long import LONG

from .two import AT_ONCE, FAULTS, IN_TURN, PAIRS, Fault

ACCOUNT = Path(__file__).parents[2] / "docs" / "faults.md"

#: Steps, in the order of the path; what happens to none of them in particular is in a column of its own.
STEPS = ("prepare", "muster", "held", "transfer", "seal", "release")

_DETAILS = "## Cell by cell"

#: From here on the lab is a host as Debian ships it; earlier, QEMU ran as root and without mount namespaces.
STOCK_SINCE = "2026-11-26 12:00"
_OLD = " †"

_HEAD = """# Faults

What happened when every part was ended, stopped or cut off at every step of the path, on the lab: two hosts, three guests with
writers at work, real libvirt, QEMU, Redis and Celery. Written by `tests/faults`, by hand never.

Each cell was played from outside: signals, cables, `redis-cli`, and the guests' own agents. For each it was asserted that

- **no guest was held longer than the bound** of that case, seen by the guest's own writer in its memory: the longest time
  between two of its records that were acknowledged (`tests/faults/bounds.py` has the bounds and why);
- **all is as it was found** (invariant 4): no guest frozen, paused or with a job; definition, disk chain and files of each
  guest the same; no scratch file, socket, claim, lease or open journal on a host; of checkpoints exactly the newest sealed one;
- **a capture is sealed and proven, or there is no manifest of it**; what is in a manifest is labelled by its proof;
- **the next capture is an incremental on all disks** (where QEMU was killed: a full one, with the reason) **and equals, byte by
  byte, what qemu-img read** from the exports at the instant.

Python {python}, {cores} cores, guests {accelerator}. `ops/test` plays the cells of a hold that
are the same each time, `ops/test --long` every cell. Several runs fill the page too: `tests/faults/again.py` has how to play
only what is missing or old.
Seconds include how coarse a writer's eye is (up to 2 s on a busy machine).
{played}

## Steps × faults

`sealed`: the capture went through all the same. A code in italics: the caller was told that fault, and nothing was
kept; but after *run-lost* (Redis lost the run) a capture that was sealed by then stays, as `freezeframe captures` tells.

"""

_TWO = """
## Two faults in one capture

Every pair of parts that a hold depends on: {control worker, guard, libvirtd of host-a, Redis} × {killed, suspended}. What is
killed is started again after 1 s, as a supervisor would; what is suspended goes on after 8 s, which is longer than a hold's
deadline and the guard's grace together. A supervisor also kills a guard that gives no sign of life for 5 s (the row *control
worker and guard stopped* above); here it fails to, so that nobody can let a guest go until the guard or the worker goes on.

A guest may be held longer than 7 s where nobody can do without a part that is away (`by_pair` in `tests/faults/bounds.py`):

- the guard, if the control worker or libvirtd fails too: until the guard works again;
- a libvirtd that is suspended: it keeps QEMU's sockets to itself, so that the guard cannot go past it as past a dead one.
"""

_PAIRS_HEAD = {
    AT_ONCE: """
### Both at once, while the guests are held

""",
    IN_TURN: """
### One before the hold and one in it

The first (a row) strikes when the guard is armed and the agents are told to freeze, the second (a column) when the guests are
frozen. A part that was killed before the hold is started again before the second fault; one that was suspended is still.

""",
}

_NOTES = """
## What the words mean

- *task's process*: on the control queue tasks are threads of the worker, so there it is the worker; on the data queue it is a
  process of its own.
- *stopped*, *suspended*: SIGSTOP for longer than the hold's deadline and the guard's grace together, then SIGCONT.
- *control worker and guard stopped*: neither is dead, so nobody would start them again but for the guard's sign of life, which
  its supervisor misses: it kills the guard, and the next one lets go while the worker still stands still.
- *repository full*: its filesystem has no byte left, for as long as *stopped* lasts.
- *killed*: SIGKILL; the test is the supervisor and starts the part again after 1 s.
- *muster*: hosts wait for each other, no guest is held. *held*: alpha and beta are frozen, their backups begun, and host-a
  waits at the barrier for gamma, whose freezing takes its time.
- *n/a*: there is no such part at that step.
- A guest's seconds are ours: its clock is compared with ours over the capture.

## What is not here, and why

- *An agent that says thawed, in its status too, and is not*: nobody outside the guest can tell. One whose thaw lies and whose
  status does not is above.
- *An agent that dies with its guest frozen and never comes back*: no thaw can reach the guest, whoever sends it. The guard goes
  on trying until it is reset; its backup is ended all the same.
- *libvirtd killed in the middle of virDomainBackupBegin* leaves what nobody can take back from outside. libvirt writes to its
  state that a backup job is there, talks to QEMU for some tens of milliseconds, and only then writes what it is about
  (9.0, 11.3 has the same code). If it is killed in between it comes back with `backup job data missing`, aborting the job does
  nothing, and no other job gets its turn. The cell above shows what Freezeframe does: the guest is let go, QEMU's side of the
  backup (jobs, NBD server, scratch files, bitmaps) is ended, and later captures are refused with *lost-backup*. Libvirt's job
  goes only when libvirtd is started while the guest is off; a guest that was only shut down cannot be started again (30 s,
  `cannot acquire state change lock`). Once virDomainBackupBegin has returned all is on disk, and the cells of "libvirtd killed"
  strike then.
- *libvirtd killed between two writes at the end of the same call*, where a guest has two disks or more: it writes its state
  once a disk, and of a backup that is written for some of them it says later "Missing required attribute 'state'" and takes
  the guest for shut off, while QEMU runs on, frozen perhaps (9.0, met in experiments; 11.3 has the same code). The guard
  thaws it at the agent's own socket, which libvirt has let go of (`tests/lab/test_lost_guest.py`), and resumes one that was
  paused too over QEMU's monitor. What helps then: stop libvirtd, give each `<disk>` of the `<domainbackup>` in
  `/run/libvirt/qemu/NAME.xml` that is `backup='yes'` a `state='running'`, start it. Its backup is then to be ended by hand
  (`virsh domjobabort`); the next capture is refused until it is.
- *An agent that is restarted more than 30 s before the end of a backup*, in a long transfer say. libvirt (9.0, 11.3 has the
  same code) handles the close and the opening of the agent's channel in a job that waits for the backup's end, and gives up
  after 30 s: then it does not know of the close, and answers that the agent "disappeared" also when it is back. The capture
  is not hurt; what helps is to restart the agent once more, or libvirtd, and the refusal of the next capture says so. Where a
  capture fails because the agent died its backup is ended at once, also while libvirt's one thread for events waits for
  that very end, and the agent is found again: the cell above.
- *Older checkpoints of a guest that was off when its sealed capture was released* stay until its next sealed capture, since
  libvirt deletes them of running guests only; in the cells of a killed QEMU they are looked for after that.
- *Power cuts of a whole host*: its guests die with it, so nothing is held; what the repository has after one is in
  `tests/unit/repository/test_crash.py`.
- *A repository that is filled by the capture itself* has a lab of its own: `tests/lab/test_repository_full.py`.
"""


@dataclass(frozen=True)
class Row:
    """What happened in one cell."""

    fault: str
    step: str
    outcome: str
    held_s: float
    bound_s: float
    settled_s: float
    following: str
    played: str

    @property
    def short(self) -> str:
        outcome = self.outcome if self.outcome.startswith("sealed") else f"*{self.outcome}*"
        return outcome + (_OLD if self.is_old else "")

    @property
    def is_old(self) -> bool:
        """Whether it was played before the lab was as friendly as a stock host, and no friendlier."""
        return self.played < STOCK_SINCE

    @property
    def line(self) -> str:
        seconds = " | ".join(f"{value:.1f}" for value in (self.held_s, self.bound_s, self.settled_s))
        return f"| {self.fault} | {self.step} | {self.outcome} | {seconds} | {self.following} | {self.played} |"

    @classmethod
    def parse(cls, line: str) -> Row:
        fault, step, outcome, held_s, bound_s, settled_s, following, played = line.strip("| \n").split(" | ")
        return cls(fault, step, outcome, float(held_s), float(bound_s), float(settled_s), following, played)


def earlier() -> list[Row]:
    """The rows of the account as it stands."""
    if not ACCOUNT.exists():
        return []
    _, _, details = ACCOUNT.read_text(encoding="utf-8").partition(_DETAILS)
    table = details.partition("\n## ")[0]
    return [
        Row.parse(line) for line in table.splitlines() if line.startswith("| ") and not line.startswith("| fault |")
    ]


_PAIRS = {pair.cell: place for place, pair in enumerate(PAIRS)}


def _place(row: Row) -> tuple[int, str, int]:
    """Faults of parts first, each at the steps in order; then two in one capture; then what has no step of its own."""
    if row.step in STEPS:
        return (0, row.fault, STEPS.index(row.step))
    pair = _PAIRS.get((row.fault, row.step))
    return (2, row.fault, 0) if pair is None else (1, "", pair)


def _empty(fault: str) -> str:
    """A cell without a row: only a transfer has a process of its own for its task."""
    return "n/a" if fault.startswith("task's process") else "–"


def _square(step: str, outcomes: Mapping[tuple[str, Fault, Fault], str]) -> str:
    """A row for each first fault, a column for each second."""
    lines = [f"| | {' | '.join(map(str, FAULTS))} |", f"|---|{'---|' * len(FAULTS)}"]
    for one in FAULTS:
        cells = " | ".join(outcomes.get((step, one, other), "") for other in FAULTS)
        lines.append(f"| {one} | {cells} |")
    return "\n".join(lines) + "\n"


class Account:
    """Collects the rows of cells that passed, and writes them down beside those that were not played this time.

    A cell that did not pass loses the row that it had.
    """

    NAME = "faults-account"

    def __init__(self, cells: Container[tuple[str, str]]) -> None:
        """`cells` are all that there are of steps × faults; rows of others are of the past."""
        self._cells = cells
        self.rows: list[Row] = []
        self.accelerator = "?"
        self.in_one_run = False
        self.begun: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and "faults/" in report.nodeid:
            print(report.longreprtext[-3000:], flush=True)  # a session is long, and what was left behind is soon gone

    def pytest_sessionfinish(self) -> None:
        if LONG and self.begun:  # an ordinary run must leave the checkout as it is
            kept = [row for row in earlier() if (row.fault, row.step) not in self.begun and self._is_known(row)]
            self.in_one_run = not kept
            self.rows = sorted([*self.rows, *kept], key=_place)
            ACCOUNT.write_text(self.text(), encoding="utf-8")

    def _is_known(self, row: Row) -> bool:
        return row.step not in (*STEPS, AT_ONCE, IN_TURN) or (row.fault, row.step) in self._cells

    def text(self) -> str:
        head = _HEAD.format(
            python=platform.python_version(),
            cores=os.cpu_count(),
            played=self._played(),
            accelerator="emulated" if self.accelerator == "qemu" else f"on {self.accelerator}",
        )
        return head + self._matrix() + self._pairs() + self._details() + _NOTES

    def _played(self) -> str:
        days = sorted(row.played for row in self.rows)
        how = "in one run" if self.in_one_run else "in several runs"
        if not days:
            return "Nothing was played."
        old = sum(row.is_old for row in self.rows)
        profile = "All on the lab's stock profile: a host as Debian ships it."
        if old:
            profile = (
                f"{len(days) - old} of {len(days)} on the lab's stock profile, a host as Debian ships it. Those marked{_OLD},"
                f"\nplayed before {STOCK_SINCE}, on an earlier one (QEMU as root, no mount namespaces): to be played anew."
            )
        return f"Played {how}, {days[0]} to {days[-1]} UTC; every row passed.\n{profile}"

    def _matrix(self) -> str:
        faults = list(dict.fromkeys(row.fault for row in self.rows if row.step in STEPS))
        cells = {(row.fault, row.step): row.short for row in self.rows}
        lines = [f"| fault | {' | '.join(STEPS)} |", f"|---|{'---|' * len(STEPS)}"]
        lines += [
            f"| {fault} | {' | '.join(cells.get((fault, step), _empty(fault)) for step in STEPS)} |" for fault in faults
        ]
        return "\n".join(lines) + "\n"

    def _pairs(self) -> str:
        played = {(row.fault, row.step): row.short for row in self.rows}
        outcomes = {
            (pair.step, *order): played.get(pair.cell, "–")
            for pair in PAIRS
            for order in [(pair.first, pair.second)] + ([(pair.second, pair.first)] if pair.step == AT_ONCE else [])
        }
        return _TWO + "".join(_PAIRS_HEAD[step] + _square(step, outcomes) for step in (AT_ONCE, IN_TURN))

    def _details(self) -> str:
        lines = [
            f"\n{_DETAILS}\n",
            "*Held*: the longest that any guest was held; *bound*: what was allowed; *clean*: from the end to no trace left.\n",
            "| fault | step | outcome | held s | bound s | clean s | next capture, compared byte by byte | played, UTC |",
            "|---|---|---|---|---|---|---|---|",
        ]
        return "\n".join([*lines, *(row.line for row in self.rows)]) + "\n"
