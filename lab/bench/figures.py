"""A figure, what it is compared to, and the table and file that show them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `goal` is None for figures printed for orientation only."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False
    compared_to: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal

    def row(self) -> tuple[str, str, str, str, str]:
        """Name, value, goal, verdict, comparison, as the table shows them."""
        sign = "≥" if self.more_is_better else "≤"
        goal = "" if self.goal is None else f"{sign} {_number(self.goal)} {self.unit}"
        verdict = {None: "", True: "met", False: "NOT MET"}[self.met]
        return self.name, f"{_number(self.value)} {self.unit}", goal, verdict, self.compared_to


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: list[Figure]) -> str:
    """All figures as aligned lines."""
    rows = [("figure", "measured", "goal", "", "compared to"), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write(figures: list[Figure], machine: dict[str, object], path: Path) -> None:
    """bench.json: the machine and every figure with goal and met."""
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=1, ensure_ascii=False) + "\n")
