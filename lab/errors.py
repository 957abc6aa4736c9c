"""The three families of errors of the lab, and the exit codes every judging command shares."""

import errno
from enum import IntEnum
from pathlib import Path
from typing import Final, final


class ExitCode(IntEnum):
    """What a judging command answers to the shell (see docs/design.md, section 7)."""

    VALID = 0
    INVALID = 1
    USAGE = 2
    UNKNOWN = 3
    SETUP_FAILED = 4
    OUR_BUG = 70
    NOBODY_READS = 141  # the shell's word for a program that SIGPIPE ended


class LabError(Exception):
    """An error the operator can act on: the message says what, where, and what to do next."""

    exit_code: ExitCode = ExitCode.SETUP_FAILED


@final
class PlanError(LabError):
    """A plan or an option that cannot be meant: refused before anything starts."""

    exit_code = ExitCode.USAGE


@final
class SetupError(LabError):
    """The machine or the cluster did not come up; nothing was judged."""

    exit_code = ExitCode.SETUP_FAILED


@final
class InterruptedJudgingError(LabError):
    """The operator did not wait for the verdict of a run that is over."""

    exit_code = ExitCode.UNKNOWN


@final
class LabBugError(Exception):
    """The lab contradicts itself: exit 70 and ask for a report."""


_STORAGE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})


def storage_refusal(error: OSError, runs: Path) -> SetupError | None:
    """What to tell the operator if the disk of the run's folder, somewhere in ``runs``, refused to take a file or the
    folder is gone; None for any other error."""
    if error.errno not in _STORAGE and not _removed(error, runs):
        return None
    where = f" ({error.filename})" if error.filename else ""
    return SetupError(
        f"the run's folder cannot be written{where}: {error.strerror}; nothing was judged: free space, or choose "
        "another place with --out"
    )


def _removed(error: OSError, runs: Path) -> bool:
    """Whether a file is not there that the lab itself has made, or a folder for it: somebody removed it."""
    name = error.filename
    return error.errno == errno.ENOENT and isinstance(name, str) and Path(name).is_relative_to(runs.absolute())


VERDICT_EXIT = {"valid": ExitCode.VALID, "invalid": ExitCode.INVALID, "unknown": ExitCode.UNKNOWN}
