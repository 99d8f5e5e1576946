"""What a step of each kind of model computes, traced without computing it, and the time that it takes."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thermoebm.gradients.draws import trainable
from thermoebm.modules import VAE, ImageModel, LatentEBM
from thermoebm.runtime import cost
from thermoebm.runtime.step_time import Operation, Rates, Trace

# Images that are traced; all but the tensors of weights are proportional to their number.
_TRACED = 75
# Numbers of a parameter that a step of Adam reads or writes: itself, its gradient and both moments, read; all but the
# gradient written.
_ADAM = 7


class Machine(NamedTuple):
    """How a run is executed.

    Args:
        rates: What the machine does in a second.
        fused: Whether the Langevin steps are compiled.
        half: Whether the generator runs in half precision.
    """

    rates: Rates
    fused: bool = False
    half: bool = False


class Part(NamedTuple):
    """Operations for a batch of :data:`_TRACED` images: with chains of one step, and with two steps of either kind."""

    one: list[Operation]
    two_prior: list[Operation]
    two_posterior: list[Operation]

    def amount(self, model: ImageModel, images: int, machine: Machine) -> Any:
        """Operations and seconds, as an array, at the model's chain lengths, in which both are linear."""
        one, prior, posterior = (_amount(operations, images / _TRACED, machine) for operations in self)
        if not isinstance(model, LatentEBM):
            return one
        lengths = model.prior_sampler.num_steps, model.posterior_sampler.num_steps
        return one + (lengths[0] - 1) * (prior - one) + (lengths[1] - 1) * (posterior - one)

    def posterior_step(self, images: int, machine: Machine) -> Any:
        """Operations and seconds of one more step of all posterior chains."""
        one, _, posterior = (_amount(operations, images / _TRACED, machine) for operations in self)
        return posterior - one


def trace_gradient(model: ImageModel) -> dict[bool, Part]:
    """A training step's or a draw's gradient, by whether it samples the whole ladder; nothing is computed."""
    twin = without_values(model)
    x, rng = _images(model), torch.Generator()  # draws nothing
    parameters = list(trainable(twin).values())

    def gradient(step: int | None) -> None:
        torch.autograd.grad(twin.loss(x, rng, step), parameters, allow_unused=True)

    kinds = {twin.measures_in(step): step for step in (None, 1, 0)}
    return {kind: _traced(twin, partial(gradient, step)) for kind, step in kinds.items()}


def trace_chains(model: ImageModel) -> tuple[Part, Part]:
    """What is measured of held-out images, and generated samples; nothing is computed.

    Of a latent EBM it is a ladder for the evidence, at the validation's temperatures; else a reconstruction.
    """
    twin = without_values(model)
    x, rng = _images(model), torch.Generator()  # draws nothing

    def measured() -> object:
        return twin.ladder(x, twin.evidence_schedule, rng) if isinstance(twin, LatentEBM) else twin.reconstruct(x, rng)

    ladder = _traced(twin, measured)
    return ladder, _traced(twin, lambda: twin.generate(_TRACED, rng))


def trace_annealed_step(model: ImageModel) -> Part:
    """A step of annealing from the encoder's Gaussian, of one chain for each image; nothing is computed."""
    twin = without_values(model)
    assert isinstance(twin, VAE)
    path = twin.path(_images(model))
    z = torch.empty(_TRACED, twin.generator.latent_dim, device="meta")
    return _traced(twin, lambda: path.terms(z))


def _images(model: ImageModel) -> Tensor:
    return torch.empty(_TRACED, *model.image_shape, device="meta")


def _traced(twin: ImageModel, compute: Callable[[], object]) -> Part:
    if not isinstance(twin, LatentEBM):
        with Trace() as trace:
            compute()
        return Part(*[trace.operations] * 3)
    lists = []
    for twin.prior_sampler.num_steps, twin.posterior_sampler.num_steps in ((1, 1), (2, 1), (1, 2)):
        with Trace() as trace:
            compute()
        lists.append(trace.operations)
    return Part(*lists)


def adam_seconds(model: ImageModel, rates: Rates) -> float:
    """Seconds of one step of Adam."""
    return _ADAM * sum(p.nbytes for p in trainable(model).values()) / rates.bandwidth


def _amount(operations: list[Operation], times: float, machine: Machine) -> Any:
    """Operations and seconds as an array of two numbers, for so many times as many images as were traced."""
    scaled = [Operation(times * flops, times * moved, *kind) for flops, moved, *kind in operations]
    seconds = machine.rates.seconds(scaled, fused=machine.fused, half=machine.half)
    return np.array([sum(operation.flops for operation in scaled), seconds])


def without_values(model: ImageModel) -> ImageModel:
    """A copy whose tensors have shapes and no values, and which draws none."""
    twin: ImageModel = cost.without_values(model)

    def empty(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        return torch.empty(shape, device="meta")

    twin._normal = empty  # type: ignore[method-assign]
    if isinstance(twin, LatentEBM):
        twin.chains.compile = "off"
    return twin
