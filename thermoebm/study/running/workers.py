"""What every executor needs to start a worker: its command line, threads and environment."""

import os
import sys
from pathlib import Path
from typing import Any, Protocol

#: The command that executes a run; the run's directory and options are appended to it.
WORKER = (sys.executable, "-m", "thermoebm.cli.worker")


class Executor(Protocol):
    """Runs workers; only :meth:`close` waits for a worker to end."""

    @property
    def slots(self) -> int:
        """The number of workers that may run at a time."""

    def start(self, run: Path) -> Any:
        """Starts a worker on a run's directory and returns a handle to it."""

    def poll(self, handle: Any) -> int | None:
        """The worker's exit status, or None while it runs."""

    def close(self) -> None:
        """Ends the workers that are still running."""


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command(program: tuple[str, ...], run: Path, threads: int) -> list[str]:
    """A worker's command line."""
    return [*program, str(run), f"--threads={threads}", f"--parent={os.getpid()}"]


def environment(threads: int, **more: str) -> dict[str, str]:
    """A worker's environment: so many threads for each numerical library and for compilation, and unbuffered output."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS")
    return os.environ | dict.fromkeys(names, str(threads)) | {"PYTHONUNBUFFERED": "1"} | more
