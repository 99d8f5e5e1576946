"""Whole checkpoints that hold what no training wrote: train.py ends with status 2 and one sentence that says what."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.endurance.run import TINY, attempt, train
from thermoebm.runs import checkpoints

WEIGHT = "generator.layers.0.weight"


def _put(value: Any, *keys: Any) -> Callable[[Any], None]:
    """Sets what is under these keys to a value, or to what a function makes of it."""

    def harm(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value(content[keys[-1]]) if callable(value) else value

    return harm


def _drop(*keys: Any) -> Callable[[Any], None]:
    def harm(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return harm


def _spoilt(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = float("nan")
    return tensor


_OPTIMIZER = ("optimizer_states", 0)
_MOMENTS = (*_OPTIMIZER, "state", 6)  # of the generator's first weight
_FIT = ("loops", "fit_loop")
#: What is wrong, and what is said of it.
BAD: dict[str, tuple[Callable[[Any], None], str]] = {
    "no optimiser": (_drop("optimizer_states"), "holds no optimiser state, without which training cannot go on"),
    "no schedulers": (_put([], "lr_schedulers"), "holds no optimiser state"),
    "optimiser that never stepped": (_put({}, *_OPTIMIZER, "state"), "holds no optimiser state after 4 steps"),
    "two optimisers": (_put(lambda old: old * 2, "optimizer_states"), "optimizer_states must be a list of one"),
    "optimiser of one network": (lambda c: c["optimizer_states"][0]["param_groups"].pop(), "of another model"),
    "moment's shape": (
        _put(lambda old: old[:1], *_MOMENTS, "exp_avg"),
        f"exp_avg of {WEIGHT} in its optimiser is (1, ",
    ),
    "moment's type": (
        _put(lambda old: old.half(), *_MOMENTS, "exp_avg_sq"),
        "float16 and must be (32, 64, 4, 4) float32",
    ),
    "moment that is none": (_put(3, *_MOMENTS, "exp_avg"), f"exp_avg of {WEIGHT} in its optimiser is 3 and must be"),
    "moment not finite": (_put(_spoilt, *_MOMENTS, "exp_avg"), f"values that are not finite in exp_avg of {WEIGHT}:"),
    "negative second moment": (_put(torch.neg, *_MOMENTS, "exp_avg_sq"), "has negative values"),
    "negative step of Adam": (_put(lambda old: old - 9, *_MOMENTS, "step"), f"step of {WEIGHT} in the optimiser is -5"),
    "infinite rate": (_put(float("inf"), *_OPTIMIZER, "param_groups", 0, "lr"), "lr of its optimiser is inf"),
    "negative decays": (_put(-1, "lr_schedulers", 0, "last_epoch"), "lr_schedulers.last_epoch is -1"),
    "epoch in words": (_put("two", "epoch"), "its epoch is 'two' and must be a whole number of at least 0"),
    "epoch that is half": (_put(1.5, "epoch"), "its epoch is 1.5"),
    "epoch of another": (
        _put(7, "epoch"),
        "its epoch is 7 and its loops.fit_loop.epoch_progress.current.completed is 1",
    ),
    "negative steps": (_put(-4, "global_step"), "its global_step is -4"),
    "steps of another": (_put(3, "global_step"), "its global_step is 3 and its loops.fit_loop."),
    "no loops": (_drop("loops"), "its loops.fit_loop has no epoch_progress"),
    "loops that are none": (_put([1], "loops"), "its loops is [1] and must be a mapping"),
    "loops without batches": (_drop(*_FIT, "epoch_loop.batch_progress"), "has no epoch_loop.batch_progress"),
    "negative batches": (_put(-2, *_FIT, "epoch_loop.batch_progress", "current", "ready"), "current.ready is -2"),
    "callbacks that are none": (_put("a", "callbacks"), "its callbacks is 'a' and must be a mapping"),
    "callback's state": (_put(1, "callbacks", "EnergyAlarm"), "the state of its callback EnergyAlarm is 1"),
    "config that is none": (_put("digits", "config"), "its config is 'digits' and must be a mapping"),
    "model that is none": (_put([], "config", "model"), "its config.model is [] and must be a mapping"),
    "weights that are none": (_put(0, "state_dict"), "is not a checkpoint that train.py wrote"),
    "weight that is text": (_put("a", "state_dict", WEIGHT), "is not a checkpoint that train.py wrote"),
    "weight's shape": (
        _put(lambda old: old[0], "state_dict", WEIGHT),
        f"{WEIGHT} is (64, 4, 4) there and (32, 64, 4, 4)",
    ),
    "weight's type": (
        _put(lambda old: old.double(), "state_dict", WEIGHT),
        f"{WEIGHT} is torch.float64 there and torch.",
    ),
    "no weight": (_drop("state_dict", WEIGHT), f"{WEIGHT} is absent there"),
    "weight not finite": (
        _put(_spoilt, "state_dict", WEIGHT),
        f"holds values that are not finite in {WEIGHT}: training broke down before it was written",
    ),
    "average not finite": (_put(_spoilt, "state_dict", "averaged.average_0"), "not finite in averaged.average_0:"),
}


def trials(folder: Path, short: bool = False) -> Iterator[tuple[str, bool]]:
    run = train(folder / "runs")
    good = checkpoints.load_checkpoint(run / "checkpoints" / "last.ckpt")
    path = run / "checkpoints" / "harmed.ckpt"
    beside = f"; the newest valid checkpoint beside it is {run}/checkpoints/last.ckpt, of epoch 2.\n"
    for what, (harm, said) in list(BAD.items())[:: 16 if short else 1]:  # functions: tests/runs/test_contents.py
        harm(content := copy.deepcopy(good))
        torch.save(content, path)
        try:
            status, told = attempt("fit", *TINY, "--runs", folder, "--ckpt_path", path, "--trainer.max_epochs", 3)
        except Exception as error:
            status, told = 1, repr(error)
        held = status == 2 and told.startswith(f"error: {path} ") and said in told and told.endswith(beside)
        yield "checkpoint with bad contents", held and told.count("\n") == 1
        if not held:
            print(f"{what}: status {status}, {told}")
