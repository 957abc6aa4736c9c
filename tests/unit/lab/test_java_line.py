"""The line protocol with the Java program, spoken with a stand-in: pairing of answers, and every way to end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lab.errors import SetupError
from lab.workers.java.line import JavaEnded, JavaLine

STAND_IN = Path(__file__).with_name("java_stand_in.py")


def talk(folder: Path, story: Callable[[JavaLine], Awaitable[None]], *arguments: str) -> list[str]:
    """Talk with a stand-in; returns what the line said of an end that nobody asked for."""
    ends: list[str] = []

    async def whole() -> None:
        line = await JavaLine.start([sys.executable, str(STAND_IN), *arguments], folder, ends.append)
        try:
            async with asyncio.timeout(60):
                await story(line)
        finally:
            await line.close()

    asyncio.run(whole())
    return ends


def test_answers_find_their_commands_in_any_order(tmp_path: Path) -> None:
    """Operations of many clients are under way at a time, and a slow one holds up no other."""

    async def story(line: JavaLine) -> None:
        first, second = await asyncio.gather(line.call("send", "c1", "x"), line.call("send", "c2", "y"))
        assert (first["ok"], second["ok"]) == ({"answers": 1}, {"answers": 2})

    assert talk(tmp_path, story, "swap=send") == []
    assert (tmp_path / "heard").read_text() == "1 send c1 x\n2 send c2 y\n"


def test_an_end_is_told_to_whoever_waits_and_to_the_lab(tmp_path: Path) -> None:
    """With the exit code and the last words; what was outstanding is over, and so is all that comes later."""

    async def story(line: JavaLine) -> None:
        for verb in ("send", "pull"):
            with pytest.raises(JavaEnded, match="ended with 7: out of memory"):
                await line.call(verb, "c1")

    (words,) = talk(tmp_path, story, "die=send")
    assert "ended with 7: out of memory" in words


def test_an_answer_that_cannot_be_read_ends_the_program(tmp_path: Path) -> None:
    """Nothing it says from then on could be believed."""

    async def story(line: JavaLine) -> None:
        with pytest.raises(JavaEnded, match="cannot be read"):
            await line.call("send", "c1")

    (words,) = talk(tmp_path, story, "babble=send")
    assert "cannot be read" in words


def test_whoever_gives_up_waiting_harms_nobody(tmp_path: Path) -> None:
    """The number is forgotten; later answers find their own commands."""

    async def story(line: JavaLine) -> None:
        waiting = asyncio.ensure_future(line.call("pull", "c1"))
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await line.call("send", "c1"))["ok"] == {}

    assert talk(tmp_path, story, "mute=pull") == []


def test_a_program_that_does_not_start_is_a_failure_of_set_up(tmp_path: Path) -> None:
    """With its own words."""

    async def start() -> None:
        words = [sys.executable, "-c", "import sys; sys.exit('no such class: Worker')"]
        with pytest.raises(SetupError, match="no such class: Worker"):
            await JavaLine.start(words, tmp_path, lambda _: None)

    asyncio.run(start())
