"""Looking messages up by key and by id. Source: RocketMQ class QueryMessageProcessor."""

from __future__ import annotations

from nodes.broker.core import BrokerCore
from nodes.broker.fields import text, whole
from nodes.dledger.records import SYSTEM_TOPIC
from nodes.remoting.codes import ResponseCode
from nodes.remoting.command import Command
from nodes.remoting.connection import Connection
from nodes.remoting.message import decode_record

__all__ = ["QueryProcessor"]

_LONG_MAX = 2**63 - 1


class QueryProcessor:
    """Serves QUERY_MESSAGE and VIEW_MESSAGE_BY_ID."""

    def __init__(self, core: BrokerCore) -> None:
        self._core = core

    def by_key(self, connection: Connection, command: Command) -> Command:
        """12: messages of a topic that carry a key, or a unique key, newest first."""
        ext = command.ext
        most = min(max(1, whole(ext, "maxNum", 32)), self._core.config.default_query_max_num)
        begin, end = whole(ext, "beginTimestamp", 0), whole(ext, "endTimestamp", _LONG_MAX)
        records = self._core.store.query_by_key(text(ext, "topic"), text(ext, "key"), most, begin, end)
        fields = {
            "indexLastUpdateTimestamp": str(self._core.clock.now_ms()),
            "indexLastUpdatePhyoffset": str(self._core.store.visible_end),
        }
        if not records:
            return command.reply(ResponseCode.QUERY_NOT_FOUND.value, "can not find message, maybe time range", fields)
        return command.reply(ext=fields, body=b"".join(records))

    def by_id(self, connection: Connection, command: Command) -> Command:
        """33: the message that begins at a log offset."""
        offset = whole(command.ext, "offset")
        record = self._core.store.message_at(offset)
        if record is None or decode_record(record).topic == SYSTEM_TOPIC:
            return command.reply(ResponseCode.SYSTEM_ERROR.value, f"can not find message by the offset, {offset}")
        return command.reply(body=record)
