"""Journals and their merge: nothing that reached the wire is lost, and the order of each process stays."""

import errno
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from checkers.builder import load_history
from lab.errors import ExitCode, SetupError, storage_refusal
from lab.event import Event, event
from lab.journal import Journal
from lab.merge import merge, merge_again, merge_journals, read_journal, write_history
from lab.rundir import RunDir
from lab.workloads.reading import entries_of
from lab.workloads.values import VALUE_MAX, body_of, value_in, value_of
from nodes.client.messages import Message


def test_times_of_one_journal_strictly_grow(tmp_path: Path) -> None:
    """However fast events follow each other."""
    journal = Journal(tmp_path / "j.jsonl", 0)
    written = [journal.write(1, "invoke", "send", f"r/1/{n}") for n in range(200)]
    journal.close()
    times = [item["time"] for item in written]
    assert all(a < b for a, b in pairwise(times))
    assert list(read_journal(tmp_path / "j.jsonl")) == written


@pytest.mark.parametrize("refused", [True, False])
def test_a_journal_that_the_disk_refused_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Neither after an error nor after half a line: what came behind it could not be told from the torn line."""
    journal = Journal(tmp_path / "j.jsonl", 0)
    kept = journal.write(1, "invoke", "send", "r/1/0")
    whole = os.write

    def full(descriptor: int, data: bytes) -> int:
        if refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data[:7])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.write(1, "ok", "send", "r/1/0")
    with pytest.raises(OSError, match="No space left"):
        journal.write(1, "ok", "send", "r/1/0")
    journal.close()
    assert list(read_journal(tmp_path / "j.jsonl")) == [kept]


def test_a_full_disk_is_the_machine_s_fault() -> None:
    """It is told with the place and the way out; other errors stay bugs."""
    runs = Path("/runs")
    told = storage_refusal(OSError(errno.ENOSPC, "No space left on device", "/runs/x"), runs)
    assert told is not None
    assert "(/runs/x): No space left on device; nothing was judged" in str(told)
    assert told.exit_code is ExitCode.SETUP_FAILED
    assert storage_refusal(OSError(errno.EBADF, "Bad file descriptor"), runs) is None
    missing = (errno.ENOENT, "No such file or directory")
    assert storage_refusal(OSError(*missing, "/runs/x/faults.jsonl"), runs) is not None, "somebody removed the folder"
    assert storage_refusal(OSError(*missing, "/usr/bin/no-such-program"), runs) is None


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    """A killed worker leaves at most one."""
    journal = Journal(tmp_path / "j.jsonl", 0)
    kept = journal.write(1, "invoke", "send", "r/1/0", queue="t/g/0", none=None)
    journal.close()
    with (tmp_path / "j.jsonl").open("ab") as out:
        out.write(b'{"time":5,"proc')
    assert list(read_journal(tmp_path / "j.jsonl")) == [kept]
    assert "none" not in kept


def test_a_journal_that_somebody_damaged_is_told_and_not_judged(tmp_path: Path) -> None:
    """Messages whose sending is on no record any more would be called invented by the cluster."""
    folder = RunDir.create(tmp_path, "run")
    sizes = {}
    for writer in ("lab", "client-1"):
        journal = Journal(folder.journal(writer), 0)
        for number in range(3):
            journal.write("lab", "info", "meta" if writer == "lab" else "note", {"n": number})
        journal.close()
        sizes[writer] = journal.size
    path = folder.journal("client-1")
    whole = path.read_bytes()
    assert merge_journals(folder, sizes) == 6
    for damaged, words in (
        (whole[:-1], f"has {len(whole) - 1} bytes, and {len(whole)} were written to it"),
        (whole[1:], f"has {len(whole) - 1} bytes"),
        (b"x" + whole[1:], f"line 1 of {path} is no event"),
        (whole.replace(b"note", b"no\xffe", 1), f"line 1 of {path} is no event"),
        (None, "is gone"),
    ):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(SetupError, match=f"the recording is damaged: .*{re.escape(words)}.*nothing was judged"):
            merge_journals(folder, sizes)
        path.write_bytes(whole)


def test_what_writers_told_of_their_journals_may_be_damaged_too(tmp_path: Path) -> None:
    folder = RunDir.create(tmp_path, "run")
    for writer in ("lab", "client-1"):
        Journal(folder.journal(writer), 0).close()
    assert merge_again(folder) == 0
    for damaged in (b"", b"[1]", b'{"lab": "much"}', b'{"\xff": 1}'):
        folder.written.write_bytes(damaged)
        with pytest.raises(SetupError, match=r"the recording is damaged: .*written\.json holds no sizes of journals"):
            merge_again(folder)


def test_merging_sorts_by_time_with_invocations_first() -> None:
    """The meta event leads; at equal times an invocation comes before a completion."""
    lab = [event(7, "lab", "info", "meta", {}), event(50, "lab", "info", "phase", "load-end")]
    one: list[Event] = [event(5, 1, "invoke", "send", "a"), event(20, 1, "ok", "send", "a")]
    two: list[Event] = [event(20, 2, "invoke", "send", "b"), event(60, 2, "ok", "send", "b")]
    merged = list(merge([one, lab, two]))
    assert [(item["index"], item["f"], item["process"]) for item in merged] == [
        (0, "meta", "lab"),
        (1, "send", 1),
        (2, "send", 2),
        (3, "send", 1),
        (4, "phase", "lab"),
        (5, "send", 2),
    ]


def test_a_merged_history_is_one_that_the_checkers_read(tmp_path: Path) -> None:
    """The format is that of the checkers' own reader."""
    lab = Journal(tmp_path / "lab.jsonl", 0)
    lab.write("lab", "info", "meta", {"format": 1, "run": "r", "threads": 2})
    lab.write(0, "invoke", "send", "r/0/0", queue="t/g/0", intended=3)
    lab.write(0, "ok", "send", "r/0/0", queue="t/g/0", status="SEND_OK", ack="local", offset=0, node="n", attempts=1)
    lab.close()
    path = tmp_path / "history.jsonl.zst"
    assert write_history(path, merge([read_journal(tmp_path / "lab.jsonl")])) == 3
    history = load_history(path)
    assert (len(history), history.damage, history.meta.run, history.meta.threads) == (3, None, "r", 2)


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    """And the link points to the newest."""
    first, second = RunDir.create(tmp_path, "run"), RunDir.create(tmp_path, "run")
    assert first.path != second.path
    assert (tmp_path / "latest").resolve() == second.path.resolve()
    assert second.journals.is_dir()


def test_bodies_carry_their_value() -> None:
    """Whatever the size; what no lab wrote has none."""
    value = value_of("abcdef01", 12, 345)
    assert value == "abcdef01/12/345"
    for size in (0, 48, 300):
        body = body_of(value, size)
        assert value_in(body) == value
        assert len(body) >= size
    assert len(value_of("abcdef01", 99, 10**9)) <= VALUE_MAX
    for foreign in (b"", b"hello world", b"a/b/c", b"a/b/c/d e", "ä/b/c ".encode(), b"x" * 100 + b"/1/2 "):
        assert value_in(foreign) is None


def test_a_body_that_is_not_as_it_was_sent_shows_another_value() -> None:
    """Cut short, grown, or with other bytes behind the value: nobody sent that, and what was sent is missing."""
    value = value_of("abcdef01", 12, 345)
    body = body_of(value, 300)
    for found, shown in (
        (body, value),
        (body[:200], f"{value} damaged"),
        (body + b".", f"{value} damaged"),
        (body[:299] + b"\0", f"{value} damaged"),
        (body[:150] + bytes(150), f"{value} damaged"),
        (b"hello world", "foreign:hello world"),
    ):
        assert entries_of((Message("lab", found, queue_offset=7),), 300) == [[7, shown]]
    longer = body_of(value, 0)  # a value that needs more room than the plan's bodies have
    assert entries_of((Message("lab", longer, queue_offset=7),), 4) == [[7, value]]


def test_a_run_folder_is_absolute_wherever_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes start in folders of their own: a path relative to the lab's would not lead them to their files."""
    monkeypatch.chdir(tmp_path)
    folder = RunDir.create(Path("runs"), "demo")
    assert folder.path.is_absolute()
    assert (tmp_path / "runs" / "latest").resolve() == folder.path.resolve()
