"""How near the prior's short chains are to instability, and whether they still reach what the energy says."""

import math

import lightning.pytorch as pl
import torch
from torch import Tensor

from thermoebm.callbacks.first_process import log_of_first
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import is_due
from thermoebm.densities import TiltedPrior, without_autocast
from thermoebm.modules import LatentEBM
from thermoebm.samplers import Kernel, run, secant_curvature


class PriorStability(OfKind):
    """Measures the prior's short chains against what a longer or a corrected chain would do; changes nothing.

    From n independent chains of the prior's sampler, with step size s and K steps from π0, it logs

        prior/step_times_curvature[_max]  s λ at their ends, λ the largest mean curvature of -log p_α on segments of
                                          length 2 sqrt(2 s), as long as a step's noise: the mean over chains and the
                                          largest. A Langevin step multiplies deviations along that direction by
                                          1 - s λ: unstable from 2. (Networks of leaky ReLUs have no second derivative:
                                          see :func:`thermoebm.samplers.secant_curvature`.)
        prior/longer_chain_gap            E[f_α] after 10 K steps minus that after K, in nats: about 0 if K steps
                                          suffice.
        prior/longer_chain_distance       Squared energy distance (Székely & Rizzo 2013) between the latents after K and
                                          10 K steps, 2 E|z - z'| - E|z - z~| - E|z' - z~'|, unbiased, over σ0 sqrt(d).

    :class:`thermoebm.callbacks.EnergyAlarm` logs the acceptance of a corrected step at the ends of such chains. The
    noise is the same every time. With several processes the first one measures.

    Args:
        every_n_epochs: Interval, in epochs; 0: never.
        count: Number n of chains.
        products: Iterations of the power method.

    Raises:
        ValueError: If a number is too small.
    """

    def __init__(self, every_n_epochs: int = 5, count: int = 256, products: int = 8) -> None:
        if every_n_epochs < 0 or count < 2 or products < 1:
            raise ValueError(
                f"PriorStability: every_n_epochs is {every_n_epochs}, count {count} and products {products}; they must "
                "be at least 0, 2 and 1."
            )
        self.every_n_epochs = every_n_epochs
        self.count = count
        self.products = products

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_due(trainer, self.every_n_epochs):
            return
        assert isinstance(pl_module, LatentEBM)
        log_of_first(trainer, pl_module, "prior", lambda: self._measure(pl_module))

    def _measure(self, model: LatentEBM) -> dict[str, float]:
        rng = model.stream("prior stability")
        kernel, prior = model.prior_sampler, model.prior
        with without_autocast(torch.empty(0, device=model.device)):
            z = model.sample_prior(self.count, rng)
            longer = _longer(kernel, prior, z, 9, rng)
            with torch.no_grad():
                gap = (prior.tilt(longer).mean() - prior.tilt(z).mean()).item()
            step_size = kernel.current_step_size()
            sizes = step_size * secant_curvature(prior, z, math.sqrt(2 * step_size), rng, self.products)
            scale = model.reference.sigma * math.sqrt(z.shape[-1])
            return {
                "step_times_curvature": sizes.mean().item(),
                "step_times_curvature_max": sizes.max().item(),
                "longer_chain_gap": gap,
                "longer_chain_distance": energy_distance(z, longer).item() / scale,
            }


def _longer(kernel: Kernel, prior: TiltedPrior, z: Tensor, times: int, rng: torch.Generator) -> Tensor:
    """Where chains from z (n, d) are after as many times K steps."""
    for _ in range(times):
        shape = (kernel.num_steps, *z.shape[:-1], kernel.noise_dim(z.shape[-1]))
        noise = torch.randn(shape, generator=rng, device=z.device, dtype=z.dtype)
        z = run(kernel, prior, z, noise)[0].z
    return z


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared energy distance of samples x (n, d) and y (n, d), where y_i may depend on x_i alone: ()."""
    n = len(x)
    pairs = n * (n - 1)  # a latent is not compared with itself, nor with where it went
    between, within_x, within_y = torch.cdist(x, y), torch.cdist(x, x), torch.cdist(y, y)
    return (2 * (between.sum() - between.diagonal().sum()) - within_x.sum() - within_y.sum()) / pairs
