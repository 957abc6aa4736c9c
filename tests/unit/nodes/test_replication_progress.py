"""What consumers commit on a replica: marks, merging, and random lives in which nothing may be undone."""

from __future__ import annotations

from random import Random

import pytest

from nodes.replication.frames import TableKind
from nodes.replication.limits import MARKS_MAX, MERGED_KEPT_S
from nodes.replication.progress import Marks, merge_by_maximum, overlay
from tests.unit.nodes.replication_world import World

KEY = "t@g"


def test_a_mark_lives_until_it_is_merged_and_saved() -> None:
    marks = Marks()
    assert marks.outgoing() is None
    marks.commit(KEY, 0, 10)
    marks.commit(KEY, 1, 20)
    assert marks.outgoing() == (1, {KEY: {0: 10, 1: 20}})
    assert marks.outgoing() is None, "sent once on one connection"
    marks.commit(KEY, 1, 21)
    marks.merged(1, now=100.0)
    assert marks.progress() == {KEY: {1: 21}}, "what has moved on since is not merged"
    assert marks.outgoing() == (2, {KEY: {1: 21}})
    marks.merged(2, now=101.0)
    assert marks.progress() == {}
    assert marks.progress(merged=True) == {KEY: {0: 10, 1: 21}}
    marks.expire(100.0 + MERGED_KEPT_S)
    assert marks.progress(merged=True) == {KEY: {1: 21}}
    marks.reconnected()
    assert marks.outgoing() == (3, {KEY: {1: 21}}), "a primary that came back may not have saved it"


def test_marks_survive_on_disk_and_changes_tell_when_to_save() -> None:
    marks = Marks()
    assert marks.changes == 0
    marks.commit(KEY, 0, 10)
    marks.commit(KEY, 0, 10)
    assert marks.changes == 1
    again = Marks.decode(marks.encode())
    assert again.progress() == {KEY: {0: 10}}
    assert again.changes == 0
    again.reset({KEY: {0: 3, 5: 1}})
    assert (again.progress(), again.changes) == ({}, 1)
    marks.clear()
    assert len(marks) == 0
    for damaged in (b"", b"{}", b'{"format":1,"progress":{"t@g":{"x":1}}}', b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            Marks.decode(damaged)


def test_marks_are_bounded() -> None:
    marks = Marks({KEY: dict.fromkeys(range(MARKS_MAX), 1)})
    assert not marks.commit(KEY, MARKS_MAX, 1)
    assert marks.commit(KEY, 0, 2)


def test_merging_takes_the_maximum_within_the_queue() -> None:
    table = {KEY: {0: 10, 1: 20}}
    ends = {(KEY, 0): 15, (KEY, 1): 100, (KEY, 2): 7}
    back = {KEY: {0: 99, 1: 5, 2: 6, 3: 8}, "other@g": {0: 4}}
    assert merge_by_maximum(table, back, ends) == {KEY: {0: 15, 2: 6}}
    assert overlay(table, {KEY: {0: 7, 1: 30}, "n@g": {0: 1}}) == {KEY: {0: 10, 1: 30}, "n@g": {0: 1}}
    assert table == {KEY: {0: 10, 1: 20}}


class Life:
    """A master that saves its offsets now and then and is killed, a slave at which consumers go on."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World("AB", seed=seed)
        self.a, self.b = self.world.nodes["A"], self.world.nodes["B"]
        self.a.tables.queue_ends = {(KEY, 0): 1000}
        self.a.lead()
        self.b.serve()
        self.saved = 0
        self.best_on_b = 0

    def offset(self, name: str) -> int:
        return self.world.nodes[name].tables.offsets.get(KEY, {}).get(0, 0)

    def commit(self, name: str) -> None:
        """Consumers read the committed offset where they are and go on from there."""
        node = self.world.nodes[name]
        value = min(1000, self.offset(name) + self.rng.randrange(1, 6))
        node.tables.offsets = {KEY: {0: value}}
        node.tables.touch(TableKind.CONSUMER_OFFSETS)
        if node.replica is not None:
            node.replica.marks.commit(KEY, 0, value)
            self.best_on_b = max(self.best_on_b, value)

    def step(self) -> None:
        world = self.world
        match self.rng.choice(["a", "b", "b", "save", "kill", "follow", "deliver", "deliver", "deliver", "tick"]):
            case "a" if self.a.up:
                self.commit("A")
            case "b":
                self.commit("B")
            case "save" if self.a.up:
                self.saved = self.offset("A")
            case "kill":
                world.crash("A", power=False)
                self.a.tables.offsets = {KEY: {0: self.saved}}
                self.a.lead()
            case "follow":
                world.follow("B", "A")
            case "deliver":
                for link in list(world.links.values()):
                    for _ in range(self.rng.randrange(1, 8)):
                        world.deliver_up(link)
                        world.deliver_down(link)
            case "tick":
                world.tick(0.2)
                if self.a.up and self.rng.random() < 0.3:
                    self.saved = self.offset("A")

    def end(self) -> tuple[int, int]:
        self.world.follow("B", "A")
        for _ in range(4):
            self.world.settle()
            self.world.tick(0.2)
        return self.offset("A"), self.offset("B")


def undone(seed: int) -> str | None:
    """What is wrong after one random life."""
    life = Life(seed)
    for _ in range(60):
        life.step()
    on_a, on_b = life.end()
    if on_a != on_b:
        return f"{on_a} on the master, {on_b} on the slave"
    return None if on_a >= life.best_on_b else f"{life.best_on_b} was committed on the slave, {on_a} is left"


@pytest.mark.random
def test_progress_on_the_replica_is_never_undone() -> None:
    assert {seed: wrong for seed in range(400) if (wrong := undone(seed))} == {}


@pytest.mark.random
def test_forgetting_marks_when_they_are_merged_would_undo_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that is killed after merging and before saving: this is what marks are kept for."""
    monkeypatch.setattr("nodes.replication.progress.MERGED_KEPT_S", 0.0)
    assert any(undone(seed) for seed in range(200))
