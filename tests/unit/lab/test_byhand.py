"""Bringing up a cluster by hand: whoever gives up waiting for it leaves nothing behind."""

import subprocess
import sys

import pytest

from lab.byhand import down_again
from lab.errors import SetupError


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), SetupError("it was not ready in time")])
def test_a_wait_that_ends_early_takes_the_cluster_down(reason: BaseException) -> None:
    """The background process ends with the interrupt of whoever started it, and with its patience."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(type(reason)), down_again(process):
        raise reason
    assert process.returncode is not None


def test_a_cluster_that_came_up_stays() -> None:
    """Until it is told to end."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        with down_again(process):
            pass
        assert process.poll() is None
        process.kill()
