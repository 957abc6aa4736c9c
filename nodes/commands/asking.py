"""What all subcommands of `mqadmin` share: which name servers, and how a failure becomes a message and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from nodes.client.admin import AdminClient
from nodes.client.client import Client
from nodes.client.config import ClientConfig, ClientConfigError, parse_name_servers
from nodes.client.outcomes import LocalCode
from nodes.client.results import CommandFailed

__all__ = ["Work", "do", "name_servers_option"]

T = TypeVar("T")
Work = Callable[[AdminClient], Awaitable[T]]
F = TypeVar("F", bound=Callable[..., Any])


def name_servers_option(function: F) -> F:
    """The option -n."""
    return click.option(
        "-n",
        "name_servers",
        envvar="NAMESRV_ADDR",
        default="127.0.0.1:9876",
        show_default=True,
        metavar="ADDR",
        help="Name servers, host:port;host:port.",
    )(function)


def do(name_servers: str, work: Work[T]) -> T:
    """Run one piece of administration and turn its failure into a message and an exit code."""
    try:
        config = ClientConfig(name_servers=parse_name_servers(name_servers))
    except ClientConfigError as error:
        raise click.UsageError(str(error)) from None

    async def run() -> T:
        client = Client(config)
        await client.start()
        try:
            return await work(AdminClient(client))
        finally:
            await client.close()

    try:
        return asyncio.run(run())
    except CommandFailed as error:
        click.echo(str(error), err=True)
        raise SystemExit(4 if error.code in set(LocalCode) else 1) from None
