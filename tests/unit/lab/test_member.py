"""A member of a consumer group: what its library tells is journalled, and when its share counts as consumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.event import Event
from lab.merge import read_journal
from lab.plan import Load
from lab.topology import Queue
from lab.workloads.actor import Actor
from lab.workloads.member import Member
from lab.workloads.values import body_of
from nodes.client.consumer_config import ConsumeResult
from nodes.client.messages import Message
from nodes.client.queues import MessageQueue
from nodes.client.results import Outcome, PullResult, PullStatus
from tests.unit.lab.scenes import THREADS, scene_in

QUEUES = (Queue("lab", "broker-a", 0), Queue("lab", "broker-b", 0))
A, B = (MessageQueue("lab", name, 0) for name in ("broker-a", "broker-b"))
RETRY_B = MessageQueue("%RETRY%readers", "broker-b", 0)


def journalled(folder: Path, story: Callable[[Member], None], **tables: Any) -> list[Event]:
    """What a member's two threads, 2 and 3, wrote."""
    scene = scene_in(folder, {"consume": "push"}, **tables)
    story(Member(Actor(scene, 2), Actor(scene, 3), QUEUES))
    scene.journal.close()
    return list(read_journal(folder / "journal.jsonl"))


def message(offset: int, times: int = 0) -> Message:
    """One of the lab's messages in queue A."""
    body = body_of(f"0123abcd/0/{offset}", Load().message_bytes)
    return Message("lab", body, queue_offset=offset, reconsume_times=times)


def answer(status: PullStatus, *offsets: int, next_offset: int = 0) -> PullResult:
    """Answer of a slave to a pull of queue A."""
    return PullResult(status, A, tuple(map(message, offsets)), next_offset, 0, 9, 2, "10.0.0.4:10911", 1)


def test_the_first_messages_of_a_queue_are_marked_as_set_and_empty_answers_leave_no_line(tmp_path: Path) -> None:
    """So is what follows after a broker moved the position, or after the queue was begun anew."""

    def story(member: Member) -> None:
        member.assigned((A,))
        member.pulled(A, answer(PullStatus.NO_NEW_MSG))
        member.pulled(A, answer(PullStatus.FOUND, 4, 5))
        member.assigned((A, B))
        member.pulled(A, answer(PullStatus.FOUND, 6))
        member.reset(A, 2, answer(PullStatus.OFFSET_ILLEGAL, next_offset=2))
        member.pulled(A, answer(PullStatus.FOUND, 2))
        member.begins(A)
        member.pulled(A, answer(PullStatus.FOUND, 0))

    events = journalled(tmp_path, story)
    name = "lab/broker-a/0"
    seeks = [e.get("seek") for e in events if e["type"] == "invoke"]
    assert seeks == [{name: 4}, None, None, {name: 2}, {name: 0}]
    first, moved = events[1], events[5]
    assert first["value"] == {name: [[4, "0123abcd/0/4"], [5, "0123abcd/0/5"]]}
    assert (first["mode"], first["role"], first["node"], first["epoch"]) == ("subscribe", "slave", "10.0.0.4:10911", 2)
    assert (moved["moved"], moved["positions"], moved["value"]) == (True, {name: 2}, {})
    assert {e["process"] for e in events} == {2}


def test_a_handler_takes_messages_or_sends_them_back(tmp_path: Path) -> None:
    """With how often they had come back."""

    def story(member: Member) -> None:
        member.handled(A, [message(4)], ConsumeResult.LATER)
        member.handled(RETRY_B, [message(0, times=1)], ConsumeResult.SUCCESS)

    _, back, _, taken = journalled(tmp_path, story)
    assert (back["f"], back["type"], back["reconsume"]) == ("handle", "fail", 0)
    assert (taken["type"], taken["reconsume"], list(taken["value"])) == ("ok", 1, ["%RETRY%readers/broker-b/0"])


def test_a_commit_without_an_answer_is_unknown_and_counts_for_nothing(tmp_path: Path) -> None:
    """Its process is retired; one that was never sent did not happen, and one that was answered says by whom."""

    def story(member: Member) -> None:
        member.assigned((A,))
        member.aim({QUEUES[0]: 5})
        member.committed(A, 5, Outcome.INFO)
        member.committed(A, 5, Outcome.FAIL)
        assert member.behind() == {"lab/broker-a/0": 5}
        assert not member.reached.is_set()
        member.committed(A, 5, Outcome.OK, "10.0.0.4:10911")
        assert member.reached.is_set()

    ends = [e for e in journalled(tmp_path, story) if e["type"] != "invoke"]
    assert [(e["type"], e["process"]) for e in ends] == [("info", 3), ("fail", 3 + THREADS), ("ok", 3 + THREADS)]
    assert ends[2]["node"] == "10.0.0.4:10911"


def test_a_member_answers_for_its_share_of_the_topic_alone(tmp_path: Path) -> None:
    """A queue of the retry topic has the name of one of the topic's that is another member's."""

    def story(member: Member) -> None:
        member.assigned((A, RETRY_B))
        member.aim({QUEUES[0]: 2, QUEUES[1]: 7})
        member.committed(RETRY_B, 7, Outcome.OK)
        assert member.behind() == {"lab/broker-a/0": 2}
        member.committed(A, 2, Outcome.OK)
        assert member.behind() == {}
        assert member.reached.is_set()

    journalled(tmp_path, story)


def test_a_planted_flaw_overlooks_one_message_of_each_queue_of_the_topic(tmp_path: Path) -> None:
    """None without the flaw, and none that comes again through the retry topic."""

    def overlooked(member: Member) -> None:
        assert [member.overlooks(queue, 10) for queue in (A, B, RETRY_B)] == [True, True, False]
        assert not member.overlooks(A, 11)

    def not_without_it(member: Member) -> None:
        assert not member.overlooks(A, 10)

    journalled(tmp_path, overlooked, client_flaws=["overlook"])
    journalled(tmp_path, not_without_it)
