"""The divergence triangle (Han et al. 2019, arXiv 1812.10907): three joint densities of images and latents."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from thermoebm.densities import GaussianLikelihood, GaussianPrior, inferred, without_autocast
from thermoebm.objectives.base import Output


class Noise(NamedTuple):
    """Standard normal noise of one loss.

    Args:
        inference: (B, d), of latents of the images.
        prior: (B, d), of latents of the prior.
        pixels: (B, C, H, W), of generated images; None: they have none.
    """

    inference: Tensor
    prior: Tensor
    pixels: Tensor | None


class ThreeNetworks(Protocol):
    """The part of a model that the triangle uses."""

    @property
    def encoder(self) -> nn.Module:
        """q_φ."""
        ...

    @property
    def energy(self) -> nn.Module | None:
        """f_α, if there is one."""
        ...

    reference: GaussianPrior
    likelihood: GaussianLikelihood


@dataclass(frozen=True)
class Triangle:
    """The divergence triangle D = KL(Q‖P) + KL(P‖Π) - KL(Q‖Π), which θ and φ lower and α raises.

    Q = q_data(x) q_φ(z|x), P = p(z) p_θ(x|z), Π = π_α(x) q_φ(z|x) with π_α(x) ∝ exp(f_α(x)). With images x, their
    latents z_Q ~ q_φ(z|x), latents z ~ p(z) and images x̃ = g_θ(z) + σl ε of these, up to constants

        KL(Q‖P) = E[-log p_θ(x|z_Q)] + E[KL(q_φ(z|x)‖p(z))]       ``reconstruction`` and ``kl_to_prior``
        KL(P‖Π) = E[-f_α(x̃)] + E[-log q_φ(z|x̃)] + log Z_α         ``energy_generated`` and ``recovery``
        KL(Q‖Π) = E[-f_α(x)] + log Z_α                            ``energy_data``

    so that log Z_α cancels in D and no chain is run (Han et al., section 3). The backward pass yields

        ∇_θ, ∇_φ: ∇D;   ∇_α: -∇D = ∇_α (E[f_α(x̃)] - E[f_α(x)])

    each for its own network only. The value of the loss is a surrogate. Without an energy, Π is left out: a variational
    autoencoder (Kingma & Welling 2014, arXiv 1312.6114).

    ``evidence_bound`` is the lower bound -(reconstruction + kl_to_prior) of log p(x) under P, in nats.

    The authors' public code weighs ``recovery`` by 0.1, gives x̃ no noise (``pixel_noise: false``), takes the squared
    error for the reconstruction (σl = 0.707) and clips gradients (``clip_norm`` of the optimisers): with other weights
    than 1, or without noise, the loss is no divergence of the three densities any more.

    Args:
        inference_weight: Of both terms of KL(Q‖P).
        energy_weight: Of the energies.
        recovery_weight: Of -log q_φ(z|x̃).
        pixel_noise: Whether generated images have the noise of the likelihood.
        energy_penalty: λ of a penalty λ (E[f_α(x)²] + E[f_α(x̃)²]) on energies, which α alone lowers (Du & Mordatch
            2019, arXiv 1903.08689): |f| is then bounded by about 1/(2 λ). 0: none.

    Raises:
        ValueError: If a weight is negative or not finite, or all are zero.
    """

    inference_weight: float = 1.0
    energy_weight: float = 1.0
    recovery_weight: float = 1.0
    pixel_noise: bool = True
    energy_penalty: float = 0.0

    def __post_init__(self) -> None:
        weights = {name: value for name, value in vars(self).items() if name != "pixel_noise"}
        for name, value in weights.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"Triangle: {name} is {value}; it must be finite and not negative.")
        if not (self.inference_weight or self.energy_weight or self.recovery_weight):
            raise ValueError("Triangle: all weights are zero, so nothing would be learned; give one of them a value.")

    def __call__(self, model: ThreeNetworks, x: Tensor, noise: Noise) -> Output:
        """The loss of images (B, C, H, W), in nats, summed over pixels and averaged over images.

        Args:
            model: The networks.
            x: Images.
            noise: Of the same size.
        """
        posterior = inferred(model.encoder, x)
        reconstruction = -model.likelihood.log_prob(x, posterior.sample(noise.inference)).mean()
        kl = posterior.kl_to(model.reference).mean()
        loss = self.inference_weight * (reconstruction + kl)
        terms = {"reconstruction": reconstruction, "kl_to_prior": kl, "evidence_bound": -reconstruction - kl}
        if model.energy is not None:
            z = model.reference.sigma * noise.prior
            generated = model.likelihood.generator(z).to(z.dtype)
            if noise.pixels is not None:
                generated = generated + model.likelihood.sigma * noise.pixels
            recovery = -inferred(model.encoder, generated).log_prob(z).mean()
            contrast, energies = self._energies(model.energy, x, generated)
            loss = loss + self.recovery_weight * recovery + contrast
            terms |= {"recovery": recovery, **energies}
        return Output(loss, {name: value.detach() for name, value in terms.items()}, {})

    def _energies(self, energy: nn.Module, x: Tensor, generated: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The part of the loss with f_α: of θ through images with α fixed, and of α with these images fixed."""
        fixed = {name: parameter.detach() for name, parameter in energy.named_parameters()}
        with without_autocast(x):  # energies keep their precision
            for_generator = -functional_call(energy, fixed, (generated,)).mean()
            f, f_generated = energy(torch.cat([x, generated.detach()])).chunk(2)
        contrast = f_generated.mean() - f.mean()
        penalty = self.energy_penalty * (f.square().mean() + f_generated.square().mean())
        loss = self.energy_weight * (for_generator + contrast) + penalty
        return loss, {"energy_data": f.mean(), "energy_generated": f_generated.mean()}
