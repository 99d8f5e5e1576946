"""Nominal operations of a training step."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from thermoebm.gradients.draws import draw_gradient
from thermoebm.modules import ImageModel, LatentEBM
from thermoebm.runtime.cost import Flops


def count_flops(
    model: ImageModel,
    x: Tensor,
    step: int,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> int:
    """Nominal operations of a training step of this process, counted by running its loss and gradient uncompiled.

    Chains run with one and two steps. Operations in loops and of recomputed activations count each time they
    run. Nothing is changed, including parameters, their ``.grad``, buffers and random states.

    Args:
        model: The model, in training mode.
        x: A batch (B, C, H, W).
        step: Index of the step.
        context: Entered around the loss, for instance autocast.
    """
    on_cuda = model.device.type == "cuda"

    def counted() -> int:
        with isolate_rng(include_cuda=on_cuda), torch.compiler.set_stance("force_eager"), Flops() as flops:
            draw_gradient(partial(model.loss, step=step), model, x, model.stream("cost"), context)
        return flops.total

    total = of_whole_chains(model, counted) if isinstance(model, LatentEBM) else counted()
    if on_cuda:  # uncompiled steps may take more memory than training does
        torch.cuda.reset_peak_memory_stats(model.device)
    return total


def of_whole_chains(model: LatentEBM, count: Callable[[], int]) -> int:
    """The count at the model's chain lengths, extrapolated from chains of one and two steps: it is linear in both."""
    kernels = (model.prior_sampler, model.posterior_sampler)
    lengths = [kernel.num_steps for kernel in kernels]
    compiled_for, model.chains.training_batch = model.chains.training_batch, None
    try:
        for kernel in kernels:
            kernel.num_steps = 1
        total = one = count()
        for kernel, length in zip(kernels, lengths, strict=True):
            kernel.num_steps = 2
            total += (length - 1) * (count() - one)
            kernel.num_steps = 1
    finally:
        for kernel, length in zip(kernels, lengths, strict=True):
            kernel.num_steps = length
        model.chains.training_batch = compiled_for
    return total
