"""The pure functions whose work must grow no faster than the capture, by name.

Each case makes the values that a function is given, and returns the call that is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from freezeframe.contract.words import Policy, RunState
from tests.scale import deciding, planning, sealing
from tests.scale.capture import ManyGuests

Case = Callable[[ManyGuests], Callable[[], object]]

_STATES: Final = (RunState.PREPARING, RunState.HOLDING, RunState.TRANSFERRING, RunState.RELEASING)
_CASES: Final[tuple[Case, ...]] = (
    planning.plan_by_name,
    planning.plan_every_guest,
    planning.plan_with_choices,
    planning.plan_without_hosts_that_are_down,
    planning.options_that_nobody_knows,
    planning.parents,
    planning.parents_that_are_in_no_capture,
    deciding.after_prepare,
    deciding.after_prepare_with_guests_that_have_moved,
    deciding.after_prepare_with_guests_that_nobody_runs,
    deciding.after_hold_without_a_word_of_most_guests,
    deciding.after_transfer,
    deciding.after_transfer_of_hosts_that_have_stalled,
    deciding.after_release,
    deciding.transfers,
    deciding.answers,
    deciding.answers_of_another_version,
    deciding.stalls,
    deciding.orders_to_send_again,
    deciding.shared_storage,
    deciding.storage_that_all_write_to,
    deciding.a_refused_run,
    sealing.without_unsealable,
    sealing.manifest,
    sealing.manifest_with_warnings,
    sealing.labels,
    sealing.labels_of_a_proof_that_lacks_much,
    sealing.receipt,
    sealing.a_run_that_was_sealed_meanwhile,
    sealing.guests_that_cannot_be_sealed,
)

CASES: Final[dict[str, Case]] = (
    {one.__name__.replace("_", " "): one for one in _CASES}
    | {f"orders, {state}": deciding.orders(state) for state in _STATES}
    | {f"after hold, {policy}": deciding.after_hold(policy) for policy in Policy}
)
