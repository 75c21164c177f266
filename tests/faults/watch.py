"""What a capture does and what guests suffer, seen from outside."""

from __future__ import annotations

import itertools
import json
import threading
import time
from dataclasses import dataclass
from typing import cast

from ulid import ULID

from freezeframe.client import Client
from freezeframe.contract import names
from freezeframe.contract.event import EndEvent, StateEvent
from freezeframe.contract.request import CaptureRequest, Receipt
from freezeframe.contract.words import HoldKind, RunState, WantedKind
from freezeframe.errors import FreezeframeError
from ops.lab.guest import Guest
from ops.lab.workload import FOLDER, Record
from ops.system import System

from .bounds import HOLD_S, MUSTER_S

#: Seconds for a capture to come to a step or to its end, whatever was done to it: the longest deadline of a run's state is
#: that of a hold (muster, hold and 30 s), then its release; before it lies the prepare.
PATIENCE_S = 240.0


class Capture:
    """One capture of all guests, asked for and followed as any caller would."""

    def __init__(
        self,
        system: System,
        *,
        kind: WantedKind = WantedKind.AUTO,
        hold: HoldKind = HoldKind.FREEZE,
        hold_timeout_s: float = HOLD_S,
    ) -> None:
        self.system = system
        self.request = CaptureRequest(
            capture_id=str(ULID()),
            every_guest=True,
            hold_timeout_s=hold_timeout_s,
            muster_timeout_s=MUSTER_S,
            kind=kind,
            hold=hold,
        )
        self.capture_id = self.request.capture_id
        self.receipt: Receipt | None = None
        self.error: FreezeframeError | None = None
        self._seen: dict[RunState, float] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        Client(system.bus_settings).ask(self.request)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in Client(self.system.bus_settings).follow(self.capture_id):
                with self._changed:
                    if isinstance(event, StateEvent):
                        self._seen.setdefault(event.state, time.monotonic())
                    if isinstance(event, EndEvent):
                        self.receipt = event.receipt
                    self._changed.notify_all()
        except FreezeframeError as error:
            self.error = error

    def wait(self, state: RunState) -> None:
        """Until the run has come to `state`; some tenths of a millisecond after it has."""
        with self._changed:
            assert self._changed.wait_for(lambda: state in self._seen or self.receipt, PATIENCE_S), f"never {state}"
            assert state in self._seen, f"ended before it was {state}: {self.receipt}"

    def since_s(self, state: RunState) -> float:
        """Seconds since the run was seen to come to a state."""
        self.wait(state)
        return time.monotonic() - self._seen[state]

    def end(self) -> str:
        """Wait for the end. `sealed` and its label, or the code of the first fault."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the caller was never told of an end"
        if self.error is not None:
            return self.error.code
        assert self.receipt is not None
        if self.receipt.state is RunState.DONE:
            return f"sealed, {self.receipt.consistency}"
        return self.receipt.faults[0].code

    def record(self) -> str | None:
        return cast("str | None", self.system.redis.hget(names.run_key(self.capture_id), "record"))

    def state(self) -> RunState | None:
        record = self.record()
        return RunState(json.loads(record)["state"]) if record else None

    def answered(self, step: str, host_id: str) -> bool:
        fields = cast("list[str]", self.system.redis.hkeys(names.results_key(self.capture_id)))
        return any(field.startswith(f"{step}/{host_id}/") for field in fields)


@dataclass(frozen=True)
class Clocks:
    """A guest's clock and ours at one moment. An emulated guest that booted on a busy machine may run four times too fast."""

    guest_s: float
    our_s: float

    @classmethod
    def of(cls, guest: Guest) -> Clocks:
        return cls(float(guest.read_file("/proc/uptime").split()[0]), time.monotonic())

    def pace(self, later: Clocks) -> float:
        """Seconds of the guest in one of ours."""
        return (later.guest_s - self.guest_s) / (later.our_s - self.our_s)


def longest_gap_s(guest: Guest, since: Clocks) -> float:
    """The longest that any writer of a guest waited from one acknowledged record to the next, since a moment; our seconds."""
    longest = 0.0
    for target in guest.mounts():
        log = f"{FOLDER}/{target}.times"  # begun anew now and then, what was before it being in .1
        text = guest.shell(f"cat {log}.1 {log} 2>/dev/null | tail -n 1500")
        now = Clocks.of(guest)
        acks = [record.after_s for record in Record.parse(text)]
        gaps = [later - earlier for earlier, later in itertools.pairwise(acks) if later >= since.guest_s]
        longest = max(longest, max([*gaps, now.guest_s - acks[-1]]) / since.pace(now))
    return longest


def frozen_since(guest: Guest, timeout_s: float = 60.0) -> float:
    """Poll the guest itself until it is frozen; when that was seen."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if guest.fsfreeze_status() == "frozen":
            return time.monotonic()
        time.sleep(0.03)
    raise AssertionError(f"{guest.name} was never seen frozen")
