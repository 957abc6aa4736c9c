"""DLedger groups on loopback for tests: real sockets, real files, raw commands, members that come and go."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

from nodes.broker.broker import Broker
from nodes.broker.group_progress import GroupProgress
from nodes.config import BrokerConfig, BrokerRole, FlushDiskType, Member
from nodes.dledger.node import GroupNode
from nodes.log import EventLog
from nodes.remoting.client import RemotingClient
from nodes.remoting.command import Command, request
from nodes.remoting.connection import Connection
from nodes.remoting.frame import FrameDecoder
from nodes.remoting.message import MAGIC_FILLER, StoredMessage, decode_record, peek
from nodes.replication.raft.orders import Role
from nodes.store.disk import Disk, RealDisk
from tests.unit.nodes.broker_support import PATIENCE_S, Node, settings, until
from tests.unit.nodes.forgetful_disk import ForgetfulDisk, Keep

_groups = itertools.count(1)
_starts = itertools.count()
SEGMENT = 64 * 1024


def group_host() -> str:
    """A loopback address that no other test uses, so that ports can be fixed."""
    pid = os.getpid()
    return f"127.{1 + (pid >> 8) % 250}.{pid % 256}.{next(_groups) % 250 + 1}"


class Group:
    """Members n0, n1, … of one group below `root`. Each is a broker in this process, or stopped."""

    def __init__(self, root: Path, size: int = 3, **more: Any) -> None:
        self.root = root
        self.host = group_host()
        self.more = more
        self.nodes: dict[str, Node] = {}
        self.disks: dict[str, Disk] = {}
        self.initial = [f"n{number}" for number in range(size)]

    def peers(self, names: Iterable[str] | None = None) -> tuple[Member, ...]:
        return tuple(Member(name, self.host, 20911 + int(name[1:])) for name in names or self.initial)

    def config(self, name: str, **more: Any) -> BrokerConfig:
        values = {
            "enable_dledger": True,
            "dledger_self_id": name,
            "dledger_peers": self.peers(sorted({*self.initial, name})),
            "broker_role": BrokerRole.SLAVE,
            "broker_id": int(name[1:]) + 1,
            "broker_ip1": self.host,
            "flush_disk_type": FlushDiskType.SYNC_FLUSH,
            "mapped_file_size_commit_log": SEGMENT,
            "max_message_size": 16 * 1024,
            "flush_interval_commit_log": 3_600_000,
            "max_wait_ack_time_ms": 10_000,
            "min_elect_time_interval_ms": 500,
            "max_elect_time_interval_ms": 1000,
            **self.more,
            **more,
        }
        return settings(self.root, name, **values)

    async def start(self, *names: str, **more: Any) -> None:
        """Start these members, all of the initial ones if none is named."""
        for name in names or self.initial:
            broker = Broker(
                self.config(name, **more),
                EventLog(name),
                disk=self.disks.get(name, RealDisk()),
                rng=Random(f"{self.root} {name} {next(_starts)}"),
            )
            await broker.open()
            self.nodes[name] = Node(broker, RemotingClient(on_request=lambda _, command: command.reply(body=b"{}")))

    async def kill(self, name: str) -> Node:
        """End a member as kill -9 does: its connections close, nothing is handed over or saved."""
        node = self.nodes.pop(name)
        await crash(node)
        return node

    async def power_off(self, name: str, keep: Keep, seed: int) -> None:
        """Let a member on a forgetful disk lose its power: in one moment it falls silent and its disk forgets."""
        member, disk = self.member(name), self.disks[name]
        assert isinstance(disk, ForgetfulDisk)
        member._stopped = True
        self.cut_off(name)
        self.nodes[name].broker.core.pipeline._failed = True
        survivor = disk.survivor(keep, seed)
        await self.kill(name)
        self.disks[name] = survivor

    async def stop(self, name: str) -> None:
        """Stop a member in order."""
        node = self.nodes.pop(name)
        await node.client.close()
        await node.broker.close()

    async def close(self) -> None:
        for name in list(self.nodes):
            await self.kill(name)

    def member(self, name: str) -> GroupNode:
        member = self.nodes[name].broker.core.member
        assert member is not None
        return member

    @property
    def masters(self) -> list[str]:
        """Members that serve as master now."""
        return [name for name, node in self.nodes.items() if node.broker.core.may_append]

    async def leader(self, *, other_than: str = "") -> str:
        """Wait until a member serves as master; its name."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [
                name
                for name in self.masters
                if name != other_than and self.member(name).raft.role is Role.LEADER and self.member(name).settled
            ]
            return len(found) == 1

        await until(there, "a member leads")
        return found[0]

    async def agree(self, *names: str, or_stopped: bool = False) -> int:
        """Wait until these members (all that run) have the same log and have committed all of it; its end.

        `or_stopped`: a minority may have stopped, since a majority lost what they hold as committed.
        """
        chosen = names or tuple(self.nodes)

        def equal() -> bool:
            members = [self.member(name) for name in chosen]
            if or_stopped:
                members = [member for member in members if not member.failed]
                if 2 * len(members) <= len(chosen):
                    return False
            ends = {(member.raft.end, member.raft.durable, member.committed, member.applied()) for member in members}
            return len(ends) == 1 and len(set(ends.pop())) == 1

        await until(equal, "the members agree")
        return max(self.member(name).raft.end for name in chosen if not self.member(name).failed)

    def cut_off(self, name: str) -> None:
        """From now on nothing that this member says reaches another one."""
        self.member(name)._links.send = lambda to, frame: False  # type: ignore[method-assign]

    def log_of(self, name: str) -> bytes:
        """All bytes of a member's log."""
        store = self.nodes[name].broker.store
        parts = []
        at = store.min_offset
        while at < store.written_end:
            parts.append(store.read_log(at, 1 << 20))
            at += len(parts[-1])
        return b"".join(parts)

    async def send_ok(self, body: bytes, *, topic: str = "T", queue: int = 0) -> int:
        """Send to whoever leads until it is SEND_OK; its queue offset. A repeated message is a new one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while True:
            for name in self.masters:
                answer = await self.nodes[name].send(body, topic, queue)
                if answer.code == 0:
                    return int(answer.ext["queueOffset"])
            assert loop.time() < deadline, "nobody takes the message"
            await asyncio.sleep(0.005)


class Asker:
    """Stands for a connection, so that a test can put a request to a handler in the very moment it wants to."""

    def __init__(self, node: Node) -> None:
        self.broker = node.broker
        self.peer = "127.0.0.1:1"
        self.answers: list[Command] = []

    def ask(self, code: int, ext: dict[str, str], body: bytes = b"") -> None:
        """Put a request; its answer is added to `answers` when there is one."""
        command = request(code, ext, body)
        answer = self.broker._handle(cast(Connection, self), command)
        if answer is not None:
            self.answers.append(answer)

    def send_bytes(self, frame: bytes) -> None:
        self.answers.extend(FrameDecoder().feed(frame))

    def reply(self, asked: Command, answer: Command) -> None:
        self.answers.append(answer)

    def on_close(self, callback: object) -> None:
        """It never closes."""


def messages_of(log: bytes) -> Iterator[StoredMessage]:
    """The records of a log, without the fillers at the ends of files."""
    at = 0
    while at < len(log):
        size, magic = peek(log, at)
        if magic != MAGIC_FILLER:
            yield decode_record(log, at, check_crc=True)
        at += size


async def crash(node: Node) -> None:
    """Take a broker down without any of its farewells. Its files are as they are."""
    broker = node.broker
    await node.client.close()
    core = broker.core
    member = core.member
    await broker.registrar._halt()
    await broker.registrar._client.close()
    for task in broker._periodic:
        task.cancel()
    await asyncio.gather(*broker._periodic, return_exceptions=True)
    broker.pulls._timer.cancel()
    broker.clients.stop()
    broker.admin.stop()
    broker.delivery.stop()
    core.serving.ready = False
    if member is not None:
        await member.stop()
    core.pipeline._failed = True
    if core.pipeline._sync is not None:
        await asyncio.gather(core.pipeline._sync, return_exceptions=True)
    for timer in (core.pipeline._background, core.pipeline._deadline):
        if timer is not None:
            timer.cancel()
    if isinstance(core.progress, GroupProgress):
        core.progress._cancel()
    await broker.server.stop()
    store = broker.store
    store._open = False
    store._disk.settle()
    store._mark.close()
    store._log.close()
    store._files.close()
    store._disk.unlock(f"{broker.config.store_path_root_dir}/lock")
    if isinstance(broker._disk, RealDisk):
        broker._disk.close()


@asynccontextmanager
async def group(root: Path, size: int = 3, *, started: bool = True, **more: Any) -> AsyncIterator[Group]:
    """A group for the length of the block."""
    made = Group(root, size, **more)
    try:
        if started:
            await made.start()
        yield made
    finally:
        await made.close()


__all__ = ["SEGMENT", "Asker", "Group", "crash", "group", "group_host", "messages_of"]
