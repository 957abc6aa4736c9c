"""Planted flaws of the client: each of its guarantees has a story that notices when it is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.client import outcomes
from nodes.client import producer as producer_module
from nodes.client.client import Client
from nodes.client.exchange import Exchange
from nodes.client.name_servers import NameServers
from nodes.client.outcomes import LocalCode
from nodes.client.results import Outcome, SendFailed
from nodes.client.route_queries import RouteQueries
from tests.unit.nodes import client_cluster, test_client_routes, test_client_send


@pytest.mark.flaws
@pytest.mark.parametrize(
    ("owner", "name", "replacement", "story_that_notices"),
    [
        (
            Exchange,
            "end_moved",
            lambda *_: 0,
            test_client_send.test_pending_attempts_end_as_unknown_when_another_master_is_named,
        ),
        (
            Exchange,
            "end_moved",
            lambda *_: 0,
            test_client_send.test_with_retries_pending_attempts_are_sent_again_to_the_new_master,
        ),
        (Exchange, "doubt", lambda *_: None, test_client_routes.test_a_connection_that_fell_silent_is_opened_anew),
        (
            RouteQueries,
            "about_broker",
            lambda *_: None,
            test_client_send.test_a_refused_connection_is_certain_and_asks_for_the_route_at_once,
        ),
        (
            Client,
            "_on_slow",
            lambda *_: None,
            test_client_send.test_an_outstanding_answer_asks_for_the_route_one_query_at_a_time,
        ),
        (NameServers, "rotate", lambda _: None, test_client_routes.test_a_name_server_with_an_old_route_is_left),
        (outcomes, "WRITE_OUTCOMES", {LocalCode.TIMEOUT: Outcome.FAIL}, test_client_send.test_a_timeout_is_unknown),
        (producer_module, "RETRY_CODES", frozenset(), test_client_send.test_retries_go_to_another_group),
    ],
)
def test_a_planted_flaw_is_noticed(
    owner: object,
    name: str,
    replacement: object,
    story_that_notices: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_cluster, "PATIENCE_S", 1.0)
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises((AssertionError, TimeoutError, SendFailed, pytest.fail.Exception)):
        story_that_notices()
