"""Requests of this project's own: status, change of role, and the raw log and index for comparison between nodes."""

from __future__ import annotations

import asyncio

from nodes.broker.acknowledgement import Rule
from nodes.broker.bodies import encode
from nodes.broker.core import BrokerCore
from nodes.broker.delay import scheduled_queue
from nodes.broker.fields import RequestError, text, whole
from nodes.broker.group_roles import GroupRoles
from nodes.broker.names import SCHEDULE_TOPIC
from nodes.broker.roles import RoleError, RoleKeeper
from nodes.config import BrokerRole
from nodes.dledger.records import SYSTEM_TOPIC
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.replication.primary import whole_records
from nodes.replication.raft.orders import Role

__all__ = ["LabProcessor"]

_READ_MAX = 8 * 1024 * 1024
"""Bytes of one answer to a reader of the log."""
_RECORD_MAX = 16 * 1024 * 1024
_ENTRIES_MAX = 100_000


class LabProcessor:
    """Serves LAB_STATUS, LAB_CHANGE_ROLE, LAB_READ_LOG and LAB_READ_INDEX."""

    def __init__(self, core: BrokerCore, roles: RoleKeeper | GroupRoles) -> None:
        self._core = core
        self._roles = roles
        self._changes: set[asyncio.Task[None]] = set()

    def status(self, connection: Connection, command: Command) -> Command:
        """19001: what this node is and holds."""
        core, roles, store = self._core, self._roles, self._core.store
        replicas = roles.replicas()
        rule = core.pipeline.rule
        if isinstance(roles, GroupRoles):
            own = _of_group(core, rule)
        else:
            own = _of_pair(core, roles, rule)
        body = {
            "role": core.serving.role.value,
            "brokerId": core.serving.broker_id,
            "brokerName": core.config.broker_name,
            "min": store.min_offset,
            "max": store.written_end,
            "flushed": store.flushed_end,
            "visible": store.visible_end,
            "slaveAck": max((one.ack for one in replicas), default=None),
            "slaves": [
                {
                    "id": one.broker_id,
                    "ack": one.ack,
                    "connected": one.connected,
                    "compared": one.compared,
                    "lag": one.lag,
                    "peer": one.peer,
                }
                for one in replicas
            ],
            "copies": rule.copies if core.serving.role.is_master else 0,
            "flush": core.config.flush_disk_type.value,
            "masterAddress": roles.master_address,
            "waiting": core.pipeline.waiting,
            "delayed": self._delayed(),
            "queues": {
                f"{bounds.topic}@{bounds.queue_id}": {"min": bounds.min_offset, "max": bounds.max_offset}
                for bounds in store.queues()
                if bounds.topic != SYSTEM_TOPIC
            },
            "state": core.serving.state,
            "failed": core.serving.failed,
            "flaws": sorted(flaw.value for flaw in core.config.flaws),
            **own,
        }
        return command.reply(body=encode(body))

    def _delayed(self) -> int:
        """Delayed messages that are not yet safely stored again under their own topic."""
        core = self._core
        return sum(
            max(
                0,
                core.store.queue_bounds(SCHEDULE_TOPIC, scheduled_queue(level))[1]
                - core.tables.delays.next_offset(level),
            )
            for level in range(1, len(core.delay_levels) + 1)
        )

    def change_role(self, connection: Connection, command: Command) -> Command | None:
        """19002: become master or slave, durably, without a restart."""
        wish = text(command.ext, "brokerRole")
        try:
            role = BrokerRole(wish)
        except ValueError:
            known = ", ".join(one.value for one in BrokerRole)
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"unknown role {wish!r}; known: {known}") from None
        broker_id = whole(command.ext, "brokerId", 0 if role.is_master else None)
        task = self._core.loop.create_task(self._change(connection, command, role, broker_id))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return None

    async def _change(self, connection: Connection, command: Command, role: BrokerRole, broker_id: int) -> None:
        try:
            await self._roles.change(role, broker_id)
        except RoleError as error:
            connection.reply(command, command.reply(ResponseCode.SYSTEM_ERROR.value, str(error)))
        else:
            ext = {"epoch": str(self._core.epoch), "brokerId": str(broker_id), "brokerRole": role.value}
            connection.reply(command, command.reply(ext=ext))

    def read_log(self, connection: Connection, command: Command) -> Command:
        """19003: whole records of the commit log from an offset on, fillers included.

        A member of a group says too which terms its log has, `term@start` separated by semicolons, and what it knows to
        be committed.
        """
        store = self._core.store
        offset, most = whole(command.ext, "offset"), min(whole(command.ext, "maxBytes", _READ_MAX), _READ_MAX)
        bounds = {"minOffset": str(store.min_offset), "maxOffset": str(store.written_end)}
        if self._core.member is not None:
            group = self._core.member.raft.status()
            bounds["terms"] = ";".join(f"{row.term}@{row.start}" for row in group.rows)
            bounds["committed"] = str(group.committed)
        if not store.min_offset <= offset <= store.written_end:
            ext = {**bounds, "nextOffset": str(store.min_offset)}
            return command.reply(ResponseCode.PULL_OFFSET_MOVED.value, f"the log does not hold {offset}", ext)
        try:
            data = bytes(store.read_log(offset, max(most, 4)))
            length = whole_records(data)
            if length == 0 and data:
                data = bytes(store.read_log(offset, min(int.from_bytes(data[:4], "big"), _RECORD_MAX)))
                length = whole_records(data)
        except (OSError, ValueError) as error:
            raise RequestError(ResponseCode.SYSTEM_ERROR, f"the log cannot be read at {offset}: {error}") from None
        return command.reply(ext={**bounds, "nextOffset": str(offset + length)}, body=data[:length])

    def read_index(self, connection: Connection, command: Command) -> Command:
        """19004: raw entries of a consume queue, 20 bytes each."""
        ext, store = command.ext, self._core.store
        topic, queue_id = text(ext, "topic"), whole(ext, "queueId")
        begin, end = store.queue_bounds(topic, queue_id)
        most = min(max(0, whole(ext, "maxNum", _ENTRIES_MAX)), _ENTRIES_MAX)
        entries = store.index_entries(topic, queue_id, whole(ext, "offset"), most)
        return command.reply(ext={"min": str(begin), "max": str(end)}, body=entries)


def _of_pair(core: BrokerCore, roles: RoleKeeper, rule: Rule) -> dict[str, object]:
    """What only a master or slave knows."""
    lineage, replica, primary = core.lineage, roles.replica, roles.primary
    assert lineage is not None, "master and slave have one"
    last = lineage.table.last
    written = core.store.written_end
    failed = replica.failed if replica is not None else None
    return {
        "epoch": {"number": 0, "id": ""} if last is None else {"number": last.number, "id": last.id},
        "epochs": [{"number": epoch.number, "id": epoch.id, "start": epoch.start_offset} for epoch in lineage.table],
        "storeId": lineage.store_id,
        "inSync": 0 if primary is None else primary.in_sync(),
        "confirm": min(written if primary is None else primary.acked(rule.copies), written),
        "following": replica is not None and replica.following,
        "masterHaAddress": "" if replica is None else replica.address,
        **({"state": "failed", "failed": core.serving.failed or failed} if failed else {}),
    }


def _of_group(core: BrokerCore, rule: Rule) -> dict[str, object]:
    """What only a member of a group knows. The terms of its log stand where a master has its epochs."""
    member = core.member
    assert member is not None, "GroupRoles come with a member"
    status = member.raft.status()
    last = status.rows[-1] if status.rows else None

    def leader_of(term: int) -> str:
        return member.leaders.get(term, "")

    return {
        "epoch": {"number": 0, "id": ""} if last is None else {"number": last.term, "id": leader_of(last.term)},
        "epochs": [{"number": row.term, "id": leader_of(row.term), "start": row.start} for row in status.rows],
        "storeId": status.name,
        "inSync": sum(1 for name in status.membership.voter_names if member.connected(name)),
        "confirm": status.committed,
        "following": status.role is Role.FOLLOWER and bool(status.leader),
        "masterHaAddress": "",
        "dledger": {
            "group": member.settings.group,
            "self": status.name,
            "role": status.role.value,
            "term": status.term,
            "vote": status.vote,
            "joined": status.joined,
            "leader": status.leader,
            "accepts": member.leading,
            "begin": status.begin,
            "end": status.end,
            "durable": status.durable,
            "committed": status.committed,
            "applied": member.applied(),
            "terms": [{"term": row.term, "start": row.start, "leader": leader_of(row.term)} for row in status.rows],
            "voters": {one.name: one.address for one in status.membership.voters},
            "learners": {one.name: one.address for one in status.membership.learners},
            "outside": member.raft.outside,
            "membershipCommitted": status.membership_committed,
            "peers": {
                peer.name: {
                    "match": peer.match,
                    "next": peer.next,
                    "way": peer.way.value,
                    "connected": member.connected(peer.name),
                }
                for peer in status.peers
            },
            "quorum": rule.copies,
            "failed": member.failed,
        },
        **({"state": "failed", "failed": core.serving.failed or member.failed} if member.failed else {}),
    }
