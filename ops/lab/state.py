"""What a lab remembers of itself: one JSON file, written before the thing it names is made."""

import os
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from ops.lab.errors import NotALabError
from ops.lab.process import ProcessId

FILE_NAME = "lab.json"


class HostState(BaseModel):
    """A host. Its processes are None until they exist; its interface is named after the lab and its number."""

    name: str
    number: int
    address: IPv4Address
    uuid: str
    #: The root of the Debian whose packages its daemons are of; None: this machine's own. [ops.lab.profile]
    tree: Path | None = None
    #: `unshare`, which stays outside as the parent of the init.
    launcher: ProcessId | None = None
    #: Process 1 of the host's PID namespace, by its number outside.
    init: ProcessId | None = None


class LabState(BaseModel):
    """Everything `down` needs. Guests are not in it: libvirt knows them, and they die with their host."""

    version: Literal[1] = 1
    lab_id: str
    subnet: IPv4Network
    hosts: list[HostState]
    kit: Path
    accelerator: Literal["kvm", "qemu"]

    @property
    def address(self) -> IPv4Address:
        """The machine's own address on the lab's bridge."""
        return self.subnet[1]

    @property
    def bridge(self) -> str:
        return f"ff{self.lab_id}"

    def link(self, host: HostState) -> str:
        """The end of a host's cable that is on the machine; interface names have 15 characters at most."""
        return f"ff{self.lab_id}h{host.number}"

    def save(self, directory: Path) -> None:
        """Durable and atomic: another process reads the old state or the new one."""
        new = directory / f"{FILE_NAME}.new"
        with new.open("w") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(directory / FILE_NAME)

    @classmethod
    def load(cls, directory: Path) -> "LabState":
        try:
            return cls.model_validate_json((directory / FILE_NAME).read_text())
        except FileNotFoundError:
            raise NotALabError(f"{directory} holds no {FILE_NAME}: it is no lab, and is left alone") from None
        except ValidationError as error:
            raise NotALabError(f"{directory / FILE_NAME} is not a lab's state: {error}") from error
