"""Averaged weights: an exponential moving average of the networks' parameters along training."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class AveragedWeights(nn.Module):
    """θ̄ ← r_n θ̄ + (1 - r_n) θ after the n-th training step, with r_n = min(r, n/(n + 9)); at first θ̄ = θ.

    The rate grows to r, so that the average forgets the initial weights within the first steps (as TensorFlow's
    ExponentialMovingAverage with ``num_updates``). Averages and n are buffers: they are in checkpoints, follow the
    module's device and are equal in all processes, since their parameters are. Buffers of networks are not averaged.

    Args:
        parameters: What is averaged. All methods take the same parameters in the same order.
        decay: r, in (0, 1). About 1/(1 - r) steps are averaged.

    Attributes:
        swapped: Whether the model has the averages now, and this the parameters.

    Raises:
        ValueError: If the decay is out of its range.
    """

    updates: Tensor
    swapped = False

    def __init__(self, parameters: Iterable[Tensor], decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(
                f"AveragedWeights: average_decay is {decay}; take a number between 0 and 1, for instance 0.999."
            )
        super().__init__()
        self.decay = decay
        for i, parameter in enumerate(parameters):
            self.register_buffer(f"average_{i}", parameter.detach().clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor], made: Tensor | None = None) -> None:
        """Takes the parameters after a training step; the host does not wait for the device.

        Args:
            parameters: What is averaged.
            made: () whether the step was made, and the average is to follow it; None: it was.
        """
        made = torch.ones_like(self.updates) if made is None else made.to(self.updates)
        self.updates += made
        kept = (self.updates / (self.updates + 9)).clamp(max=self.decay)
        for average, parameter in zip(self._averages(), parameters, strict=True):
            average.lerp_(parameter.detach(), (made * (1 - kept)).to(average))

    @torch.no_grad()
    def swap(self, parameters: Iterable[Tensor]) -> None:
        """Exchanges the parameters with their averages."""
        for average, parameter in zip(self._averages(), parameters, strict=True):
            now = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(now)
        self.swapped = not self.swapped

    def _averages(self) -> list[Tensor]:
        return [buffer for name, buffer in self.named_buffers() if name != "updates"]
