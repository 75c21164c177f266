"""One guest through its hold: a small state machine under a lock, and what was seen, for the proof.

    waiting ──▶ holding ──▶ held ──▶ begun ──▶ going ──▶ gone
       │           └───────────┴────────────────▲
       ├──▶ gone        told to go before its turn: nothing was done to it
       └──▶ left alone  somebody else had paused or frozen it, or no call that holds it was sent: left as it was found

Two threads work on a guest: `take` holds it and begins its backup, over one connection; `release` lets it go, over another,
and does not wait for `take`. A call of `take` may be *pending*: sent, and not answered. It may take effect after `release` has
seen the guest run. So a guest counts as settled only when it was seen running and `take` has ended; until then the guard keeps
its lease. If `take` fails it lets the guest go itself, after it has said so: nobody waits for that. `take` first asks whether
somebody else has paused the guest, or libvirt works on it (`untouched`): if that fails or hangs, nobody knows, nothing was done
to the guest, and it is left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import structlog

from freezeframe.contract.hold import GuestHold
from freezeframe.contract.proof import GuestProof
from freezeframe.contract.result import PreparedGuest
from freezeframe.contract.words import HoldKind
from freezeframe.errors import FreezeframeError
from freezeframe.naming import NamedGuest
from workers import hold as holding
from workers import refusal
from workers.bounded import GuestHangsError
from workers.guard.client import GuardError
from workers.hypervisor import agent, backup
from workers.hypervisor.domain import Domain
from workers.hypervisor.errors import AgentError
from workers.hypervisor.freeze_failure import FreezeFailedError
from workers.left_held import LeftHeldError, left_error
from workers.pace import freeze_timeout_s
from workers.steps.hold_failure import too_late
from workers.steps.order_failure import UnexpectedError
from workers.steps.untouched import check_no_job, check_untouched

log = structlog.get_logger("hold")


class Phase(StrEnum):
    """The phases of one guest's hold."""

    WAITING = "waiting"  # nothing was done to it
    HOLDING = "holding"  # a call that holds it may be under way
    HELD = "held"
    BEGUN = "begun"  # its backup has begun
    GOING = "going"  # it was told to go, and has not confirmed that it runs
    GONE = "gone"  # it runs
    LEFT_ALONE = "left-alone"  # it was held by somebody else, or nobody knows, and nothing was done to it


@dataclass
class HeldGuest:
    """One guest through its hold: what to do, and what was seen."""

    domain: Domain
    apart: Domain  # the same guest over another connection: letting go waits for no call that holds it still
    prepared: PreparedGuest
    hold: GuestHold
    moving_disks: tuple[str, ...]  # which the hold does not keep still, as far as is known
    backup_xml: str
    checkpoint_xml: str | None
    agent_timeout_s: int
    agent_socket: Path | None = None
    monitor_socket: Path | None = None
    delay_s: float = 0.0
    filesystems: int | None = None  # how many there are to freeze
    stands: Callable[[], bool] = lambda: True  # whether the lease stands, as far as one system call tells
    hold_start_ns: int | None = None
    held_ns: int | None = None
    begun_ns: int | None = None
    thaw_start_ns: int | None = None
    thawed_ns: int | None = None
    frozen: int | None = None
    freeze_s: tuple[float, float] | None = None  # how long its freeze took, and how long there was for it
    left_in: Phase | None = None  # its phase when the others went on without it
    found: holding.LetGo | None = None
    faults: list[FreezeframeError] = field(default_factory=list)
    phase: Phase = Phase.WAITING
    _pending: bool = False  # `take` has begun and has not ended
    _lets_go: bool = False  # `take` has failed, and lets the guest go itself
    _over: threading.Event = field(default_factory=threading.Event)  # nobody is held any more, or shall be
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def uuid(self) -> str:
        return self.domain.uuid

    def is_settled(self) -> bool:
        """Return True if the guest runs, or is as it was found, and no call that could hold it is pending."""
        with self._lock:
            may_hold = self._pending and self.hold_start_ns is not None
            return self.phase in {Phase.GONE, Phase.LEFT_ALONE} and not may_hold

    def take(self, deadline: float, ended: Callable[[], None] = lambda: None) -> None:
        """Hold the guest and begin its backup. A guest that fails is let go at once: it must not wait for the others.

        `deadline` is of `time.monotonic()`: a freeze gets what is left of it. `ended` is called as soon as the backup has begun
        or will not: the others wait for that, and letting go of a guest whose agent hangs takes many seconds.
        """
        self._over.wait(self.delay_s)
        with self._lock:
            starts = self.phase is Phase.WAITING and self.left_in is None
            if starts:
                self.phase, self._pending = Phase.HOLDING, True
        try:
            if starts:
                self._try_to_take(deadline)
        finally:
            try:
                ended()
            finally:
                if starts:
                    self._end_take()

    def _try_to_take(self, deadline: float) -> None:
        try:
            self._take(deadline)
        except refusal.HeldByOthersError as error:
            self.faults.append(error)
            with self._lock:
                self.phase = Phase.LEFT_ALONE
        except Exception as error:  # noqa: BLE001  whatever it is, the guest takes no part, and must be told of
            self._note(error)
        finally:
            with self._lock:
                if self.hold_start_ns is None:
                    self.phase = Phase.LEFT_ALONE
                self._lets_go = self._must_go()

    def _must_go(self) -> bool:
        """Return True for a guest that failed; or was told to go while a call was pending, which may have undone that."""
        return self.phase is not Phase.LEFT_ALONE and (self.begun_ns is None or self._over.is_set())

    def _end_take(self) -> None:
        with self._lock:
            self._lets_go = must_go = self._must_go()
        if must_go:
            self._go(self.domain)
        with self._lock:
            self._lets_go = self._pending = False

    def _take(self, deadline: float) -> None:
        check_untouched(self.domain, self.hold)
        if not self._begin_to_hold():
            return
        if self.hold.kind.freezes:
            began = time.monotonic()
            timeout_s = freeze_timeout_s(deadline - began)
            self.frozen = _freeze(self.domain, self.hold, timeout_s, self.agent_timeout_s)
            self.freeze_s = (time.monotonic() - began, deadline - began)
        if self.hold.kind.pauses and not self._over.is_set():
            self.domain.pause()
        self.held_ns = time.monotonic_ns()
        if not self._advance(Phase.HOLDING, Phase.HELD):
            return
        if not self.stands():
            raise GuardError("The thaw guard ended while guests were held.")
        check_no_job(self.domain)
        backup.begin(self.domain, self.backup_xml, self.checkpoint_xml)
        self._advance(Phase.HELD, Phase.BEGUN, begun_ns=time.monotonic_ns())

    def _begin_to_hold(self) -> bool:
        """Note that calls follow which hold the guest; return False if none may: it was told to go, or left behind."""
        with self._lock:
            if self.phase is not Phase.HOLDING or self.left_in is not None:
                return False
            self.hold_start_ns = time.monotonic_ns()
            return True

    def leave_behind(self) -> None:
        """Have the others go on without the guest, unless its backup has begun: one that begins later is of another instant."""
        with self._lock:
            if self.phase in {Phase.WAITING, Phase.HOLDING, Phase.HELD}:
                self.left_in = self.phase

    def tell_late(self) -> None:
        """Have a fault if the others have gone on without the guest and no call has failed: it must not vanish unsaid."""
        if self.left_in is None or self.faults:
            return
        held_s = None
        if self.hold_start_ns is not None and self.held_ns is not None:
            held_s = (self.held_ns - self.hold_start_ns) / 1e9
        guest, begins = NamedGuest(self.domain.name, self.domain.uuid), self.left_in is Phase.HELD
        if self.left_in is Phase.HOLDING and self.hold_start_ns is None:
            self.faults.append(
                GuestHangsError(f"Guest {guest} had not told its state in time. Nothing was done to it.")
            )
            return
        self.faults.append(too_late(guest, held_s, self.freeze_s, begins=begins))

    def _note(self, error: Exception) -> None:
        if not isinstance(error, FreezeframeError):
            log.error("a call on a guest failed in an unforeseen way", guest=self.uuid, exc_info=error)
            error = UnexpectedError(
                f"{type(error).__name__} while guest {self.domain.name} was held or let go: {error}"
            )
        self.faults.append(error)

    def _advance(self, here: Phase, there: Phase, *, begun_ns: int | None = None) -> bool:
        """Come to a later phase; return False if the guest was told to go meanwhile, or left behind.

        A backup counts as begun only then: one that begins after its guest was let go, or the others went on, is worth nothing.
        """
        with self._lock:
            if self.phase is not here or self.left_in is not None:
                return False
            self.phase, self.begun_ns = there, begun_ns
            return True

    def release(self) -> None:
        """Let the guest go, and ask it whether it runs. May be repeated.

        Nothing is done to a guest that `take` lets go: two threads would only wait for each other at an agent that hangs.
        """
        with self._lock:
            self._over.set()
            if self.phase is Phase.WAITING:
                self.phase = Phase.GONE
            elif self.phase is Phase.HOLDING and self.hold_start_ns is None:
                self.phase = Phase.LEFT_ALONE
            if self._lets_go or self.phase in {Phase.GONE, Phase.LEFT_ALONE}:
                return
        self._go(self.apart)

    def _go(self, domain: Domain) -> None:
        with self._lock:
            self.phase = Phase.GOING
            if self.thaw_start_ns is None:
                self.thaw_start_ns = time.monotonic_ns()
        try:
            found = holding.let_go(domain, self.hold.kind, self.agent_timeout_s)
            if self.found is None:
                self.found = found
        except Exception as error:  # noqa: BLE001  the guest is asked all the same
            self._note(error)
        try:
            holding.verify_let_go(domain, self.hold.kind, self.agent_timeout_s)
        except Exception as error:  # noqa: BLE001  the guard keeps its lease
            self._note(error)
            self._leaves(domain)
            return
        if self._leaves(domain):
            return
        with self._lock:
            self.thawed_ns, self.phase = time.monotonic_ns(), Phase.GONE

    @property
    def has_left(self) -> bool:
        """Return True if the guest's first fault is that it has left its host as it was held."""
        return bool(self.faults) and isinstance(self.faults[0], LeftHeldError)

    def _leaves(self, domain: Domain) -> bool:
        """Return True, and have that for the first fault, if the guest has gone as it was held: nobody has seen it run.

        Return True too if that is not known of a guest that was only paused: the guard keeps its lease, and asks on.
        """
        if self.hold.kind is HoldKind.NONE or self.hold_start_ns is None:
            return False
        try:
            left = left_error(domain)
        except FreezeframeError as error:
            # not known. An agent that answers is one of a guest that runs here; a guest that is shut off is not paused either
            if self.hold.kind is not HoldKind.PAUSE:
                return False
            self._note(error)
            return True
        if left is not None and not self.has_left:
            self.faults.insert(0, left)
        return left is not None

    def proof(self, *, lease_stood: bool) -> GuestProof:
        return GuestProof(
            guest_uuid=self.domain.uuid,
            hold=self.hold,
            moving_disks=self.moving_disks,
            hold_start_ns=self.hold_start_ns,
            held_ns=self.held_ns,
            begun_ns=self.begun_ns,
            thaw_start_ns=self.thaw_start_ns,
            thawed_ns=self.thawed_ns,
            frozen_filesystems=self.frozen,
            expected_filesystems=self.filesystems,
            cut_short=self._cut_short(lease_stood=lease_stood),
        )

    def _cut_short(self, *, lease_stood: bool) -> str | None:
        if not lease_stood:
            return "the thaw guard let it go"
        if self.found is None:
            return "letting it go failed, so nobody knows when it was let go"
        if self.found.was_paused is False:
            return "it was paused, and ran before it was resumed"
        if self.frozen is not None and not self.hold.kind.pauses and self.found.thawed != self.frozen:
            return f"{self.frozen} filesystems were frozen and {self.found.thawed} thawed"
        return None


def _freeze(domain: Domain, hold: GuestHold, timeout_s: int, agent_timeout_s: int) -> int:
    """Freeze the guest; the agent refuses that for one which somebody has frozen since it was prepared."""
    try:
        return agent.freeze(domain, timeout_s, hold.mountpoints)
    except FreezeFailedError:
        if _is_frozen(domain, agent_timeout_s):  # by others: an agent that fails to freeze thaws again
            raise refusal.FrozenMeanwhileError(NamedGuest(domain.name, domain.uuid)) from None
        raise


def _is_frozen(domain: Domain, timeout_s: int) -> bool:
    try:
        return agent.freeze_status(domain, timeout_s) == "frozen"
    except AgentError:
        return False  # not known: the guest is let go, as after any hold that failed
