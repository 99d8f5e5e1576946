"""Trainings that a signal ends at a random moment: the same command goes on, and ends where an undisturbed run does."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from tests import ROOT
from tests.endurance.run import TINY, same
from thermoebm.runs.checkpoints import load_checkpoint

_MEASURING = {"num_batches": 4, "repetitions": 2, "blocks": 2, "every_n_epochs": 1}
RUN = [
    *(sys.executable, "train.py", "fit", *TINY, "--resume", "auto"),
    *("--trainer.limit_train_batches", 15, "--trainer.max_epochs", 4, "--trainer.log_every_n_steps", 1),
    *("--trainer.limit_val_batches", 2, "--trainer.check_val_every_n_epoch", 2),
    *(f"--gradient_variance.{name}={value}" for name, value in _MEASURING.items()),
]
#: Seconds in which SIGTERM and SIGINT have to end a program that had begun.
_LONGEST = 10.0


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    began = time.monotonic()
    _finish(folder / "whole")
    whole = time.monotonic() - began
    expected, rng = left(folder / "whole"), random.Random(0)
    tries = {signal.SIGTERM: 1} if short else {signal.SIGTERM: 12, signal.SIGINT: 6, signal.SIGKILL: 6}
    for number in tries:
        for i in range(tries[number]):
            runs = folder / f"{number.name}-{i}"
            status, soon = _disturb(runs, number, whole * rng.uniform(0.3, 1.0))
            # A program that has done its work and is leaving Python has no handler any more: then nothing is missing.
            killed = status == -number and (number == signal.SIGKILL or same(left(runs), expected))
            ended = killed or (status in (0, 128 + number) and soon)
            _finish(runs)
            yield f"{number.name} at a random moment", ended and same(left(runs), expected)


def start(runs: Path, *more: Any, stderr: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Begins the training, or goes on with it."""
    command, environment = [*RUN, "--runs", runs, *more], {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


def _disturb(runs: Path, number: signal.Signals, after: float) -> tuple[int, bool]:
    """The status with which the program ended, and whether it did soon."""
    with start(runs) as program:
        time.sleep(after)
        program.send_signal(number)
        began = time.monotonic()
        status = program.wait()
    return status, time.monotonic() - began < _LONGEST


def _finish(runs: Path) -> None:
    """Goes on to the end; a run that had reached it is refused, and stays."""
    with start(runs) as program:
        program.wait()


def left(runs: Path) -> dict[str, Any]:
    """What the newest run has left, without what depends on time."""
    run = max((runs / "digits").iterdir(), key=lambda path: int(path.name))
    checkpoint = load_checkpoint(run / "checkpoints" / "last.ckpt")
    table = pd.read_csv(run / "metrics.csv", dtype=str, keep_default_na=False)
    timed = [name for name in table if name.startswith("cost/") and name not in ("cost/flops", "cost/flops_per_step")]
    names = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    return {name: checkpoint[name] for name in names} | {"table": table.drop(columns=timed).to_csv(index=False)}
