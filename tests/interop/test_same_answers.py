"""What RocketMQ's brokers and name servers answer to bad requests, ours answers too: code by code, side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from nodes.remoting.client import RemotingClient
from nodes.remoting.command import request
from tests.interop.apache import ApacheCluster
from tests.interop.cluster import OurCluster
from tests.interop.conftest import release_or_skip
from tests.interop.driver import drive
from tests.interop.test_java_clients import REFUSALS

pytestmark = [pytest.mark.interop, pytest.mark.timeout(400)]

TOPIC = "same-answers"
ASK_S = 20.0


class Bad(NamedTuple):
    """A request that cannot be served, and the codes: ours, of 4.9 (None: not asked, or never answered), of 5.3."""

    name: str
    code: int
    ext: Mapping[str, str]
    ours: int
    v4: int | None
    v5: int
    body: bytes = b""
    named: bool = False


def _send(name: str, ours: int, v4: int, v5: int, body: bytes = b"x", **changed: str) -> Bad:
    ext = {
        "a": "producers",
        "b": TOPIC,
        "c": "TBW102",
        "d": "4",
        "e": "0",
        "f": "0",
        "g": "0",
        "h": "0",
        "i": "UNIQ_KEY\x01FD00000000000000000000000000000000000000000000000000000\x02",
        "j": "0",
        "k": "false",
        "m": "false",
        **changed,
    }
    return Bad(name, 310, ext, ours, v4, v5, body)


def _pull(name: str, ours: int, v4: int, v5: int, **changed: str) -> Bad:
    ext = {
        "consumerGroup": "same-answers-readers",
        "topic": TOPIC,
        "queueId": "0",
        "queueOffset": "0",
        "maxMsgNums": "1",
        "sysFlag": "4",
        "commitOffset": "0",
        "suspendTimeoutMillis": "0",
        "subscription": "*",
        "subVersion": "0",
        "expressionType": "TAG",
        **changed,
    }
    return Bad(name, 11, ext, ours, v4, v5)


def _create(name: str, ours: int, v4: int, v5: int, topic: str, perm: int = 6) -> Bad:
    ext = {
        "topic": topic,
        "defaultTopic": "TBW102",
        "readQueueNums": "1",
        "writeQueueNums": "1",
        "perm": str(perm),
        "topicFilterType": "SINGLE_TAG",
        "topicSysFlag": "0",
        "order": "false",
    }
    return Bad(name, 17, ext, ours, v4, v5)


def _without(bad: Bad, field: str) -> Bad:
    return bad._replace(ext={key: value for key, value in bad.ext.items() if key != field})


QUEUE = {"topic": TOPIC, "queueId": "0"}
ABSENT = {"topic": "nobody-made-this"}
GROUP = {"consumerGroup": "nobody-here"}
READERS = {"consumerGroup": "same-answers-readers"}
BAD = (
    Bad("an unknown request", 9999, {}, 3, 3, 3),
    _send("a good send", 0, 0, 0),
    _send("an unknown topic and no default topic", 17, 17, 17, b="nobody-made-this", c="nor-this"),
    _send("an illegal topic name", 29, 1, 29, b="bad name!"),
    _send("a topic name that is too long", 29, 1, 29, b="t" * 200),
    _send("a system topic", 16, 16, 16, b="RMQ_SYS_TRANS_HALF_TOPIC"),
    _send("a queue beyond the last", 29, 1, 29, e="99"),
    _send("a body beyond the limit", 13, 13, 13, body=b"x" * (4 * 1024 * 1024 + 1)),
    _send("properties beyond 32767 bytes", 13, 13, 13, i="UNIQ_KEY\x01K\x02long\x01" + "p" * 33_000 + "\x02"),
    _pull("a good pull", 0, 0, 0),
    _pull("a pull beyond the end", 21, 21, 21, queueOffset="1000"),
    _pull("a pull of an unknown topic", 17, 17, 17, topic="nobody-made-this"),
    _pull("a pull of a queue beyond the last", 29, 1, 29, queueId="99"),
    _pull("a pull without the subscription, by a group that is not there", 24, 24, 24, sysFlag="0"),
    Bad("a group's offset on an absent topic", 14, {**GROUP, **ABSENT, "queueId": "0"}, 0, 0, 22),
    Bad("statistics of an absent topic", 202, ABSENT, 17, 17, 17),
    Bad("members of an absent group", 38, GROUP, 1, 1, 1),
    Bad("connections of an absent group", 203, GROUP, 206, 206, 206),
    Bad("a message at no message's offset", 33, {"offset": "7777777777"}, 1, 1, 1),
    Bad(
        "messages with a key that nobody set",
        12,
        {
            "topic": TOPIC,
            "key": "none",
            "maxNum": "8",
            "beginTimestamp": "0",
            "endTimestamp": "9999999999999",
            "_UNIQUE_KEY_QUERY": "false",
        },
        22,
        22,
        22,
    ),
    _create("a topic with an illegal name", 29, 1, 29, "bad name!"),
    _create("a topic without a name", 29, 1, 29, ""),
    _create("a topic with a name that is too long", 29, 1, 29, "t" * 200),
    _create("a topic that is the broker's own", 29, 1, 29, "RMQ_SYS_TRANS_HALF_TOPIC"),
    Bad("the end of a topic without a name", 215, {"topic": ""}, 29, 1, 29),
    Bad("the end of a topic that is the broker's own", 215, {"topic": "RMQ_SYS_TRANS_HALF_TOPIC"}, 29, 1, 29),
    _create("a topic that nobody may read is made", 0, 0, 0, "same-answers-unreadable", 2),
    _pull("and pulled from", 16, 16, 16, topic="same-answers-unreadable"),
    _create("a topic that nobody may write is made", 0, 0, 0, "same-answers-unwritable", 4),
    _send("and sent to", 16, 0, 0, b="same-answers-unwritable"),
    _pull("a pull with an SQL92 filter", 1, 1, 1, subscription="a > 1", expressionType="SQL92"),
    _pull("a pull before the begin", 21, 21, 21, queueOffset="-1"),
    _without(_pull("a pull that names no group", 1, 1, 1), "consumerGroup"),
    _without(_send("a send that names no topic", 1, 1, 1), "b"),
    _without(_send("a send that names no queue", 1, 1, 1), "e"),
    _send("a send to a queue that is no number", 1, 1, 1, e="x"),
    _send("a batch to a retry topic", 13, 1, 13, b="%RETRY%same-answers-readers", m="true")._replace(code=320),
    Bad("the highest offset of an absent topic", 30, {**ABSENT, "queueId": "0"}, 17, 0, 0),
    Bad("the lowest offset of an absent topic", 31, {**ABSENT, "queueId": "0"}, 17, 0, 0),
    Bad("an absent topic's offset at a time", 29, {**ABSENT, "queueId": "0", "timestamp": "0"}, 17, 0, 0),
    Bad("a commit on an absent topic", 15, {**READERS, **ABSENT, "queueId": "0", "commitOffset": "1"}, 17, 0, 17),
    Bad("a commit by an absent group", 15, {**GROUP, **QUEUE, "commitOffset": "1"}, 0, 0, 26),
    Bad("the progress of an absent group", 208, GROUP, 0, 0, 0),
    Bad("a lock of nonsense", 41, {}, 1, 1, 1, body=b"nonsense"),
    # 4.9 does what this asks for, and would write its settings there.
    Bad("a setting that nobody may change", 25, {}, 16, None, 16, body=b"brokerConfigPath=here"),
    Bad("a heartbeat that says nothing", 34, {}, 1, 1, 1, body=b"nonsense"),
    Bad(
        "a send-back of a message that is not there",
        36,
        {"offset": "7777777777", "group": "same-answers-readers", "delayLevel": "0"},
        1,
        1,
        1,
    ),
    Bad("an unknown request to a name server", 9999, {}, 3, None, 3, named=True),
    Bad("the route of an absent topic", 105, ABSENT, 17, 17, 17, named=True),
    Bad("a key that nobody set", 101, {"namespace": "none", "key": "none"}, 22, 22, 22, named=True),
    Bad(
        "a name server's setting that nobody may change", 318, {}, 16, 16, 16, body=b"configStorePath=here", named=True
    ),
    Bad("a namespace that nobody made", 219, {"namespace": "none"}, 22, 22, 22, named=True),
)


def answers(cluster: ApacheCluster | OurCluster, asked: Sequence[Bad] = BAD) -> dict[str, int]:
    """The codes of bad requests, in their order."""

    async def ask_all() -> dict[str, int]:
        client = RemotingClient(connect_timeout_s=ASK_S)
        try:
            found = {}
            for bad in asked:
                address = cluster.name_server if bad.named else cluster.master
                answer = await client.call(address, request(bad.code, dict(bad.ext), bad.body), ASK_S)
                found[bad.name] = answer.code
            return found
        finally:
            await client.close()

    cluster.create_topics([TOPIC])
    return asyncio.run(ask_all())


def test_ours_answers_as_documented(ours: OurCluster) -> None:
    """Every code of the first column."""
    assert answers(ours) == {bad.name: bad.ours for bad in BAD}


def test_apache_answers_as_we_believe(apache: ApacheCluster) -> None:
    """Every code of the second or third column: where it differs from ours, we know."""
    wanted = {bad.name: bad.v4 if apache.release.line == 4 else bad.v5 for bad in BAD}
    asked = [bad for bad in BAD if wanted[bad.name] is not None]
    assert answers(apache, asked) == {bad.name: wanted[bad.name] for bad in asked}


DIFFERENT = (
    "a group's offset on an absent topic",  # begins at 0, as in 4.9
    "and sent to",  # Apache's checks the permission through the routes that clients hold, and takes what comes
    # Apache's answers 0, which looks like a queue that is there and empty
    "the highest offset of an absent topic",
    "the lowest offset of an absent topic",
    "an absent topic's offset at a time",
    "a commit by an absent group",  # taken, as in 4.9
)


def test_ours_answers_as_the_newer_line() -> None:
    """A difference to 5.3 is one that is listed here, with its reason."""
    assert {bad.name for bad in BAD if bad.ours != bad.v5} == set(DIFFERENT)


# What Java applications see of the same refusals. A topic's permission is checked by our broker on sends, by Apache's
# only through the route that clients have; and transactions are not built here.
JAVA_DIFFERENCES: Mapping[int, dict[str, str]] = {
    4: {"error-not-writable": "", "error-queue-id": "1"},
    5: {"error-not-writable": ""},
}
COMPARED = tuple(case for case in REFUSALS if case != "error-transaction")


def test_java_applications_see_the_same(apache: ApacheCluster, tmp_path: Path) -> None:
    """The driver's refusals on Apache's broker end with the codes of ours, but for the known differences."""
    client = release_or_skip("4.9.8" if apache.release.line == 4 else apache.release.version, "client")
    apache.create_topics(COMPARED)
    told = drive(client, tmp_path, apache.name_server, COMPARED, apache.handle)
    assert all(one.ok for one in told.values()), json.dumps({name: one.value for name, one in told.items()})
    wanted = {case: REFUSALS[case] for case in COMPARED} | JAVA_DIFFERENCES[apache.release.line]
    assert {name: one.value for name, one in told.items()} == wanted
