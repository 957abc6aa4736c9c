"""Administration of a DLedger group: growing, shrinking, handing over. Served by the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from nodes.broker.core import BrokerCore
from nodes.broker.fields import RequestError, text, whole
from nodes.dledger.changes import GroupChanges
from nodes.dledger.node import GroupNode
from nodes.dledger.settings import GroupError
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.replication.raft.membership import Demote, Member, Remove
from nodes.replication.raft.orders import Role

__all__ = ["MemberAdmin"]

_PATIENCE_MS = 10_000
_PATIENCE_MAX_MS = 3_600_000


class MemberAdmin:
    """Serves GROUP_CHANGE_MEMBER and GROUP_TRANSFER."""

    def __init__(self, core: BrokerCore, member: GroupNode) -> None:
        self._core = core
        self._member = member
        self._changes = GroupChanges(member)
        self._tasks: set[asyncio.Task[None]] = set()

    def change(self, connection: Connection, command: Command) -> None:
        """19005: answered when the change is committed."""
        self._leader_only()
        ext = command.ext
        action, name = text(ext, "action"), text(ext, "member")
        patience_s = min(max(1, whole(ext, "timeoutMillis", _PATIENCE_MS)), _PATIENCE_MAX_MS) / 1000
        match action:
            case "add":
                address = text(ext, "address", "")
                known = self._member.raft.membership.find(name)
                if not address and known is None:
                    raise RequestError(ResponseCode.SYSTEM_ERROR, f"{name} is new: its address, host:port, is needed")
                work = self._changes.add(Member(name, address), patience_s)
            case "demote":
                work = self._changes.change(Demote(name), patience_s)
            case "remove":
                work = self._changes.change(Remove(name), patience_s)
            case _:
                raise RequestError(ResponseCode.SYSTEM_ERROR, f"unknown action {action!r}; known: add, demote, remove")
        self._run(connection, command, work)

    def transfer(self, connection: Connection, command: Command) -> None:
        """19006: answered when this member leads no more."""
        self._leader_only()
        self._run(connection, command, self._hand_over(text(command.ext, "member", "")))

    async def _hand_over(self, to: str) -> None:
        if to == self._member.name:
            return
        if not await self._changes.hand_over(to, 2 * self._member.settings.raft.timing.election_max):
            raise GroupError(f"{to or 'no other member'} has not taken over; this member still leads")

    def _leader_only(self) -> None:
        if self._member.raft.role is not Role.LEADER or self._member.failed is not None:
            raise self._core.not_master()

    def _run(self, connection: Connection, command: Command, work: Coroutine[None, None, None]) -> None:
        task = self._core.loop.create_task(self._answer(connection, command, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: Connection, command: Command, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except GroupError as error:
            connection.reply(command, command.reply(ResponseCode.SYSTEM_ERROR.value, str(error)))
            return
        raft = self._member.raft
        ext = {
            "term": str(raft.term),
            "leader": raft.leader,
            "voters": ";".join(raft.membership.voter_names),
            "learners": ";".join(member.name for member in raft.membership.learners),
        }
        self._core.log.event("group-changed", **command.ext, **ext)
        connection.reply(command, command.reply(ext=ext))
