"""The layout of a study's folder: each run's directory, its status files (written atomically) and its lock.

STUDY/study.yaml, plan.json, runs/HASH/{run.json, config.yaml, log.txt, attempts.json, lock, 0/, test/, DONE or FAILED}
"""

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from thermoebm.runtime.files import write_text

try:
    import fcntl as _fcntl
except ImportError:  # Windows: no locks, so a second launcher is not noticed
    _fcntl = None  # type: ignore[assignment]

fcntl: Any = _fcntl

DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"


class Damaged(ValueError):
    """A file of a run cannot be read; the message is one sentence that says what to do."""


def state(run: Path) -> str:
    """The run's state: ``done``, ``running``, ``failed`` or ``missing``; an interrupted run is ``missing`` too.

    Raises:
        Damaged: If DONE or FAILED exists but cannot be read.
    """
    if read(run / "DONE") is not None:
        return DONE
    if is_locked(run):
        return RUNNING
    return MISSING if read(run / "FAILED") is None else FAILED


def ended(run: Path) -> tuple[str, dict[str, Any]]:
    """How a run has ended, for whoever only looks: ``done``, ``failed`` or ``missing`` (not at all), and what is told.

    A DONE or FAILED that is damaged proves nothing: the run counts as failed, for this reason, until it is moved away.
    """
    try:
        if (done := read(run / "DONE")) is not None:
            return DONE, done
        failed = read(run / "FAILED")
    except Damaged as error:
        return FAILED, {"reason": str(error)}
    return (MISSING, {}) if failed is None else (FAILED, failed)


def read(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None if there is no such file.

    Raises:
        Damaged: If the file cannot be read or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):  # the last of thousands of brackets
        content = None
    if not isinstance(content, dict):
        raise Damaged(f"{path} is damaged; move {path.parent} away and run the study again.")
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file atomically; see :func:`thermoebm.runtime.files.replacing`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def now() -> str:
    """The current time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# The lock on a run


@contextlib.contextmanager
def locked(run: Path, patience: float = 0.0) -> Iterator[bool]:
    """Holds the run's lock within the block; yields whether this process got it.

    The lock is released when its process ends, in whatever way. It works across machines if their shared file system
    supports locks.

    Args:
        run: The run's directory.
        patience: Seconds to wait for another process to release the lock.
    """
    with (run / "lock").open("ab") as file:
        until = time.monotonic() + patience
        while not (mine := _lock(file)) and time.monotonic() < until:
            time.sleep(0.1)
        yield mine


def is_locked(run: Path) -> bool:
    """Whether a process is working on the run."""
    try:
        with (run / "lock").open("rb") as file:
            return not _lock(file, shared=True)
    except OSError:
        return False


def _lock(file: BinaryIO | Any, shared: bool = False) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


# A run's training


def trained(run: Path, *proofs: str) -> Path | None:
    """The folder that train.py made last, as shown by the files in it.

    Args:
        run: The run's directory.
        proofs: File names, in order of preference; none given: the last checkpoint, else metrics.csv, else the folder
            itself.

    Returns:
        The highest-numbered folder with the first of these files that any folder has; None if there is none.
    """
    numbered = sorted((path for path in run.glob("*/") if path.name.isdecimal()), key=lambda path: int(path.name))
    for proof in proofs or ("checkpoints/last.ckpt", "metrics.csv", "."):
        if having := [path for path in numbered if (path / proof).exists()]:
            return having[-1]
    return None


def last_checkpoint(run: Path) -> Path | None:
    """The last checkpoint of a run's training, or None."""
    place = trained(run, "checkpoints/last.ckpt")
    return None if place is None else place / "checkpoints" / "last.ckpt"


def epoch(run: Path) -> int:
    """The epoch, counted from 1, that a run has logged last, in its newest training folder; 0: it has logged none."""
    return 1 + int(next(_logged(run, "epoch"), -1))


def peak_memory(run: Path) -> float | None:
    """The peak memory in bytes that the run logged last; None if it has logged none yet."""
    return next(_logged(run, "cost/peak_memory"), None)


def _logged(run: Path, column: str) -> Iterator[float]:
    """The numbers in a column of the newest training folder's metrics.csv, from the end; only the last lines are read.

    Damaged lines, as a crash may leave, have none.
    """
    place = trained(run, "metrics.csv")
    if place is None:
        return
    with contextlib.suppress(OSError), (place / "metrics.csv").open("rb") as file:
        names = file.readline().decode(errors="replace").strip().split(",")
        if column not in names:
            return
        file.seek(max(file.tell(), file.seek(0, 2) - 100_000))
        for line in reversed(file.read().decode(errors="replace").splitlines()):
            with contextlib.suppress(ValueError, IndexError):
                yield float(line.split(",")[names.index(column)])


def reason(run: Path) -> str:
    """Why the last attempt failed: the last ``error:`` line of the run's log, if the attempt wrote one."""
    with contextlib.suppress(OSError):
        lines = (run / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        for line in reversed(lines):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
            if line.startswith("=== attempt"):
                break
    return f"it ended without a word; see {run / 'log.txt'}."
