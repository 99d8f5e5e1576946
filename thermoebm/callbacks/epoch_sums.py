"""Means over an epoch's training steps that Lightning logs at its end, for a checkpoint within the epoch.

Lightning adds up what a training step logs ``on_epoch``, and its checkpoints leave the sums out.
"""

from typing import Any

import lightning.pytorch as pl
from torch import Tensor

#: For each logged value its sum so far and what else a resumed epoch needs.
Sums = dict[str, dict[str, Any]]


def taken(trainer: pl.Trainer) -> Sums:
    """The sums of this epoch's training steps so far, those of several processes averaged."""
    sums: Sums = {}
    for key, metric in _results(trainer).items():
        meta = metric.meta
        if metric.is_tensor and meta.on_epoch and meta.fx == "training_step" and not metric.has_reset:
            fields = {"value": metric.value}
            if meta.is_mean_reduction:
                fields["cumulated_batch_size"] = metric.cumulated_batch_size
            tensors = {name: meta.sync(tensor.clone()) for name, tensor in fields.items()}
            how = {"name": meta.name, "reduce_fx": meta.reduce_fx.__name__, "sync_dist": meta.sync.should}
            sums[key] = {"tensors": tensors, **how}
    return sums


def added(trainer: pl.Trainer, sums: Sums) -> Sums:
    """Adds the sums to those of values that a step has logged since; returns the rest.

    After the first step that logs a value, its sum is that of an uninterrupted epoch, bit for bit: sums commute.
    """
    results, rest = _results(trainer), {}
    for key, fields in sums.items():
        metric = results.get(key)
        if metric is None or metric.has_reset:
            rest[key] = fields
            continue
        for name, before in fields["tensors"].items():
            now: Tensor = getattr(metric, name)
            extreme = metric.meta.is_max_reduction or metric.meta.is_min_reduction
            both = metric.meta.reduce_fx(now, before.to(now)) if extreme else before.to(now) + now
            setattr(metric, name, both)
    return rest


def log_rest(module: pl.LightningModule, sums: Sums) -> None:
    """Logs, at the epoch's end, the values that no step has logged since."""
    for fields in sums.values():
        tensors = fields["tensors"]
        value = tensors["value"] / tensors.get("cumulated_batch_size", 1)
        options = {"reduce_fx": fields["reduce_fx"], "sync_dist": fields["sync_dist"], "batch_size": 1}
        module.log(fields["name"], value.to(module.device), on_step=False, on_epoch=True, **options)


def _results(trainer: pl.Trainer) -> Any:
    return trainer.fit_loop.epoch_loop._results
