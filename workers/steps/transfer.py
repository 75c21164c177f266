"""Transfer: one disk's export into the repository, in bounded memory, while the guest runs on.

    prepared ─▶ a writer, upon the parent's index or upon nothing ─▶ reading (reading.py) ─▶ finish: the index
                                                                      └ told of by a thread beside it

An incremental's chunks that are not dirty keep what the parent's index says. But those that the repository has lost since, or
set aside as damaged, are read again at the end, dirty or not: the export has the whole disk as it was at the instant, and a
chunk that is written anew makes the older captures that share it whole again. If that index turns out to be damaged, or the
storage refuses it, the disk is read in full, which the export allows at any time: a fallback costs a read, not storage
(invariant 7). So it is if the audit (audit.py) finds that the disk is not what the older capture has of it; that capture is
marked for verification.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from freezeframe.contract.fault import Fault
from freezeframe.contract.order import TransferOrder
from freezeframe.contract.result import TransferResult
from freezeframe.contract.words import CaptureKind
from freezeframe.errors import FreezeframeError
from freezeframe.repository import DiskWriter, Effort, IndexReceipt, Repository, Suspect
from freezeframe.repository.errors import IndexDamaged, NewerFormat, ParentUnfit, RepositoryNotReadable
from freezeframe.repository.refusal import check_alone
from freezeframe.repository.store.address import transfer_patience
from freezeframe.repository.store.patience import Patience
from workers.host import Host
from workers.steps.audit import InheritedDiffersError
from workers.steps.progress import Progress
from workers.steps.reading import Reading
from workers.steps.reporter import Reporter

log = structlog.get_logger("transfer")


def transfer(host: Host, order: TransferOrder) -> TransferResult:
    """Store one disk as it was at the instant. Raises FreezeframeError; then nothing refers to what was stored."""
    began = time.monotonic()
    progress = Progress(bytes_total=order.size_bytes)
    patience = transfer_patience(host.repository)
    with Reporter(host, order, progress):
        with progress.waiting():
            repository = host.open_repository(patience)
            repository.sessions.check(order.capture_id)  # without it nobody could seal what is read here
        read = _Transfer(host, repository, order, progress, patience).read()
        with progress.waiting():
            repository.sessions.check(order.capture_id)
    receipt = read.receipt
    return TransferResult(
        capture_id=order.capture_id,
        host_id=host.host_id,
        guest_uuid=order.guest_uuid,
        target=order.target,
        index=receipt.digest,
        full_reason=read.full_reason,
        audited_chunks=read.audited_chunks,
        inherited_differs=read.inherited_differs,
        bytes_read=receipt.bytes_read,
        bytes_stored=receipt.bytes_stored,
        dirty_bytes=read.dirty_bytes,
        chunks_new=receipt.chunks_new,
        chunks_known=receipt.chunks_known,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Read:
    """The result of reading one disk."""

    receipt: IndexReceipt
    full_reason: str | None
    dirty_bytes: int | None
    audited_chunks: int
    inherited_differs: bool = False


@dataclass(frozen=True)
class _Transfer:
    """The reading of one disk."""

    host: Host
    repository: Repository
    order: TransferOrder
    progress: Progress
    patience: Patience

    def read(self) -> _Read:
        """Read the disk; in full if it turns out to be another than its older capture has, which is marked then."""
        order, progress = self.order, self.progress
        with progress.waiting():
            writer, full_reason = _open_writer(self.host, self.repository, order)
        bitmap = order.kind is CaptureKind.INCREMENTAL and full_reason is None
        try:
            return self._read_into(writer, full_reason, bitmap=bitmap)
        except InheritedDiffersError as error:
            log.warning("reading in full", guest=order.guest_name, disk=order.target, why=error.message)
            progress.begin_again()
            with progress.waiting():
                _mark_older(self.repository, order, error.message)
                writer = _full_writer(self.host, self.repository, order)
            return replace(self._read_into(writer, error.message, bitmap=False), inherited_differs=True)

    def _read_into(self, writer: DiskWriter, full_reason: str | None, *, bitmap: bool) -> _Read:
        reading = Reading(self.host, self.order, writer, self.progress, bitmap=bitmap)
        with writer:
            try:
                dirty_bytes = reading.run()
                with self.progress.waiting():
                    receipt = writer.finish()
            except InheritedDiffersError:
                raise
            except BaseException:
                self.patience.seconds = 0  # what is queued is dropped: its threads need not wait for the repository
                raise
            return _Read(receipt, full_reason, dirty_bytes, reading.audited)


def _mark_older(repository: Repository, order: TransferOrder, reason: str) -> None:
    """Mark the older capture for verification. The capture goes on if that cannot be done: its receipt tells all the same."""
    if order.parent_capture_id is None or order.parent_index is None:
        return
    mark = Suspect(
        capture_id=order.parent_capture_id,
        index=order.parent_index,
        guest=order.guest_name,
        target=order.target,
        found_by=order.capture_id,
        found_at=datetime.now(UTC),
        reason=reason,
    )
    try:
        repository.suspects.mark(mark)
    except FreezeframeError as error:
        log.warning("the older capture could not be marked", capture=order.parent_capture_id, why=error.message)


def failed(order: TransferOrder, fault: Fault) -> TransferResult:
    """Return the result of a transfer that failed as a whole, also of an order of which little more than its disk is read."""
    guest = vars(order).get("guest_name", order.guest_uuid)
    return TransferResult(
        capture_id=order.capture_id,
        host_id=order.host_id,
        guest_uuid=order.guest_uuid,
        target=order.target,
        fault=fault.model_copy(update={"guest": guest, "disk": order.target}),
    )


def _open_writer(host: Host, repository: Repository, order: TransferOrder) -> tuple[DiskWriter, str | None]:
    """Return a writer upon the parent's index; one upon nothing, and why, if that index alone cannot be read.

    Raises RepositoryNotReadable if the store as a whole is away.
    """
    size, chunk, checkpoint = order.size_bytes, order.chunk_bytes, order.checkpoint
    effort = Effort.parse(host.settings.compression)
    if order.parent_index is not None:
        try:
            writer = repository.disk_writer(
                size,
                chunk,
                parent_index_digest=order.parent_index,
                parent_checkpoint=order.parent_checkpoint,
                checkpoint=checkpoint,
                effort=effort,
            )
        except (IndexDamaged, NewerFormat, ParentUnfit, RepositoryNotReadable) as error:
            if isinstance(error, RepositoryNotReadable):
                check_alone(repository.store, error)
            log.warning("reading in full", why=error.message)
            return _full_writer(host, repository, order), error.message
        return writer, None
    return _full_writer(host, repository, order), None


def _full_writer(host: Host, repository: Repository, order: TransferOrder) -> DiskWriter:
    effort = Effort.parse(host.settings.compression)
    return repository.disk_writer(order.size_bytes, order.chunk_bytes, checkpoint=order.checkpoint, effort=effort)
