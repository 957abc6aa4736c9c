"""The line protocol with the Java program: commands out, answers back in any order, and its end noticed at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lab.errors import SetupError
from lab.workers.java.answers import Answer

LINE_MAX: Final = 8 * 1024 * 1024
"""Bytes of one answer: a batch of 256 messages, of each the first bytes, is far below."""
READY_S: Final = 60.0
WORDS_SHOWN: Final = 600


class JavaEnded(Exception):
    """The program ended while it was needed; the message holds its last words."""


class JavaLine:
    """One running program. ``on_end`` is called, with words, when it ends though nobody asked it to."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path, on_end: Callable[[str], None]) -> None:
        self._process = process
        self._errors = errors
        self._on_end = on_end
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._hearing: dict[str, Callable[[Answer], None]] = {}
        self._ended = ""
        self._closing = False
        self._ready = asyncio.Event()
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def start(cls, argv: Sequence[str], folder: Path, on_end: Callable[[str], None]) -> JavaLine:
        """Run the program in ``folder``, and wait until it takes commands. Raises SetupError if it does not."""
        errors = folder / "stderr"
        folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - one short call before anything runs
        with errors.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                cwd=folder,
                env={**os.environ, "JDK_JAVA_OPTIONS": ""},
                limit=LINE_MAX,
                start_new_session=True,  # Ctrl-C is for the lab
            )
        line = cls(process, errors, on_end)
        try:
            async with asyncio.timeout(READY_S):
                await line._ready.wait()
        except TimeoutError:
            line._ended = f"it did not come up within {READY_S:g} s"
        if line._ended:
            await line.close()
            raise SetupError(f"the Java client program did not start: {line._ended}")
        return line

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def listen(self, member: str, hear: Callable[[Answer], None]) -> None:
        """Have ``hear`` called with each event that this member tells by itself; it must not raise."""
        self._hearing[member] = hear

    async def call(self, *words: object) -> Answer:
        """One command and its answer. Raises JavaEnded."""
        if self._ended or self._process.stdin is None:
            raise JavaEnded(self._ended)
        self._number += 1
        number = self._number
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._process.stdin.write(f"{number} {' '.join(map(str, words))}\n".encode("ascii"))
            return await future
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End the program. May be called twice."""
        self._closing = True
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.wait([self._listener])

    async def _listen(self) -> None:
        stdout = self._process.stdout
        trouble = ""
        try:
            while stdout is not None and (line := await stdout.readline()):
                self._take(line)
        except (ValueError, msgspec.DecodeError) as error:
            trouble = f"its answer cannot be read: {error}"
        if trouble and self._process.returncode is None:
            self._process.kill()
        code = await self._process.wait()
        self._ended = trouble or f"it ended with {code}{self._last_words()}"
        self._ready.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(JavaEnded(self._ended))
        if not self._closing:
            self._on_end(self._ended)

    def _take(self, line: bytes) -> None:
        answer: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        if "ready" in answer:
            self._ready.set()
            return
        if "member" in answer:
            hear = self._hearing.get(str(answer["member"]))
            if hear is not None:
                hear(answer)
            return
        future = self._waiting.get(int(answer.get("id", 0)))
        if future is not None and not future.done():  # else nobody waits for it any more
            future.set_result(answer)

    def _last_words(self) -> str:
        try:
            words = self._errors.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
        return f": {words[-WORDS_SHOWN:]}" if words else ""
