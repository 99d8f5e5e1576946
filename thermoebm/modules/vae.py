"""The variational autoencoder: a generator and an encoder learned together."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from thermoebm.densities import DiagonalGaussian, GaussianLikelihood, GaussianPrior, InferredPosterior, inferred
from thermoebm.modules.averaging import AveragedWeights
from thermoebm.modules.finiteness import Refusals
from thermoebm.modules.fitting import Fitting, Network
from thermoebm.modules.image_model import ImageModel
from thermoebm.networks import ConvEncoder, Encoder, Generator
from thermoebm.objectives import Noise, Output, Triangle
from thermoebm.optim import DecayedAdam
from thermoebm.runtime.cost import forward_flops
from thermoebm.runtime.numbers import positive


class VAE(ImageModel):
    """Variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114).

    z ~ N(0, σ0² I) and x = g_θ(z) + σl ε; q_φ(z|x) infers latents. Both networks lower KL(Q‖P), the negative evidence
    bound but for the data's entropy: :class:`thermoebm.objectives.Triangle` without an energy. Samples and
    reconstructions are g_θ at one latent of the prior and of q_φ.

    Args:
        generator: g_θ, maps latents (N, d) to images (N, C, H, W).
        encoder: q_φ, maps images to means and log variances (N, d); None: a :class:`thermoebm.networks.ConvEncoder` of
            the generator's latents, images and features.
        generator_optimizer, encoder_optimizer: Adam for each network.
        decay_interval: Learning rates decay once an ``epoch``, or at each ``step``, by the same factor over an epoch.
        prior_sigma: σ0.
        likelihood_sigma: σl.
        average_decay: Rate of an exponential average of the weights, which then samples and is validated; None: no
            average (:class:`thermoebm.modules.averaging.AveragedWeights`).
        on_not_finite: What follows a training step whose gradient is not finite and which is therefore not made:
            ``stop`` or ``rollback``; see :class:`thermoebm.modules.finiteness.Refusals`.
        seed: Seed of all noise that this module draws, combined with the process's rank.

    Raises:
        ValueError: If the networks do not fit one another or a standard deviation cannot be one.
    """

    energy: nn.Module | None

    def __init__(
        self,
        generator: Generator | Network,
        encoder: Encoder | Network | None = None,
        generator_optimizer: DecayedAdam = DecayedAdam(1e-3, 1e-4),  # noqa: B008  (frozen)
        encoder_optimizer: DecayedAdam = DecayedAdam(1e-3, 1e-4),  # noqa: B008  (frozen)
        decay_interval: Literal["epoch", "step"] = "epoch",
        prior_sigma: float = 1.0,
        likelihood_sigma: float = 0.3,
        average_decay: float | None = None,
        on_not_finite: Literal["stop", "rollback"] = "stop",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not (positive(prior_sigma) and positive(likelihood_sigma)):
            raise ValueError(
                f"{type(self).__name__}: prior_sigma is {prior_sigma} and likelihood_sigma {likelihood_sigma}; "
                "both must be positive and finite in single precision."
            )
        self.energy = None
        self.generator = Fitting(type(self).__name__).generator(generator)
        self.encoder = cast(Encoder, mirrored(self.generator) if encoder is None else encoder)
        self._check_encoder()
        self.objective = Triangle()
        self.optimizer_settings = ((self.generator, generator_optimizer), (self.encoder, encoder_optimizer))
        self.decay_interval = decay_interval
        self.reference = GaussianPrior(prior_sigma)
        self.likelihood = GaussianLikelihood(self.generator, likelihood_sigma)
        self.averaged = None if average_decay is None else AveragedWeights(self.weights(), average_decay)
        self.refusals = Refusals(on_not_finite, type(self).__name__, ("stop", "rollback"))
        self.seed = seed

    def _check_encoder(self) -> None:
        of, latent_dim = type(self).__name__, self.generator.latent_dim
        said, wanted = getattr(self.encoder, "latent_dim", latent_dim), (2, latent_dim)
        if said != latent_dim:
            raise ValueError(f"{of}: the generator takes latents of size {latent_dim}, the encoder infers size {said}.")
        found = Fitting(of).of_images("encoder", self.encoder, self.generator)
        if not (isinstance(found, tuple) and [getattr(part, "shape", None) for part in found] == [wanted, wanted]):
            raise ValueError(
                f"{of}: {type(self.encoder).__name__} must return the mean and the log variance of two images' latents "
                f"as two tensors of shape {wanted}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.generator.image_shape

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "encoder": self.encoder}

    def image_flops(self) -> int:
        return forward_flops(self.generator)

    def loss(self, batch: Tensor, rng: torch.Generator, step: int | None = None) -> Tensor:
        return self.output(batch, rng, step).loss

    def output(self, x: Tensor, rng: torch.Generator, step: int | None = None) -> Output:
        latents = (len(x), self.generator.latent_dim)
        noise = Noise(self._normal(latents, rng), self._normal(latents, rng), None)
        if self.energy is not None and self.objective.pixel_noise:
            noise = noise._replace(pixels=self._normal(tuple(x.shape), rng))
        return self.objective(self, x, noise)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        """q_φ(z|x) of images (B, C, H, W)."""
        return inferred(self.encoder, x)

    @torch.no_grad()
    def path(self, x: Tensor) -> InferredPosterior:
        """From q_φ(z|x) of images (B, C, H, W), at t = 0, to their posterior; q_φ is computed once."""
        return InferredPosterior(
            self.posterior(x), self.reference, self.likelihood, x, torch.zeros((), device=x.device)
        )

    @torch.no_grad()
    def generate(self, count: int, rng: torch.Generator) -> Tensor:
        return self.generator(self.reference.sigma * self._normal((count, self.generator.latent_dim), rng))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.generator(self.posterior(x).sample(self._normal((len(x), self.generator.latent_dim), rng)))

    @torch.no_grad()
    def interpolate(self, x: Tensor, y: Tensor, steps: int) -> Tensor:
        """Images (B, steps, C, H, W) from images x to y (B, C, H, W): g_θ on the line between their latents' means."""
        start, end = (self.posterior(images).mean.unsqueeze(1) for images in (x, y))
        z = torch.lerp(start, end, torch.linspace(0, 1, steps).to(start).view(-1, 1))
        return self.generator(z.flatten(0, 1)).unflatten(0, z.shape[:2])


def mirrored(generator: Generator) -> ConvEncoder:
    """An encoder of a generator's latents and images, as wide as it is."""
    return ConvEncoder(generator.latent_dim, generator.image_shape, features_of(generator))


def features_of(generator: Generator) -> int:
    """The width factor of a :class:`thermoebm.networks.ConvGenerator`; of another generator, its default."""
    return int(getattr(generator, "features", 64))
