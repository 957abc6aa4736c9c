"""Progress on its way into a group's log: the last word counts, also when an earlier one is not committed yet."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from nodes.broker.consumer_offsets import ConsumerOffsets
from nodes.broker.core import BrokerCore
from nodes.broker.group_progress import GroupProgress
from nodes.broker.replicated import ReplicatedTables
from nodes.remoting.command import Command, request
from nodes.remoting.connection import Connection

PLACE = ("t@g", 0)


class FakeGroup:
    """A leader whose log commits when it is told to, with its tables."""

    def __init__(self) -> None:
        self.offsets = ConsumerOffsets()
        self.log: list[dict[tuple[str, int], int]] = []
        self.answered: list[int] = []
        self.told: list[str] = []
        self.committed = 0
        self.may_append = True
        self.member = self.pipeline = self
        self.progress = GroupProgress(cast(BrokerCore, self), cast(ReplicatedTables, self))
        self.loop = SimpleNamespace(call_soon=self._timer, call_later=lambda _, call: self._timer(call))

    @staticmethod
    def _timer(call: Callable[[], None]) -> Any:
        del call
        return SimpleNamespace(cancel=lambda: None)

    def write_progress(self, offsets: dict[tuple[str, int], int], delays: dict[int, int]) -> int:
        del delays
        self.log.append(offsets)
        return len(self.log)

    def submit(self, end: int, reply: Any) -> None:
        self.answered.append(end)
        self.told.append(reply.response.ext.get("offset", ""))

    def touch(self) -> None:
        """Nobody writes here."""

    def commit(self) -> None:
        for offsets in self.log[self.committed :]:
            for (_, queue_id), offset in offsets.items():
                self.offsets.commit("g", "t", queue_id, offset)
        self.committed = len(self.log)

    def update(self, offset: int) -> Command | None:
        return self.progress.update(cast(Connection, None), request(15), "g", "t", {0: offset})

    def asked(self) -> bool:
        return self.progress.asked(cast(Connection, None), request(14), "g", "t", 0)

    def note(self, offset: int) -> None:
        self.progress.note("g", "t", 0, offset)

    def flush(self) -> None:
        self.progress.flush()


def test_going_back_counts_though_going_forward_is_not_committed_yet() -> None:
    """The tables still tell the offset that is gone back to: that is no reason to take it for done."""
    for back in ("update", "note"):
        group = FakeGroup()
        group.update(5)
        group.flush()
        group.commit()
        group.update(7)
        group.flush()
        assert getattr(group, back)(5) is None, "it is answered when it counts"
        group.flush()
        group.commit()
        assert group.offsets.get("g", "t", 0) == 5
        assert group.log == [{PLACE: 5}, {PLACE: 7}, {PLACE: 5}]


def test_what_is_committed_already_is_answered_at_once_and_not_written_again() -> None:
    group = FakeGroup()
    group.update(5)
    group.flush()
    assert group.update(5) is None, "not before it is committed"
    group.flush()
    assert group.answered == [1, 2]
    group.commit()
    assert group.update(5) is not None
    group.note(5)
    assert (len(group.log), group.progress._offsets) == (2, {})


def test_what_is_on_its_way_is_not_noted_again() -> None:
    group = FakeGroup()
    group.note(5)
    group.flush()
    group.note(5)
    assert group.progress._offsets == {}
    group.note(6)
    assert group.progress._offsets == {PLACE: 6}


def test_who_asks_hears_what_was_said_before_and_not_until_it_is_committed() -> None:
    """A consumer that left said its offsets one-way; the next one got messages again that were done with."""
    group = FakeGroup()
    group.note(5)
    assert group.asked(), "it is still being gathered"
    assert group.answered == []
    group.flush()
    assert (group.answered, group.told) == ([1], ["5"]), "it is written at once, and its end is waited for"
    assert group.asked(), "it is written"
    assert (group.answered, group.told) == ([1, 1], ["5", "5"])
    group.commit()
    assert not group.asked(), "the tables tell it"
    assert group.log == [{PLACE: 5}]
