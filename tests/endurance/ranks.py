"""Trainings on two processes of which one is killed or stands still: both end in time, and the checkpoint is whole."""

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.endurance.kills import start
from thermoebm.runs.checkpoints import load_checkpoint

_TWO = (
    "--trainer.accelerator",
    "cpu",
    "--trainer.devices",
    2,
    "--trainer.strategy",
    "ddp",
    "--trainer.max_epochs",
    999,
)
#: Seconds after which nothing may be left of a training.
_LONGEST = 30.0


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    rng = random.Random(0)
    harms = {signal.SIGKILL: "killed", signal.SIGSTOP: "standing still"}
    for (number, how), rank, i in itertools.product(harms.items(), (1,) if short else (0, 1), range(1 if short else 3)):
        yield f"one of two processes {how}", _held(folder / f"{how}-{rank}-{i}", number, rank, rng.uniform(0, 3))
        if short:
            return


def _held(runs: Path, number: signal.Signals, rank: int, after: float) -> bool:
    last = runs / "digits" / "0" / "checkpoints" / "last.ckpt"
    said = runs.with_suffix(".txt")
    with said.open("wb") as stderr, start(runs, *_TWO, stderr=stderr) as first:
        while not last.exists() and first.poll() is None:
            time.sleep(0.1)
        time.sleep(after)
        (second,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
        lost, other = (first.pid, second) if rank == 0 else (second, first.pid)
        os.kill(lost, number)
        began = time.monotonic()
        while _lives(other) and time.monotonic() - began < 2 * _LONGEST:
            first.poll()
            time.sleep(0.1)
        soon = time.monotonic() - began < _LONGEST
        for process in (lost, other):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    errors = [line for line in said.read_text().splitlines() if line.startswith("error: ")]
    told = len(errors) == 1 and f"Process {2 - rank} of 2 ends, since " in errors[0] and str(last) in errors[0]
    return soon and told and "Traceback" not in said.read_text() and load_checkpoint(last)["epoch"] >= 0


def _lives(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
