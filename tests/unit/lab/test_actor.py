"""Logical clients against ports that refuse, stay silent or answer: outcomes, retirement, and the journal's order."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.event import Event
from lab.generator.operations import Op
from lab.journal import Journal
from lab.merge import read_journal
from lab.planfile import build_plan
from lab.topology import Queue
from lab.workloads.actor import Actor, Scene
from lab.workloads.classify import Completion, Guarantee
from lab.workloads.pace import CATCH_UP_NS, Pace
from lab.workloads.reading import poll_one
from lab.workloads.sending import send_loop, send_one
from lab.workloads.values import value_in
from nodes.client.client import Client
from nodes.client.routes import Routes, parse_route
from nodes.log import EventLog
from nodes.remoting.codes import RequestCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.remoting.server import RemotingServer

QUEUE = Queue("lab", "broker-a", 0)
THREADS = 8
SENDS = (RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2)


def routes_to(port: int) -> dict[str, Any]:
    """The cached route of a client whose master listens on this port."""
    routes = Routes()
    answer = {
        "brokerDatas": [
            {"brokerName": "broker-a", "cluster": "c", "brokerAddrs": {"0": f"127.0.0.1:{port}"}},
        ],
        "queueDatas": [
            {"brokerName": "broker-a", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6, "topicSysFlag": 0},
        ],
    }
    routes.update("lab", parse_route(answer))
    return dict(routes.snapshot())


def scene(folder: Path, port: int, **load: object) -> Scene:
    """One worker's scene; its name server is a port that nobody listens on."""
    plan = build_plan({"load": {"operation_timeout": "300ms", **load}}, "plan")
    return Scene(
        plan=plan,
        run="0123abcd",
        seed=1,
        threads=THREADS,
        name_servers=(f"127.0.0.1:{free_port()}",),
        address="127.0.0.1",
        journal=Journal(folder / "journal.jsonl", 0),
        routes=routes_to(port),
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that opens connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


async def with_broker(story: Callable[[int, list[bytes]], Awaitable[None]], offset: int = 5) -> None:
    """A broker that stores nothing and answers every send with SEND_OK."""
    bodies: list[bytes] = []

    def handle(connection: Connection, command: Command) -> Command | None:
        if command.code in SENDS:
            bodies.append(command.body)
            ext = {
                "msgId": "7F00000100002A9F0000000000000000",
                "queueId": "0",
                "queueOffset": str(offset),
                "epoch": "2",
            }
            return command.reply(ext=ext)
        return command.reply(3, "not supported")

    server = RemotingServer(handle, log=EventLog("fake"))
    port = await server.start("127.0.0.1", 0)
    try:
        await story(port, bodies)
    finally:
        await server.stop()


def play(folder: Path, port: int, story: Callable[[Actor], Awaitable[None]], **load: object) -> list[Event]:
    """Run one actor's story and return what it journalled."""

    async def whole() -> None:
        actor = Actor(scene(folder, port, **load), 3)
        try:
            await story(actor)
        finally:
            actor.drop_client()
            if actor.scene.closing:
                await asyncio.wait(actor.scene.closing)
            actor.scene.journal.close()

    asyncio.run(whole())
    return list(read_journal(folder / "journal.jsonl"))


def test_a_refused_connection_is_a_fail_and_retires_nobody(tmp_path: Path) -> None:
    """No byte of the request left, so the message certainly does not exist."""

    async def story(actor: Actor) -> None:
        done = await send_one(actor, "send", QUEUE, "0123abcd/3/0")
        assert (done.kind, actor.process) == ("fail", 3)

    events = play(tmp_path, free_port(), story)
    assert [(e["type"], e["process"]) for e in events] == [("invoke", 3), ("fail", 3)]
    assert events[1]["error"]["code"] == "CONNECT_FAILED"
    assert (events[1]["queue"], events[1]["value"]) == ("lab/broker-a/0", "0123abcd/3/0")


def test_silence_is_unknown_and_retires_the_process(tmp_path: Path) -> None:
    """Its successor has a new connection and a new identity, and inherits the cached route."""

    async def story(actor: Actor) -> None:
        before = await actor.client()
        done = await send_one(actor, "send", QUEUE, "0123abcd/3/0")
        assert done.unknown
        after = await actor.client()
        assert after is not before
        assert after.id != before.id
        assert after.routes.snapshot() == before.routes.snapshot()
        await send_one(actor, "send", QUEUE, "0123abcd/3/1")

    with silent_port() as port:
        events = play(tmp_path, port, story)
    assert [(e["type"], e["process"]) for e in events] == [
        ("invoke", 3),
        ("info", 3),
        ("invoke", 3 + THREADS),
        ("info", 3 + THREADS),
    ]
    assert events[1]["error"]["code"] == "TIMEOUT"


def test_a_successor_knows_the_route_that_its_predecessor_asked_for(tmp_path: Path) -> None:
    """A deposed master of 5.x answers SYSTEM_BUSY, an unknown outcome. The query died with the client that was left, so
    that each successor went to the same broker, as long as that answered: unavailability that was the lab's own."""

    async def story(actor: Actor) -> None:
        async def told(port: int, bodies: list[bytes]) -> None:
            def busy(connection: Connection, command: Command) -> Command | None:
                return command.reply(2, "[REJECTREQUEST]system busy")

            def name(connection: Connection, command: Command) -> Command | None:
                return command.reply(body=json.dumps(routes_to(port)["lab"]).encode())

            deposed, names = RemotingServer(busy, log=EventLog("fake")), RemotingServer(name, log=EventLog("fake"))
            actor.scene.routes = routes_to(await deposed.start("127.0.0.1", 0))
            actor.scene.name_servers = (f"127.0.0.1:{await names.start('127.0.0.1', 0)}",)
            first = await send_one(actor, "send", QUEUE, "0123abcd/3/0")
            assert first.unknown
            await asyncio.wait(actor.scene.closing)
            second = await send_one(actor, "send", QUEUE, "0123abcd/3/1")
            assert (second.kind, len(bodies)) == ("ok", 1)
            actor.drop_client()
            await asyncio.wait(actor.scene.closing)
            for server in (deposed, names):
                await server.stop()

        await with_broker(told)

    events = play(tmp_path, free_port(), story, operation_timeout="20s")
    assert [event["type"] for event in events] == ["invoke", "info", "invoke", "ok"]


def test_older_routes_do_not_take_the_place_of_newer_ones(tmp_path: Path) -> None:
    """Clients that are left late know what was true when they last heard of it."""

    async def story(actor: Actor) -> None:
        scene, old, new = actor.scene, Client(actor.scene.config()), Client(actor.scene.config())
        for client, port, at_s in ((old, 1, 10.0), (new, 2, 11.0)):
            client.routes.restore(routes_to(port))
            client.queries.told_at_s = at_s
        for client in (new, old):
            scene.keep_routes(client)
        assert (scene.routes, scene.routes_at_s) == (routes_to(2), 11.0)

    play(tmp_path, free_port(), story)


def test_an_answer_is_recorded_with_what_it_promises(tmp_path: Path) -> None:
    """Status, queue, offset, epoch; strong only because the broker's configuration is known to be."""

    async def story(actor: Actor) -> None:
        async def told(port: int, bodies: list[bytes]) -> None:
            actor.scene.routes = routes_to(port)
            actor.scene.guarantees = {f"127.0.0.1:{port}": Guarantee(2, True)}
            done = await send_one(actor, "send", QUEUE, "0123abcd/3/0", sentinel=True)
            assert done.kind == "ok"
            assert [value_in(body) for body in bodies] == ["0123abcd/3/0"]
            assert len(bodies[0]) == 300
            actor.drop_client()
            await asyncio.wait(actor.scene.closing)

        await with_broker(told)

    events = play(tmp_path, free_port(), story)
    ok = events[1]
    assert (ok["type"], ok["status"], ok["ack"], ok["flushed"]) == ("ok", "SEND_OK", "replicated", True)
    assert (ok["queue"], ok["offset"], ok["epoch"], ok["attempts"]) == ("lab/broker-a/0", 5, 2, 1)
    assert [e.get("sentinel") for e in events] == [True, True]


def test_the_invocation_is_journalled_before_the_first_byte(tmp_path: Path) -> None:
    """When the broker sees the message, the journal already has it."""
    seen: list[list[str]] = []

    async def story(actor: Actor) -> None:
        def handle(connection: Connection, command: Command) -> Command | None:
            if command.code in SENDS:
                seen.append([event["type"] for event in read_journal(tmp_path / "journal.jsonl")])
            return command.reply(14, "not now")

        server = RemotingServer(handle, log=EventLog("fake"))
        port = await server.start("127.0.0.1", 0)
        actor.scene.routes = routes_to(port)
        await send_one(actor, "send", QUEUE, "0123abcd/3/0")
        actor.drop_client()
        await asyncio.wait(actor.scene.closing)
        await server.stop()

    events = play(tmp_path, free_port(), story)
    assert seen == [["invoke"]]
    assert [event["type"] for event in events] == ["invoke", "fail"]


def test_a_read_without_an_answer_shows_nothing(tmp_path: Path) -> None:
    """Unknown, no value, and the process retires as after a send."""

    async def story(actor: Actor) -> None:
        assert await poll_one(actor, QUEUE, 0, group="g", seek=True) is None

    with silent_port() as port:
        events = play(tmp_path, port, story)
    assert [(e["type"], e["value"]) for e in events] == [("invoke", None), ("info", None)]
    assert (events[0]["seek"], events[0]["group"]) == ({"lab/broker-a/0": 0}, "g")


def test_operations_that_come_too_late_are_skipped_and_counted(tmp_path: Path) -> None:
    """After a stall the schedule is not made up for in a flood."""

    async def story(actor: Actor) -> None:
        pace = Pace(actor.scene.journal.monotonic() - CATCH_UP_NS - 1_000_000_000)
        late, due = Op(0, "send", QUEUE, 0), Op(pace.now(), "send", QUEUE, 1)
        await send_loop(actor, pace, iter([late, due]), 0)
        assert actor.scene.tally.skipped == 1

    events = play(tmp_path, free_port(), story)
    assert [event["value"] for event in events] == ["0123abcd/3/1"] * 2


def test_a_stopped_pace_ends_the_schedule(tmp_path: Path) -> None:
    """Nothing further is asked; what waited for its time never begins."""

    async def story(actor: Actor) -> None:
        pace = Pace(actor.scene.journal.monotonic())
        schedule = iter([Op(0, "send", QUEUE, 0), Op(3_600_000_000_000, "send", QUEUE, 1)])
        loop = asyncio.get_running_loop()
        task = loop.create_task(send_loop(actor, pace, schedule, 0))
        while actor.scene.tally.fail == 0:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)
        pace.stopped.set()
        async with asyncio.timeout(10):
            await task

    assert len(play(tmp_path, free_port(), story)) == 2


def test_completions_count(tmp_path: Path) -> None:
    """For the live view."""

    async def story(actor: Actor) -> None:
        for kind in ("ok", "fail", "info"):
            actor.invoke("send", "v")
            actor.complete("send", "v", Completion(kind))
        tally = actor.scene.tally
        assert (tally.ok, tally.fail, tally.info, actor.retired, actor.process) == (1, 1, 1, 1, 3 + THREADS)

    play(tmp_path, free_port(), story)


def test_clients_poll_routes_as_often_as_the_plan_says(tmp_path: Path) -> None:
    """RocketMQ's default without a word."""
    assert scene(tmp_path, 1).config().poll_name_server_interval_s == 30
    assert scene(tmp_path, 1, route_poll="1s").config().poll_name_server_interval_s == 1
