"""Histories: the event format, its files, and a whole run as columns.

with HistoryWriter("runs/x/history.jsonl.zst") as out:
    out.append(Event(0, time_ns, process, "invoke", "send", "run/1/17", queue="t/broker-a/0"))
history = load_history("runs/x/history.jsonl.zst")
"""

from checkers.builder import HistoryBuilder, build_history, load_history
from checkers.columns import History
from checkers.event import FORMAT_VERSION, LAB, NEMESIS, SEND_OK, Event, HistoryError
from checkers.files import HistoryWriter, LineWriter, encode_event, read_events, read_lines
from checkers.meta import Bounds, Gates, GroupMeta, Meta, MetaError, parse_meta

__all__ = [
    "FORMAT_VERSION",
    "LAB",
    "NEMESIS",
    "SEND_OK",
    "Bounds",
    "Event",
    "Gates",
    "GroupMeta",
    "History",
    "HistoryBuilder",
    "HistoryError",
    "HistoryWriter",
    "LineWriter",
    "Meta",
    "MetaError",
    "build_history",
    "encode_event",
    "load_history",
    "parse_meta",
    "read_events",
    "read_lines",
]
