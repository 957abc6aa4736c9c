"""The command line: options in, one call, an exit code out. No logic lives here.

Results go to stdout, progress to stderr. Exit codes of judging commands: 0 valid, 1 invalid, 2 usage, 3 unknown,
4 set-up or machine failed, 70 our own bug, 141 when whoever read the help has gone. Heavy imports happen inside the
commands: `lab --help` stays quick.
"""

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from lab.errors import ExitCode, LabBugError, LabError, SetupError

RUNS = Path("runs")
SYSTEM_TOOLS = ("/usr/sbin", "/sbin")  # iptables and mkfs are there, and Debian gives users a PATH without
TOOLS = {"sh": "dash", "setpriv": "util-linux"}  # what starts every node, with Debian's packages
BEGAN = time.monotonic()

_out = click.option(
    "--out", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Folder of the runs."
)


class NearestGroup(click.Group):
    """A group that answers a wrong command with the nearest right one, and foreign errors with one clear line."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or refuse with the nearest name."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            from lab.planfile import nearest

            ctx.fail(f"unknown command {args[0]!r}{nearest(args[0], known)}")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the options, which prints the help if that is asked for."""
        with _or_nobody_reads():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Carry the command out."""
        with _or_nobody_reads():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and turn errors into exit codes; click's own would call an interrupt 1, which means invalid here."""
        code: object = 0
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            with contextlib.suppress(OSError):
                error.show()
            sys.exit(error.exit_code)
        except LabError as error:
            _complain(f"lab: {error}")
            sys.exit(error.exit_code)
        except PermissionError as error:
            where = error.filename or "this machine"
            _complain(f"lab: {where}: {error.strerror}; call it as the user to whom this belongs, or as root")
            sys.exit(ExitCode.SETUP_FAILED)
        except (click.Abort, KeyboardInterrupt):
            _complain("lab: interrupted")
            sys.exit(ExitCode.UNKNOWN)
        except Exception:
            import traceback

            traceback.print_exc()
            click.echo(
                "lab: this is a bug of the lab; please report it with the lines above and the run's folder", err=True
            )
            sys.exit(ExitCode.OUR_BUG)
        sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _or_nobody_reads() -> Iterator[None]:
    """Whoever read the output has gone (``lab --help | true``): click would end with 1, which means invalid here."""
    try:
        yield
    except BrokenPipeError as error:
        if not any(_reader_gone(fd) for fd in (1, 2)):  # a pipe of the lab's own
            raise LabBugError(f"a pipe inside the lab is broken: {error}") from error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would be tried again at exit
        sys.exit(ExitCode.NOBODY_READS)


def _reader_gone(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@click.group(cls=NearestGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="brokerlab", prog_name="lab")
def main() -> None:
    """A lab that proves, or disproves, that a message cluster keeps its promises when things break."""


@main.command()
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.option("--system", help="System under test: python (our nodes) or rocketmq (Apache's).")
@click.option("--version", metavar="VERSION|DIR", help="Release of system rocketmq, or an unpacked one's folder.")
@click.option("--mode", help="How brokers replicate: dledger, master-slave or (a 5.x release) controller.")
@click.option("--replicas", type=int, metavar="N", help="Nodes of each broker group, the master included.")
@click.option("--groups", type=int, metavar="N", help="Broker groups.")
@click.option("--namesrvs", type=int, metavar="N", help="Name servers.")
@click.option("--lever", help="How partitions are cut: nft or iptables.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A RocketMQ property (brokerRole: masters)."
)
@click.option("--client", help="Library of the clients: python (ours) or java (RocketMQ's own).")
@click.option("--client-version", metavar="VERSION|DIR", help="Release of client java (5.3.3 by default).")
@click.option("--route-poll", metavar="TIME", help="How often clients ask for routes (30s by default).")
@click.option("--workload", help="What clients do: queue or log.")
@click.option("--nemesis", multiple=True, metavar="FAULT[:TARGET]", help="Draw faults from these; may be repeated.")
@click.option("--rate", type=int, metavar="N", help="Sends a second.")
@click.option("--clients", type=int, metavar="N", help="Sending clients.")
@click.option("--time-limit", metavar="TIME", help="How long load lasts, for example 30s (10s at least).")
@click.option("--seed", type=int, metavar="N", help="Seed of everything drawn by chance.")
@click.option("--flaw", "flaws", multiple=True, metavar="NAME", help="Plant a flaw into the nodes.")
@click.option("--lever-flaw", "lever_flaws", multiple=True, metavar="NAME", help="Plant a flaw into the nemesis.")
@click.option("--client-flaw", "client_flaws", multiple=True, metavar="NAME", help="Plant a flaw into the clients.")
@_out
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON on stdout.")
def run(plan: Path | None, out: Path, as_json: bool, **options: Any) -> None:
    """Run a plan (a TOML file) and judge it.

    Without one: three name servers, one DLedger group of three, a cut around the leader and a kill of the leader.
    """
    from lab.commands import run_and_report
    from lab.options import RunOptions

    _enter_namespace()
    code, text = run_and_report(plan, RunOptions(**options), out, as_json=as_json, began=BEGAN)
    _end(code, text)


@main.command()
@click.argument("history", type=click.Path(path_type=Path))
@click.option("--checker", "checkers", multiple=True, metavar="NAME", help="Only this checker; may be repeated.")
@click.option("--model", metavar="NAME|module:Class", help="Is it linearizable? As fifo-queue, append-log, register, …")
@click.option(
    "--format", type=click.Choice(["jsonl", "edn", "porcupine", "lab"]), help="By default what it looks like."
)
@click.option("--init", metavar="JSON", help="The model's initial state.")
@click.option("--null-read", type=click.Choice(["observed", "unknown"]), help="What a register read of null means.")
@click.option("--failed-cas", type=click.Choice(["dropped", "observed"]), help="What a fail of cas without error says.")
@click.option(
    "--delivery",
    type=click.Choice(["exactly-once", "at-most-once", "at-least-once", "per-key"]),
    help="What the queue promises; per-key: order only within the key of [key, value].",
)
@click.option("--unknown-fields", is_flag=True, help="Ignore members that the JSON-lines format does not have.")
@click.option("--minimize", is_flag=True, help="Write a small invalid part of it to NAME.minimal.jsonl.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw the counter-example.")
@click.option(
    "--emit-linearization",
    "linearization",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a legal order.",
)
@click.option("--budget", multiple=True, metavar="LIMIT", help="30s, 2GB, 1000000nodes or none; may be repeated.")
@click.option("--engine", type=click.Choice(["auto", "core", "fallback"]), help="Compiled core or pure Python.")
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON on stdout.")
def check(history: Path, checkers: tuple[str, ...], as_json: bool, **judging: Any) -> None:
    """Judge a stored history (a file, or the folder of a run); with --model a history of any harness."""
    from lab.commands import check_any

    code, text = check_any(history, checkers, judging, as_json=as_json)
    _end(code, text)


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path), default=RUNS / "latest")
def report(folder: Path) -> None:
    """Judge a run again and write its report.html anew."""
    from lab.commands import report_again

    code, text = report_again(folder)
    _end(code, text)


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path), default=RUNS / "latest")
@_out
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON on stdout.")
def replay(folder: Path, out: Path, as_json: bool) -> None:
    """Run a stored run's plan again, with its seed."""
    from lab.commands import run_and_report
    from lab.options import RunOptions

    _enter_namespace()
    plan = folder / "plan.toml" if folder.is_dir() else folder
    code, text = run_and_report(plan, RunOptions(), out, as_json=as_json, began=BEGAN)
    _end(code, text)


@main.group(cls=NearestGroup)
def scenario() -> None:
    """Named plans with the verdict that each configuration must reach."""


@scenario.command("list")
def scenario_list() -> None:
    """All scenarios with their configurations."""
    from lab.scenarios import list_text, plans_folder, read_scenarios

    _end(ExitCode.VALID, list_text(read_scenarios(plans_folder())))


@scenario.command("run")
@click.argument("name")
@click.option(
    "--config",
    "configuration",
    metavar="NAME",
    help="async, sync, sync-flush, dledger3, dledger5 or dledger3-async; by default sync, or the first it has.",
)
@click.option("--seed", type=int, metavar="N", help="Another seed than the plan's.")
@_out
def scenario_run(name: str, configuration: str | None, seed: int | None, out: Path) -> None:
    """Run one scenario in one configuration."""
    from lab.scenarios import plans_folder, read_scenarios, run_one

    _enter_namespace()
    code, text = run_one(read_scenarios(plans_folder()), name, configuration, out, seed=seed)
    _end(code, text)


@main.command()
@_out
def suite(out: Path) -> None:
    """The truth table: every scenario in every configuration, with expected and found verdicts."""
    from lab.scenarios import plans_folder, read_scenarios, run_all

    _enter_namespace()
    code, text = run_all(read_scenarios(plans_folder()), out)
    _end(code, text)


@main.command()
def doctor() -> None:
    """What this machine can do, found out by trying."""
    from lab.commands import doctor_text

    _enter_namespace(or_go_on=True)  # what a run may do here is what a run does: without root, in a user namespace
    code, text = doctor_text()
    _end(code, text)


@main.command()
def clean() -> None:
    """Remove what dead labs left behind, by their manifests and never by pattern."""
    from lab.commands import clean_text

    _end(ExitCode.VALID, clean_text())


@main.command()
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@click.option("--mode", help="How brokers replicate: dledger, or master-slave (the default).")
@click.option("--replicas", type=int, metavar="N", help="Nodes of each broker group, the master included.")
@click.option("--groups", type=int, metavar="N", help="Broker groups.")
@click.option("--namesrvs", type=int, metavar="N", help="Name servers.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A RocketMQ property.")
@_out
def up(plan: Path | None, out: Path, **options: Any) -> None:
    """Start a cluster to play with by hand; it runs in the background until `lab down`."""
    from lab.byhand import bring_up
    from lab.options import RunOptions

    _end(ExitCode.VALID, bring_up(plan, RunOptions(**options), out))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_out
def status(out: Path, as_json: bool) -> None:
    """Who runs, who is master, which faults are open."""
    _ask(out, {"do": "status"}, as_json=as_json)


@main.command()
@click.argument("fault", metavar="FAULT[:TARGET]")
@_out
def hurt(out: Path, fault: str) -> None:
    """Inject a fault now, for example kill:master or partition:halves; exit 3 if it could not be proven."""
    _ask(out, {"do": "hurt", "fault": fault})


@main.command()
@click.argument("fault", required=False, metavar="[ID]")
@_out
def heal(out: Path, fault: str | None) -> None:
    """Heal one fault by its id, or all of them, newest first."""
    _ask(out, {"do": "heal", "id": fault})


@main.command()
@click.argument("node")
@_out
def promote(out: Path, node: str) -> None:
    """Make a slave the master of its group."""
    _ask(out, {"do": "hurt", "fault": f"promote:{node}"})


@main.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_out
def exec_(out: Path, host: str, command: tuple[str, ...]) -> None:
    """Run a command inside a host's network namespace."""
    from lab.byhand import exec_in

    exec_in(out, host, command)


@main.command()
@_out
def down(out: Path) -> None:
    """Stop the cluster that `lab up` started."""
    _ask(out, {"do": "down"})


@main.command("serve", hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
def serve(folder: Path) -> None:
    """The background process of `lab up`."""
    from lab.byhand import serve_folder

    _enter_namespace()
    serve_folder(folder)


@main.command("admin", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def admin(arguments: tuple[str, ...]) -> None:
    """Administration with RocketMQ's names: clusterList, topicRoute, updateTopic, brokerStatus, …"""
    from nodes.commands import mqadmin

    mqadmin.main(args=list(arguments), prog_name="lab admin")


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads: the exit code says it, too
        click.echo(text, err=True)


def _end(code: int, text: str) -> NoReturn:
    """Tell the result and exit with its code.

    Click would exit with 1 if whoever reads has gone (``lab check RUN | head``), which means invalid here.
    """
    try:
        click.echo(text)
    except OSError as error:
        with contextlib.suppress(OSError):  # what could not be written would be tried again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise SetupError(f"the result cannot be written to stdout: {error.strerror}") from None
    sys.exit(code)


def _ask(out: Path, command: dict[str, Any], *, as_json: bool = False) -> NoReturn:
    """Put a command to the cluster that is up by hand; exit 3 if what it did could not be proven."""
    from lab.byhand import ask_text

    code, text = ask_text(out, command, as_json=as_json)
    _end(code, text)


def _enter_namespace(*, or_go_on: bool = False) -> None:
    """Without root: start this command again inside a user namespace, or say what the machine lacks."""
    from lab.cluster.userns import NoPrivilegeError, ensure

    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*places, *(one for one in SYSTEM_TOOLS if one not in places)])
    try:
        ensure()
    except NoPrivilegeError as error:
        click.echo(f"lab: {error}", err=True)
        if not or_go_on:
            sys.exit(ExitCode.SETUP_FAILED)
    missing = [f"{tool} ({package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing and not or_go_on:
        raise SetupError(f"PATH leads to no {', no '.join(missing)}; correct PATH or install the package")
