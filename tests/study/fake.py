"""A study whose training is pretended, in milliseconds and without torch: what launchers and workers do is real.

    python fake.py launch OUTPUT RUNS JOBS     runs such a study
    python fake.py RUN_DIRECTORY ...           is its worker

A file ``faults.json`` in OUTPUT names, by seed, what goes wrong there.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))

from thermoebm.runtime.files import write_text  # noqa: E402
from thermoebm.study.planning.definitions import Run, Study  # noqa: E402
from thermoebm.study.running import folder, worker  # noqa: E402
from thermoebm.study.running.board import Board  # noqa: E402
from thermoebm.study.running.executors import Local  # noqa: E402
from thermoebm.study.running.launch import Launcher  # noqa: E402

EPOCHS, SECONDS = 4, 0.05
PROGRAM = (sys.executable, str(Path(__file__)))


def study(count: int, retries: int = 1) -> Study:
    """Runs 0, 1, ... of one cell."""
    config = {"trainer": {"max_epochs": EPOCHS}}
    runs = tuple(Run("fake", "cell", "batch", seed, f"{seed:010x}", config) for seed in range(count))
    return Study("fake", Path("fake.yaml"), (), tuple(range(count)), retries, runs)


def prepare(output: Path, made: Study) -> None:
    for run in made.runs:
        place = output / "runs" / run.hash
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "run.json").exists():
            folder.write(place / "run.json", {"seed": run.seed, "config": run.config})


def launch(output: Path, count: int, jobs: int) -> int:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # nor torch, to ask for GPUs
    made = study(count)
    prepare(output, made)
    executor = Local(jobs, 1, program=PROGRAM)
    return Launcher(made, output, executor, Board(made, output, executor.slots)).run()


def slow(output: Path, seconds: float) -> None:
    """Epochs that take so long."""
    (output / "seconds").write_text(str(seconds))


def describe(run: Path) -> dict:
    about = folder.read(run / "run.json")
    if about is None:
        raise folder.Damaged("no run.json")
    return about


def train(program: object, run: Path, threads: int, epochs: int) -> Path:
    """Epochs that write to a trace what they start from; a checkpoint is the number of epochs done."""
    faults = (
        json.loads((run.parents[1] / "faults.json").read_text()) if (run.parents[1] / "faults.json").exists() else {}
    )
    fault = faults.get(str(describe(run)["seed"]), "")
    trace, checkpoint = run / "trace", run / "0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    alone(run)
    slowly = run.parents[1] / "seconds"
    seconds = float(slowly.read_text()) if slowly.exists() else SECONDS
    for epoch in range(done, epochs):
        with trace.open("a") as file:
            file.write(f"{os.getpid()} {epoch}\n")
        time.sleep(seconds)
        if fault == "always" or (fault == "once" and not (run / "failed once").exists()):
            (run / "failed once").touch()
            print("error: the fault that was asked for.", file=sys.stderr)
            raise SystemExit(2)
        if fault == "full":
            raise OSError(28, "No space left on device")
        write_text(checkpoint, str(epoch + 1))
    return checkpoint


def alone(run: Path) -> None:
    """Notes it if an earlier process still works on the run."""
    with (run / "pids").open("a+") as file:
        file.seek(0)
        for pid in file.read().split():
            state = Path(f"/proc/{pid}/stat")
            if pid != str(os.getpid()) and state.exists() and state.read_text().split(")")[1].split()[0] not in "ZX":
                (run / "not alone").touch()
        file.write(f"{os.getpid()}\n")


def evaluate(program: object, run: Path, checkpoint: Path, config: dict, evidence: str) -> None:
    (run / "test").mkdir(exist_ok=True)
    folder.write(run / "test" / "metrics.json", {"epochs": int(checkpoint.read_text())})


def ended(number: int, frame: object) -> None:
    """Notes that the worker was asked to end, and not killed."""
    (Path(sys.argv[1]) / "asked to end").touch()
    sys.exit(128 + number)


if __name__ == "__main__":
    if sys.argv[1] == "launch":
        sys.exit(launch(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    worker._describe, worker._train, worker._evaluate = describe, train, evaluate
    signal.signal(signal.SIGTERM, ended)
    sys.exit(worker.main(print, print, sys.argv[1:]))
