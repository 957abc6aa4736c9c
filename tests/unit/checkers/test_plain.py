"""The compiled reader of histories and dumps gives what the typed decoder gives, and leaves to it what is not plain."""

import json
import random
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from checkers.builder import HistoryBuilder, load_history
from checkers.dumps import load_replicas
from checkers.event import Event, HistoryError
from checkers.plain import PLAIN, Plain
from tests.unit.checkers.raft import RaftPretend, raft_run
from tests.unit.checkers.runs import Pretend, pretend_run

pytestmark = pytest.mark.skipif(PLAIN is None, reason="no compiler was found, so the compiled reader is not there")

META = '{"index":0,"time":0,"process":"lab","type":"info","f":"meta","value":{"format":1,"run":"r"}}'
DAMAGE = [
    '"',
    "{",
    "}",
    "[",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-",
    "1.5",
    "9" * 19,
    "9" * 20,
    "é",
    "\\u00e9",
    "\\n",
    " ",
    "\n",
    "\xff",
]


def whole(found: Any) -> Any:
    """Return all that a value holds, down to the types of its columns."""
    if isinstance(found, np.ndarray):
        return str(found.dtype), found.tolist()
    if is_dataclass(found):
        return {field.name: whole(getattr(found, field.name)) for field in fields(found)}
    if isinstance(found, dict):
        return [(key, whole(value)) for key, value in found.items()]
    return [whole(one) for one in found] if isinstance(found, list | tuple) else found


def loaded(path: Path, plain: Plain | None) -> Any:
    try:
        history = load_history(path, plain=plain)
    except HistoryError as error:
        return str(error), error.events_read
    return whole(history), whole(load_replicas(history, path.parent, plain=plain))


def same(path: Path) -> Any:
    """Return what both readers found."""
    found = loaded(path, PLAIN)
    assert found == loaded(path, None)
    return found


def lines(events: list[Event]) -> list[bytes]:
    return [
        msgspec.json.encode(msgspec.structs.replace(event, index=number)) for number, event in enumerate(events)
    ]  # fmt: skip


RUNS: dict[str, Callable[[], list[Event]]] = {
    "one master": lambda: pretend_run(Pretend(seed=3)),
    "a group": lambda: raft_run(RaftPretend(5)),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_read_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"\n".join(lines(RUNS[name]())) + b"\n")
    history, _ = same(path)
    assert len(history["sends"]["value"][1]) > 50
    assert len(history["entries"]["value"][1]) > 50


@pytest.mark.random
@pytest.mark.parametrize("seed", range(60))
def test_damaged_histories_are_read_the_same(seed: int, tmp_path: Path) -> None:
    """A few bytes of a run are exchanged, lines doubled, dropped or moved."""
    chance = random.Random(seed)
    kept = lines(RUNS[chance.choice(list(RUNS))]())
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(1, len(kept))
        how = chance.randrange(6)
        if how == 0:
            del kept[at]
        elif how == 1:
            kept.insert(at, kept[chance.randrange(1, len(kept))])
        elif how == 2:
            event = json.loads(kept[at])
            event[chance.choice(list(event))] = chance.choice([None, True, 1, 2**70, "x", [], {}, ["a"], 1.5, -1])
            kept[at] = json.dumps(event).encode()
        else:
            line, place = kept[at].decode(), chance.randrange(len(kept[at]))
            damage = chance.choice(DAMAGE)
            changed = line[:place] + damage + line[place + chance.randrange(3) :]
            kept[at] = changed.encode("latin-1" if damage == "\xff" and changed.isascii() is False else "utf-8")
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"\n".join(kept) + b"\n" * chance.randrange(2))
    same(path)


def event(index: int, kind: str, f: str, more: str = "") -> str:
    return f'{{"index":{index},"time":{index},"process":1,"type":"{kind}","f":"{f}"{more}}}'


def taken(*events: str) -> int:
    """Return how many events behind the meta event the compiled reader takes before it stops."""
    assert PLAIN is not None
    builder = HistoryBuilder()
    builder.add([msgspec.json.decode(META, type=Event)])
    block = "".join(f"{one}\n" for one in events).encode()
    count, at = builder.take(PLAIN, block, 0)
    assert block[:at].count(b"\n") == count
    return count


@pytest.mark.parametrize("name", Event.__struct_fields__[5:])
def test_every_member_is_known(name: str) -> None:
    """One that the compiled reader has never heard of would leave every event that has it to the decoder."""
    assert taken(event(1, "invoke", "poll", f',"{name}":null')) == 1


SEND = '"value":"r/1/1","queue":"t/g/0"'
PLAIN_PAIRS = [
    (event(1, "invoke", "send", f",{SEND}"), event(2, "ok", "send", f',{SEND},"offset":0,"flushed":true')),
    (event(1, "invoke", "append", f',{SEND},"key":"k"'), event(2, "ok", "append", ',"attempts":2,"sentinel":true')),
    (event(1, "invoke", "poll", ',"queue":"t/g/0","mode":"assign"'), event(2, "ok", "poll", ',"value":{}')),
    (event(1, "invoke", "poll"), event(2, "ok", "poll", ',"value":{"t/g/0":[[0,"r/1/1"],[1,"r/1/2"]],"t/g/1":[]}')),
    (event(1, "invoke", "handle", ',"value":{"t/g/0":[[0,"r/1/1"]]}'), event(2, "ok", "handle", ',"orderly":false')),
    (event(1, "invoke", "read", ',"queue":"t/g/0"'), event(2, "ok", "read", ',"value":{"t/g/0":[[7,"r/1/1"]]}')),
    (event(1, "invoke", "drain", ',"round":1'), event(2, "ok", "drain", ',"value":{"t":[[0,"s"]]},"complete":true')),
    (event(1, "invoke", "send", f",{SEND}").replace(",", " , ").replace(":1,", " : 1 ,"), event(2, "ok", "send")),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "answered"), PLAIN_PAIRS)
def test_plain_events_are_taken(asked: str, answered: str, tmp_path: Path) -> None:
    assert taken(asked, answered) == 2
    path = tmp_path / "history.jsonl"
    path.write_text(f"{META}\n{asked}\n{answered}\n")
    history, _ = same(path)
    assert history["breaches"] == []
    assert len(history["sends"]["value"][1]) + len(history["reads"]["queue"][1]) > 0


ASKED = event(1, "invoke", "send", f",{SEND}")
POLLED = event(1, "invoke", "poll", ',"queue":"t/g/0"')
LEFT = [
    (1, ASKED, event(2, "info", "send", ',"error":{"phase":"reply","code":"timeout"}')),
    (1, ASKED, event(2, "fail", "send")),
    (1, ASKED, event(3, "ok", "send")),
    (1, ASKED, event(2, "ok", "append")),
    (1, ASKED, event(2, "ok", "send", ',"value":"r/1/2"')),
    (1, ASKED, event(2, "ok", "send", ',"offset":[0]')),
    (1, ASKED, event(2, "ok", "send", ',"offset":1.0')),
    (1, ASKED, event(2, "ok", "send", ',"status":"SEND_OK","status":"SEND_OK"')),
    (1, ASKED, event(2, "ok", "send", ',"nobody knows this":1')),
    (1, ASKED, event(2, "invoke", "send", f",{SEND}")),
    (1, ASKED, event(2, "ok", "send").replace('"time":2', '"time":0')),
    (1, ASKED, event(2, "ok", "send").replace('"time":2', '"time":4611686018427387904')),
    (1, ASKED, event(2, "ok", "send").replace('"process":1', '"process":"lab"')),
    (1, ASKED, event(2, "ok", "send").replace('"process":1', '"process":2147483648')),
    (0, event(1, "invoke", "send", ',"value":"é"'), ""),
    (1, event(1, "invoke", "send", ',"value":["a","b"]'), event(2, "ok", "send")),
    (1, event(1, "invoke", "send", ',"value":7'), event(2, "ok", "send", ',"value":7')),
    (1, event(1, "invoke", "read", ',"value":{"t/g/0":5}'), event(2, "ok", "read", ',"value":{}')),
    (1, event(1, "invoke", "read", ',"key":"k"'), event(2, "ok", "read")),
    (1, event(1, "invoke", "read"), event(2, "ok", "read", ',"value":["a"]')),
    (1, event(1, "invoke", "end", ',"value":"t/g/0"'), event(2, "ok", "end", ',"value":3')),
    (1, POLLED, event(2, "ok", "poll", ',"value":{"t/g/0":[[0,null]]}')),
    (1, POLLED, event(2, "ok", "poll", ',"value":{"t/g/0":[[0,"a",1]]}')),
    (1, POLLED, event(2, "ok", "poll", ',"value":{"t/g/0":[["0","a"]]}')),
    (1, POLLED, event(2, "ok", "poll", ',"value":{"t/g/0":null}')),
    (1, POLLED, event(2, "ok", "poll", ',"value":{"t/g/0":[],"t/g/0":[]}')),
    (1, POLLED, event(2, "ok", "poll", ',"moved":true')),
    (1, POLLED, event(2, "ok", "poll", ',"seek":{"t/g/0":0}')),
    (1, POLLED, event(2, "ok", "poll", ',"queues":["t/g/0"]')),
]  # fmt: skip


@pytest.mark.parametrize(("count", "first", "second"), LEFT)
def test_other_events_are_left(count: int, first: str, second: str, tmp_path: Path) -> None:
    """Nothing of them is touched: what `add` makes of them afterwards is the same."""
    assert taken(first, second) == count
    path = tmp_path / "history.jsonl"
    path.write_text(f"{META}\n{first}\n{second}\n{event(4, 'invoke', 'poll')}\n")
    same(path)


def test_retired_process_is_left() -> None:
    """That it goes on at all is a breach."""
    assert PLAIN is not None
    builder = HistoryBuilder()
    known = [META, ASKED, event(2, "info", "send")]
    builder.add(msgspec.json.decode(one, type=Event) for one in known)
    assert builder.take(PLAIN, event(3, "invoke", "poll").encode(), 0) == (0, 0)


RECORD: dict[str, Any] = {
    "o": 0,
    "s": 90,
    "d": "00ff00ff00ff00ff",
    "t": 1,
    "q": "t/g/0",
    "k": 0,
    "v": "r/1/1",
    "x": True,
}


def dumped(tmp_path: Path, *records: Any) -> Path:
    """Write a history of one send and a dump with these records."""
    value = json.dumps(
        {"group": "g", "node": "n", "file": "n.jsonl", "begin": 0, "end": 90, "epochs": [], "complete": True}
    )
    dump = f'{{"index":3,"time":3,"process":"lab","type":"info","f":"dump","value":{value}}}'
    path = tmp_path / "history.jsonl"
    path.write_text(f"{META}\n{ASKED}\n{event(2, 'ok', 'send')}\n{dump}\n")
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records)
    (tmp_path / "n.jsonl").write_text(text)
    return path


RECORDS: list[tuple[Any, bool]] = [
    (RECORD, True),
    ({**RECORD, "c": False, "q": None, "k": None, "v": None}, True),
    ({**RECORD, "q": "t/g/9", "v": "nobody sent this", "d": "ab"}, True),
    ({**RECORD, "d": "filler"}, False),
    ({**RECORD, "d": "0x12"}, False),
    ({**RECORD, "d": ""}, False),
    ({**RECORD, "d": "AB"}, False),
    ({**RECORD, "v": "é"}, False),
    ({**RECORD, "o": 2**64}, False),
    ({**RECORD, "o": None}, False),
    ({**RECORD, "more": 1}, False),
    ('{"o":0,"s":90,"d":"ab"}', False),
    ('{"o":0,"s":', False),
    ("", False),
]


@pytest.mark.parametrize(("record", "plain"), RECORDS)
def test_records_of_dumps(record: Any, plain: bool, tmp_path: Path) -> None:
    """Whatever stands between two plain records, both readers say the same."""
    assert PLAIN is not None
    path = dumped(tmp_path, RECORD, record, {**RECORD, "o": 90})
    _, replicas = same(path)
    rows = len(replicas["dumps"][0]["offset"][1])
    lone = (record if isinstance(record, str) else json.dumps(record)).encode() + b"\n"
    assert PLAIN.take_records(lone, 0, bytearray(), {None: -1}, [], {}) == (len(lone) if plain else 0)
    assert rows == 3 or not plain
    assert replicas["dumps"][0]["value"][1][0] == 0
