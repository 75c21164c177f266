"""Playing two faults in one capture: the strikes, and a supervisor that mends each when its own time has come."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from freezeframe.contract.words import RunState
from ops.lab.errors import LabError

from .account import Row
from .bench import Bench, until
from .bounds import RESTART_S, by_pair
from .cell import Watch
from .kinds import STOP_S
from .stage import freezing, has_backup, held, wait_frozen
from .two import IN_TURN, Fault, Pair, Part, Way, order_of_strikes
from .watch import Capture

_NAMES = {Part.CONTROL: "control@host-a", Part.GUARD: "guard@host-a", Part.REDIS: "redis"}

#: Seconds from a freeze until the backup has begun, if it does: ten times what it takes.
BEGIN_S = 1.0

#: Seconds from a strike until it is mended: as a supervisor starts what has died, and beyond every deadline of a hold.
LASTS_S = {Way.KILLED: RESTART_S, Way.SUSPENDED: STOP_S}


@dataclass
class Strikes:
    """The faults of one cell: what was struck when, and until when."""

    bench: Bench
    away_s: dict[Part, float] = field(default_factory=dict)
    before_s: float = 0.0  # guests may have been held for so long when the first struck
    _began: float | None = None
    _open: dict[Fault, float] = field(default_factory=dict)  # when it struck

    def strike(self, fault: Fault) -> None:
        now = time.monotonic()
        self._began = self._began or now
        self._open[fault] = now
        if fault.part is not Part.LIBVIRTD:
            self.bench.struck.add(_NAMES[fault.part])
        _strike(self.bench, fault)

    def mend(self, fault: Fault) -> None:
        """Mend it when its time has come."""
        time.sleep(max(0.0, self._open.pop(fault) + LASTS_S[fault.way] - time.monotonic()))
        _mend(self.bench, fault)
        if fault.part is not Part.LIBVIRTD:
            self.bench.struck.discard(_NAMES[fault.part])
        if fault.way is Way.SUSPENDED:
            self.away_s[fault.part] = self._since_the_first()

    def end(self, pair: Pair) -> None:
        """Mend what is left, the one that is due first before the other, and wait until every part does its work."""

        def mend_rest(bench: Bench) -> None:
            due = sorted(self._open, key=lambda one: self._open[one] + LASTS_S[one.way])
            with ExitStack() as stack:  # what cannot be mended keeps nothing else from it: a guest may be frozen
                for fault in reversed(due):
                    stack.callback(self.mend, fault)
            if any(fault.part is Part.LIBVIRTD for fault in (pair.first, pair.second)):
                for name in ("alpha", "beta"):
                    bench.lab.guest(name).wait_agent()

        self.bench.mended(mend_rest)
        for fault in (pair.first, pair.second):
            self.away_s.setdefault(fault.part, self._since_the_first())  # a process that starts works when it answers

    def _since_the_first(self) -> float:
        assert self._began is not None
        return time.monotonic() - self._began


def play_pair(bench: Bench, pair: Pair) -> Row:
    """Two faults, at once in the hold or one before it and one in it."""
    watch = Watch(bench, *pair.cell)
    strikes = Strikes(bench)
    try:
        capture = (_in_turn if pair.step == IN_TURN else _at_once)(bench, pair, strikes)
    finally:
        strikes.end(pair)
    return watch.judge(capture, by_pair(pair, strikes.before_s, strikes.away_s))


def _at_once(bench: Bench, pair: Pair, strikes: Strikes) -> Capture:
    with held(bench) as capture:
        strikes.before_s = capture.since_s(RunState.HOLDING)
        for fault in order_of_strikes(pair):
            strikes.strike(fault)
    return capture


def _in_turn(bench: Bench, pair: Pair, strikes: Strikes) -> Capture:
    """What was killed before the hold is started again before the second fault strikes; what was suspended is not."""
    with freezing(bench) as capture:
        strikes.strike(pair.first)
        if pair.first.way is Way.KILLED:
            strikes.mend(pair.first)
        wait_frozen(bench)
        if pair.second == Fault(Part.LIBVIRTD, Way.KILLED):
            _wait_begun(bench)
        strikes.strike(pair.second)
    return capture


def _wait_begun(bench: Bench) -> None:
    """Wait until the backups of alpha and beta have begun, or will not: a libvirtd that is killed within virDomainBackupBegin
    loses the backup or the guest, whatever anybody does (docs/faults.md); that has a test of its own, test_libvirt.
    """
    with suppress(LabError):
        until("both have begun", lambda: all(has_backup(bench, name) for name in ("alpha", "beta")), BEGIN_S)


def _strike(bench: Bench, fault: Fault) -> None:
    host = bench.lab.host("host-a")
    match fault:
        case Fault(Part.LIBVIRTD, Way.KILLED):
            host.kill_libvirtd()
        case Fault(Part.LIBVIRTD, Way.SUSPENDED):
            host.suspend_libvirtd()
        case Fault(part, Way.KILLED):
            bench.kill(_NAMES[part])
        case Fault(part, Way.SUSPENDED):
            bench.stop(_NAMES[part])


def _mend(bench: Bench, fault: Fault) -> None:
    host = bench.lab.host("host-a")
    match fault:
        case Fault(Part.LIBVIRTD, Way.KILLED):
            host.start_libvirtd()
        case Fault(Part.LIBVIRTD, Way.SUSPENDED):
            host.resume_libvirtd()
        case Fault(Part.REDIS, Way.KILLED):
            bench.restart_redis()
        case Fault(part, Way.KILLED):
            bench.restart(_NAMES[part])
        case Fault(part, Way.SUSPENDED):
            bench.go_on(_NAMES[part])
