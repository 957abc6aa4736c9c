"""`mqnamesrv` and `mqbroker`: the servers in the foreground, with RocketMQ's options and its line on success."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from nodes.commands.program import EXIT_CONFIG, EXIT_MACHINE, refuse_optimised, run_broker, run_namesrv, say
from nodes.commands.running import recorded

__all__ = ["mqbroker", "mqnamesrv"]


def mqnamesrv(arguments: Sequence[str] | None = None) -> None:
    """Run a name server until it is stopped."""
    parser = ArgumentParser(prog="mqnamesrv", description="Run a name server.", add_help=False)
    parser.add_argument("--help", action="help", help="show this and exit")
    parser.add_argument("-c", dest="config", type=Path, metavar="FILE", help="property file")
    parser.add_argument("-p", dest="port", type=int, metavar="PORT", help="port to listen on (9876)")
    parser.add_argument("-h", dest="home", type=Path, metavar="DIR", help="home folder of this name server")
    parser.add_argument("-n", dest="ignored", metavar="ADDR", help="accepted, as by RocketMQ, and not used")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append events to FILE as JSON lines")
    given = parser.parse_args(arguments)
    overrides = {}
    if given.port is not None:
        overrides["listenPort"] = str(given.port)
    if given.home is not None:
        overrides["rocketmqHome"] = str(given.home.resolve())
    if refuse_optimised():
        sys.exit(EXIT_CONFIG)

    def ready(address: str) -> None:
        say(f"The Name Server boot success. serializeType=JSON, address {address}", sys.stdout)

    try:
        with recorded("namesrv", given.home):
            code = run_namesrv(given.config, overrides, log_path=given.log, name="", ready=ready)
    except OSError as error:
        say(f"cannot record this process: {error.strerror} {error.filename}")
        code = EXIT_MACHINE
    sys.exit(code)


def mqbroker(arguments: Sequence[str] | None = None) -> None:
    """Run a broker until it is stopped."""
    parser = ArgumentParser(prog="mqbroker", description="Run a broker.", add_help=False)
    parser.add_argument("-h", "--help", action="help", help="show this and exit")
    parser.add_argument("-c", dest="config", type=Path, metavar="FILE", help="property file")
    parser.add_argument("-n", dest="name_servers", metavar="ADDR", help="name servers, host:port;host:port")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append events to FILE as JSON lines")
    given = parser.parse_args(arguments)
    overrides = {}
    name_servers = given.name_servers or os.environ.get("NAMESRV_ADDR")
    if name_servers:
        overrides["namesrvAddr"] = name_servers
    if refuse_optimised():
        sys.exit(EXIT_CONFIG)

    def ready(address: str) -> None:
        say(f"The broker[{address}] boot success. serializeType=JSON", sys.stdout)

    try:
        with recorded("broker"):
            code = run_broker(given.config, overrides, log_path=given.log, name="", ready=ready)
    except OSError as error:
        say(f"cannot record this process: {error.strerror} {error.filename}")
        code = EXIT_MACHINE
    sys.exit(code)


if __name__ == "__main__":
    {"mqnamesrv": mqnamesrv, "mqbroker": mqbroker}[sys.argv[1]](sys.argv[2:])
