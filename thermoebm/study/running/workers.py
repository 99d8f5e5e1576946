"""What an executor starts, wherever that is: a worker's command line, threads and environment."""

import os
import sys
from pathlib import Path
from typing import Any, Protocol

#: What executes a run, its directory and options to follow.
WORKER = (sys.executable, "-m", "thermoebm.cli.worker")


class Executor(Protocol):
    """Runs workers; none of its methods waits for one, but for :meth:`close`."""

    @property
    def slots(self) -> int:
        """How many at once."""

    def start(self, run: Path) -> Any:
        """Starts a worker and returns a handle of it."""

    def poll(self, handle: Any) -> int | None:
        """The worker's exit status, or None while it runs."""

    def close(self) -> None:
        """Ends the workers that still run."""


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(program: tuple[str, ...], run: Path, threads: int) -> list[str]:
    """A worker's command line."""
    return [*program, str(run), f"--threads={threads}", f"--parent={os.getpid()}"]


def environment(threads: int, **more: str) -> dict[str, str]:
    """A worker's environment: so many threads for every library, and none to compile in."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    return os.environ | dict.fromkeys(names, str(threads)) | {"PYTHONUNBUFFERED": "1"} | more
