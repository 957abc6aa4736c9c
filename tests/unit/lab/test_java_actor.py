"""Threads of the history with the Java client, on a stand-in for the Java program."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lab.event import Event
from lab.merge import read_journal
from lab.topology import Queue
from lab.workers.java.actor import JavaActor
from lab.workers.java.client import JavaClients
from lab.workers.java.line import JavaLine
from lab.workloads.reading import poll_one
from lab.workloads.sending import send_one
from tests.unit.lab.java_stand_in import __file__ as stand_in
from tests.unit.lab.scenes import THREADS, scene_in

QUEUE = Queue("lab", "broker-a", 0)
REPLY = {"address": "10.0.0.4:10911", "request": 310, "code": 0, "ms": 1, "epoch": "2"}
SENT = {"status": "SEND_OK", "id": "1", "offsetId": "0A", "broker": "broker-a", "queue": 3, "offset": 7}
STORED = {"ok": SENT, "calls": [REPLY]}
LOST = {
    "error": {"class": "RemotingTimeoutException", "code": 0, "text": "wait response"},
    "calls": [{**REPLY, "code": None}],
}


def play(
    folder: Path,
    story: Callable[[JavaActor], Awaitable[None]],
    answers: dict[str, Any],
    *,
    fresh: bool = False,
    **load: object,
) -> tuple[list[Event], list[str]]:
    """What one actor journalled, and what the program heard."""
    scene = scene_in(folder, {"client": "java", "operation_timeout": "300ms", **load})

    async def whole() -> None:
        told = (one if isinstance(one, str) else json.dumps(one) for one in answers.values())
        argv = [sys.executable, stand_in, *map("=".join, zip(answers, told, strict=True))]
        line = await JavaLine.start(argv, folder, lambda _: None)
        try:
            await story(JavaActor(scene, 3, JavaClients(line, "0123abcd", "readers"), fresh=fresh))
            if scene.closing:
                await asyncio.wait(scene.closing)
        finally:
            await line.close()
            scene.journal.close()

    asyncio.run(whole())
    heard = (folder / "heard").read_text().splitlines()
    return list(read_journal(folder / "journal.jsonl")), [line.partition(" ")[2] for line in heard]


def test_an_invocation_is_journalled_before_it_is_passed_on(tmp_path: Path) -> None:
    """And the completion says what the program said."""
    seen: list[str] = []

    async def story(actor: JavaActor) -> None:
        client = await actor.producer()
        pass_on = client.send

        async def looked(*words: Any, **named: Any) -> Any:
            seen.extend(event["type"] for event in read_journal(tmp_path / "journal.jsonl"))
            return await pass_on(*words, **named)

        client.send = looked  # type: ignore[method-assign]
        await send_one(actor, "send", QUEUE, "0123abcd/3/0")

    events, heard = play(tmp_path, story, {"send": STORED})
    assert seen == ["invoke"]
    assert heard == ["open c1 0123abcd-c1", "send c1 lab broker-a 0 300 0123abcd/3/0 300 wait"]
    assert [(e["type"], e["queue"]) for e in events] == [("invoke", "lab/broker-a/0"), ("ok", "lab/broker-a/3")]
    assert (events[1]["offset"], events[1]["epoch"], events[1]["attempts"]) == (7, 2, 1)


def test_an_unknown_outcome_retires_the_process_and_keeps_the_client(tmp_path: Path) -> None:
    """As an application keeps its producer; what it does next belongs to another process of the history."""

    async def story(actor: JavaActor) -> None:
        for counter in range(2):
            await send_one(actor, "send", QUEUE, f"0123abcd/3/{counter}")

    events, heard = play(tmp_path, story, {"send": LOST})
    assert [(e["type"], e["process"]) for e in events] == [
        ("invoke", 3),
        ("info", 3),
        ("invoke", 3 + THREADS),
        ("info", 3 + THREADS),
    ]
    assert [line.split()[0] for line in heard] == ["open", "send", "send"]


def test_a_fresh_actor_gets_a_new_client_after_any_failure(tmp_path: Path) -> None:
    """The drain must not wait for an old route."""

    async def story(actor: JavaActor) -> None:
        for counter in range(2):
            await send_one(actor, "send", QUEUE, f"0123abcd/3/{counter}", sentinel=True)
        await asyncio.wait(actor.scene.closing)

    _, heard = play(tmp_path, story, {"send": {**LOST, "calls": []}}, fresh=True)
    assert sorted(line.split()[0] for line in heard) == ["close", "close", "open", "open", "send", "send"]


def test_with_retries_the_client_chooses_the_queue_and_every_operation_says_how_many(tmp_path: Path) -> None:
    """Each attempt may have gone to another queue; but a sentinel belongs to one, and is one attempt."""

    async def story(actor: JavaActor) -> None:
        await send_one(actor, "send", QUEUE, "0123abcd/3/0")
        await send_one(actor, "send", QUEUE, "0123abcd/3/1", sentinel=True)

    events, heard = play(tmp_path, story, {"send": STORED, "send-anywhere": STORED}, retries=2)
    assert heard[1:] == [
        "send-anywhere c1 lab 300 0123abcd/3/0 300 wait",
        "send c1 lab broker-a 0 300 0123abcd/3/1 300 wait",
    ]
    assert [(e.get("queue"), e.get("attempts")) for e in events] == [
        (None, None),
        ("lab/broker-a/3", 3),
        ("lab/broker-a/0", None),
        ("lab/broker-a/3", 1),
    ]


def test_with_retries_an_unknown_send_names_no_queue(tmp_path: Path) -> None:
    """Whatever was answered last, it may be anywhere, as often as there were attempts."""

    async def story(actor: JavaActor) -> None:
        await send_one(actor, "send", QUEUE, "0123abcd/3/0")

    (_, lost), _ = play(tmp_path, story, {"send-anywhere": LOST}, retries=2)
    assert (lost["type"], "queue" in lost, lost["attempts"]) == ("info", False, 3)


def test_a_program_that_is_gone_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    """Nobody can say what it did last."""

    async def story(actor: JavaActor) -> None:
        await send_one(actor, "send", QUEUE, "0123abcd/3/0")
        assert await poll_one(actor, QUEUE, 0, group="readers", seek=True) is None

    events, _ = play(tmp_path, story, {"die": "send"})
    assert [(e["type"], e["process"]) for e in events] == [
        ("invoke", 3),
        ("info", 3),
        ("invoke", 3 + THREADS),
        ("info", 3 + THREADS),
    ]
    assert events[1]["error"]["code"] == "JavaEnded"
