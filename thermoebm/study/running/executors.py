"""Where runs are executed: on this machine, or wherever a Ray cluster has room."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.running.workers import WORKER, Executor, command, cores, environment

# Seconds that a worker has to end by itself after SIGTERM, before SIGKILL.
_PATIENCE = 10


class Local:
    """Runs workers on this machine, a fixed number at a time.

    Args:
        jobs: The number of workers at a time; None: one for each GPU, or without GPUs the cores divided by ``threads``.
        threads: CPU threads of each worker; None: the cores divided among the workers.
        program: The command that executes a run.

    Raises:
        StudyError: If a number is below 1.
    """

    def __init__(self, jobs: int | None = None, threads: int | None = None, program: tuple[str, ...] = WORKER) -> None:
        if min(jobs or 1, threads or 1) < 1 or 0 in (jobs, threads):
            raise StudyError(f"--jobs is {jobs} and --threads {threads}; both must be at least 1.")
        gpus = _gpus()
        self.slots = jobs or len(gpus) or max(1, cores() // (threads or 1))
        self.threads = threads or max(1, cores() // self.slots)
        self.program = program
        self._free = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(self.slots)]
        self._running: dict[subprocess.Popen[bytes], dict[str, str]] = {}

    def __str__(self) -> str:
        return f"{self.slots} at a time, {self.threads} thread(s) each"

    def start(self, run: Path) -> subprocess.Popen[bytes]:
        slot = self._free.pop(0)
        try:
            with (run / "log.txt").open("ab") as log:
                worker = subprocess.Popen(
                    command(self.program, run, self.threads),
                    env=environment(self.threads, **slot),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches only the launcher, which ends the workers
                )
        except OSError:
            self._free.append(slot)
            raise
        self._running[worker] = slot
        return worker

    def poll(self, handle: subprocess.Popen[bytes]) -> int | None:
        status = handle.poll()
        if status is not None:
            self._free.append(self._running.pop(handle))
        return status

    def close(self) -> None:
        for worker in self._running:
            _signal(worker, signal.SIGTERM)
        until = time.monotonic() + _PATIENCE
        for worker in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.0, until - time.monotonic()))
            _signal(worker, signal.SIGKILL)  # its own children too
            worker.wait()
        self._running.clear()


def _signal(worker: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, number)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named == "":
        return []
    import torch

    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def choose(
    name: str, jobs: int | None, threads: int | None, address: str | None = None, gpus: float | None = None
) -> Executor:
    """The executor of this name, ``local`` or ``ray``."""
    if name == "local":
        return Local(jobs, threads)
    from thermoebm.study.running.ray_executor import Ray

    return Ray(jobs, threads, address, gpus)
