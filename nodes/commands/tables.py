"""The tables that `mqadmin` prints, in RocketMQ's columns. Pure: values in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from nodes.client.admin import ConsumeRow, TopicRow
from nodes.client.messages import Message

__all__ = [
    "cluster_lines",
    "consume_lines",
    "group_lines",
    "key_lines",
    "message_lines",
    "status_lines",
    "time_text",
    "topic_lines",
]

BrokerRow = tuple[str, str, int, str, Mapping[str, str] | None]
"""Cluster, group, id, address, runtime information (None: the broker did not answer)."""


def time_text(wall_ms: int) -> str:
    """A wall-clock time in the local zone; `-` for none."""
    if wall_ms <= 0:
        return "-"
    return datetime.fromtimestamp(wall_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S,") + f"{wall_ms % 1000:03d}"


def _line(form: str, *columns: object) -> str:
    return (form % columns).rstrip()


def _first(text: str) -> float:
    """The first number of a list of rates, over 10 s, 1 min and 10 min."""
    words = text.split()
    try:
        return float(words[0]) if words else 0.0
    except ValueError:
        return 0.0


_CLUSTER = "%-22s  %-22s  %-4s  %-22s  %-16s  %16s  %16s  %11s  %8s  %8s"


def cluster_lines(rows: Iterable[BrokerRow], now_ms: int) -> list[str]:
    """clusterList: one line for each broker. A broker that does not answer is OFFLINE."""
    lines = [
        _line(
            _CLUSTER,
            "#Cluster Name",
            "#Broker Name",
            "#BID",
            "#Addr",
            "#Version",
            "#InTPS(LOAD)",
            "#OutTPS(LOAD)",
            "#PCWait(ms)",
            "#Hour",
            "#SPACE",
        )
    ]
    for cluster, name, broker_id, address, runtime in rows:
        if runtime is None:
            lines.append(_line(_CLUSTER, cluster, name, broker_id, address, "OFFLINE", "-", "-", "-", "-", "-"))
            continue
        out = runtime.get("getTransferredTps") or runtime.get("getTransferedTps") or ""
        load_in = f"{runtime.get('sendThreadPoolQueueSize', '0')},{_wait(runtime, 'send')}ms"
        load_out = f"{runtime.get('pullThreadPoolQueueSize', '0')},{_wait(runtime, 'pull')}ms"
        earliest = int(_first(runtime.get("earliestMessageTimeStamp", "0")))
        hours = (now_ms - earliest) / 3_600_000 if earliest > 0 else 0.0
        lines.append(
            _line(
                _CLUSTER,
                cluster,
                name,
                broker_id,
                address,
                runtime.get("brokerVersionDesc", "-"),
                f"{_first(runtime.get('putTps', '')):.2f}({load_in})",
                f"{_first(out):.2f}({load_out})",
                runtime.get("pageCacheLockTimeMills", "0"),
                f"{hours:.2f}",
                f"{_first(runtime.get('commitLogDiskRatio', '0')):.4f}",
            )
        )
    return lines


def _wait(runtime: Mapping[str, str], what: str) -> str:
    return runtime.get(f"{what}ThreadPoolQueueHeadWaitTimeMills", "0")


def status_lines(runtime: Mapping[str, str]) -> list[str]:
    """brokerStatus: every value by its name, sorted; `maxOffset` repeats the end of the commit log for scripts."""
    values = dict(runtime)
    if "commitLogMaxOffset" in values:
        values.setdefault("maxOffset", values["commitLogMaxOffset"])
    return [_line("%-32s: %s", key, value) for key, value in sorted(values.items())]


def topic_lines(rows: Sequence[TopicRow]) -> list[str]:
    """topicStatus: the bounds of every queue."""
    form = "%-32s  %-4s  %-20s  %-20s    %s"
    lines = [_line(form, "#Broker Name", "#QID", "#Min Offset", "#Max Offset", "#Last Updated")]
    lines += [
        _line(
            form,
            row.queue.broker_name,
            row.queue.queue_id,
            row.min_offset,
            row.max_offset,
            "" if row.last_update_ms <= 0 else time_text(row.last_update_ms),
        )
        for row in rows
    ]
    return lines


def consume_lines(rows: Sequence[ConsumeRow]) -> list[str]:
    """consumerProgress of one group: how far it is on every queue, and the sum of what is left."""
    form = "%-40s  %-32s  %-4s  %-20s  %-20s  %-20s  %s"
    lines = [_line(form, "#Topic", "#Broker Name", "#QID", "#Broker Offset", "#Consumer Offset", "#Diff", "#LastTime")]
    lines += [
        _line(
            form,
            row.queue.topic,
            row.queue.broker_name,
            row.queue.queue_id,
            row.broker_offset,
            row.consumer_offset,
            row.lag,
            time_text(row.last_ms),
        )
        for row in rows
    ]
    lines += ["", f"Diff Total: {sum(row.lag for row in rows)}"]
    return lines


def group_lines(rows: Iterable[tuple[str, int, str, str, int]]) -> list[str]:
    """consumerProgress of all groups: group, members, type, model, messages left."""
    form = "%-64s  %-6s  %-10s  %-14s  %s"
    lines = [_line(form, "#Group", "#Count", "#Type", "#Model", "#Diff Total")]
    lines += [_line(form, *row) for row in rows]
    return lines


def key_lines(messages: Iterable[Message]) -> list[str]:
    """queryMsgByKey: where the messages lie."""
    form = "%-50s %-24s %4s %20s"
    lines = [_line(form, "#Message ID", "#Broker Name", "#QID", "#Offset")]
    lines += [
        _line(form, message.message_id, message.broker_name, message.queue_id, message.queue_offset)
        for message in messages
    ]
    return lines


def message_lines(message: Message) -> list[str]:
    """queryMsgById: everything about one message but its body, of which the length is told."""
    form = "%-20s %s"
    return [
        _line(form, "OffsetID:", message.offset_message_id),
        _line(form, "Message ID:", message.message_id),
        _line(form, "Topic:", message.topic),
        _line(form, "Tags:", f"[{message.tags}]"),
        _line(form, "Keys:", f"[{' '.join(message.keys)}]"),
        _line(form, "Queue ID:", message.queue_id),
        _line(form, "Queue Offset:", message.queue_offset),
        _line(form, "CommitLog Offset:", message.log_offset),
        _line(form, "Reconsume Times:", message.reconsume_times),
        _line(form, "Born Timestamp:", time_text(message.born_timestamp)),
        _line(form, "Store Timestamp:", time_text(message.store_timestamp)),
        _line(form, "Born Host:", message.born_host),
        _line(form, "Store Host:", message.store_host),
        _line(form, "System Flag:", message.sys_flag),
        _line(form, "Properties:", message.properties),
        _line(form, "Body Length:", len(message.body)),
    ]
