"""Running one node as a program: log, event loop, signals, exit code.

Exit codes: 0 stopped as asked, 2 usage or configuration, 4 the machine does not give what is needed (a port in use, no
space, no permission), 70 a defect of this program.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

from nodes.config import BrokerConfig, ConfigError, Loaded, NamesrvConfig, load_broker, load_namesrv
from nodes.log import EventLog
from nodes.remoting.server import ListenError
from nodes.store.disk import DiskLocked
from nodes.store.errors import StoreCorrupt

__all__ = [
    "EXIT_CONFIG",
    "EXIT_DEFECT",
    "EXIT_MACHINE",
    "EXIT_OK",
    "refuse_optimised",
    "run_broker",
    "run_namesrv",
    "say",
]

EXIT_OK = 0
EXIT_CONFIG = 2
EXIT_MACHINE = 4
EXIT_DEFECT = 70

Ready = Callable[[str], None]
"""Called once with the address that the node serves."""

ConfigT = TypeVar("ConfigT", BrokerConfig, NamesrvConfig)

Serve = Callable[[ConfigT, EventLog, asyncio.Event, Ready], Coroutine[Any, Any, None]]
"""A node: serves from its `Ready` call on until the event is set."""


def say(text: str, stream: TextIO | None = None) -> None:
    """Write one line for a person; a closed pipe is not worth a crash."""
    with contextlib.suppress(OSError, ValueError):
        out = stream if stream is not None else sys.stderr
        out.write(text + "\n")
        out.flush()


def refuse_optimised() -> bool:
    """Whether Python runs without assertions (-O), in which case it also says that nodes do not run so."""
    if sys.flags.optimize:
        say("nodes refuse to run under python -O or PYTHONOPTIMIZE: their assertions are part of what keeps data safe")
        return True
    return False


def run_namesrv(
    path: Path | None, overrides: Mapping[str, str], *, log_path: Path | None, name: str, ready: Ready
) -> int:
    """Run a name server until SIGTERM or SIGINT. Returns the exit code."""

    def load() -> tuple[Loaded[NamesrvConfig], str]:
        loaded = load_namesrv(path, overrides)
        return loaded, name or f"namesrv:{loaded.config.listen_port}"

    async def serve(config: NamesrvConfig, log: EventLog, stop: asyncio.Event, ready: Ready) -> None:
        from nodes.namesrv.service import run

        await run(config, log, stop, ready)

    return _run(load, serve, log_path, ready)


def run_broker(
    path: Path | None, overrides: Mapping[str, str], *, log_path: Path | None, name: str, ready: Ready
) -> int:
    """Run a broker until SIGTERM or SIGINT. Returns the exit code."""

    def load() -> tuple[Loaded[BrokerConfig], str]:
        loaded = load_broker(path, overrides)
        return loaded, name or f"{loaded.config.broker_name}:{loaded.config.broker_id}"

    async def serve(config: BrokerConfig, log: EventLog, stop: asyncio.Event, ready: Ready) -> None:
        from nodes.broker.broker import run

        await run(config, log, stop, ready, config_path=None if path is None else str(path))

    return _run(load, serve, log_path, ready)


def _run(
    load: Callable[[], tuple[Loaded[ConfigT], str]], serve: Serve[ConfigT], log_path: Path | None, ready: Ready
) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        # Until the loop takes them over: nothing serves yet, so there is nothing to do but to leave.
        signal.signal(number, lambda *_: sys.exit(EXIT_OK))
    try:
        loaded, name = load()
    except ConfigError as error:
        say(f"configuration: {error}")
        return EXIT_CONFIG
    try:
        log = EventLog(name, log_path, text=sys.stderr)
    except OSError as error:
        say(f"cannot write the log {log_path}: {error.strerror}")
        return EXIT_MACHINE
    if loaded.without_effect:
        log.event("config-without-effect", keys=loaded.without_effect)
    for warning in loaded.warnings:
        log.warning("config", text=warning)
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(serve, loaded.config, log, ready))
    except ListenError as error:
        say(f"{error}; stop the program that holds the port, or set another one (listenPort, haListenPort)")
        log.error("cannot-listen", reason=str(error))
        return EXIT_MACHINE
    except ConfigError as error:
        say(f"configuration: {error}")
        return EXIT_CONFIG
    except StoreCorrupt as error:
        say(f"the store cannot be used as it is: {error}")
        log.error("store-corrupt", reason=str(error))
        return EXIT_MACHINE
    except DiskLocked as error:
        say(f"another process uses the store {error.filename}: stop it, or set another storePathRootDir")
        log.error("store-in-use", reason=str(error))
        return EXIT_MACHINE
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        say(f"the machine refused: {error.strerror or error}{where}")
        log.error("machine-refused", reason=str(error))
        return EXIT_MACHINE
    except KeyboardInterrupt:
        return EXIT_OK
    except Exception as error:
        import traceback

        traceback.print_exc()
        log.error("defect", reason=f"{type(error).__name__}: {error}")
        return EXIT_DEFECT
    finally:
        log.close()
    return EXIT_OK


async def _until_stopped(serve: Serve[ConfigT], config: ConfigT, log: EventLog, ready: Ready) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        log.event("stop-asked", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)

    def started(address: str) -> None:
        # What was made while starting lives as long as the program: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        ready(address)

    await serve(config, log, stop, started)
