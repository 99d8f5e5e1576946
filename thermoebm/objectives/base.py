"""The interface of an objective, and the part of a model that objectives use."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from thermoebm.densities import GaussianLikelihood, TiltedPrior


class Model(Protocol):
    """The part of a latent variable model that objectives use."""

    prior: TiltedPrior
    likelihood: GaussianLikelihood

    def sample_prior(self, count: int, rng: torch.Generator, *, differentiable: bool = False) -> Tensor:
        """Final states (count, d) of prior chains."""
        ...

    def sample_posterior(
        self, x: Tensor, temperatures: Tensor, rng: torch.Generator, *, z_prior: Tensor, differentiable: bool = False
    ) -> Tensor:
        """Final states (T, B, d) of one chain for each temperature (T,) and image (B, C, H, W)."""
        ...

    def pooled(self, z: Tensor) -> Tensor:
        """Samples (T, B, d) with those of the other processes' images, if they share a training step; else ``z``."""
        ...


class Output(NamedTuple):
    """Result of an objective for one batch: scalars in nats, summed over pixels and averaged over images.

    Args:
        loss: The scalar to differentiate. Its value is a surrogate unless the objective says otherwise, and contains
            the likelihood's ``constant`` for losses.
        diagnostics: Detached scalars to log.
        ladder: Detached scalars that need the whole ladder, empty if this step did not sample it: ``nll``, the
            objective's own estimate of -log p_θ(x), and the ``left_sum`` and ``right_sum`` of the integral.
        expected: E_t[log p_β(x|z)] (T,) of the whole ladder, detached; None: this step did not sample it.
    """

    loss: Tensor
    diagnostics: dict[str, Tensor]
    ladder: dict[str, Tensor]
    expected: Tensor | None = None


class Objective(ABC):
    """A loss on a batch of images. Its docstring states which gradient its backward pass yields."""

    @abstractmethod
    def __call__(self, model: Model, x: Tensor, rng: torch.Generator, *, step: int | None = 0) -> Output:
        """Draws the samples that the loss needs and returns the loss.

        Args:
            model: The latent variable model.
            x: Images (B, C, H, W) in [-1, 1].
            rng: Stream of all noise of this call.
            step: Training step, for computations made at every n-th step only; None: compute only the loss.
        """

    def state(self) -> nn.Module | None:
        """What training changes besides the networks, for the model's checkpoints and devices; default: nothing."""
        return None

    def after_step(self, output: Output) -> None:
        """Changes that state after a training step with this output; nothing else that computes the loss calls it."""
        return None

    def whole_ladder(self, step: int | None) -> bool:
        """Whether this step samples the whole ladder, the only way in which steps may differ in cost; default: no."""
        return False

    def differentiates_chains(self) -> bool:
        """Whether the gradient is taken through the chains' steps; default: no."""
        return False

    def without_gradient(self) -> tuple[str, ...]:
        """Names of the networks whose gradient is zero by definition, ``energy`` or ``generator``; default: none."""
        return ()

    def notes(self) -> list[str]:
        """What these settings mean, as far as a user may not expect it; each note in a few words."""
        return [f"the {name} never learns" for name in self.without_gradient()]

    def check(self, batch_size: int, latent_dim: int) -> None:
        """Raises a ValueError if the objective cannot be computed for these sizes; by default it never does."""
        return None

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"
