"""Opening a store: lock, unfinished cuts, verification, repair of the tail, queues filled again.

The steps are ordered so that a crash at any of them only means doing them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from nodes.remoting.record_check import RecordHead
from nodes.store import recovery
from nodes.store.checkpoint import FlushMark
from nodes.store.commit_log import CommitLog
from nodes.store.consume_queue import FileCache
from nodes.store.disk import Disk
from nodes.store.errors import StoreCorrupt
from nodes.store.key_index import KeyIndex
from nodes.store.queue_set import QueueGap, QueueSet
from nodes.store.queue_state import QueueState
from nodes.store.results import Recovery
from nodes.store.settings import StoreConfig


def open_store(
    disk: Disk,
    config: StoreConfig,
    log: CommitLog,
    queues: QueueSet,
    keys: KeyIndex,
    mark: FlushMark,
    *,
    check_crc: bool,
) -> Recovery:
    """Bring log, queues and key index into one consistent, durable state. Raises StoreCorrupt, DiskLocked, OSError."""
    disk.makedirs(config.root)
    disk.lock(f"{config.root}/lock")
    try:
        return _open_locked(disk, config, log, queues, keys, mark, check_crc=check_crc)
    except BaseException:
        mark.close()
        log.close()
        unlock(disk, config)
        raise


def _open_locked(
    disk: Disk,
    config: StoreConfig,
    log: CommitLog,
    queues: QueueSet,
    keys: KeyIndex,
    mark: FlushMark,
    *,
    check_crc: bool,
) -> Recovery:
    abort = f"{config.root}/abort"
    clean = not disk.exists(abort)
    if clean:
        disk.open(abort, create=True).close()
    mark.open()
    log.load()
    disk.fsync_dir(config.root)
    cut_at = _noted_cut(disk, config)
    if cut_at is not None:
        if log.end > cut_at:
            log.cut(cut_at)
        mark.write_durably(min(mark.flushed, cut_at))
    recovery.check_layout(disk, log, mark)

    state = queues.load()
    if cut_at == 0:
        queues.empty()  # the store was to be emptied: no bound of the old queues may survive
        state = None
    rebuild = state is None or not _usable(state, log, queues, keys)
    if rebuild:
        queues.empty()
        dispatched = log.begin
        keys.open(log.begin - log.begin % log.segment_size, 0)
    else:
        assert state is not None
        dispatched = max(state.dispatched, log.begin)
        keys.open(*state.index)
    counted = 0

    def on_record(head: RecordHead) -> None:
        nonlocal counted
        try:
            entered = queues.dispatch(head)
        except (QueueGap, ValueError) as error:
            segment = log.segment_of(head.offset_log)
            path = segment.path if segment is not None else log.folder
            raise StoreCorrupt(path, head.offset_log % log.segment_size, str(error)) from None
        if entered is not None:
            queue = entered[0]
            counted += 1
            if config.index_keys:
                keys.put(queue.topic_crc, head.properties, head.offset_log)
            if len(queue.tail) >= 1 << 16:
                queue.spill()

    start = recovery.verify_from(log)
    if dispatched < start:
        start = dispatched
    found = recovery.scan(
        log,
        start,
        check_crc=check_crc,
        report_from=dispatched,
        on_record=on_record,
        torn_from=mark.flushed,
    )
    lost = recovery.judge(log, found, mark, refuse_lost_tail=config.refuse_lost_tail)
    end = found.record_end if config.committed_only and found.records else found.end
    cut = recovery.behind(log, end)
    if log.end > end or lost > 0:
        note_cut(disk, config, end)  # the mark goes down before the bytes do
        mark.write_durably(min(mark.flushed, end))
        log.cut(end)
    if dispatched > end:
        queues.cut(end)
        keys.cut(end)
    elif rebuild and state is not None and state.dispatched <= end:
        queues.raise_bounds(state)
    queues.show_all()

    log.mark_dirty_from(mark.flushed)
    if end - mark.flushed <= recovery.REWRITE_MAX:
        log.rewrite(max(mark.flushed, log.begin))
    log.sync_now()
    queues.spill()
    key_position = keys.position_at(end)
    paths, folders = queues.take_dirty()
    paths.extend(sorted(keys.dirty_paths))
    keys.dirty_paths.clear()
    save_state(
        disk,
        queues.files,
        queues,
        queues.state(end, key_position),
        paths,
        [*folders, keys.folder],
    )
    mark.write_durably(end)
    forget_cut(disk, config)
    return Recovery(clean, log.begin, end, found.records, counted, cut, lost, rebuild)


def _usable(state: QueueState, log: CommitLog, queues: QueueSet, keys: KeyIndex) -> bool:
    """Whether the files hold what the last checkpoint says."""
    if state.index[0] % log.segment_size or not keys.holds(*state.index):
        return False
    return queues.complete(log.begin)


def save_state(
    disk: Disk, files: FileCache, queues: QueueSet, state: bytes, paths: Sequence[str], folders: Sequence[str]
) -> None:
    """Sync these queue and index files and folders, then replace `queues.json`; blocks. Raises OSError."""
    for path in paths:
        if disk.exists(path):
            files.get(path).fsync()
    for folder in folders:
        if disk.exists(folder):
            disk.fsync_dir(folder)
    disk.replace_atomically(queues.state_path, state)


def note_cut(disk: Disk, config: StoreConfig, offset_log: int) -> None:
    """Durably note that the log is to be cut here: from now on every start finishes it. Raises OSError."""
    disk.replace_atomically(_cut_path(config), json.dumps({"end": offset_log}).encode())


def forget_cut(disk: Disk, config: StoreConfig) -> None:
    """The cut is complete and durable. Raises OSError."""
    if disk.exists(_cut_path(config)):
        disk.remove(_cut_path(config))
        disk.fsync_dir(config.root)


def _noted_cut(disk: Disk, config: StoreConfig) -> int | None:
    path = _cut_path(config)
    if not disk.exists(path):
        return None
    try:
        return int(json.loads(disk.read_bytes(path))["end"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(path, 0, f"no offset: {error}") from None


def _cut_path(config: StoreConfig) -> str:
    return f"{config.root}/cut.json"


def remove_abort_file(disk: Disk, config: StoreConfig) -> None:
    """The store was closed properly. Raises OSError."""
    disk.remove(f"{config.root}/abort")
    disk.fsync_dir(config.root)


def unlock(disk: Disk, config: StoreConfig) -> None:
    """Release the store's lock."""
    disk.unlock(f"{config.root}/lock")
