"""Planted flaws of the clients: each writes into the history what was not seen, or leaves out what must be done, and a
checker must notice."""

from enum import StrEnum
from typing import Final

OVERLOOKED_OFFSET: Final = 10
"""Where in each queue of the load's topic the message lies that an overlooking consumer never handles."""


class ClientFlaw(StrEnum):
    """One lie about an outcome. All are off unless named in a plan."""

    TIMEOUT_AS_FAILURE = "timeout-as-failure"  # a send that nobody answered is taken for one that did not happen
    OVERLOOK = "overlook"  # a push consumer's handler takes a message of each queue for handled without a look at it
