"""A program that stands in for a node: one listening port that answers, and a store folder with a file in it.

Run by path, without the project's packages, so that it starts in milliseconds. Options: ``--fork`` leaves a child of
its own behind, ``--exit CODE`` ends at once, ``--deaf`` opens no port.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from pathlib import Path


def argv(port: int, store: Path, *options: str) -> tuple[str, ...]:
    """The command that runs a stand-in."""
    return (sys.executable, "-I", "-S", __file__, str(port), str(store), *options)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("store", type=Path)
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--deaf", action="store_true")
    options = parser.parse_args()
    options.store.mkdir(parents=True, exist_ok=True)
    (options.store / "file").write_text("kept")
    if options.exit is not None:
        sys.stderr.write("giving up\n")
        sys.exit(options.exit)
    if options.fork and os.fork() == 0:
        while True:
            time.sleep(3600)
    if options.deaf:
        while True:
            time.sleep(3600)
    listener = socket.create_server(("0.0.0.0", options.port), backlog=100)
    while True:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(100):
                connection.sendall(b"pong")


if __name__ == "__main__":
    main()
