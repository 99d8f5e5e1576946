"""What an objective is, and what it needs of a model."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from thermoebm.densities import GaussianLikelihood, TiltedPrior


class Model(Protocol):
    """The part of a latent variable model that objectives use."""

    prior: TiltedPrior
    likelihood: GaussianLikelihood

    def sample_prior(self, count: int, rng: torch.Generator, *, differentiable: bool = False) -> Tensor:
        """Ends of prior chains (count, d)."""
        ...

    def sample_posterior(
        self, x: Tensor, temperatures: Tensor, rng: torch.Generator, *, z_prior: Tensor, differentiable: bool = False
    ) -> Tensor:
        """Ends of one chain for each temperature (T,) and image (B, C, H, W): (T, B, d)."""
        ...


class Output(NamedTuple):
    """What an objective returns: scalars for one batch, sums over pixels and means over images, in nats.

    Args:
        loss: What is differentiated; its value is a surrogate unless the objective says otherwise, and has the constant
            that the likelihood was told to have in a loss.
        diagnostics: Detached scalars to log.
        ladder: Detached scalars that need the whole ladder, empty where this step sampled none: ``nll``, the
            objective's own estimate of -log p_θ(x), and the ``left_sum`` and ``right_sum`` of the integral.
    """

    loss: Tensor
    diagnostics: dict[str, Tensor]
    ladder: dict[str, Tensor]


class Objective(ABC):
    """A loss on a batch of images. Its docstring states which gradient its backward pass yields."""

    @abstractmethod
    def __call__(self, model: Model, x: Tensor, rng: torch.Generator, *, step: int | None = 0) -> Output:
        """Samples what it needs and returns the loss.

        Args:
            model: The latent variable model.
            x: Images (B, C, H, W) in [-1, 1].
            rng: Stream of all noise of this call.
            step: Training step, for what is done at every n-th only; None for nothing beyond the loss.
        """

    def whole_ladder(self, step: int | None) -> bool:
        """Whether this step samples a whole ladder, all by which steps may differ in cost; by default none does."""
        return False

    def check(self, batch_size: int, latent_dim: int) -> None:
        """Raises a ValueError if the objective cannot be computed for such batches; by default all are fine."""
        return None

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"
