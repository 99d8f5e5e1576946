"""The peer: a straightforward Langevin sampler, on plain networks that share the model's weights.

It samples one temperature after another and calls ``torch.autograd.grad`` at each step; nothing is compiled, folded or
rearranged. Our sampler is compared with it in time and, on the same noise, in its result.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator, EnergyMLP


def plain(layers: nn.Sequential) -> nn.Sequential:
    """The same layers with the same weights, with torch's own classes only."""
    copies = []
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose2d):
            sizes = layer.kernel_size, layer.stride, layer.padding
            copy = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, *sizes)  # type: ignore[arg-type]
            copy.weight, copy.bias = layer.weight, layer.bias
            layer = copy
        copies.append(layer)
    return nn.Sequential(*copies)


class Peer:
    """Both chains of a model, written plainly.

    Args:
        model: Model whose weights, step sizes and standard deviations are used.
    """

    def __init__(self, model: LatentEBM) -> None:
        assert isinstance(model.energy, EnergyMLP)
        assert isinstance(model.generator, ConvGenerator)
        self.latent_dim = model.energy.latent_dim
        self.energy = model.energy.layers
        self.generator = plain(model.generator.layers)
        self.prior_sigma, self.likelihood_sigma = model.reference.sigma, model.likelihood.sigma
        self.prior_step, self.posterior_step = model.prior_sampler.step_size, model.posterior_sampler.step_size

    def prior(self, z: Tensor, noise: Tensor) -> Tensor:
        """Ends of prior chains (B, d) from starts (B, d) and noise (K, B, d)."""
        for epsilon in noise:
            z = z.detach().requires_grad_()
            (score,) = torch.autograd.grad(self._log_prior(z).sum(), z)
            z = z + self.prior_step * score + math.sqrt(2 * self.prior_step) * epsilon
        return z.detach()

    def posterior(self, x: Tensor, temperatures: Tensor, start: Tensor, noise: Tensor) -> Tensor:
        """Ends of posterior chains (T, B, d) from starts (T, B, d) and noise (K, T, B, d)."""
        ends = []
        for i, t in enumerate(temperatures):
            z = start[i]
            for epsilon in noise[:, i]:
                z = z.detach().requires_grad_()
                (score,) = torch.autograd.grad(self._log_posterior(x, t, z).sum(), z)
                z = z + self.posterior_step * score + math.sqrt(2 * self.posterior_step) * epsilon
            ends.append(z.detach())
        return torch.stack(ends)

    def _log_prior(self, z: Tensor) -> Tensor:
        return self.energy(z).squeeze(-1) - 0.5 * z.square().sum(-1) / self.prior_sigma**2

    def _log_posterior(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        squared_error = (x - self.generator(z[:, :, None, None])).square().sum((1, 2, 3))
        return -0.5 * t * squared_error / self.likelihood_sigma**2 + self._log_prior(z)

    def flops(self, x: Tensor) -> tuple[float, float]:
        """Nominal FLOPs of one step of the prior chain and of the posterior chain, for the batch x and one temperature.

        Counted by FlopCounterMode: two for each multiplication and addition of a matrix product or convolution, even
        where a kernel could save some (at an image's border it can), and none for anything else. Every image costs the
        same, so only two images are run.
        """
        z = x.new_zeros(2, self.latent_dim, requires_grad=True)

        def count(log_prob: Callable[[Tensor], Tensor]) -> float:
            with FlopCounterMode(display=False) as counter:
                # Not z itself: the counter's hooks refuse the gradient of a leaf that enters a module.
                torch.autograd.grad(log_prob(z * 1).sum(), z)
            return counter.get_total_flops() * len(x) / 2

        return count(self._log_prior), count(lambda z: self._log_posterior(x[:2], x.new_ones(()), z))
