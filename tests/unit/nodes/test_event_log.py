"""Events are whole lines for machines and readable lines for people, and never stop a node."""

import io
import json
import os
from pathlib import Path

from nodes.clock import SystemClock, time_of_day
from nodes.flaws import Flaw
from nodes.log import EventLog


class StillClock:
    def now_ms(self) -> int:
        return 1_700_000_000_123

    def monotonic_ns(self) -> int:
        return 42


def test_an_event_is_one_json_line_and_one_readable_line(tmp_path: Path) -> None:
    text = io.StringIO()
    log = EventLog("broker-a-0", tmp_path / "logs" / "log.jsonl", text=text, clock=StillClock())
    log.event("broker registered", addr="127.0.0.1:10911", id=0, reason="a b", flaw=Flaw.SKIP_CRC, empty="")
    log.warning("connection dropped", peer="p", reason=ValueError("bad = worse"))
    log.error("fsync failed", path=tmp_path)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "t_ns": 42,
        "wall_ms": 1_700_000_000_123,
        "node": "broker-a-0",
        "event": "broker registered",
        "addr": "127.0.0.1:10911",
        "id": 0,
        "reason": "a b",
        "flaw": "skip-crc-on-recovery",
        "empty": "",
    }
    assert [(line.get("level"), line["event"]) for line in lines[1:]] == [
        ("warning", "connection dropped"),
        ("error", "fsync failed"),
    ]
    assert lines[1]["reason"] == "ValueError: bad = worse"
    at = time_of_day(1_700_000_000_123)
    readable = text.getvalue().splitlines()
    assert readable[0] == (
        f'{at} broker-a-0 broker registered addr=127.0.0.1:10911 id=0 reason="a b" flaw=skip-crc-on-recovery empty=""'
    )
    assert readable[1] == f'{at} broker-a-0 WARNING connection dropped peer=p reason="ValueError: bad = worse"'


def test_debug_events_are_dropped_unless_asked_for() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    EventLog("n", text=quiet).debug("detail")
    EventLog("n", text=loud, debug=True).debug("detail")
    assert quiet.getvalue() == ""
    assert "DEBUG detail" in loud.getvalue()


def test_two_writers_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first, second = EventLog("a", path), EventLog("b", path)
    first.event("one")
    second.event("two")
    first.event("three")
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["one", "two", "three"]
    first.close()
    second.close()


def test_a_log_that_cannot_be_written_is_counted_and_harmless(tmp_path: Path) -> None:
    text = io.StringIO()
    log = EventLog("n", tmp_path / "log.jsonl", text=text)
    os.close(log._fd or 0)
    text.close()
    log.event("lost")
    assert log.lost == 2
    log._fd = None
    log.event("lost too")
    assert log.lost == 3


def test_the_real_clocks_move_forward() -> None:
    clock = SystemClock()
    assert clock.now_ms() > 1_600_000_000_000
    assert clock.monotonic_ns() <= clock.monotonic_ns()
