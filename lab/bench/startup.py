"""One short run in a process of its own: `python -m lab.bench.startup FOLDER`; prints its timings as JSON.

The clock starts when the operating system started this process, as a user who typed the command would see it.
"""

import json
import sys
import time
from pathlib import Path

import click
import psutil


def main(folder: Path) -> None:
    """Run the demo's topology for its shortest load and print when the first message was acknowledged."""
    began = time.monotonic() - (time.time() - psutil.Process().create_time())
    from lab.planfile import build_plan
    from lab.runner import run_plan

    plan = build_plan(
        {
            "name": "startup",
            "seed": 1,
            "time_limit": "10s",
            "cluster": {"namesrvs": 3, "groups": 2, "replicas": 2},
            "master": {"brokerRole": "SYNC_MASTER"},
            "nemesis": {"faults": ["kill:one"], "count": 1},
        },
        "bench",
    )
    result = run_plan(plan, folder, began=began)
    timings = result.timings
    click.echo(
        json.dumps(
            {"first_ack_s": timings.first_ack, "tear_down_s": timings.tear_down, "verdict": result.verdict.valid.word}
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
