"""Where runs are executed: on this machine, or wherever a Ray cluster has room."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.running.workers import WORKER, Executor, Sharing, command, cores, environment

# Seconds that a worker has to end by itself after SIGTERM, before SIGKILL.
_PATIENCE = 10


class Local:
    """Runs workers on this machine, a limited number at a time.

    Args:
        jobs: The most workers at a time; None: ``runs_per_gpu`` for each GPU, or without GPUs the cores divided by
            ``threads``.
        threads: CPU threads of each worker; None: the cores divided among the workers.
        runs_per_gpu: Workers that share a GPU, see :class:`thermoebm.study.running.workers.Sharing`.
        program: The command that executes a run.

    Raises:
        StudyError: If a number is below 1, or a GPU is to be shared where there is none.
    """

    def __init__(
        self,
        jobs: int | None = None,
        threads: int | None = None,
        runs_per_gpu: int = 1,
        program: tuple[str, ...] = WORKER,
    ) -> None:
        if min(jobs or 1, threads or 1) < 1 or 0 in (jobs, threads):
            raise StudyError(f"--jobs is {jobs} and --threads {threads}; both must be at least 1.")
        self._gpus = gpus()
        if runs_per_gpu > 1 and not self._gpus:
            raise StudyError(f"--runs-per-gpu is {runs_per_gpu}, and there is no GPU here; leave it out.")
        self.sharing = Sharing(runs_per_gpu, gpu_memory() if runs_per_gpu > 1 else None)
        self._jobs = jobs or len(self._gpus) * runs_per_gpu or max(1, cores() // (threads or 1))
        self.threads = threads or max(1, cores() // self._jobs)
        self.program = program
        self._running: dict[subprocess.Popen[bytes], str | None] = {}  # with the GPU of each

    def __str__(self) -> str:
        shared = f", up to {self.sharing.asked} on a GPU as far as they fit" if self.sharing.asked > 1 else ""
        return f"{self.slots} at a time{shared}, {self.threads} thread(s) each"

    @property
    def slots(self) -> int:
        return min(self._jobs, len(self._gpus) * self.sharing.runs) if self.sharing.asked > 1 else self._jobs

    def start(self, run: Path) -> subprocess.Popen[bytes]:
        taken = list(self._running.values())
        gpu = min(self._gpus, key=taken.count, default=None)
        with (run / "log.txt").open("ab") as log:
            worker = subprocess.Popen(
                command(self.program, run, self.threads),
                env=environment(self.threads, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the launcher, which ends the workers
            )
        self._running[worker] = gpu
        return worker

    def poll(self, handle: subprocess.Popen[bytes]) -> int | None:
        status = handle.poll()
        if status is not None:
            del self._running[handle]
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


def gpu_memory() -> int | None:
    """Bytes of the smallest GPU that this process may use; None without one."""
    import torch

    devices = range(torch.cuda.device_count())
    return min((torch.cuda.get_device_properties(device).total_memory for device in devices), default=None)


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named == "":
        return []
    import torch

    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def choose(
    name: str,
    jobs: int | None,
    threads: int | None,
    runs_per_gpu: int = 1,
    address: str | None = None,
    gpus: float | None = None,
) -> Executor:
    """The executor of this name, ``local`` or ``ray``."""
    if name == "local":
        return Local(jobs, threads, runs_per_gpu)
    from thermoebm.study.running.ray_executor import Ray

    return Ray(jobs, threads, address, gpus, runs_per_gpu, gpu_memory())
