"""Small tables are replaced as a whole."""

from __future__ import annotations

import asyncio

import pytest

from nodes.store.errors import StoreCorrupt
from nodes.store.tables import CONSUMER_OFFSETS, Table
from tests.unit.nodes.forgetful_disk import Crash, ForgetfulDisk, Keep


def table(disk: ForgetfulDisk) -> Table:
    return Table(disk, "/store/config", CONSUMER_OFFSETS)


def test_a_table_comes_back_as_it_was_saved() -> None:
    disk = ForgetfulDisk()
    assert table(disk).load() is None
    value = {"offsetTable": {"Orders@group": {"0": 5}}, "dataVersion": {"counter": 1}, "text": "é"}
    table(disk).save(value)
    assert table(disk).load() == value
    assert table(disk.survivor(Keep.NOTHING)).load() == value


def test_a_garbled_table_is_refused_by_name() -> None:
    disk = ForgetfulDisk()
    for content in (b"{", b"", b"\xff", b"[1]"):
        disk.makedirs("/store/config")
        disk.replace_atomically("/store/config/consumerOffset.json", content)
        with pytest.raises(StoreCorrupt, match=r"consumerOffset\.json"):
            table(disk).load()


def test_after_a_crash_there_is_the_old_or_the_new_table() -> None:
    for crash_at in range(30):
        disk = ForgetfulDisk()
        saved = table(disk)
        saved.save({"version": 1})
        disk.crash_at = disk.steps + crash_at
        try:
            saved.save({"version": 2, "much": "more" * 50})
            done = True
        except Crash:
            done = False
        for keep in Keep:
            value = table(disk.survivor(keep, crash_at)).load()
            assert value is not None
            assert value["version"] == 2 if done else value["version"] in (1, 2)
        if done:
            return
    raise AssertionError("never got through")


def test_overlapping_saves_are_joined_and_the_newest_wins() -> None:
    disk = ForgetfulDisk()
    saved = table(disk)

    async def main() -> None:
        await asyncio.gather(*(saved.save_async({"version": number}) for number in range(20)))

    asyncio.run(main())
    assert table(disk.survivor(Keep.NOTHING)).load() == {"version": 19}
    assert len([line for line in disk.trace if line.startswith("rename")]) < 20


def test_a_failed_save_fails_all_who_wait_for_it_or_is_done_again() -> None:
    disk = ForgetfulDisk()
    saved = table(disk)

    async def main() -> list[object]:
        disk.fail_once("sync", "consumerOffset")
        return list(await asyncio.gather(*(saved.save_async({"version": n}) for n in range(3)), return_exceptions=True))

    results = asyncio.run(main())
    assert isinstance(results[0], OSError)
    assert results[1:] == [None, None]
    assert table(disk.survivor(Keep.NOTHING)).load() == {"version": 2}
