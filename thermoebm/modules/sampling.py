"""What is sampled from a latent variable model with an energy-based prior: latents, ladders, images."""

from typing import Literal

import torch
from torch import Tensor

from thermoebm.densities import GaussianLikelihood, GaussianPrior, TiltedPrior
from thermoebm.modules.chains import Chains
from thermoebm.modules.image_model import ImageModel
from thermoebm.modules.persistent import PersistentChains
from thermoebm.networks import Energy, Generator
from thermoebm.runtime import processes
from thermoebm.samplers import Kernel
from thermoebm.schedules import Schedule

ChainStart = Literal["reference", "prior_chain", "persistent", "persistent_prior"]


class Sampling(ImageModel):
    """Draws from the densities of a model; a subclass sets the attributes and trains the networks."""

    energy: Energy
    generator: Generator
    reference: GaussianPrior
    prior: TiltedPrior
    likelihood: GaussianLikelihood
    chains: Chains
    persistent: PersistentChains
    prior_sampler: Kernel
    posterior_sampler: Kernel
    chain_start: ChainStart
    pixel_noise: bool
    shares_step = False  # whether all processes compute one loss together, as they do in a training step

    def sample_reference(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        """Independent draws (*shape, d) from π0."""
        return self.reference.sigma * self._normal((*shape, self.generator.latent_dim), rng)

    def sample_prior(self, count: int, rng: torch.Generator, *, differentiable: bool = False) -> Tensor:
        """Final states (count, d) of prior chains (report, equation 11).

        Each starts at a sample of π0; in a visit to persistent chains, where the last one of its image ended.
        """
        z = self.persistent.starts("prior", self.sample_reference((count,), rng))
        noise = self._noise(self.prior_sampler, z, rng)
        end = self.chains.run_prior(z, noise, differentiable=differentiable)
        self.persistent.leave("prior", end)
        return end

    def sample_posterior(
        self,
        x: Tensor,
        temperatures: Tensor,
        rng: torch.Generator,
        *,
        z_prior: Tensor | None = None,
        differentiable: bool = False,
    ) -> Tensor:
        """Final states of one chain for each temperature and image (report, equations 12 and 17).

        They start as ``chain_start`` says; ``persistent`` ones are used in a visit only, and elsewhere start at π0.

        Args:
            x: Images (B, C, H, W).
            temperatures: (T,), ascending. The same noise is used however they are chunked.
            rng: Stream of the noise.
            z_prior: Final states (B, d) of prior chains, used under ``chain_start`` ``prior_chain``; None: sample them.
            differentiable: Record the graph of the chains.

        Returns:
            Latents (T, B, d).
        """
        if self.chain_start == "prior_chain":
            z_prior = self.sample_prior(len(x), rng) if z_prior is None else z_prior
            z = z_prior.expand(len(temperatures), *z_prior.shape)
        else:
            z = self.sample_reference((len(temperatures), len(x)), rng)
            if self.chain_start == "persistent":
                z = self.persistent.starts("posterior", z)
        noise = self._noise(self.posterior_sampler, z, rng)
        end = self.chains.run_posterior(x, temperatures, z, noise, differentiable=differentiable)
        if self.chain_start == "persistent":
            self.persistent.leave("posterior", end)
        return end

    def pooled(self, z: Tensor) -> Tensor:
        """Samples (T, B, d) with those of the other processes' images in a training step; elsewhere ``z`` itself.

        There, in validation and where gradients are measured, processes need not have as many batches, or as large.
        """
        return processes.pooled(z, 1) if self.shares_step else z

    def ladder(self, x: Tensor, schedule: Schedule, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Temperatures (T,), and log p_β(x|z) (T, B) in nats at the end of one chain per temperature and image."""
        temperatures = schedule.temperatures().to(x, non_blocking=True)
        with torch.no_grad():
            z_prior = self.sample_prior(len(x), rng)
            z = torch.cat([z_prior.unsqueeze(0), self.sample_posterior(x, temperatures[1:], rng, z_prior=z_prior)])
            return temperatures, self.likelihood.log_prob(x, z)

    def generate(self, count: int, rng: torch.Generator) -> Tensor:
        """Images (count, C, H, W): g_β at prior samples, plus σl ε if ``pixel_noise`` is set."""
        with torch.no_grad():
            images = self.generator(self.sample_prior(count, rng))
        if self.pixel_noise:
            images = images + self.likelihood.sigma * self._normal(images.shape, rng)
        return images

    def reconstruct(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Reconstructions of images (B, C, H, W), of the same shape: g_β at one posterior sample of each."""
        with torch.no_grad():
            return self.generator(self.sample_posterior(x, x.new_ones(1), rng)[0])

    def _noise(self, kernel: Kernel, z: Tensor, rng: torch.Generator) -> Tensor:
        """The noise (K, ..., n) of chains from z (..., d)."""
        return self._normal((kernel.num_steps, *z.shape[:-1], kernel.noise_dim(z.shape[-1])), rng)
