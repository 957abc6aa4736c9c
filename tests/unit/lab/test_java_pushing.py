"""A push consumer of the Java client as a member of the group, on a stand-in for the Java program."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.event import Event
from lab.merge import read_journal
from lab.plan import Load
from lab.topology import Queue
from lab.workers.java.client import JavaRefused
from lab.workers.java.line import JavaLine
from lab.workers.java.pushing import JavaPusher
from lab.workloads.actor import Actor
from lab.workloads.member import Member
from lab.workloads.pace import Pace
from tests.unit.lab.java_stand_in import __file__ as stand_in
from tests.unit.lab.scenes import scene_in

QUEUE = Queue("lab", "broker-a", 0)
WORDS = ["lab", "broker-a", 0]
RETRY = ["%RETRY%readers", "broker-a", 0]
MASTER, SLAVE = "10.0.0.4:10911", "10.0.0.5:10911"
PULL, COMMIT = 11, 15


def told(event: str, **rest: object) -> dict[str, object]:
    """A line that the program tells of its member."""
    return {"member": "m3", "event": event, **rest}


def call(address: str, request: int, code: int | None, epoch: str | None = None) -> dict[str, object]:
    return {"address": address, "request": request, "code": code, "ms": 1, "epoch": epoch}


def shown(offset: int, head: str) -> list[object]:
    """A message of the plan's size: offset, its first bytes, how many follow, and that these are padding."""
    return [offset, head, Load().message_bytes - len(head), True]


def pull(status: str, address: str, *messages: tuple[int, str], next_offset: int = 1) -> dict[str, object]:
    ok: dict[str, object] = {"status": status, "next": next_offset, "min": 0, "max": 9, "master": MASTER}
    ok["messages"] = [shown(*one) for one in messages]
    return told("pulled", queue=WORDS, ok=ok, calls=[call(address, PULL, 0 if messages else 21, "2")])


def commit(offset: int, outcome: Mapping[str, object], *calls: dict[str, object]) -> dict[str, object]:
    return told("committed", queue=WORDS, offset=offset, **outcome, calls=calls)


def play(
    folder: Path,
    lines: list[dict[str, object]],
    story: Callable[[Member, Pace], Awaitable[None]],
    *arguments: str,
    **tables: Any,
) -> tuple[list[Event], list[str]]:
    """What the member journalled and what the program heard, while ``story`` ran beside it."""
    scene = scene_in(folder, {"client": "java", "consume": "push", "reconsume_share": 0.25}, **tables)

    async def whole() -> None:
        pace = Pace(0)
        member = Member(Actor(scene, 2), Actor(scene, 3), (QUEUE,))
        argv = [sys.executable, stand_in, f"tell={json.dumps(lines)}", *arguments]
        line = await JavaLine.start(argv, folder, lambda _: None)
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(JavaPusher(line, member).run(pace), story(member, pace))
        finally:
            await line.close()
            scene.journal.close()

    asyncio.run(whole())
    heard = (folder / "heard").read_text().splitlines()
    return list(read_journal(folder / "journal.jsonl")), [line.partition(" ")[2] for line in heard]


async def until_reached(member: Member, pace: Pace) -> None:
    """Let the member go once it committed what all these stories end with, offset 2."""
    member.aim({QUEUE: 2})
    if member.reached.is_set():  # without a share nothing is owed; the stories begin with one
        member.reached.clear()
    await member.reached.wait()
    pace.stopped.set()


async def only_wait(member: Member, pace: Pace) -> None:
    """Of a member that fails by itself."""


def test_what_the_program_tells_is_journalled(tmp_path: Path) -> None:
    """As by our own push consumers: pulls with their broker, handler calls both ways, commits with who stored them."""
    lines = [
        told("assigned", queues=[WORDS, RETRY]),
        told("begins", queue=WORDS),
        pull("FOUND", SLAVE, (0, "0123abcd/0/0 ..."), (1, "0123abcd/0/1 ..."), next_offset=2),
        told("handled", queue=WORDS, messages=[shown(0, "0123abcd/0/0 ..")], reconsume=0, taken=False),
        told("handled", queue=RETRY, messages=[shown(0, "0123abcd/0/0 ..")], reconsume=1, taken=True),
        commit(2, {"ok": {}}, call(MASTER, COMMIT, 0)),
    ]
    events, heard = play(tmp_path, lines, until_reached)
    assert heard[0].startswith("join m3 0123abcd-m3 readers lab 500 0.25 ")
    assert (heard[0].split()[-1], heard[1]) == ("-1", "leave m3")
    ends = [e for e in events if e["type"] != "invoke"]
    assert [(e["f"], e["type"], e["process"]) for e in ends] == [
        ("poll", "ok", 2),
        ("handle", "fail", 3),
        ("handle", "ok", 3),
        ("commit", "ok", 3),
    ]
    poll, back, again, committed = ends
    assert poll["value"] == {"lab/broker-a/0": [[0, "0123abcd/0/0"], [1, "0123abcd/0/1"]]}
    assert (poll["mode"], poll["node"], poll["role"], poll["epoch"]) == ("subscribe", SLAVE, "slave", 2)
    assert events[0]["seek"] == {"lab/broker-a/0": 0}
    assert (back["value"], back["reconsume"]) == ({"lab/broker-a/0": [[0, "0123abcd/0/0"]]}, 0)
    assert (again["value"], again["reconsume"]) == ({"%RETRY%readers/broker-a/0": [[0, "0123abcd/0/0"]]}, 1)
    assert (committed["value"], committed["node"]) == (2, MASTER)


def test_a_commit_counts_only_if_it_was_answered(tmp_path: Path) -> None:
    """One that left and was not answered is unknown, one that never left did not happen, whatever the client threw."""
    late = {"error": {"class": "RemotingTimeoutException", "code": 0, "text": "wait response"}}
    unsent = {"error": {"class": "RemotingConnectException", "code": 0, "text": "connect to failed"}}
    refused = {"error": {"class": "MQBrokerException", "code": 1, "text": "busy"}}
    lines = [
        told("assigned", queues=[WORDS]),
        commit(2, late, call(MASTER, COMMIT, None)),
        commit(2, unsent),
        commit(2, {"ok": {}}),
        commit(2, refused, call(MASTER, COMMIT, 1)),
        commit(2, {"ok": {}}, call(MASTER, COMMIT, 0)),
    ]
    events, _ = play(tmp_path, lines, until_reached)
    assert [e["type"] for e in events if e["type"] != "invoke"] == ["info", "fail", "info", "info", "ok"]


def test_an_offset_that_a_broker_moved_is_told_as_such(tmp_path: Path) -> None:
    """And what is read from there is no skip."""
    lines = [
        told("assigned", queues=[WORDS]),
        pull("FOUND", MASTER, (7, "0123abcd/0/7 ..."), next_offset=8),
        pull("OFFSET_ILLEGAL", MASTER, next_offset=1),
        pull("FOUND", MASTER, (1, "0123abcd/0/1 ..."), next_offset=2),
        commit(2, {"ok": {}}, call(MASTER, COMMIT, 0)),
    ]
    events, _ = play(tmp_path, lines, until_reached)
    moved, after = events[3], events[4]
    assert (moved["moved"], moved["positions"], moved["node"]) == (True, {"lab/broker-a/0": 1}, MASTER)
    assert after["seek"] == {"lab/broker-a/0": 1}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (told("broken", error={"class": "X", "text": "no body"}), "could not be read"),
        (told("dreamt", queue=WORDS), "an event that nobody knows: dreamt"),
    ],
)
def test_a_history_with_a_hole_ends_the_run(tmp_path: Path, line: dict[str, object], words: str) -> None:
    """What the program saw and nobody journalled must not be taken for what did not happen."""
    with pytest.raises(JavaRefused, match=words):
        play(tmp_path, [line], only_wait)


def test_a_consumer_that_does_not_start_is_named(tmp_path: Path) -> None:
    """With what the client threw."""
    error = json.dumps({"error": {"class": "MQClientException", "code": 0, "text": "no name server"}})
    with pytest.raises(JavaRefused, match=r"did not start: .*no name server"):
        play(tmp_path, [], only_wait, f"join={error}")


def test_the_flaw_and_the_choice_are_passed_on(tmp_path: Path) -> None:
    """One seed, one choice of what is consumed later."""
    lines = [told("assigned", queues=[WORDS]), commit(2, {"ok": {}}, call(MASTER, COMMIT, 0))]
    joins = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, heard = play(tmp_path / name, lines, until_reached, client_flaws=["overlook"])
        joins.append(heard[0])
    assert joins[0] == joins[1]
    assert joins[0].split()[-1] == "10"
