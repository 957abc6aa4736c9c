"""Damaged and hostile histories: one clear message with the line, nothing else, and never much memory."""

import gzip
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from checkers.linearizability.formats.read import FormatError, Options, read_operations, read_source
from checkers.linearizability.formats.source import Limits, Source
from tests.unit.checkers.formats.samples import GOLDEN, history, imported, line

GOOD = [
    line(0, 0, "invoke", "write", 1),
    line(1, 0, "ok", "write", 1),
    line(2, 1, "invoke", "read"),
    line(3, 1, "ok", "read", 1),
]


def edited(at: int, **members: Any) -> str:
    lines = list(GOOD)
    lines[at] = json.dumps({**json.loads(lines[at]), **members}) + "\n"
    return "".join(lines)


def without(at: int, member: str) -> str:
    lines = list(GOOD)
    found = json.loads(lines[at])
    del found[member]
    lines[at] = json.dumps(found) + "\n"
    return "".join(lines)


def replaced(at: int, text: str | bytes) -> bytes:
    lines = [one.encode() for one in GOOD]
    lines[at] = text.encode() if isinstance(text, str) else text
    return b"".join(lines)


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("empty", "", "h: holds no events: the file is empty"),
    ("blank", "\n \n", "h: holds no events: the file is empty"),
    ("truncated", "".join(GOOD)[:-20], "line 4: the file ends in the middle of this line"),
    ("truncated first", GOOD[0][:30], "line 1: the file ends in the middle of this line"),
    ("reordered", "".join([GOOD[0], GOOD[2], GOOD[1], GOOD[3]]), "line 2: index 2, but 1 comes next"),
    ("repeated", "".join([*GOOD[:2], *GOOD[1:]]), "line 3: index 1 for the second time"),
    ("missing line", "".join([GOOD[0], *GOOD[2:]]), "line 2: index 2, but 1 comes next: lines are missing"),
    ("starts late", "".join(GOOD[1:]), "line 1: index 1, but 0 comes next"),
    ("negative index", edited(0, index=-1), "line 1: index -1"),
    ("index as text", edited(2, index="2"), "line 3: not an event of a history: Expected `int`, got `str`"),
    ("index true", edited(1, index=True), "line 2: not an event of a history: Expected `int`, got `bool`"),
    ("index missing", without(1, "index"), "line 2: not an event of a history: Object missing required field `index`"),
    ("type missing", without(3, "type"), "line 4: not an event of a history: Object missing required field `type`"),
    ("value missing", without(3, "value"), "line 4: the value is missing"),
    ("wrong type", edited(1, type="done"), "line 2: not an event of a history: Invalid enum value 'done'"),
    ("process as float", edited(2, process=1.5), "line 3: not an event of a history: Expected `int | str`"),
    ("process as text", edited(2, process="client"), "line 3: the process is a whole number or 'nemesis'"),
    ("process too large", edited(2, process=1 << 70), "line 3: the process 1180591620717411303424 is out of range"),
    ("process too large by one", edited(2, process=1 << 62), "line 3: the process 4611686018427387904 is out"),
    ("time too large", edited(2, time=-(1 << 80)), "line 3: the time -1208925819614629174706176 is out of range"),
    ("time as text", edited(2, time="now"), "line 3: not an event of a history: Expected `int | null`"),
    ("f as number", edited(2, f=3), "line 3: not an event of a history: Expected `str`, got `int`"),
    ("unknown member", edited(2, vlaue=1), "line 3: not an event of a history: Object contains unknown field `vlaue`"),
    (
        "unknown f",
        "".join(GOOD[:2]) + line(2, 1, "invoke", "dequeue"),
        "line 3: 'dequeue' is no operation of register, which has read and write",
    ),
    ("no utf-8", replaced(2, b'{"index":2,"f":"\xff"}\n'), "line 3: not UTF-8 (byte 0xff)"),
    ("no utf-8 in a value", GOOD[0].encode().replace(b": 1,", b': "\xc3(",', 1), "line 1: not UTF-8"),
    ("no utf-8 outside strings", replaced(1, b"\xfe\n"), "line 2: not UTF-8 (byte 0xfe)"),
    ("binary", bytes(range(128, 256)), "line 1: not UTF-8 text"),
    ("not json", replaced(1, "{index: 1}\n"), "line 2: not JSON"),
    ("NaN", replaced(1, '{"index":1,"process":0,"type":"ok","f":"write","value":NaN}\n'), "line 2: not JSON"),
    ("infinite", replaced(1, '{"index":1,"process":0,"type":"ok","f":"write","value":1e999}\n'), "line 2: not an"),
    ("array", json.dumps([json.loads(one) for one in GOOD]), "line 1: a JSON array: write one event a line"),
    ("array in a line", replaced(1, "[1]\n"), "line 2: not an event of a history: Expected `object`, got `array`"),
    ("two events in a line", GOOD[0].strip() + "".join(GOOD[1:]), "line 1: not JSON (trailing characters"),
    ("edn between", replaced(2, "{:index 2, :process 1}\n"), "line 3: not JSON"),
    ("log between", replaced(2, "INFO  jepsen.util - 0\t:invoke\t:read\tnil\n"), "line 3: not JSON"),
    ("csv", "index,process,type\n0,1,ok\n", "line 1: begins like none of the formats jsonl, edn, porcupine, lab"),
    ("deep", replaced(2, '{"index":2,"process":1,"type":"invoke","f":"read","value":' + "[" * 9999 + "}\n"), "line 3"),
    (
        "open twice",
        "".join([GOOD[0], line(1, 0, "invoke", "read")]),
        "line 2: process 0 invokes read while its write of line 1 is still open",
    ),
    ("other f", edited(1, f="read"), "line 2: completes read, but process 0 invoked write in line 1"),
    ("other value", edited(1, value=2), "line 2: answers 2, but asked was 1"),
    ("true for 1", edited(1, value="1"), 'line 2: answers "1", but asked was 1'),
]


@pytest.mark.parametrize(("text", "says"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
@pytest.mark.parametrize("piece", [16, 1 << 18])
def test_broken_json_lines(text: str | bytes, says: str, piece: int) -> None:
    """Each names its line."""
    with pytest.raises(FormatError) as caught:
        list(imported(text, "register", piece=piece).operations)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


SHAPES: list[tuple[str, str, Any, Any, str]] = [
    ("cas-register", "cas", 1, None, "line 1: the value must be [from, to], not 1"),
    ("cas-register", "cas", [1, 2, 3], None, "line 1: the value must be [from, to]"),
    ("cas-register", "cas", [1, 2], [1, 3], "line 2: answers [1,3], but asked was [1,2]"),
    ("cas-register", "cas", [0, 1], [False, True], "line 2: answers [false,true], but asked was [0,1]"),
    ("fifo-queue", "enqueue", None, None, "line 1: null cannot be put in"),
    ("fifo-queue", "dequeue", 4, 4, "line 1: the value of this invocation must be null, not 4"),
    ("total-queue", "drain", None, 4, "line 2: the answer must be a list, not 4"),
    ("set", "read", None, None, "line 2: the answer must be a list, not null"),
    ("append-log", "append", "a", None, 'line 1: the value must be [null, value], not "a"'),
    ("append-log", "append", [0, "a"], None, "line 1: append takes [null, value]"),
    ("append-log", "append", [None, "a"], [-1, "a"], "line 2: an offset is a whole number from 0, not -1"),
    ("append-log", "append", [None, "a"], [True, "a"], "line 2: an offset is a whole number from 0, not true"),
    ("append-log", "append", [None, "a"], [0, "b"], 'line 2: answers for "b", but appended was "a"'),
    ("append-log", "read", ["0", None], None, 'line 1: an offset is a whole number from 0, not "0"'),
    ("append-log", "read", [0, None], [1, "a"], "line 2: answers for offset 1, but asked was offset 0"),
    ("append-log", "read", [0, None], None, "line 2: the value must be [offset, value]"),
    ("kv", "get", "k", None, "line 1: the value must be [key, null]"),
    ("kv", "get", ["k", None], ["l", 1], 'line 2: answers for key "l", but asked was "k"'),
    ("kv", "put", [None, 1], None, "line 1: a key is a string or a number, not null"),
    ("kv", "put", [["k"], 1], None, 'line 1: a key is a string or a number, not ["k"]'),
    ("kv-append", "append", ["k", 1], None, "line 1: values of kv-append are strings, not 1"),
    ("kv-append", "get", ["k", None], ["k", None], "line 2: values of kv-append are strings, not null"),
    ("multi-register", "txn", {"read": 1}, None, "line 1: a txn is a list of"),
    ("multi-register", "txn", [["raed", 1, None]], None, "line 1: a step is"),
    ("multi-register", "txn", [["read", 1, None]], [["read", 2, 5]], "line 2: answers"),
    ("multi-register", "txn", [["read", 1, None]], [], "line 2: answers"),
]


@pytest.mark.parametrize(("model", "f", "asked", "answer", "says"), SHAPES)
def test_values_of_a_wrong_shape(model: str, f: str, asked: Any, answer: Any, says: str) -> None:
    """A value that the model cannot mean is refused, not guessed at."""
    with pytest.raises(FormatError) as caught:
        list(imported(history((0, ">", f, asked), (0, "<", f, answer)), model).operations)
    assert says in str(caught.value)


def test_unknown_members_can_be_allowed() -> None:
    """By an option: harnesses record more than the format has."""
    text = edited(2, host="n1")
    assert len(imported(text, "register", unknown_fields=True).operations) == 2


EDN = "{:process 0, :type :invoke, :f :read, :value nil}\n"

BROKEN_EDN: list[tuple[str | bytes, str]] = [
    (EDN + "{:process 0, :type :ok, :f :re", "line 2: the file ends inside a form that begins here"),
    ("[" + EDN, "line 1: the file ends inside a form that begins here"),
    (EDN + '{:process 0, :value "abc\n', "line 2: a string begins here and has no end"),
    (EDN + "{:process 0, :type}", "line 2: not EDN: a map with a key and no value"),
    (EDN + "{:type :ok :type :ok}", "line 2: not EDN: a map with 'type' twice"),
    (EDN + ")", "line 2: not EDN: ')' closes nothing"),
    (EDN + "{:a [1}", "line 2: not EDN: '}' closes '['"),
    (EDN + '{:a "\\q"}', "line 2: not EDN: the escape \\q means nothing"),
    (EDN + "{:a 1e999}", "line 2: not EDN: the number 1e999 is too large"),
    (EDN + "{:a " + "9" * 5000 + "}", "line 2: not EDN: a number of 5000 digits"),
    (EDN + "{:a " + "[" * 500, "line 2: not EDN: nested deeper than 200"),
    (EDN + "5", "line 2: an event is a map like"),
    ("[" + EDN + "] {:a 1}", "line 2: something stands after the end of the history's vector"),
    (EDN.encode() + b'{:a "\xff"}', "line 2: not UTF-8 (byte 0xff)"),
    (EDN.encode() + b'{:a "\xc3', "line 2: not UTF-8"),
    (EDN.replace(":process 0", ":process :worker"), "line 1: :process is a whole number or :nemesis, not 'worker'"),
    (EDN.replace(":process 0, ", ""), "line 1: :process is a whole number or :nemesis, not missing"),
    (EDN.replace(":invoke", ":begin"), "line 1: :type is :invoke, :ok, :fail or :info, not 'begin'"),
    (EDN.replace(":read", "3"), "line 1: :f is a name, not '3'"),
    (EDN.replace("}", " :time 0.5}"), "line 1: :time is in nanoseconds, not '0.5'"),
    (EDN.replace("}", " :index :a}"), "line 1: :index is a whole number, not 'a'"),
    (EDN.replace("}", " :index 4}") * 2, "line 2: :index 4 where 5 comes next: events were repeated"),
    (EDN.replace("}", " :index 4}") + EDN.replace("}", " :index 6}"), "line 2: :index 6 where 5 comes next"),
    (EDN + EDN.replace("}", " :index 1}"), "line 2: this event has an :index, but the one of line 1 has none"),
    (EDN.replace("}", " :index 1}") + EDN, "line 2: this event has no :index"),
    (EDN + EDN, "line 2: process 0 invokes read while its read of line 1 is still open"),
    (EDN + '{"index":1,"process":0,"type":"ok","f":"read","value":1}\n', "line 2"),
]


@pytest.mark.parametrize(("text", "says"), BROKEN_EDN)
@pytest.mark.parametrize("piece", [5, 1 << 18])
def test_broken_edn(text: str | bytes, says: str, piece: int) -> None:
    """Each names its line."""
    with pytest.raises(FormatError) as caught:
        list(imported(text, "register", piece=piece, format="edn").operations)
    assert says in str(caught.value)


LOG = "INFO  jepsen.util - 0\t:invoke\t:read\tnil\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LOG + "INFO  jepsen.util - 0\t:ok\n", "line 2: this log line has no process, :type and :f"),
        (LOG + "INFO  jepsen.util - 0\t:ok\t:read", "line 2: the line ends before its value"),
        (LOG + "INFO  jepsen.util - 0\t:ok\t:read\t[1", "line 2: the value '[1' is no EDN"),
        (LOG + "INFO  jepsen.util - x\t:ok\t:read\t1", "line 2: the process is a whole number or :nemesis, not 'x'"),
        (LOG + "INFO  jepsen.util - 0\t:done\t:read\t1", "line 2: the type is :invoke"),
        (LOG + "{:process 0}\n", "line 2: not a line of a log"),
        (LOG.encode() + b"INFO  jepsen.util - 0\t:ok\t:read\t\xff\n", "line 2: not UTF-8"),
    ],
)
def test_broken_logs(text: str | bytes, says: str) -> None:
    """Lines of other loggers are skipped, what is no log line is not."""
    with pytest.raises(FormatError) as caught:
        list(imported(text, "register").operations)
    assert says in str(caught.value)
    other = LOG + "WARN  jepsen.core - something else\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n"
    assert len(imported(other, "register").operations) == 1


@pytest.mark.parametrize("kind", ["jsonl", "edn", "porcupine"])
def test_a_line_without_end_is_refused_before_it_is_held(kind: str) -> None:
    """64 MiB of one line with a limit of 1 MiB: no more than a few are ever in memory."""
    start = {"jsonl": GOOD[0] + '{"index":1,"value":"', "edn": EDN + '{:process 0 :value "', "porcupine": LOG + "INFO "}
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        yield start[kind].encode()
        for _ in range(256):
            given += 1
            yield b"a" * (1 << 18)

    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"line 2: this (line|form) is longer than 1 MiB"):
            read_source(Source.of(endless(), "h", Limits(line=1 << 20)), "register")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert given < 10
    assert peak < 16 << 20


def test_many_small_forms_are_no_long_one() -> None:
    """The limit is on each form, also inside one vector."""
    text = "[" + EDN.replace("}", "") + " :x 1}" + "{:process 0, :type :ok, :f :read, :value 1}" * 50 + "]"
    assert len(imported(text, "register", limits=Limits(line=200), piece=64, format="edn").operations) == 1


@pytest.mark.parametrize("pack", [zstandard.ZstdCompressor().compress, gzip.compress])
def test_a_damaged_wrapping(pack: Any, tmp_path: Path) -> None:
    """Cut short or garbled is said with the line that was being read; a bomb is not unfolded."""
    text = "".join(line(index, index, "invoke", "write", index * 7919) for index in range(2000))
    packed = bytearray(pack(text.encode()))
    path = tmp_path / "h"
    path.write_bytes(packed[: len(packed) - 20])
    with pytest.raises(FormatError, match=r"h, line \d+: the compressed file ends in the middle"):
        read_operations(path, "register")
    path.write_bytes(packed[:8] + b"\xff" * 40 + packed[48:])
    with pytest.raises(FormatError, match=r"garbled|not UTF-8|not JSON|not an event"):
        read_operations(path, "register")
    path.write_bytes(pack(b'{"' + b" " * (80 << 20)))
    with pytest.raises(FormatError, match="longer than 32 MiB"):
        read_operations(path, "register", Options(limits=Limits(line=32 << 20)))


def test_any_prefix_of_a_history_is_read_or_refused() -> None:
    """No cut anywhere makes anything else than operations or the message."""
    for name in ("porcupine-etcd/etcd_001.jsonl", "porcupine-logs/etcd_001.log", "porcupine-logs/c01-bad.txt"):
        data = (GOLDEN / name).read_bytes()[:1500]
        model = "kv-append" if "c01" in name else "cas-register"
        for cut in range(1, len(data), 7):
            try:
                fine = isinstance(list(imported(data[:cut], model).operations), list)
            except FormatError as error:
                fine = error.line > 0 or "no events" in error.reason
            assert fine


@pytest.mark.random
@pytest.mark.parametrize("seed", range(8))
def test_damage_by_chance_is_read_or_refused(seed: int) -> None:
    """Bytes changed, lost, doubled or put in: operations or the message, and no other error."""
    chance = random.Random(seed)
    for name, model in DAMAGED.items():
        whole = (GOLDEN / name).read_bytes()[:3000].rsplit(b"\n", 1)[0] + b"\n"
        for _ in range(40):
            data = bytearray(whole)
            for _ in range(chance.choice([1, 1, 2, 5])):
                at = chance.randrange(len(data))
                kind = chance.randrange(4)
                if kind == 0:
                    data[at] = chance.randrange(256)
                elif kind == 1:
                    del data[at : at + chance.randrange(1, 40)]
                elif kind == 2:
                    start = chance.randrange(len(data))
                    data[at:at] = data[start : start + chance.randrange(1, 60)]
                else:
                    data[at : at + 1] = chance.choice(BITS)
            try:
                found = imported(bytes(data), model, piece=chance.choice([100, 1 << 18]))
                told = len(list(found.operations)) == len(found.operations)
            except FormatError as error:
                told = error.line > 0 or "no events" in error.reason
            assert told, (seed, name, bytes(data))


DAMAGED = {
    "porcupine-etcd/etcd_001.jsonl": "cas-register",
    "porcupine-logs/etcd_001.log": "cas-register",
    "porcupine-logs/c01-bad.txt": "kv-append",
    "porcupine-kv/c01-bad.jsonl": "kv-append",
}
BITS = [b"[", b"{", b'"', b"\n", b"null", b"-1", b"1e5", b"true", b":", b"9" * 30, b"\\", b"#", b";", b"\xff"]
