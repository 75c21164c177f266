"""Definitions of guests, as their hosts had them when they were prepared. Only the seal reads them.

They are most of what a host tells of a guest, and every look at a run reads the results: so they have a key of their own
(`names.definitions_key`).
"""

from __future__ import annotations

from freezeframe.contract.message import Message


class Definition(Message):
    """The domain XML of a guest."""

    domain_xml: str  # the definition of its next start
    live_xml: str = ""  # as it ran: with disks that were attached to that run only
