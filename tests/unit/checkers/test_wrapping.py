"""What wraps a history file: told by its first bytes, followed to its end, and never unfolded further than asked."""

import gzip
import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from checkers import wrapping
from checkers.history import Event, HistoryError, encode_event, load_history
from checkers.wrapping import Broken, pieces

Pack = Callable[[bytes], bytes]
PACKS: list[Pack] = [zstandard.ZstdCompressor().compress, lambda data: gzip.compress(data, mtime=0)]
META = encode_event(Event(0, 0, "lab", "info", "meta", {"format": 1, "run": "r"}))


@pytest.mark.parametrize("pack", PACKS)
def test_every_cut_is_told(pack: Pack) -> None:
    """Also where what came before ends with a whole piece, or nothing came at all: it is never the end of the file."""
    for size in (10, 2 * wrapping.PIECE):
        text = b"0123456789" * (size // 10)
        packed = pack(text) + pack(text)
        first = len(pack(text))
        for cut in {*range(1, len(packed), max(1, len(packed) // 300)), *range(first - 9, first + 9)}:
            found: list[bytes] = []
            if cut == first:
                assert b"".join(pieces(io.BytesIO(packed[:cut]))) == text
                continue
            if cut < 4:  # not even its first bytes are there
                continue
            with pytest.raises(Broken, match="ends in the middle") as caught:
                found.extend(pieces(io.BytesIO(packed[:cut])))
            assert caught.value.truncated
            assert all(found)
            assert (text + text).startswith(b"".join(found))
        assert b"".join(pieces(io.BytesIO(packed))) == text + text


@pytest.mark.parametrize("pack", PACKS)
def test_what_came_before_garbage_is_given_first(pack: Pack) -> None:
    """So that the line of the damage can be told."""
    found: list[bytes] = []
    with pytest.raises(Broken, match="garbled") as caught:
        found.extend(pieces(io.BytesIO(pack(b"a\nb\n") + pack(b"c\n")[:5] + b"\xff" * 40)))
    assert not caught.value.truncated
    assert b"".join(found).startswith(b"a\nb\n")


@pytest.mark.parametrize("pack", PACKS)
def test_a_history_is_read_whatever_its_name(pack: Pack, tmp_path: Path) -> None:
    """By its first bytes; where it ends too early the events before that count."""
    path = tmp_path / "h.jsonl"
    text = META + b"".join(encode_event(Event(n, n, 0, "invoke", "poll")) for n in range(1, 40_000))
    path.write_bytes(pack(text))
    assert len(load_history(path).events.time) == 40_000
    path.write_bytes(pack(text)[:-4000])
    with pytest.raises(HistoryError, match=r"line \d+: the compressed file ends in the middle") as caught:
        load_history(path, strict=True)
    assert caught.value.truncated
    assert caught.value.events_read > 1000


@pytest.mark.parametrize("pack", PACKS)
def test_a_bomb_is_not_unfolded(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 MiB of one line with a limit of 1 MiB, from some kilobytes."""
    monkeypatch.setattr("checkers.files.LINE_MAX", 1 << 20)
    path = tmp_path / "h.jsonl"
    path.write_bytes(pack(META + b" " * (128 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(HistoryError, match="line 2: a line of more than 1048576 bytes"):
            load_history(path, strict=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 112 << 20


def test_a_value_nested_too_deeply_is_named(tmp_path: Path) -> None:
    """A hundred thousand brackets are no reason for a traceback."""
    path = tmp_path / "h.jsonl"
    line = '{"index":1,"time":1,"process":0,"type":"invoke","f":"send","value":' + "[" * 100_000
    path.write_bytes(META + line.encode() + b"\n")
    with pytest.raises(HistoryError, match="line 2: a value is nested too deeply"):
        load_history(path, strict=True)
