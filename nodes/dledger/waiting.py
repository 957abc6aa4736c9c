"""Who waits for something to happen in a group: for a position to be committed, or for any news."""

from __future__ import annotations

import asyncio

from nodes.dledger.settings import GroupError

__all__ = ["Waiting"]


class Waiting:
    """Futures, and what ends them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._commits: list[tuple[int, int, asyncio.Future[None]]] = []
        self._news: list[asyncio.Future[None]] = []

    def commit(self, end: int, term: int) -> asyncio.Future[None]:
        """Done when the log is committed up to `end` while the term is still this one."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._commits.append((end, term, future))
        return future

    def committed(self, position: int, term: int) -> None:
        """More is committed. While the term is the one of the record this leader has counted it itself, even if that
        was its last act: a leader that removes itself."""
        left = []
        for end, its_term, future in self._commits:
            if end > position or its_term != term:
                left.append((end, its_term, future))
            elif not future.done():
                future.set_result(None)
        self._commits = left

    def forget(self, why: str) -> None:
        """Whoever waits for a commit does so in vain."""
        commits, self._commits = self._commits, []
        for _, _, future in commits:
            if not future.done():
                future.set_exception(GroupError(why))

    def news(self) -> asyncio.Future[None]:
        """Done at the next change of role, term, leader or membership."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._news.append(future)
        return future

    def tell_news(self) -> None:
        """Something has changed."""
        news, self._news = self._news, []
        for future in news:
            if not future.done():
                future.set_result(None)
