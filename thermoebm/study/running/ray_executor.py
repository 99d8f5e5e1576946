"""Executes runs on a Ray cluster, or on a cluster of this machine alone; all nodes must share the study's folder."""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Any

from thermoebm.study.planning.definitions import StudyError
from thermoebm.study.running.workers import WORKER, Sharing, cores, environment

# How often Ray restarts a run whose node was lost: the loss is not the run's fault, and the run resumes.
_LOSSES = 20
# Seconds that workers have to end by themselves, and seconds between two looks at the cluster's resources.
_PATIENCE, _LOOK = 15, 5.0


class Ray:
    """Runs as many workers as the cluster has room for.

    Args:
        jobs: The most workers at a time; None: as many as there is room for.
        threads: CPUs of each worker; None: its share of the CPUs, in proportion to its GPUs, or 1 without GPUs.
        address: Address of a running cluster (``auto``: that of this machine or $RAY_ADDRESS); None: one is started
            here.
        gpus: GPUs of each worker, which may be a fraction; None: 1 if the cluster has any, divided among those that
            share one.
        runs_per_gpu, gpu_memory: See :class:`thermoebm.study.running.workers.Sharing`. The memory is that of the GPUs
            beside this program; where it has none, room is not checked. Runs share from the start, since a task keeps
            the part of a GPU that it was given; room is known where earlier runs of the study are.
        program: The command that executes a run.

    Raises:
        StudyError: If a number is out of range, Ray is not installed, or the cluster cannot be reached or is too small
            for a run.
    """

    def __init__(
        self,
        jobs: int | None = None,
        threads: int | None = None,
        address: str | None = None,
        gpus: float | None = None,
        runs_per_gpu: int = 1,
        gpu_memory: int | None = None,
        program: tuple[str, ...] = WORKER,
    ) -> None:
        if 0 in (jobs, threads) or min(jobs or 1, threads or 1, gpus or 0) < 0:
            raise StudyError(f"--jobs is {jobs}, --threads {threads}, --gpus {gpus}; the first two are at least 1.")
        if gpus is not None and runs_per_gpu > 1:
            raise StudyError(f"--gpus is {gpus:g} and --runs-per-gpu {runs_per_gpu}; give one of them.")
        self.sharing = Sharing(runs_per_gpu, gpu_memory, waits=False)
        try:
            import ray
        except ImportError as error:
            raise StudyError("the executor ray needs Ray, which is absent: pip install 'thermoebm[ray]'.") from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports on its use unless it is told not to
        self._ray: Any = ray
        self._running: list[Any] = []
        try:
            own = {"num_cpus": cores(), "include_dashboard": False}  # a cluster of this machine
            where: dict[str, Any] = {"address": address} if address else {"address": "local", **own}
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise StudyError(f"there is no Ray cluster to use: {' '.join(str(error).split())}") from error
        self.program = program
        self.jobs = jobs
        room = self._resources()
        self._whole = gpus if gpus is not None else float(room.get("GPU", 0) >= 1)
        self.threads = threads or (max(1, int(room.get("CPU", 1) * self.gpus / room["GPU"])) if self.gpus else 1)
        if self._room() < 1:
            self.close()
            raise StudyError(f"the Ray cluster has no room for a run of {self.threads} CPUs and {self.gpus:g} GPUs.")

    def __str__(self) -> str:
        return f"{self.slots} at a time on a Ray cluster, {self.threads} thread(s) and {self.gpus:g} GPU(s) each"

    @property
    def slots(self) -> int:
        """How many workers the cluster has room for now, at most ``jobs``; this changes as nodes join and leave."""
        if time.monotonic() > self._looked + _LOOK:
            self._resources()
        return max(1, min(self.jobs or self._room(), self._room()))

    @property
    def gpus(self) -> float:
        """GPUs of each worker."""
        return self._whole / self.sharing.runs

    def _room(self) -> int:
        cpus = int(self._known.get("CPU", 0) // self.threads)
        return min(cpus, int(self._known.get("GPU", 0) / self.gpus)) if self.gpus else cpus

    def _resources(self) -> dict[str, float]:
        self._looked = time.monotonic()
        self._known: dict[str, float] = self._ray.cluster_resources()
        return self._known

    def start(self, run: Path) -> Any:
        task = self._ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=_LOSSES)(_task())
        variables = {name: value for name, value in environment(self.threads).items() if name not in os.environ}
        for name in ("PYTHONPATH", "THERMOEBM_CACHE"):
            if name in os.environ:
                variables[name] = os.environ[name]
        arguments = [*self.program[1:], str(run.resolve()), f"--threads={self.threads}"]
        handle = task.remote(arguments, str(run.resolve() / "log.txt"), str(Path.cwd()), variables)
        self._running.append(handle)
        return handle

    def poll(self, handle: Any) -> int | None:
        if not self._ray.wait([handle], timeout=0)[0]:
            return None
        self._running.remove(handle)
        try:
            return int(self._ray.get(handle))
        except self._ray.exceptions.RayError as error:
            print(f"error: Ray lost the run: {' '.join(str(error).split())}", flush=True)
            return 1

    def close(self) -> None:
        for handle in self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(handle)
        if self._running:
            self._ray.wait(self._running, num_returns=len(self._running), timeout=_PATIENCE)
        self._running = []
        self._ray.shutdown()


def _task() -> Any:
    """The function that starts a worker; Ray sends it by value, so that a node can call it without this package."""

    def work(arguments: list[str], log: str, folder: str, variables: dict[str, str]) -> int:
        import os
        import signal
        import subprocess
        import sys
        import time

        # Ray cancels a task by an interrupt, which is ignored if whatever started Ray ignores it, as nohup and & do.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(log, "ab") as file:  # noqa: PTH123
            worker = subprocess.Popen(
                [sys.executable, *arguments, f"--parent={os.getpid()}"],
                cwd=folder if os.path.isdir(folder) else None,  # noqa: PTH112
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
            try:
                while worker.poll() is None:
                    time.sleep(0.2)  # Ray cancels a task between its instructions, and not amid a wait for a process
                return worker.returncode
            finally:  # the task was cancelled
                worker.terminate()
                try:
                    worker.wait(10)
                except subprocess.TimeoutExpired:
                    worker.kill()

    return work
