"""Jepsen's histories: EDN maps with :process, :type, :f, :value, one after the other or in one vector.

Everything is taken that the versions of Jepsen and Knossos wrote: with and without :index and :time, over one line or
many, `#jepsen.history.Op{…}`, a :key beside the :value (which makes the value [key value]), further keys of any name.
The order of the maps is the order of events.
"""

from __future__ import annotations

from typing import Any

from checkers.linearizability.formats import edn
from checkers.linearizability.formats.recording import NUMBER_MAX, TYPE_NUMBER, GrowingBlock, Recorder, Recording
from checkers.linearizability.formats.source import Source


def read(source: Source) -> Recording:
    """Read a history. Raises `FormatError` at the first form that is damaged or out of order."""
    recorder = Recorder(source)
    block = GrowingBlock(recorder)
    order = _Order(source)
    for line, form in edn.forms(source):
        if form.__class__ is not dict:
            raise source.error(line, f"an event is a map like {{:process 0, :type :invoke, …}}, not {str(form)[:60]!r}")
        recorder.events += 1
        order.check(line, form)
        if _client(source, line, form):
            _add(source, block, line, form, recorder.events - 1)
    block.hand_over()
    return recorder.recording()


class _Order:
    """Holds the indices, where a history has them, to counting one by one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._next: int | None = None
        self._without = 0

    def check(self, line: int, form: dict[Any, Any]) -> None:
        """Take the next event."""
        index = form.get("index")
        if index is None:
            if self._next is not None:
                raise self._source.error(line, "this event has no :index, but those before it have one")
            self._without = line
            return
        if index.__class__ is not int:
            raise self._source.error(line, f":index is a whole number, not {str(index)[:40]!r}")
        if self._without:
            raise self._source.error(line, f"this event has an :index, but the one of line {self._without} has none")
        if self._next is not None and index != self._next:
            if index < self._next:
                reason = f":index {index} where {self._next} comes next: events were repeated or are out of order"
            else:
                reason = (
                    f":index {index} where {self._next} comes next: events are missing; if they were left out on "
                    "purpose, leave out :index too"
                )
            raise self._source.error(line, reason)
        self._next = index + 1


def _client(source: Source, line: int, form: dict[Any, Any]) -> bool:
    process = form.get("process")
    if process.__class__ is int and abs(process) <= NUMBER_MAX:
        return True
    if isinstance(process, str) and process.startswith("nemesis"):
        return False
    found = "missing" if process is None else repr(process)[:60]
    raise source.error(line, f":process is a whole number or :nemesis, not {found}")


def _add(source: Source, block: GrowingBlock, line: int, form: dict[Any, Any], place: int) -> None:
    kind, f, time, value = form.get("type"), form.get("f"), form.get("time"), form.get("value")
    if not isinstance(kind, str) or kind not in TYPE_NUMBER:
        raise source.error(line, f":type is :invoke, :ok, :fail or :info, not {str(kind)[:40]!r}")
    if not isinstance(f, str):
        raise source.error(line, f":f is a name, not {str(f)[:40]!r}")
    if time is not None and (time.__class__ is not int or abs(time) > NUMBER_MAX):
        raise source.error(line, f":time is in nanoseconds, not {str(time)[:40]!r}")
    if "key" in form:
        value = [form["key"], value]
    unknown = kind in ("fail", "info") and value.__class__ is edn.Keyword  # an old way to say why: :value :timed-out
    block.recorder.clock = block.recorder.clock or time is not None
    error = unknown or form.get("error") is not None
    value = None if unknown else edn.plain(value)
    time = place if time is None else time
    block.add(line, form["process"], TYPE_NUMBER[kind], str(f), value, time, error=error)
