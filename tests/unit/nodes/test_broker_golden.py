"""What a genuine 4.9.8 broker was asked and answered, asked of ours: same codes, and every header field Java reads."""

import asyncio
import json
from pathlib import Path
from typing import Any

from nodes.broker.names import SCHEDULE_TOPIC
from nodes.remoting.client import RemotingClient
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command
from nodes.remoting.frame import FrameDecoder
from nodes.remoting.message import parse_offset_message_id
from tests.unit.nodes.broker_support import PATIENCE_S, running, settings, until

GOLDEN = Path(__file__).parents[2] / "golden" / "wire" / "rocketmq-4.9.8-client-and-admin.jsonl"
BROKER_PORT = 10911
COMPARED = {"queueId", "queueOffset", "nextBeginOffset", "minOffset", "maxOffset", "offset", "suggestWhichBrokerId"}
"""Header fields that must have the recorded value."""


def conversation() -> list[tuple[int, Command, Command | None]]:
    """(client port, request, answer) in order; one-way requests have no answer."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in GOLDEN.read_text().splitlines()]
    answers = {}
    for row in rows:
        if row["src"] == BROKER_PORT and row["flag"] & 1:
            answers[row["dst"], row["opaque"]] = decoded(row["frame"])
    return [
        (row["src"], decoded(row["frame"]), answers.get((row["src"], row["opaque"])))
        for row in rows
        if row["dst"] == BROKER_PORT and not row["flag"] & 1
    ]


def decoded(frame: str) -> Command:
    (command,) = FrameDecoder().feed(bytes.fromhex(frame))
    return command


def log_offsets(answer: Command) -> list[int]:
    """Where the messages went that a send answer names."""
    return [parse_offset_message_id(one)[1] for one in answer.ext.get("msgId", "").split(",") if one]


def test_our_broker_answers_java_clients_as_rocketmq_does(tmp_path: Path) -> None:
    async def story() -> None:
        config = settings(tmp_path, broker_cluster_name="DefaultCluster", message_delay_level=(1000,) * 18)
        async with running(config) as node:

            def all_delivered() -> bool:
                """Every delayed message lies in its real queue, as it did when the consumers were recorded."""
                delays = node.broker.core.tables.delays
                ends = {
                    bounds.queue_id + 1: bounds.max_offset
                    for bounds in node.broker.store.queues()
                    if bounds.topic == SCHEDULE_TOPIC
                }
                return all(delays.next_offset(level) == end for level, end in ends.items())

            clients: dict[int, RemotingClient] = {}
            moved: dict[int, int] = {}
            differ: list[object] = []
            missing: list[object] = []
            for port, asked, expected in conversation():
                client = clients.setdefault(port, RemotingClient())
                if asked.code == RequestCode.CONSUMER_SEND_MSG_BACK:
                    asked.ext["offset"] = str(moved[int(asked.ext["offset"])])
                if "suspendTimeoutMillis" in asked.ext:
                    await until(all_delivered, "delayed messages are delivered")
                    asked.ext["suspendTimeoutMillis"] = "50"
                answer = await client.call(node.address, Command(asked.code, asked.ext, asked.body), PATIENCE_S)
                if expected is None:
                    continue
                if answer.code != expected.code:
                    differ.append((port, asked.code, asked.ext, expected.code, answer.code, answer.remark))
                    continue
                moved.update(zip(log_offsets(expected), log_offsets(answer), strict=True))
                same = {name: (expected.ext[name], answer.ext.get(name)) for name in COMPARED & set(expected.ext)}
                if any(theirs != ours for theirs, ours in same.values()):
                    differ.append((port, asked.code, asked.ext, same))
                absent = set(expected.ext) - set(answer.ext)
                if absent:
                    missing.append((asked.code, absent))
            for client in clients.values():
                await client.close()
            assert differ == []
            assert missing == []

    asyncio.run(story())
