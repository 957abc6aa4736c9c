"""Planted flaws of the clients: each writes into the history what was not seen, and a checker must notice."""

from enum import StrEnum


class ClientFlaw(StrEnum):
    """One lie about an outcome. All are off unless named in a plan."""

    TIMEOUT_AS_FAILURE = "timeout-as-failure"  # a send that nobody answered is taken for one that did not happen
