"""`python -m nodes namesrv|broker -c FILE [--log FILE] [--name NAME] [--set key=value]...`"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path


def setting(text: str) -> tuple[str, str]:
    """Read `key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ArgumentTypeError(f"{text!r} is not key=value")
    return key.strip(), value.strip()


def parser() -> ArgumentParser:
    """The command line."""
    top = ArgumentParser(prog="python -m nodes", description="Run one node of a cluster in the foreground.")
    programs = top.add_subparsers(dest="program", required=True, metavar="namesrv|broker")
    for name, text in (("namesrv", "a name server"), ("broker", "a broker")):
        program = programs.add_parser(name, help=f"run {text} until SIGTERM or SIGINT")
        program.add_argument("-c", dest="config", type=Path, metavar="FILE", help="property file in RocketMQ's format")
        program.add_argument("--log", type=Path, metavar="FILE", help="append events to FILE as JSON lines")
        program.add_argument("--name", default="", help="how the node calls itself in its log")
        program.add_argument(
            "--set",
            dest="settings",
            action="append",
            default=[],
            type=setting,
            metavar="KEY=VALUE",
            help="overrules the file; may be repeated",
        )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node that the command line names. Returns the exit code."""
    given = parser().parse_args(arguments)
    from nodes.commands.program import EXIT_CONFIG, refuse_optimised, run_broker, run_namesrv

    if refuse_optimised():
        return EXIT_CONFIG
    run = run_namesrv if given.program == "namesrv" else run_broker
    return run(given.config, dict(given.settings), log_path=given.log, name=given.name, ready=lambda _: None)


if __name__ == "__main__":
    sys.exit(main())
