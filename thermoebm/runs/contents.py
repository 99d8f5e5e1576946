"""What a checkpoint must hold to be used, and to be trained on from.

Each function raises a ValueError; its message says what is wrong in the words that follow the file's name.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from thermoebm.modules import ImageModel
from thermoebm.modules.restoring import check_finite
from thermoebm.runs.settings import at

_WRITTEN = {"state_dict", "epoch", "global_step", "pytorch-lightning_version"}
_MAPPINGS = (
    "config",
    "config.model",
    "config.model.init_args",
    "config.data",
    "hyper_parameters",
    "loops",
    "callbacks",
    "epoch_sums",
)
#: Of Adam, for each parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq")
#: What Lightning restores a training's progress from.
_PROGRESS = ("epoch_progress", "epoch_loop.batch_progress")
_STEPS = "epoch_loop.manual_optimization.optim_step_progress.total.completed"


def check(content: Any) -> None:
    """Whether this is what train.py writes, of the right kinds; whatever it is read for."""
    weights = content.get("state_dict") if isinstance(content, Mapping) and content.keys() >= _WRITTEN else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError("is not a checkpoint that train.py wrote")
    for name in ("epoch", "global_step"):
        _check_count(content[name], name)
    for path in _MAPPINGS:
        value = at(content, path)
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"is damaged: its {path} is {_shown(value)} and must be a mapping")
    for name, state in (content.get("callbacks") or {}).items():
        if not isinstance(state, Mapping):
            raise ValueError(f"is damaged: the state of its callback {name} is {_shown(state)} and must be a mapping")


def check_weights(content: Mapping[str, Any], model: ImageModel) -> None:
    """Whether the weights and buffers are those of a model: names, shapes, data types, and finite.

    Under precision 64-true a checkpoint's are of double precision. What is not finite in a new model may be so here.
    """
    saved, own = content["state_dict"], model.state_dict()
    double = str(at(content, "config.trainer.precision")).startswith("64")
    for name in sorted(saved.keys() | own.keys()):
        there, here = (str(tuple(state[name].shape)) if name in state else "absent" for state in (saved, own))
        if there == here:
            there, here = (str(state[name].dtype) for state in (saved, own))
            here = "torch.float64" if double and own[name].is_floating_point() else here
        if there != here:
            raise ValueError(
                f"is of another model: {name} is {there} there and {here} in the configured model; use the config of "
                "its own run"
            )
    check_finite({name: value for name, value in saved.items() if own[name].isfinite().all()})


def check_training(content: Mapping[str, Any], model: ImageModel) -> None:
    """Whether training can go on from it: an optimiser of this model, schedulers, and progress that agree."""
    if not content.get("optimizer_states") or not content.get("lr_schedulers"):
        raise ValueError(
            "holds no optimiser state, without which training cannot go on; it can be evaluated, and training starts "
            "anew without --ckpt_path"
        )
    if type(model).configure_optimizers is ImageModel.configure_optimizers:  # what another one saves is its own affair
        _check_optimizer(_only(content, "optimizer_states"), content, model)
        _check_count(_only(content, "lr_schedulers").get("last_epoch"), "lr_schedulers.last_epoch")
    progress = at(content, "loops.fit_loop")
    for name in _PROGRESS:
        if not isinstance(progress, Mapping) or not isinstance(progress.get(name), Mapping):
            raise ValueError(f"is damaged: its loops.fit_loop has no {name}")
    for path, value in _counters(progress):
        if not isinstance(value, bool):
            _check_count(value, f"loops.fit_loop.{path}")
    done = dict(_counters(progress))
    for name, path in (("epoch", "epoch_progress.current.completed"), ("global_step", _STEPS)):
        if done.get(path) != content[name]:
            raise ValueError(
                f"is damaged: its {name} is {content[name]} and its loops.fit_loop.{path} is {done.get(path, 'absent')}"
            )


def _only(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    states = content[name]
    if not isinstance(states, list) or len(states) != 1 or not isinstance(states[0], Mapping):
        raise ValueError(f"is damaged: its {name} must be a list of one mapping")
    return states[0]


def _check_optimizer(optimizer: Mapping[str, Any], content: Mapping[str, Any], model: ImageModel) -> None:
    """Whether Adam's state is that of the model's parameters, in their order; a frozen one has none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [[names[id(p)] for p in network.parameters()] for network, _ in model.optimizer_settings]
    order = [name for group in groups for name in group]
    state, saved = optimizer.get("state"), optimizer.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(saved, list) or not all(isinstance(g, Mapping) for g in saved):
        raise ValueError("is damaged: its optimizer_states must have the mapping state and the list param_groups")
    numbers = [group.get("params") for group in saved]
    first = [sum(map(len, groups[:i])) for i in range(len(groups))]
    if numbers != [[*range(n, n + len(group))] for n, group in zip(first, groups, strict=True)]:
        raise ValueError("holds the optimiser state of another model: its groups have other parameters")
    if content["global_step"] and not state:
        raise ValueError(
            f"holds no optimiser state after {content['global_step']} steps; training cannot go on from it"
        )
    for group in saved:
        for name in ("lr", "initial_lr", "scale"):
            rate = group.get(name, 1.0)
            if not isinstance(rate, int | float) or not 0 <= rate < math.inf:
                raise ValueError(f"is damaged: {name} of its optimiser is {_shown(rate)}")
    for number, moments in state.items():
        if number not in range(len(order)):
            raise ValueError(f"holds the optimiser state of another model: it has no parameter {_shown(number)}")
        _check_moments(moments, order[number], content["state_dict"][order[number]])


def _check_moments(moments: Any, name: str, weight: Tensor) -> None:
    if not isinstance(moments, Mapping):
        raise ValueError(f"is damaged: the optimiser state of {name} is {_shown(moments)} and must be a mapping")
    for key in _MOMENTS:
        moment = moments.get(key)
        if not isinstance(moment, Tensor) or (moment.shape, moment.dtype) != (weight.shape, weight.dtype):
            raise ValueError(
                f"is damaged: {key} of {name} in its optimiser is {_shown(moment)} and must be {_shown(weight)}"
            )
        check_finite({f"{key} of {name}": moment})
    if (moments["exp_avg_sq"] < 0).any():
        raise ValueError(f"is damaged: exp_avg_sq of {name} in its optimiser has negative values")
    step = moments.get("step")
    number = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    whole = int(number) if isinstance(number, float) and number.is_integer() else number
    _check_count(whole, f"step of {name} in the optimiser")


def _counters(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The counters of a loop by their dotted names; what its parts keep besides is no counter."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, inner in value.items():
        if not str(name).endswith("state_dict"):
            yield from _counters(inner, f"{path}.{name}" if path else str(name))


def _check_count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"is damaged: its {name} is {_shown(value)} and must be a whole number of at least 0")


def _shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
