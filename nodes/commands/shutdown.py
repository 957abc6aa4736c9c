"""`mqshutdown broker|namesrv`: stops the servers that were started by `mqbroker` or `mqnamesrv`, and nothing else."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import click

from nodes.commands.running import Running, running

__all__ = ["mqshutdown"]

PATIENCE_S = 30.0
"""How long a server may take to stop before its stop counts as failed; it is never killed."""


@click.command()
@click.argument("program", type=click.Choice(["broker", "namesrv"]))
@click.option("-h", "--home", type=click.Path(path_type=Path), help="Only name servers started with this home folder.")
def mqshutdown(program: str, home: Path | None) -> None:
    """Stop all brokers, or all name servers, that were started on this machine under the same home folder.

    Exit codes: 0 all stopped, 1 none was running or one did not stop in time.
    """
    found = [r for r in running(program) if home is None or Path(r.home or ".").resolve() == home.resolve()]
    if not found:
        click.echo(f"No mq{program} running.")
        raise SystemExit(1)
    pids = " ".join(str(r.pid) for r in found)
    click.echo(f"The mq{program}({pids}) is running...")
    handles = [handle for record in found if (handle := _ask(record)) is not None]
    click.echo(f"Send shutdown request to mq{program}({pids}) OK")
    late = not _all_ended(handles)
    for handle in handles:
        os.close(handle)
    if late:
        left = " ".join(str(r.pid) for r in found if r.alive())
        click.echo(f"mq{program}({left}) did not stop within {PATIENCE_S:g} s", err=True)
        raise SystemExit(1)


def _ask(record: Running) -> int | None:
    """Ask one process to stop, through a handle that cannot come to mean another process with the same id."""
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    try:
        if record.alive():
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            return handle
    except ProcessLookupError:
        pass
    os.close(handle)
    return None


def _all_ended(handles: list[int]) -> bool:
    """Wait until all these processes have ended; False if one has not in time."""
    deadline = time.monotonic() + PATIENCE_S
    waiting = list(handles)
    while waiting and (left := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(waiting, [], [], left)
        waiting = [handle for handle in waiting if handle not in ended]
    return not waiting


if __name__ == "__main__":
    mqshutdown(prog_name="mqshutdown")
