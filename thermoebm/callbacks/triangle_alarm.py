"""The alarm for a divergence triangle, or a VAE, that diverges or collapses."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm.callbacks.parameter_alarm import ParameterAlarm
from thermoebm.callbacks.vitals import Vitals
from thermoebm.modules import VAE, DivergenceTriangle, ImageModel, not_finite

#: Variance of a latent's mean over images from which on it counts as active (Burda et al. 2016, section 5.2).
ACTIVE = 0.01
#: Training steps after which an encoder without active latents is told of.
LEAST_STEPS = 200


class TriangleAlarm(ParameterAlarm):
    """Judges after each epoch whether the energy diverges or the encoder has collapsed; then acts as EnergyAlarm does.

    On the epoch's last batch it logs

        triangle/energy_gap      E_data[f_α] - E_generated[f_α], in nats; beyond ±``largest_tilt`` a runaway. 0 of a VAE
        triangle/mean_square     |z|²/(d σ0²) of latents z ~ q_φ(z|x): about 1 where q_φ covers the prior
        triangle/active_latents  latents whose mean under q_φ varies with the image, by a variance above 0.01 (Burda et
                                 al. 2016, arXiv 1509.00519, section 5.2). If there is none after 200 steps, the encoder
                                 has collapsed onto the prior: that is told once, and changes nothing
        triangle/rollbacks       how often it went back so far

    Generated images are those of :meth:`generate`, without pixel noise. What a rollback is, and the fields, are those
    of :class:`thermoebm.callbacks.EnergyAlarm`; its ``count`` and two limits of the prior's chains say nothing here.
    """

    kind = VAE
    measures = "latents of an encoder"
    _images: Tensor | None = None
    _active = -1.0
    _told_of_collapse = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        _, self._images, *_ = arguments
        super().on_train_batch_end(trainer, pl_module, *arguments)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._images is not None:  # else resumed at the end of an epoch
            super().on_train_epoch_end(trainer, pl_module)
            self._images = None

    @torch.no_grad()
    def measure(self, trainer: pl.Trainer, model: ImageModel) -> Vitals:
        assert isinstance(model, VAE)
        assert self._images is not None
        rng, x = model.stream("triangle alarm"), self._images
        posterior = model.posterior(x)
        z = posterior.sample(torch.randn(posterior.mean.shape, generator=rng, device=rng.device).to(x))
        gap = error = x.new_zeros(())
        if isinstance(model, DivergenceTriangle):
            f, made = model.energies(x), model.energies(model.generate(len(x), rng))
            gap, error = f.mean() - made.mean(), ((f.var(correction=0) + made.var(correction=0)) / len(x)).sqrt()
        mean_square = z.square().mean() / model.reference.sigma**2
        active = (posterior.mean.var(0, correction=0) > ACTIVE).sum()
        mine = [gap, error, mean_square, gap.new_tensor(float(bool(not_finite(model)))), active]
        *means, self._active = trainer.strategy.reduce(
            torch.stack([v.float() for v in mine]), reduce_op="mean"
        ).tolist()
        vitals = Vitals(*means)
        known = math.isfinite(vitals.mean_square) and len(x) > 1 and trainer.global_step >= LEAST_STEPS
        if self._active == 0 and known and not self._told_of_collapse:
            self._told_of_collapse = True
            rank_zero_warn(
                f"The encoder has collapsed onto the prior in epoch {trainer.current_epoch}: no latent depends on the "
                "image. Start again with a smaller --model.likelihood_sigma or a lower "
                "--model.encoder_optimizer.learning_rate."
            )
        return vitals

    def fault(self, vitals: Vitals) -> str | None:
        faults = [super().fault(vitals)]
        if not abs(vitals.tilt) <= self.largest_tilt:
            faults.append(f"E_data[f] - E_generated[f] is {vitals.tilt:.3g} nats (limit ±{self.largest_tilt:g})")
        return " and ".join(filter(None, faults)) or None

    def scalars(self, vitals: Vitals) -> dict[str, float]:
        return {
            "triangle/energy_gap": vitals.tilt,
            "triangle/mean_square": vitals.mean_square,
            "triangle/active_latents": self._active,
            "triangle/rollbacks": float(self.rollbacks),
        }

    def remedy(self, model: ImageModel) -> str:
        if isinstance(model, DivergenceTriangle):
            return "with a larger --model.terms.energy_penalty or a lower --model.energy_optimizer.learning_rate."
        return super().remedy(model)
