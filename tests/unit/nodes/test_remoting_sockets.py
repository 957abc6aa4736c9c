"""Server and client over real loopback sockets: what one bad peer does concerns that peer alone."""

import asyncio
import io
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop

from nodes.log import EventLog
from nodes.remoting.client import (
    CallRefused,
    CallTimeout,
    ConnectFailed,
    ConnectionLost,
    RemotingClient,
    split_address,
)
from nodes.remoting.command import Command, Serialize, request
from nodes.remoting.frame import FrameDecoder, encode
from nodes.remoting.server import Connection, Handler, ListenError, RemotingServer, by_code

ECHO = 9001
LATER = 9002
RAISE = 9003
NEVER = 9004
CALL_BACK = 9005
PATIENCE_S = 20.0


class World:
    """One server with a few handlers, the raw sockets of a test, and what was logged."""

    def __init__(self, **options: Any) -> None:
        self.text = io.StringIO()
        self.log = EventLog("server", text=self.text)
        self.parked: list[tuple[Connection, Command]] = []
        self.oneways: list[Command] = []
        self.closed: list[str] = []
        self.server = RemotingServer(by_code(self._handlers()), log=self.log, **options)
        self.port = 0

    def _handlers(self) -> dict[int, Handler]:
        return {ECHO: self._echo, LATER: self._later, RAISE: self._raise, NEVER: self._later, CALL_BACK: self._back}

    def _echo(self, connection: Connection, command: Command) -> Command | None:
        if command.is_oneway:
            self.oneways.append(command)
        connection.on_close(lambda lost: self.closed.append(lost.peer))
        return command.reply(0, None, dict(command.ext), command.body)

    def _later(self, connection: Connection, command: Command) -> None:
        self.parked.append((connection, command))

    def _raise(self, connection: Connection, command: Command) -> Command:
        raise KeyError("queueId")

    def _back(self, connection: Connection, command: Command) -> None:
        asked = connection.call_nowait(request(307, {"from": "server"}))
        asked.add_done_callback(lambda done: connection.reply(command, command.reply(0, None, dict(done.result().ext))))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> "World":
        self.port = await self.server.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


async def until(true: Callable[[], bool]) -> None:
    """Poll until a condition holds; the test fails by time-out otherwise."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - what is awaited happens in the code under test, which sets no event
            await asyncio.sleep(0.005)


def run(body: Callable[[], Awaitable[None]]) -> None:
    """Run the test on both event loops: uvloop serves in production, asyncio's own is what a simulator resembles."""

    async def main() -> None:
        async with asyncio.timeout(3 * PATIENCE_S):
            await body()

    for new_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())


def test_requests_are_answered_by_their_handlers() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            for serialize in Serialize:
                asked = Command(ECHO, {"k": "v"}, b"body", serialize=serialize)
                answer = await client.call(world.address, asked, PATIENCE_S)
                assert (answer.code, answer.ext, answer.body, answer.is_response) == (0, {"k": "v"}, b"body", True)
            await client.close()

    run(body)


def test_an_unknown_code_is_not_supported_in_rocketmqs_words() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            answer = await client.call(world.address, request(4711), PATIENCE_S)
            assert (answer.code, answer.remark, answer.body) == (3, " request type 4711 not supported", b"")
            await client.close()

    run(body)


def test_a_handler_that_raises_answers_system_error_and_the_connection_lives() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            answer = await client.call(world.address, request(RAISE), PATIENCE_S)
            assert (answer.code, answer.remark) == (1, "KeyError: 'queueId'")
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            await client.close()
            assert "request failed" in world.text.getvalue()

    run(body)


def test_requests_are_pipelined_and_may_be_answered_out_of_order() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            await client.connect(world.address)
            asked = [client.call_nowait(world.address, request(LATER, {"n": str(n)})) for n in range(50)]
            await until(lambda: len(world.parked) == 50)
            for connection, command in reversed(world.parked):
                connection.reply(command, command.reply(0, None, {"n": command.ext["n"]}))
            answers = await asyncio.gather(*asked)
            assert [answer.ext["n"] for answer in answers] == [str(n) for n in range(50)]
            await client.close()

    run(body)


def test_the_server_may_ask_over_the_clients_connection() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient(on_request=lambda connection, command: command.reply(0, None, {"seen": "307"}))
            answer = await client.call(world.address, request(CALL_BACK), PATIENCE_S)
            assert answer.ext == {"seen": "307"}
            await client.close()

    run(body)


def test_a_oneway_request_gets_no_answer_at_all() -> None:
    async def body() -> None:
        async with World() as world:
            reader, writer = await world.raw()
            oneway, unknown = request(ECHO, oneway=True), request(4711, oneway=True)
            last = Command(ECHO, {}, opaque=77)
            writer.write(encode(oneway) + encode(unknown) + encode(request(RAISE, oneway=True)) + encode(last))
            decoder = FrameDecoder()
            answers: list[Command] = []
            while not answers:
                answers += decoder.feed(await reader.read(65536))
            assert [answer.opaque for answer in answers] == [77]
            assert len(world.oneways) == 1
            writer.close()

    run(body)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", "TLS handshake"),
        (struct.pack(">I", 0x7FFFFFFF), "larger than"),
        (struct.pack(">II", 8, 2) + b"{]" + b"..", "header is not JSON"),
        (struct.pack(">II", 6, 2 | 7 << 24) + b"{}", "unknown header serialization 7"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "larger than"),
    ],
)
def test_a_malformed_frame_closes_its_connection_and_no_other(bad: bytes, reason: str) -> None:
    async def body() -> None:
        async with World() as world:
            good = RemotingClient()
            parked = asyncio.ensure_future(good.call(world.address, request(LATER), PATIENCE_S))
            await until(lambda: len(world.parked) == 1)
            reader, writer = await world.raw()
            writer.write(encode(Command(ECHO, {}, opaque=5)) + bad if bad[0] != 0x16 else bad)
            rest = await reader.read()
            if bad[0] != 0x16:
                assert [answer.opaque for answer in FrameDecoder().feed(rest)] == [5]
            writer.close()
            assert "connection dropped" in world.text.getvalue()
            assert reason in world.text.getvalue()
            connection, command = world.parked[0]
            connection.reply(command, command.reply(0))
            assert (await parked).code == 0
            await good.close()

    run(body)


def test_a_truncated_frame_waits_for_its_rest_and_ends_with_its_connection() -> None:
    async def body() -> None:
        async with World() as world:
            reader, writer = await world.raw()
            frame = encode(Command(ECHO, {}, b"x" * 1000, 9))
            writer.write(frame[:500])
            await until(lambda: len(world.server.connections) == 1)
            client = RemotingClient()
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            writer.write(frame[500:])
            decoder = FrameDecoder()
            answers: list[Command] = []
            while not answers:
                answers += decoder.feed(await reader.read(65536))
            assert answers[0].body == b"x" * 1000
            writer.write(frame[:500])
            writer.close()
            await client.close()
            await until(lambda: not world.server.connections)

    run(body)


def test_a_peer_that_does_not_read_is_dropped() -> None:
    async def body() -> None:
        async with World(write_buffer_max=256 * 1024) as world:
            _, writer = await world.raw()
            cast(asyncio.Transport, writer.transport).pause_reading()
            frame = encode(request(ECHO, body=b"x" * 1024 * 1024))
            for _ in range(32):
                if "too slowly" in world.text.getvalue():
                    break
                writer.write(frame)
                await asyncio.sleep(0)
            await until(lambda: "peer reads too slowly" in world.text.getvalue())
            await until(lambda: not world.server.connections)
            writer.transport.abort()

    run(body)


def test_a_silent_connection_is_closed_and_a_talking_one_is_not() -> None:
    async def body() -> None:
        async with World(idle_timeout_s=0.4) as world:
            reader, writer = await world.raw()
            client = RemotingClient()
            loop = asyncio.get_running_loop()
            silent = loop.create_task(reader.read())
            while not silent.done():
                assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
                await asyncio.sleep(0.02)
            assert await silent == b""
            assert client.connected(world.address)
            assert "connection idle" in world.text.getvalue()
            writer.close()
            await client.close()

    run(body)


def test_too_many_unanswered_requests_are_told_so() -> None:
    async def body() -> None:
        async with World(outstanding_max=3) as world:
            client = RemotingClient()
            calls = [asyncio.ensure_future(client.call(world.address, request(LATER), PATIENCE_S)) for _ in range(5)]
            await until(lambda: sum(call.done() for call in calls) == 2)
            busy = [call.result() for call in calls if call.done()]
            assert {(answer.code, (answer.remark or "")[:10]) for answer in busy} == {(2, "[OVERLOAD]")}
            for connection, command in world.parked:
                connection.reply(command, command.reply(0))
            await asyncio.gather(*calls)
            again = asyncio.ensure_future(client.call(world.address, request(LATER), PATIENCE_S))
            await until(lambda: len(world.parked) == 4)
            connection, command = world.parked[-1]
            connection.reply(command, command.reply(0))
            assert (await again).code == 0
            await client.close()

    run(body)


def test_a_connection_too_many_is_closed() -> None:
    async def body() -> None:
        async with World(connections_max=1) as world:
            client = RemotingClient()
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            reader, writer = await world.raw()
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            assert "more than 1 connections" in world.text.getvalue()
            await client.close()

    run(body)


def test_a_port_in_use_is_one_clear_error() -> None:
    async def body() -> None:
        async with World() as world:
            other = RemotingServer(by_code({}), log=world.log)
            with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{world.port}: Address already in use"):
                await other.start("127.0.0.1", world.port)

    run(body)


def test_a_refused_connection_certainly_sent_nothing() -> None:
    async def body() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            client = RemotingClient()
            with pytest.raises(ConnectFailed, match="Connection refused") as caught:
                await client.call(address, request(ECHO), PATIENCE_S)
            assert (caught.value.sent, caught.value.address) == (False, address)
            with pytest.raises(ConnectFailed):
                client.call_nowait(address, request(ECHO))
            await client.close()

    run(body)


def test_no_answer_in_time_leaves_the_outcome_open_and_the_connection_usable() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            await client.connect(world.address)  # or a busy machine spends the time-out on connecting
            with pytest.raises(CallTimeout) as caught:
                await client.call(world.address, request(NEVER), 0.05)
            assert caught.value.sent
            await until(lambda: len(world.parked) == 1)
            connection, command = world.parked[0]
            connection.reply(command, command.reply(0))
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            await client.close()

    run(body)


def test_a_lost_connection_fails_all_that_is_outstanding_and_is_reported() -> None:
    async def body() -> None:
        async with World() as world:
            lost: list[str] = []
            client = RemotingClient(on_disconnect=lost.append)
            calls = [asyncio.ensure_future(client.call(world.address, request(NEVER), PATIENCE_S)) for _ in range(3)]
            await until(lambda: len(world.parked) == 3)
            world.parked[0][0].abort()
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(error, ConnectionLost) and error.sent for error in errors)
            assert lost == [world.address]
            assert not client.connected(world.address)
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            await client.close()
            assert lost == [world.address]

    run(body)


def test_a_call_that_cannot_be_sent_says_so() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient(outstanding_max=2)
            await client.connect(world.address)
            for _ in range(2):
                client.call_nowait(world.address, request(NEVER))
            with pytest.raises(CallRefused, match="2 requests are outstanding") as caught:
                client.call_nowait(world.address, request(ECHO))
            assert not caught.value.sent
            with pytest.raises(CallRefused, match="larger than"):
                await client.oneway(world.address, request(ECHO, body=b"x" * 16 * 1024 * 1024))
            await client.close()

    run(body)


def test_one_connection_serves_callers_that_begin_at_the_same_time() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            first = asyncio.ensure_future(client.call(world.address, request(ECHO), PATIENCE_S))
            others = [asyncio.ensure_future(client.call(world.address, request(ECHO), PATIENCE_S)) for _ in range(9)]
            await asyncio.sleep(0)
            first.cancel()
            answers = await asyncio.gather(*others)
            assert [answer.code for answer in answers] == [0] * 9
            assert len(world.server.connections) == 1
            await client.close()

    run(body)


def test_a_socket_may_come_from_elsewhere() -> None:
    async def body() -> None:
        async with World() as world:
            made: list[socket.socket] = []

            def make() -> socket.socket:
                made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                return made[-1]

            client = RemotingClient(socket_factory=make)
            assert (await client.call(world.address, request(ECHO), PATIENCE_S)).code == 0
            assert len(made) == 1
            await client.close()
            with pytest.raises(ConnectFailed, match="client is closed"):
                await client.call(world.address, request(ECHO), PATIENCE_S)

    run(body)


def test_closing_the_server_closes_its_connections_once() -> None:
    async def body() -> None:
        world = World()
        async with world:
            client = RemotingClient()
            await client.call(world.address, request(ECHO), PATIENCE_S)
        assert len(world.closed) == 1
        await until(lambda: not client.connected(world.address))
        await client.close()

    run(body)


def test_an_answer_too_large_becomes_an_error_answer() -> None:
    async def body() -> None:
        async with World() as world:
            client = RemotingClient()
            call = asyncio.ensure_future(client.call(world.address, request(LATER), PATIENCE_S))
            await until(lambda: len(world.parked) == 1)
            connection, command = world.parked[0]
            connection.reply(command, command.reply(body=b"x" * 16 * 1024 * 1024))
            answer = await call
            assert answer.code == 1
            assert "larger than" in (answer.remark or "")
            await client.close()

    run(body)


@pytest.mark.parametrize("bad", ["nowhere", "host:", ":1", "host:http"])
def test_an_address_needs_host_and_port(bad: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(bad)
    assert split_address("[::1]:9876") == ("::1", 9876)
    assert split_address("127.0.0.1:9876") == ("127.0.0.1", 9876)


def test_answers_to_the_living_are_written_beside_answers_to_the_dying() -> None:
    """A transport that is closing may refuse to be written to; the same flush still serves everybody else."""

    async def body() -> None:
        async with World() as world:
            dying, living = RemotingClient(), RemotingClient()
            calls = []
            for number, client in enumerate((dying, living), 1):
                calls.append(asyncio.ensure_future(client.call(world.address, request(LATER), PATIENCE_S)))
                await until(lambda number=number: len(world.parked) == number)  # type: ignore[misc]
            transport = world.parked[0][0]._transport
            assert transport is not None
            transport.abort()
            for connection, command in world.parked:
                connection.reply(command, command.reply(0))
            assert (await calls[1]).code == 0
            with pytest.raises(ConnectionLost):
                await calls[0]
            await dying.close()
            await living.close()

    run(body)
