"""A reading of files that lasts until the event loop has turned meanwhile: inside the loop it would never end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")
WAIT_S = 30.0


class SlowReading:
    """`last` is called where files are read; `beside` runs the question that leads to it, and answers it."""

    def __init__(self) -> None:
        self._began = threading.Event()
        self._turned = threading.Event()

    def last(self) -> None:
        """Block the thread that reads until the loop has turned."""
        self._began.set()
        assert self._turned.wait(WAIT_S), "the loop stands still while files are read"

    def beside(self, question: Coroutine[None, None, T]) -> T:
        """Ask, and let the loop turn once the reading has begun."""

        async def story() -> T:
            asked = asyncio.ensure_future(question)
            assert await asyncio.to_thread(self._began.wait, WAIT_S), "nothing was read"
            self._turned.set()
            return await asked

        return asyncio.run(story())
