"""Generator, encoder and energy of images, learned together without chains."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from thermoebm.modules.averaging import AveragedWeights
from thermoebm.modules.fitting import Fitting, Network
from thermoebm.modules.vae import VAE, features_of
from thermoebm.networks import ConvEnergy, Encoder, Generator, ImageEnergy
from thermoebm.objectives import Triangle
from thermoebm.optim import DecayedAdam


class DivergenceTriangle(VAE):
    """The divergence triangle (Han et al. 2019, arXiv 1812.10907): a VAE with an energy of images.

    z ~ N(0, σ0² I) and x = g_θ(z) + σl ε; q_φ(z|x) infers latents; exp(f_α(x)) is the density of an image but for a
    constant. Generator and encoder lower, the energy raises the triangle of
    :class:`thermoebm.objectives.Triangle`, whose docstring has the gradients.

    Args:
        generator, encoder: As of a :class:`VAE`.
        energy: f_α, maps images to (N,); None: a :class:`thermoebm.networks.ConvEnergy` of the generator's images and
            features.
        terms: The weights of the loss's terms, and the penalty on energies.
        generator_optimizer, encoder_optimizer, energy_optimizer: Adam for each network.
        decay_interval, prior_sigma, likelihood_sigma, average_decay, on_not_finite, seed: As of a :class:`VAE`.

    Raises:
        ValueError: If the networks do not fit one another or a standard deviation cannot be one.
    """

    energy: ImageEnergy

    def __init__(
        self,
        generator: Generator | Network,
        encoder: Encoder | Network | None = None,
        energy: ImageEnergy | Network | None = None,
        terms: Triangle = Triangle(),  # noqa: B008  (frozen)
        generator_optimizer: DecayedAdam = DecayedAdam(1e-3, 1e-4),  # noqa: B008  (frozen)
        encoder_optimizer: DecayedAdam = DecayedAdam(1e-3, 1e-4),  # noqa: B008  (frozen)
        energy_optimizer: DecayedAdam = DecayedAdam(1e-4, 1e-5),  # noqa: B008  (frozen)
        decay_interval: Literal["epoch", "step"] = "epoch",
        prior_sigma: float = 1.0,
        likelihood_sigma: float = 0.3,
        average_decay: float | None = None,
        on_not_finite: Literal["stop", "rollback"] = "stop",
        seed: int = 0,
    ) -> None:
        super().__init__(
            generator,
            encoder,
            generator_optimizer,
            encoder_optimizer,
            decay_interval,
            prior_sigma,
            likelihood_sigma,
            None,
            on_not_finite,
            seed,
        )
        made = self.generator
        made_for = ConvEnergy(made.image_shape, features_of(made)) if energy is None else energy
        self.energy = cast(ImageEnergy, made_for)
        self._check_energy()
        self.objective = terms
        self.optimizer_settings = ((self.energy, energy_optimizer), *self.optimizer_settings)
        self.averaged = None if average_decay is None else AveragedWeights(self.weights(), average_decay)

    def _check_energy(self) -> None:
        found = Fitting("DivergenceTriangle").of_images("energy", self.energy, self.generator)
        if not (isinstance(found, Tensor) and tuple(found.shape) == (2,)):
            told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"DivergenceTriangle: {type(self.energy).__name__} returns {told} for two images; it must return one "
                "energy for each, (2,)."
            )

    def without_gradient(self) -> tuple[str, ...]:
        terms = self.objective
        encoder = not (terms.inference_weight or terms.recovery_weight)
        energy = not (terms.energy_weight or terms.energy_penalty)
        return ("energy",) * energy + ("encoder",) * encoder

    def networks(self) -> dict[str, nn.Module]:
        return {"energy": self.energy, **super().networks()}

    @torch.no_grad()
    def energies(self, x: Tensor) -> Tensor:
        """f_α(x) (B,) of images (B, C, H, W), in nats: higher where images are denser, but for a constant."""
        return self.energy(x)
