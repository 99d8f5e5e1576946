"""The state of a training as it was when its last step was complete, wherever it is now."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from thermoebm.data.batches import ResumableLoader
from thermoebm.modules.held_out import HeldOut


@contextmanager
def at_last_step(trainer: pl.Trainer, validating: bool | None) -> Iterator[None]:
    """Within it Lightning's counters are those of the last completed step, and a checkpoint resumes after it.

    Args:
        trainer: The trainer, in ``fit``.
        validating: None: a step has begun, or nothing since the last one. Else all that comes after a step is made
            again: True: with the validation that was due; False: there was none.
    """
    fit = trainer.fit_loop
    epoch = fit.epoch_loop
    held: tuple[Any, ...] = (fit.epoch_progress, epoch.batch_progress, epoch.manual_optimization.optim_step_progress)
    progress: list[Any] = [*held, epoch.val_loop.batch_progress]
    loaders = [loader for loader in _flattened(fit) if isinstance(loader, ResumableLoader)]
    before = [copy.deepcopy(vars(part)) for part in progress], epoch._batches_that_stepped, [x.seen for x in loaders]
    batches = epoch.batch_progress
    if batches.current.ready > batches.current.completed:  # the batch of a step that was not completed
        batches.is_last_batch = False
    for part in held:
        _only_completed(part)
    # An epoch that has begun is not complete, whatever of its end has been done.
    epochs: Any = fit.epoch_progress
    for counts in (epochs.total, epochs.current):
        counts.ready = counts.started = counts.completed + 1
    for loader in loaders:
        loader.seen = batches.current.completed
    epoch._batches_that_stepped = batches.total.completed - bool(validating)
    if validating is not None:  # Lightning then goes on with the validation, from its first batch
        validation: Any = epoch.val_loop.batch_progress
        for counts in (validation.total, validation.current):
            counts.ready = counts.started = 1
            counts.processed = counts.completed = 0
    try:
        yield
    finally:
        for part, kept in zip(progress, before[0], strict=True):
            vars(part).update(kept)
        epoch._batches_that_stepped = before[1]
        for loader, seen in zip(loaders, before[2], strict=True):
            loader.seen = seen


@contextmanager
def training_weights(module: pl.LightningModule) -> Iterator[None]:
    """Within it the networks have the weights that are trained, also amid a validation of averaged ones."""
    if not isinstance(module, HeldOut) or module.averaged is None or not module.averaged.swapped:
        yield
        return
    with module.averaged_weights():  # exchanges them once more
        yield


def _only_completed(progress: Any) -> None:
    for counts in (progress.total, progress.current):
        for name in vars(counts):
            setattr(counts, name, counts.completed)


def _flattened(fit: Any) -> list[Any]:
    return fit._combined_loader.flattened if fit._combined_loader is not None else []
