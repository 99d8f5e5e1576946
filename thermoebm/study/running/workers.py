"""What every executor needs to start a worker: its command line, threads and environment."""

import os
import sys
from pathlib import Path
from typing import Any, Protocol

from thermoebm.runtime.units import scaled
from thermoebm.study.planning.definitions import StudyError

#: The command that executes a run; the run's directory and options are appended to it.
WORKER = (sys.executable, "-m", "thermoebm.cli.worker")


class Executor(Protocol):
    """Runs workers; only :meth:`close` waits for a worker to end."""

    @property
    def slots(self) -> int:
        """The number of workers that may run at a time."""

    @property
    def sharing(self) -> "Sharing":
        """How runs share a GPU."""

    def start(self, run: Path) -> Any:
        """Starts a worker on a run's directory and returns a handle to it."""

    def poll(self, handle: Any) -> int | None:
        """The worker's exit status, or None while it runs."""

    def close(self) -> None:
        """Ends the workers that are still running."""


class Sharing:
    """How many runs share a GPU: as many as were asked for, as far as one was seen to leave room for the others.

    A run is taken to need a quarter more than its peak so far, for what it measures later, and a gigabyte for CUDA
    itself.

    Args:
        asked: Runs on each GPU.
        memory: Bytes of a GPU; None: unknown, and room is not checked.
        waits: Whether each GPU has one run only until the memory of one has been seen.

    Raises:
        StudyError: If the number is below 1.
    """

    def __init__(self, asked: int, memory: int | None, waits: bool = True) -> None:
        if asked < 1:
            raise StudyError(f"--runs-per-gpu is {asked}; it must be at least 1.")
        self.asked = asked
        self.memory = memory
        self.waits = waits
        self._seen: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether a run's memory must still be seen."""
        return self.waits and self.asked > 1 and self.memory is not None and self._seen is None

    @property
    def runs(self) -> int:
        """Runs on each GPU at present."""
        if self.asked == 1 or self.memory is None or self._seen is None:
            return 1 if self.undecided else self.asked
        return max(1, min(self.asked, int(self.memory / self._needed)))

    @property
    def _needed(self) -> float:
        return 1.25 * (self._seen or 0.0) + 1e9

    def see(self, peak: float) -> str | None:
        """Learns the peak memory of a run in bytes; returns a sentence if it leaves less room than was thought."""
        before = self.asked if self.undecided else self.runs
        self._seen = max(peak, self._seen or 0.0)
        if self.memory is None or self.runs == before:
            return None
        return (
            f"A run needs {scaled(self._needed)}B of a GPU's {scaled(self.memory)}B: {self.runs} of {self.asked} runs "
            "share a GPU."
        )


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
