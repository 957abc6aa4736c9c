"""`make compared`, `python -m lab.compared`: run what has no result yet, and write the page after every run."""

import sys
from pathlib import Path

import click

from checkers.compose import INTERRUPTED
from lab.bench.machine import machine
from lab.compared.cells import read_cells
from lab.compared.page import page, result_words
from lab.compared.results import read_results, run_cell, write_results
from lab.errors import ExitCode, LabError


@click.command()
@click.option("--only", multiple=True, metavar="PATTERN", help="Cells such as 'ours/*' or '*/dledger/kill/java-1s'.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs of each cell, with a seed each.",
)
@click.option("--again", is_flag=True, help="Run also what has a result, and replace it.")
@click.option("--list", "listed", is_flag=True, help="Print the commands of the cells and run nothing.")
@click.option("--page", "path", default="docs/compared.md", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder of the runs.")
def main(only: tuple[str, ...], runs: int, again: bool, listed: bool, path: Path, out: Path) -> None:
    """Compare our nodes with Apache's releases; results lie in a JSON file beside the page and are not made twice."""
    try:
        _compare(only, runs, again, listed, path, out)
    except LabError as error:
        click.echo(f"compared: {error}", err=True)
        sys.exit(error.exit_code)


def _compare(only: tuple[str, ...], runs: int, again: bool, listed: bool, path: Path, out: Path) -> None:
    comparison = read_cells()
    cells = comparison.chosen(only)
    if listed:
        click.echo("\n".join(cell.command() for cell in cells))
        return
    store = path.with_suffix(".json")
    results = list(read_results(store))
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = machine()
    order = {cell.name: number for number, cell in enumerate(comparison.cells)}
    done = set() if again else {(one.cell, one.turn) for one in results if one.ran}
    wanted = [(cell, turn) for cell in cells for turn in range(runs) if (cell.name, turn) not in done]
    for number, (cell, turn) in enumerate(wanted, 1):
        click.echo(f"{number} of {len(wanted)}: {cell.name}, run {turn + 1}", err=True)
        found = run_cell(cell, turn, out)
        if INTERRUPTED in found.why:
            raise LabError(f"{cell.name} was interrupted and is not kept; the same command goes on here")
        click.echo(f"  {result_words(found)}, {found.took_s:.0f} s{_why(found.verdict, found.why)}", err=True)
        results = [one for one in results if (one.cell, one.turn) != (cell.name, turn)] + [found]
        results.sort(key=lambda one: (order.get(one.cell, len(order)), one.turn))
        write_results(store, results, facts)
        path.write_text(page(comparison, results, facts), encoding="utf-8")
    path.write_text(page(comparison, results, facts), encoding="utf-8")
    click.echo(f"{sum(one.ran for one in results)} runs in {store}, shown in {path}")
    if not all(one.ran for one in results):
        sys.exit(ExitCode.SETUP_FAILED)


def _why(verdict: str, why: tuple[str, ...]) -> str:
    return "" if verdict == "valid" else f": {'; '.join(why)}"


if __name__ == "__main__":
    main()
