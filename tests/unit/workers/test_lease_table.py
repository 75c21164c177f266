"""The life of a lease, event by event: let go at once, retired only when no call that holds a guest can be under way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some

from workers.guard.table import (
    AGENT_S,
    JOB_WAIT_S,
    LONGEST_LEASE_S,
    LONGEST_PAUSE_S,
    SETTLE_S,
    LeaseLife,
    Look,
    Stage,
)

A, B = "guest a", "guest b"
HOLDER, ANOTHER = 7, 8
DEADLINE = 100.0


class Played:
    """A lease whose looks are taken when they are due, as the guard takes them; each answers in an instant."""

    def __init__(self, life: LeaseLife, **held: list[tuple[float, float]]) -> None:
        """`held` says from when to when each guest is held, though nobody has let it go: by calls that come late."""
        self.life = life
        self.now = 0.0
        self.held = held
        self.found_held: list[tuple[float, str]] = []

    def until(self, end: float) -> Played:
        """Let time pass, and look."""
        while (time := self.life.next_time()) is not None and time <= end:
            self.now = max(time, self.now)
            self.life.time(self.now)
            for guest in self.life.due(self.now):
                self.life.begin_look(guest)
                self._look(guest)
        self.now = end
        return self

    def _look(self, guest: str) -> None:
        spans = self.held.get(guest[-1], [])
        is_held = any(begin <= self.now < end for begin, end in spans)
        if is_held:  # and let go by this look
            self.found_held.append((self.now, guest))
            self.held[guest[-1]] = [span for span in spans if not span[0] <= self.now < span[1]]
        self.life.look(guest, Look.HELD if is_held else Look.RUNS, self.now, self.now)


def stage(life: LeaseLife) -> Stage:
    return life.stage


def armed(*guests: str) -> LeaseLife:
    return LeaseLife(guests or (A,), DEADLINE, HOLDER)


def test_the_time_to_settle_covers_what_a_pending_call_can_take() -> None:
    assert SETTLE_S > JOB_WAIT_S + AGENT_S


def test_an_armed_lease_is_left_alone_until_its_deadline() -> None:
    life = armed()
    assert not life.time(DEADLINE - 0.001)
    assert life.due(DEADLINE - 0.001) == []
    assert life.next_time() == DEADLINE
    assert life.time(DEADLINE)
    assert life.due(DEADLINE) == [A]


def test_a_lease_is_retired_by_its_holder() -> None:
    life = armed(A, B)
    assert life.disarm(None)
    assert stage(life) is Stage.RETIRED


def test_a_lease_is_retired_with_its_last_guest_and_not_with_the_first() -> None:
    life = armed(A, B)
    assert life.disarm([A])
    assert (stage(life), life.guests) == (Stage.ARMED, [B])
    life.time(DEADLINE)
    assert life.due(DEADLINE) == [B]
    assert not life.disarm([B])
    assert stage(life) is Stage.RETIRED


def test_a_lease_that_was_let_go_cannot_be_disarmed_as_if_it_had_stood() -> None:
    life = armed()
    life.time(DEADLINE)
    assert not life.disarm(None)
    assert stage(life) is Stage.RETIRED  # its holder says that the guest runs, and that no call of its own is pending
    assert not life.disarm(None)


def test_another_connection_that_closes_says_nothing() -> None:
    life = armed()
    assert not life.hang_up(ANOTHER, 1.0)
    assert stage(life) is Stage.ARMED


@pytest.mark.case("S4")
def test_a_worker_that_dies_while_its_suspend_waits_in_libvirtd() -> None:
    """The look says "runs", and 29 s later the suspend gets the guest's job: the lease is still there, and lets go again."""
    life = armed()
    life.hang_up(HOLDER, 5.0)
    played = Played(life, a=[(34.0, 1000.0)]).until(34.0 + LONGEST_PAUSE_S)
    assert [guest for _, guest in played.found_held] == [A]
    assert stage(life) is Stage.LETTING_GO
    played.until(played.found_held[0][0] + SETTLE_S - LONGEST_PAUSE_S)
    assert stage(life) is Stage.LETTING_GO  # the time in which it must run began anew
    played.until(played.now + 3 * LONGEST_PAUSE_S)
    assert stage(life) is Stage.RETIRED


@pytest.mark.case("S4")
def test_a_guard_killed_after_arm_was_acknowledged_and_restarted_then_the_worker_killed() -> None:
    """The worker lives when the next guard starts, holds the guest after that look, and dies: the lease keeps its deadline."""
    life = LeaseLife.found([A], DEADLINE, 10.0, same_boot=True)
    played = Played(life, a=[(DEADLINE - 0.5, 1000.0)]).until(DEADLINE - 0.6)
    assert stage(life) is Stage.LETTING_GO
    played.until(DEADLINE - 0.5 + LONGEST_PAUSE_S)
    assert [guest for _, guest in played.found_held] == [A]
    played.until(DEADLINE + SETTLE_S + 3 * LONGEST_PAUSE_S)
    assert stage(life) is Stage.RETIRED


@pytest.mark.case("S4")
def test_a_lease_that_was_found_is_not_retired_before_its_deadline_and_the_time_to_settle() -> None:
    life = LeaseLife.found([A], DEADLINE, 10.0, same_boot=True)
    Played(life).until(DEADLINE + SETTLE_S - 0.001)
    assert stage(life) is Stage.LETTING_GO


@pytest.mark.case("S5")
@pytest.mark.parametrize(
    ("ahead_s", "ends"), [(LONGEST_LEASE_S, LONGEST_LEASE_S), (LONGEST_LEASE_S + 1, 0.0), (1e300, 0.0)]
)
def test_a_deadline_further_ahead_than_any_lease_s_is_now(ahead_s: float, ends: float) -> None:
    """One digit too many on disk, and the guest would be resumed every two seconds for as long."""
    life = LeaseLife.found([A], 10.0 + ahead_s, 10.0, same_boot=True)
    played = Played(life).until(10.0 + ends + SETTLE_S - 0.001)
    assert stage(life) is Stage.LETTING_GO
    played.until(10.0 + ends + SETTLE_S + 2 * LONGEST_PAUSE_S)
    assert stage(life) is Stage.RETIRED


@pytest.mark.case("S4")
def test_a_freeze_that_is_pending_when_the_hold_is_given_up() -> None:
    """The worker cannot disarm a guest whose freeze has not returned; it hangs up, and the freeze takes effect after that."""
    life = armed(A, B)
    assert life.disarm([B])
    life.hang_up(HOLDER, 20.0)
    played = Played(life, a=[(20.0 + AGENT_S, 1000.0)]).until(20.0 + AGENT_S + LONGEST_PAUSE_S)
    assert [guest for _, guest in played.found_held] == [A]


@pytest.mark.case("S4")
def test_a_worker_that_is_suspended_and_sends_its_call_long_after_the_deadline_and_dies() -> None:
    life = armed()
    played = Played(life).until(DEADLINE + 10 * SETTLE_S)
    assert stage(life) is Stage.WAITING
    assert life.next_time() is None  # no look: whoever pauses the guest now is left alone
    life.hang_up(HOLDER, played.now)
    played.held["a"] = [(played.now + 20.0, 10_000.0)]
    played.until(played.now + 20.0 + LONGEST_PAUSE_S)
    assert [guest for _, guest in played.found_held] == [A]
    played.until(played.now + SETTLE_S + 3 * LONGEST_PAUSE_S)
    assert stage(life) is Stage.RETIRED


def test_after_a_restart_of_the_host_no_call_is_pending() -> None:
    life = LeaseLife.found([A, B], DEADLINE, 3.0, same_boot=False)
    assert life.due(3.0) == [A, B]
    life.look(A, Look.RUNS, 3.0, 3.1)
    life.look(B, Look.NO_ANSWER, 3.0, 3.1)
    assert life.guests == [B]
    life.look(B, Look.GONE, 3.2, 3.3)
    assert stage(life) is Stage.RETIRED


@pytest.mark.parametrize("answer", [Look.HELD, Look.NO_ANSWER])
def test_a_guest_that_is_held_or_does_not_answer_is_never_retired(answer: Look) -> None:
    life = armed()
    life.hang_up(HOLDER, 0.0)
    for now in range(1000):
        life.look(A, answer, float(now), float(now))
    assert stage(life) is Stage.LETTING_GO
    assert not life.all_run


def test_a_guest_that_stops_answering_begins_its_quiet_time_anew() -> None:
    life = armed()
    life.hang_up(HOLDER, 0.0)
    life.look(A, Look.RUNS, 0.0, 0.0)
    life.look(A, Look.NO_ANSWER, SETTLE_S - 1, SETTLE_S - 1)
    life.look(A, Look.RUNS, SETTLE_S + 1, SETTLE_S + 1)
    assert stage(life) is Stage.LETTING_GO


def test_a_look_that_takes_long_does_not_count_the_time_that_it_took() -> None:
    """It was asked before the time to settle was over, so what it found may be of then."""
    life = armed()
    life.hang_up(HOLDER, 0.0)
    life.look(A, Look.RUNS, 0.0, 0.0)
    life.look(A, Look.RUNS, 1.0, SETTLE_S + 10)
    assert stage(life) is Stage.LETTING_GO


def test_a_guest_that_a_newer_lease_holds_is_not_looked_at_and_does_not_settle_meanwhile() -> None:
    life = armed()
    life.hang_up(HOLDER, 0.0)
    life.look(A, Look.RUNS, 0.0, 0.0)
    life.put_off(A, 5.0)
    assert life.due(5.0) == []
    life.look(A, Look.RUNS, SETTLE_S + 1, SETTLE_S + 1)
    assert stage(life) is Stage.LETTING_GO


def test_a_guest_is_not_looked_at_twice_at_once() -> None:
    life = armed(A, B)
    life.hang_up(HOLDER, 0.0)
    life.begin_look(A)
    assert life.due(1000.0) == [B]
    assert life.next_time() == 0.0


def test_tries_are_quick_at_first_and_bounded_later() -> None:
    life = armed()
    life.hang_up(HOLDER, 0.0)
    times = []
    for _ in range(10):
        now = life.next_time()
        assert now is not None
        times.append(now)
        life.look(A, Look.HELD, now, now)
    assert times[1] - times[0] < 0.2
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= LONGEST_PAUSE_S


late_calls = some.lists(some.floats(0.0, JOB_WAIT_S + AGENT_S), min_size=0, max_size=3)


@given(begin=some.floats(0.0, DEADLINE), calls=some.tuples(late_calls, late_calls), found=some.booleans())
def test_whenever_a_pending_call_takes_effect_the_guest_is_let_go_within_the_longest_pause(
    begin: float, calls: tuple[list[float], list[float]], *, found: bool
) -> None:
    """Of calls sent before the holder died, each of which waits as long as libvirt lets it."""
    life = LeaseLife.found([A, B], DEADLINE, begin, same_boot=True) if found else armed(A, B)
    if not found:
        life.hang_up(HOLDER, begin)
    held = [[(begin + after, 1e9) for after in sorted(one)] for one in calls]
    played = Played(life, a=held[0], b=held[1]).until(DEADLINE + 10 * SETTLE_S)
    assert stage(life) is Stage.RETIRED
    assert played.held == {"a": [], "b": []}  # every one was found
    for time, guest in played.found_held:
        begun = [begin + after for after in calls[0 if guest == A else 1]]
        assert min(time - one for one in begun if one <= time) <= LONGEST_PAUSE_S + 0.001


def test_a_guest_that_stays_held_is_looked_at_while_the_other_runs_and_the_holder_lives() -> None:
    """A lease that waits is not looked at: waiting for the first that runs would leave the second held."""
    life = armed(A, B)
    life.time(DEADLINE)
    now = DEADLINE
    while now < DEADLINE + 3 * SETTLE_S:
        for guest in life.due(now):
            life.begin_look(guest)
            life.look(guest, Look.RUNS if guest == A else Look.NO_ANSWER, now, now)
        now += 1.0
    assert stage(life) is Stage.LETTING_GO
    assert not life.all_run
    assert B in life.due(now + LONGEST_PAUSE_S)


def test_the_next_time_is_that_of_the_guest_that_is_due_first_and_not_being_looked_at() -> None:
    life = armed(A, B)
    life.time(DEADLINE)
    life.begin_look(A)
    life.look(A, Look.NO_ANSWER, DEADLINE, DEADLINE + 1.0)
    assert life.next_time() == DEADLINE  # of B
    life.begin_look(B)
    assert life.next_time() is not None
    assert life.next_time() != DEADLINE  # of A: what is being looked at is not due
    life.begin_look(A)
    assert life.next_time() is None


def test_a_guest_that_is_disarmed_while_it_is_looked_at_is_nobody_s() -> None:
    life = armed(A, B)
    life.time(DEADLINE)
    life.begin_look(A)
    life.disarm([A])
    life.look(A, Look.NO_ANSWER, DEADLINE, DEADLINE)
    assert life.guests == [B]


def test_only_the_holder_s_hang_up_is_one() -> None:
    life = armed()
    assert not life.hang_up(ANOTHER, 1.0)
    assert stage(life) is Stage.ARMED
    assert life.hang_up(HOLDER, 1.0)
    assert stage(life) is Stage.LETTING_GO
    assert not life.hang_up(HOLDER, 2.0)
