"""The lab's ends of the pipes to its workers, without workers."""

from __future__ import annotations

import asyncio
from multiprocessing import Pipe
from typing import Any

from lab.workers.pool import Pool


def test_last_words_that_nobody_waits_for_are_no_error() -> None:
    """An answer came, and before its turn in the loop everything is taken down: a second Ctrl-C on a busy machine."""
    pool = Pool()
    ours, theirs = Pipe()
    pool._pipes["client-1"] = ours
    problems: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
        pool.listen()
        theirs.send("last words")
        await asyncio.sleep(0)  # the loop has seen them, and comes to them after this step
        pool.close()
        await asyncio.sleep(0)

    asyncio.run(story())
    theirs.close()
    assert problems == []
