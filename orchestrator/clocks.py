"""Clocks that must agree before a capture begins. Pure: each check is given what was measured.

Orders carry a last moment, a capture's id its time, an epoch Redis's. With a wrong clock hosts refuse orders, `latest` and
retention prefer the wrong capture, and an epoch is higher than all later ones. So a wrong clock is refused by name, before any
guest is touched. All are measured against Redis's, which every part can ask.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from freezeframe.errors import EXIT_REFUSED, FreezeframeError
from freezeframe.presence import KnownHost
from freezeframe.repository.age import asked_at
from orchestrator.run import Dates, Run

#: Seconds that a machine's clock may be off. With NTP it is less than one; orders allow for minutes, of which this is a part.
MOST_APART_S = 15.0
#: How far a request may be dated ahead; and back, where it would stand behind a capture that is sealed already. More than a
#: request can wait in a queue; a caller that asks again with the id of a run that there is meets that run, whatever its age.
MOST_AHEAD = timedelta(minutes=5)
MOST_BEHIND = timedelta(hours=1)
#: How far ahead of this clock a run may have come to its state: another orchestrator entered it, by a clock that may be off in
#: the other direction. Further ahead means that this clock was set back since.
SET_BACK = timedelta(seconds=60)
assert timedelta(seconds=2 * MOST_APART_S) <= SET_BACK  # noqa: S101


class ClockError(FreezeframeError):
    """A clock is wrong."""

    code = "clock"
    exit_code = EXIT_REFUSED
    advice = "Set the clock of that machine (NTP: `timedatectl`), then capture again. No guest was touched."


class RequestDateError(FreezeframeError):
    """A request is dated by a clock that is wrong."""

    code = "request-date"
    exit_code = EXIT_REFUSED
    advice = "Set the clock of the machine that asked (NTP: `timedatectl`), then ask again. No guest was touched."


class LateRequestError(FreezeframeError):
    """A request has waited for longer than its caller does."""

    code = "late-request"
    exit_code = EXIT_REFUSED
    advice = "The orchestrator was away or busy: ask again."


def drift_text(ahead_s: float) -> str:
    """Return `300 s ahead of Redis's`, `2 s behind Redis's`."""
    size = f"{abs(ahead_s) / 86400:.1f} days" if abs(ahead_s) > 2 * 86400 else f"{abs(ahead_s):.0f} s"
    return f"{size} {'ahead of' if ahead_s > 0 else 'behind'} Redis's"


def check_own(now: datetime, redis_now: datetime) -> None:
    """Raise ClockError if this machine's clock and Redis's disagree."""
    ahead_s = (now - redis_now).total_seconds()
    if abs(ahead_s) > MOST_APART_S:
        raise ClockError(
            f"The orchestrator's clock is {drift_text(ahead_s)}: one of the two is wrong.",
            advice="Set the clock of the orchestrator's machine, or of Redis's (NTP: `timedatectl`). No guest was touched.",
        )


def check_request(capture_id: str, redis_now: datetime, newest: str | None = None) -> None:
    """Raise RequestDateError for an id whose time is too far from Redis's. `newest` is the newest sealed capture."""
    asked = asked_at(capture_id)
    hidden = newest is not None and newest > capture_id  # `latest` would still mean the other
    if asked > redis_now + MOST_AHEAD or (hidden and asked < redis_now - MOST_BEHIND):
        raise RequestDateError(
            f"The request is dated {asked:%Y-%m-%d %H:%M:%S} UTC, and it is {redis_now:%Y-%m-%d %H:%M:%S} by Redis's clock; "
            f"at most {MOST_AHEAD.seconds // 60} min ahead and {MOST_BEHIND.seconds // 3600} h back are accepted."
        )


def check_in_time(not_after_us: int | None, redis_now: datetime) -> None:
    """Raise LateRequestError for a request that its caller has given up, by the same clock as he."""
    if not_after_us is not None and redis_now.timestamp() * 1e6 > not_after_us:
        late_s = redis_now.timestamp() - not_after_us / 1e6
        raise LateRequestError(f"The request was picked up {late_s:.0f} s after its caller had given it up.")


def host_trouble(host: KnownHost) -> ClockError | None:
    """Return why a host cannot take part because of its clock; None if it can, or did not measure."""
    ahead_s = host.entry.clock_ahead_s
    if ahead_s is None or abs(ahead_s) <= MOST_APART_S:
        return None
    return ClockError(f"The clock of host {host.entry.host_id} is {drift_text(ahead_s)}.")


def dated_anew(run: Run, now: datetime) -> Run | None:
    """Return a run with the dates that its state has by this clock, if they are others; None if they are not.

        the clock was set back since    │ the state begins at `now`
        it was set right after that     │ the dates from before: the new ones may be long past, and no host is late for that

    With the old dates a host that is dead would be waited for until the clock has come to the old time again, with the backups
    of the others open. So a state lasts at most as long as it may, once more for each time that the clock is set back.
    """
    if run.state.ended:
        return None
    right = next((place for place, dates in enumerate(run.dated_before) if dates.entered_at - now <= SET_BACK), None)
    if right is not None:
        return _dated(run, run.dated_before[right], run.dated_before[:right])
    if run.entered_at - now <= SET_BACK:
        return None
    before = Dates(entered_at=run.entered_at, due_at=run.due_at)
    anew = Dates(entered_at=now, due_at=now + (run.due_at - run.entered_at))
    return _dated(run, anew, (*run.dated_before, before))


def due_at(run: Run, now: datetime) -> datetime:
    """Return when a run counts as late, by the clock as it is now."""
    return (dated_anew(run, now) or run).due_at


def _dated(run: Run, dates: Dates, before: tuple[Dates, ...]) -> Run:
    """Return a run with these dates. A search begins again: it compares what was dated by the other clock."""
    changes = {"entered_at": dates.entered_at, "due_at": dates.due_at, "dated_before": before, "search": None}
    return run.model_copy(update=changes)


def redis_time(answer: tuple[int, int]) -> datetime:
    """Return what Redis's TIME answered."""
    seconds, micros = answer
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)
