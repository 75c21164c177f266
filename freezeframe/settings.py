"""Settings: one typed class a part, each default with its reason.

Read from the environment (`FREEZEFRAME_…`, first) and from a TOML file (`FREEZEFRAME_CONFIG`, else
/etc/freezeframe/freezeframe.toml). A name that no setting has is refused in both (`known_settings`). Secrets are in Redis's URL
and the S3 settings, which print as stars, and in files whose paths are settings; they are never arguments.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from freezeframe import known_settings, redis_address
from freezeframe.contract.hold import LONGEST_HOLD_S, LONGEST_MUSTER_S
from freezeframe.contract.message import HostId
from freezeframe.errors import EXIT_FAILED, FreezeframeError

PartT = TypeVar("PartT", bound="_Part")

CONFIG_ENV = "FREEZEFRAME_CONFIG"
DEFAULT_CONFIG = Path("/etc/freezeframe/freezeframe.toml")


#: The name of the thaw guard's socket.
GUARD_SOCKET = "guard.sock"
#: The longest path of a Unix socket: sun_path has 108 bytes, one of them for its end. [unix(7)]
SOCKET_PATH_BYTES = 107


#: The longest of settings that are a time to wait in, and of those that are a time to keep something for. No clock can add a
#: time without bounds, and a misplaced unit (milliseconds for seconds) is refused by name.
DAY_S = 86400
KEPT_S = 366 * DAY_S
#: A capture is sealed within this time of its request, or never: its session in the repository lasts seven days, of which an
#: hour must be left for the seal (repository/session.py). Two hours of it are for the muster, the hold and the looks between.
SEALED_WITHIN_S = 7 * DAY_S - 3600
HOLD_AND_LOOKS_S = 2 * 3600
#: How often a capture is prepared at most: a guest that has moved is looked for twice (orchestrator/search.py).
PREPARED_TIMES = 3
#: The longest that an agent may take to answer: the thaw guard waits so long (workers/guard/table.py), and a guest whose agent
#: takes longer would never be seen thawed by it.
LONGEST_AGENT_S = 5
#: The highest rate: 1 TiB a second, more than any host reads. An infinite one is no rate; leave the setting out for none.
MOST_MIB_S = 1 << 20


def _absolute(path: Path) -> Path:
    if wrong := known_settings.no_absolute_path(str(path)):
        raise ValueError(wrong)
    return path


#: A relative path would mean another place for each part, by the directory that it is started in.
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class SettingsError(FreezeframeError):
    """A setting cannot be used."""

    code = "settings"
    exit_code = EXIT_FAILED
    advice = f"Correct the environment variable or the line in the file that {CONFIG_ENV} names."


class _SettingsFile(TomlConfigSettingsSource):
    """The file. What is empty there is not set, as in the environment (`env_ignore_empty`)."""

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if value != ""}


class _Part(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="FREEZEFRAME_",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  a .env in the working directory is a surprise
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        config, _ = known_settings.config_file(os.environ, CONFIG_ENV, DEFAULT_CONFIG)
        return init_settings, env_settings, _SettingsFile(settings_cls, toml_file=config)


class BusSettings(_Part):
    """How to reach Redis, which carries orders, results and the barrier."""

    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    #: Seconds for any one exchange with Redis. Celery's own default of 120 s would keep a guest held far too long.
    redis_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis(cls, redis_url: SecretStr) -> SecretStr:
        return SecretStr(redis_address.checked(redis_url.get_secret_value()))


class RepositorySettings(_Part):
    """Where captures are kept."""

    #: A path, a `file://` URL or `s3://bucket/prefix`. Never a Path: that would make one slash of two.
    repository: str = "/var/lib/freezeframe/repository"
    #: Where the secret of an encrypted repository is: a key file, or a file with a passphrase, which takes 128 MiB and
    #: half a second of CPU to try. Paths, because an environment can be read by others. With either, a repository that is not
    #: encrypted is refused.
    key_file: AbsolutePath | None = None
    passphrase_file: AbsolutePath | None = None
    #: What is expected there, checked before anything of it is used: its id, as `freezeframe repo info` shows it, whether it
    #: is encrypted, and whether it is authenticated, as an encrypted one is. Without them whoever can write to the store can
    #: put another repository there.
    repository_id: UUID | None = None
    repository_encrypted: bool | None = None
    repository_authenticated: bool | None = None
    #: No: this machine deletes, moves and replaces nothing there that is another's, so credentials suffice that may get, list
    #: and create. Captures, restores and verification go on; `forget`, `gc` and setting aside need a machine that may.
    repository_deletes: bool = True
    #: Where what a user has seen of repositories is remembered; by default in the user's state directory.
    known_repositories: AbsolutePath | None = None

    @field_validator("repository")
    @classmethod
    def _is_an_address(cls, repository: str) -> str:
        if wrong := known_settings.no_address(repository):
            raise ValueError(wrong)
        return repository

    @field_validator("passphrase_file")
    @classmethod
    def _one_of_them(cls, passphrase_file: Path | None, info: ValidationInfo) -> Path | None:
        if passphrase_file is not None and info.data.get("key_file") is not None:
            raise ValueError("a key file is set too, and only one of them may be")
        return passphrase_file


class TemporarySettings(_Part):
    """The directory of temporary tables."""

    #: A local directory with room: docs/repository.md says how much. None: TMPDIR if that is set, else /var/tmp, which no
    #: distribution keeps in memory, as Debian 13 does /tmp (`freezeframe/temporary.py`).
    tmp_dir: AbsolutePath | None = None


class S3Settings(_Part):
    """How to reach object storage, if the repository is there. What is not set is looked for under Amazon's names (`AWS_…`)."""

    #: Of a server that is not Amazon's, with its scheme: `https://s3.example.org`.
    s3_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_session_token: SecretStr | None = None
    #: Seconds for one request, its body included: a chunk of 16 MiB at 280 kB/s. A larger object goes in parts of 8 MiB.
    s3_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    #: Seconds after which a request that did not go through is not tried again. With one last request that is less than
    #: `prepare_timeout_s`, so that a capture that is refused for it says so.
    s3_patience_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    #: The same where hours of work are at stake: a transfer, a restore, a copy, a verification, garbage collection. Long enough
    #: for a gateway's fail-over or a server's upgrade. No guest is held meanwhile; its scratch file grows.
    s3_transfer_patience_s: Annotated[float, Field(ge=0, le=DAY_S)] = 900.0


def _processors() -> int:
    """How many this process may use: a container or an affinity may leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0))


class HostSettings(_Part):
    """What a hypervisor host's workers and its thaw guard need."""

    #: Also the name of the host's queues, so two hosts must not share one.
    host_id: HostId = Field(default_factory=socket.getfqdn)
    libvirt_uri: str = "qemu:///system"
    #: Where libvirt notes the guests that run: each one's QEMU, and the directory in which that may make sockets. Another one
    #: only for a daemon that was built, or runs, with directories of its own.
    libvirt_run_dir: AbsolutePath = Path("/run/libvirt/qemu")
    #: Journal, claims, leases. Must survive a reboot.
    state_dir: AbsolutePath = Path("/var/lib/freezeframe/host")
    #: Scratch files: what guests overwrite while a transfer runs. Needs room, and speed like the guests' own disks.
    scratch_dir: AbsolutePath = Path("/var/lib/freezeframe/scratch")
    #: The guard's socket. Short, because a Unix socket's path ends at 107 bytes.
    run_dir: AbsolutePath = Path("/run/freezeframe")
    #: Seconds an agent may take to answer; libvirt's default is to wait for ever (FACTS: vdsm #160).
    agent_timeout_s: Annotated[int, Field(ge=1, le=LONGEST_AGENT_S)] = LONGEST_AGENT_S
    #: What an order to hold may ask of this host, in seconds: how long its guests are held, how long it waits for other hosts.
    longest_hold_s: Annotated[float, Field(gt=0, le=LONGEST_HOLD_S)] = float(LONGEST_HOLD_S)
    longest_muster_s: Annotated[float, Field(gt=0, le=LONGEST_MUSTER_S)] = float(LONGEST_MUSTER_S)
    #: Seconds that an order's epoch may be ahead of this host's clock, and of the highest that it has seen. A guest refuses the
    #: captures whose epochs are lower than one that it has seen. More only once, after Redis's clock was years ahead.
    longest_epoch_step_s: Annotated[float, Field(gt=0, le=100 * 365 * DAY_S)] = DAY_S
    #: Seconds that the guard grants on top of the hold's own deadline, for the host to thaw by itself first.
    guard_grace_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    #: A transfer's threads, each with an NBD connection of its own, two chunks on their way and one in hand. As many as there
    #: are processors, so that a single disk can use them all; no more than 8 unasked: memory is three
    #: chunks a thread. Measured on two processors only.
    transfer_threads: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=lambda: min(_processors(), 8))
    #: Transfers that run side by side on a host; two keep two disks busy while one of them flushes. With `transfer_threads` the
    #: thread budget of the host: never more than the product of the two.
    transfers: Annotated[int, Field(ge=1, le=64)] = 2
    #: Processors that all transfers of the host may use together; the highest-numbered, because what is not pinned tends to
    #: gather on the lowest. None: all. QEMU's part, reading the guest's disk, is not counted.
    transfer_processors: Annotated[int, Field(ge=1, le=65536)] | None = None
    #: nice(2) of the transfers. 0, because scratch files grow while a transfer starves; more where guests come first.
    transfer_nice: Annotated[int, Field(ge=0, le=19)] = 0
    #: How chunks are compressed: `auto` (as hard as idle processors allow), `off`, or a level of zstd, 1 to 19, come what may.
    compression: Annotated[str, Field(pattern=r"^(auto|off|[1-9]|1[0-9])$")] = "auto"
    #: MiB a second that one transfer, and all of the host together, may read from guests' disks; None: no limit. At least 1,
    #: so that every chunk moves well before a transfer counts as stalled.
    transfer_limit_mib_s: Annotated[float, Field(ge=1, le=MOST_MIB_S)] | None = None
    host_limit_mib_s: Annotated[float, Field(ge=1, le=MOST_MIB_S)] | None = None
    #: Share of a disk's size that must be free for its scratch file; a guest that rewrites more while it is read ends
    #: the capture, before its own writes would fail.
    scratch_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    #: Seconds between two entries of this host in the inventory.
    inventory_interval_s: Annotated[float, Field(gt=0, le=60)] = 2.0

    @field_validator("run_dir")
    @classmethod
    def _has_room_for_sockets(cls, run_dir: Path) -> Path:
        wrong = known_settings.longest_socket(run_dir, GUARD_SOCKET, SOCKET_PATH_BYTES)
        if wrong:
            raise ValueError(wrong)
        return run_dir

    @property
    def guard_socket(self) -> Path:
        return self.run_dir / GUARD_SOCKET


class OrchestratorSettings(_Part):
    """How patient the orchestrator is."""

    #: Seconds to plan a capture. It reads the newest captures of its guests; the request is recorded before.
    plan_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 600.0
    #: Captures that are at work at once; others wait, oldest first.
    captures_at_once: Annotated[int, Field(ge=1, le=10_000)] = 100
    #: Captures that a host takes part in at once. Each has backups open, whose scratch files grow, while a host reads two disks
    #: at a time.
    captures_per_host: Annotated[int, Field(ge=1, le=1000)] = 4
    #: Seconds that a capture waits for its place, or for guests that are in another one. Its session begins after that.
    queue_timeout_s: Annotated[float, Field(gt=0, le=DAY_S)] = 12 * 3600.0
    #: Seconds for every host to prepare. Scratch files and agents' answers take a few, a queue behind others more.
    prepare_timeout_s: Annotated[float, Field(gt=0, le=DAY_S)] = 120.0
    #: Seconds after which a transfer counts as dead that neither moves nor says that it waits for the repository.
    transfer_stall_s: Annotated[float, Field(gt=0, le=DAY_S)] = 90.0
    #: Seconds that the transfers of a host may wait for the repository without moving a byte. Their backups are open
    #: meanwhile; where scratch files take too much room the host ends them earlier.
    transfer_store_s: Annotated[float, Field(gt=0, le=DAY_S)] = 3600.0
    #: Seconds for all transfers of a capture at most; None: as long as they move, and fit into the life of a capture's session
    #: (`transfers_s`). How long they take depends on what a host reads, its limits, and the captures before it in its queue.
    #: An order that still waits in its queue after that is not begun any more.
    transfer_timeout_s: Annotated[float, Field(gt=0, le=6 * DAY_S)] | None = None
    #: Seconds to write the manifest, while the repository is away, full or read-only. No backup is open by then, so an outage
    #: of the night may be mended in the morning.
    #: With preparing and all transfers it must fit into the life of a capture's session.
    seal_timeout_s: Annotated[float, Field(gt=0, le=DAY_S)] = 12 * 3600.0
    #: Seconds for every host to release.
    release_timeout_s: Annotated[float, Field(gt=0, le=DAY_S)] = 120.0
    #: Seconds that a release order stays valid: a host that was away for a weekend still cleans up when it returns.
    release_validity_s: Annotated[float, Field(gt=0, le=KEPT_S)] = 3 * 86400.0
    #: Seconds between two looks of the reconciler.
    reconcile_interval_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    #: Where Prometheus may ask, on loopback; 0 for nowhere.
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    #: Seconds that a run's record stays in Redis after its end.
    run_retention_s: Annotated[int, Field(gt=0, le=KEPT_S)] = 7 * 86400

    @property
    def transfers_s(self) -> float:
        """Seconds for all transfers at most: after them the seal must fit into the life of the capture's session."""
        before_s = PREPARED_TIMES * self.prepare_timeout_s + HOLD_AND_LOOKS_S
        longest_s = SEALED_WITHIN_S - before_s - self.seal_timeout_s
        return longest_s if self.transfer_timeout_s is None else min(self.transfer_timeout_s, longest_s)

    @field_validator("seal_timeout_s")
    @classmethod
    def _fits_into_a_session(cls, seal_timeout_s: float, info: ValidationInfo) -> float:
        """Refuse times with which garbage collection could take a capture for dead that still waits for its seal."""
        prepare_s, transfer_s = (info.data.get(name) or 0.0 for name in ("prepare_timeout_s", "transfer_timeout_s"))
        together_s = PREPARED_TIMES * prepare_s + transfer_s + seal_timeout_s + HOLD_AND_LOOKS_S
        if together_s > SEALED_WITHIN_S:
            raise ValueError(
                f"with {PREPARED_TIMES} times prepare_timeout_s, transfer_timeout_s and {HOLD_AND_LOOKS_S // 3600} hours for "
                f"the hold it makes {together_s / DAY_S:.2f} days, and a capture must be sealed within "
                f"{SEALED_WITHIN_S / DAY_S:.2f} days of its request"
            )
        return seal_timeout_s


def known_names() -> frozenset[str]:
    """Return the names of all settings of all parts."""
    return frozenset(name for part in _Part.__subclasses__() for name in part.model_fields)


def load(part: type[PartT]) -> PartT:
    """Return one part's settings. Raises SettingsError that names the setting, also for one that no part knows."""
    try:
        known_settings.check(os.environ, CONFIG_ENV, DEFAULT_CONFIG, known_names())
    except (OSError, ValueError) as error:
        raise SettingsError(_sentence(str(error))) from error
    try:
        return part()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(piece) for piece in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"The setting {name} cannot be used: {said}.") from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"The settings cannot be read: {error}.") from error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."
