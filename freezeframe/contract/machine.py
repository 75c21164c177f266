"""The machine that a host's id is bound to."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Machine(BaseModel):
    """A machine: its /etc/machine-id, and the UUID that its firmware tells, since clones may share the first."""

    model_config = ConfigDict(
        frozen=True, extra="ignore"
    )  # kept on disk and in Redis, where later programs write it too

    v: Literal[1] = 1
    machine_id: str
    product_uuid: str | None = None  # None where it cannot be read
    name: str = ""  # for people

    def is_same(self, other: Machine) -> bool:
        """Return True unless something that is known of both differs."""
        uuids = {self.product_uuid, other.product_uuid} - {None}
        return self.machine_id == other.machine_id and len(uuids) < 2
