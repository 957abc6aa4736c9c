"""Zeros ahead of the log's end: no new length at a sync, told from torn records at a start, gone after a stop."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from nodes.store import commit_log
from nodes.store.errors import StoreFailed
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, ForgetfulFile
from tests.unit.nodes.store_samples import HOST, SMALL, message, new_store, open_store
from tests.unit.nodes.test_store_messages import fill
from tests.unit.nodes.test_store_recovery import damage, killed, numbers, record_bytes


@pytest.mark.parametrize("committed_only", [False, True])
@pytest.mark.parametrize("torn", [1, 3, 8, 20])
def test_no_checksum_covers_a_torn_topic_or_torn_properties_and_they_are_cut(torn: int, committed_only: bool) -> None:
    config = replace(SMALL, committed_only=committed_only)
    disk = ForgetfulDisk()
    store = open_store(disk, config)
    fill(store, 30)
    late = message("late", tag="A")
    place = store.append([late], HOST).places[0]
    store.write_pending()
    disk.kill()
    damage(disk, place.offset_log + place.size - torn, bytes(torn))
    again = new_store(disk, config)
    assert again.open().end == place.offset_log


def test_zeros_behind_the_log_are_its_filling_and_go_at_a_start_and_at_a_stop() -> None:
    disk, _ = killed(30)
    name = disk.listdir("/store/commitlog")[-1]
    file = disk.open(f"/store/commitlog/{name}")
    assert file.size() == 2048, "filled ahead"
    store = new_store(disk)
    found = store.open()
    assert (found.end % 2048, found.cut) == (file.size(), 0)
    assert numbers(store) == list(range(30))
    fill(store, 2)
    assert file.size() == 2048
    store.close()
    assert file.size() == store.written_end % 2048
    assert new_store(disk).open().clean


def test_what_was_written_behind_the_last_record_is_counted_without_the_filling() -> None:
    disk, offsets = killed(30)
    damage(disk, offsets[-1] + record_bytes(disk, offsets[-1]) + 40, b"torn")
    assert new_store(disk).open().cut == 44


def test_syncs_between_two_fillings_leave_the_length_alone() -> None:
    disk = ForgetfulDisk()
    store = open_store(disk, segment_size=3 * commit_log.FILL_AHEAD)
    file = disk.open(f"/store/commitlog/{0:020d}", create=True)
    lengths = []
    for _ in range(30):
        fill(store, 1, size=100_000)
        lengths.append(file.size())
    assert len(set(lengths)) == 3, lengths
    assert lengths[-1] == 3 * commit_log.FILL_AHEAD


class _Cramped(ForgetfulFile):
    """A file on a disk that has no block left for zeros."""

    error = errno.ENOSPC

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if not any(data):
            raise OSError(self.error, "injected", self.path)
        super().pwrite(offset, data)


class _Failing(_Cramped):
    error = errno.EIO


@pytest.mark.parametrize("kind", [_Cramped, _Failing])
def test_no_room_for_the_filling_is_no_failure_of_the_log(
    kind: type[_Cramped], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = ForgetfulDisk()
    store = open_store(disk)
    monkeypatch.setattr("tests.unit.nodes.forgetful_disk.ForgetfulFile", kind)
    if kind is _Failing:
        with pytest.raises(StoreFailed):
            fill(store, 1)
        return
    fill(store, 30)
    disk.kill()
    assert numbers(open_store(disk)) == list(range(30))
