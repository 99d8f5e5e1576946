"""The alarm for posterior chains that do not sample the posterior."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm import evidence
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.rollback import rolled_back
from thermoebm.densities import PowerPosterior
from thermoebm.modules import LatentEBM
from thermoebm.samplers import largest_curvature

LEAST_STEPS = 200  # of training, after which reconstructions that have not improved are reported


class PosteriorAlarm(OfKind):
    """Warns when the posterior chains fail, with a setting of their sampler to try; logs the two quantities it checks.

    After each epoch it runs the chains of one training batch at t = 1, from z_0 to z_K, and logs
    ``posterior/step_times_curvature`` = s λ, with the largest eigenvalue λ of -∇² log p_1(z_K|x) (a step multiplies
    deviations along its eigenvector by 1 - s λ: unstable from 2), and
    ``posterior/movement`` = |z_K - z_0|²/(d σ0²) (healthy about 1; 2 K s/σ0² if the chains only diffuse).
    Both are means over images. Persistent chains are judged from π0 too: the limits are for chains that have their way
    before them, and those that have arrived move no further than the posterior is wide. It also warns if a validation
    found

    - ``val/left_sum`` above ``val/right_sum`` by more than the noise, three standard errors over a batch of images.
      This is impossible for exact samples, since E_t[log p_β(x|z)] never falls with t;
    - ``val/reconstruction_error`` above that of the mean image, which is the images' variance, and by no tenth lower
      than at a validation 200 steps before: an untrained model is as bad, but learns.

    Args:
        count: Number of images at which the curvature is measured.
        products: Iterations of the power method, one product with the Hessian each. It approaches λ from below.
        least_movement, largest_movement: Limits of the movement outside which it warns.

    Raises:
        ValueError: If a number is below 1, or the limits are not positive and in order.
    """

    def __init__(
        self, count: int = 16, products: int = 8, least_movement: float = 0.02, largest_movement: float = 10.0
    ) -> None:
        if not (count >= 1 and products >= 1 and 0 < least_movement < largest_movement < math.inf):
            raise ValueError(
                f"PosteriorAlarm: count {count} and products {products} must be at least 1, and least_movement "
                f"{least_movement} must be positive and below largest_movement {largest_movement}, a finite number."
            )
        self.count = count
        self.products = products
        self.least_movement = least_movement
        self.largest_movement = largest_movement
        self._images: Tensor | None = None  # the epoch's first batch
        self._held_out: _HeldOut | None = None  # of this epoch's validation, if there was one
        self._last_step, self._last_error = -math.inf, math.inf  # of the reconstructions judged last
        self._told: set[str] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        self._images = batch if self._images is None else self._images

    def state_dict(self) -> dict[str, Any]:
        return {} if self._images is None else {"images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._images = state_dict["images"]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._held_out = None

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._held_out = self._held_out or _HeldOut(batch)
        self._held_out.add(batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LatentEBM)
        images, held_out = self._images, self._held_out
        self._images = self._held_out = None
        if images is None:  # resumed at the end of an epoch
            return
        images = images.to(pl_module.device)  # of a checkpoint
        with trainer.precision_plugin.forward_context():  # as in training, whose compiled chains are used
            start, end = _chains(pl_module, images)
        curvature = self._curvature(pl_module, images, end)
        product = pl_module.posterior_sampler.current_step_size() * curvature
        movement = (end - start).square().mean().item() / pl_module.reference.sigma**2
        pl_module.log_dict({"posterior/step_times_curvature": product, "posterior/movement": movement}, sync_dist=True)
        faults = {"chains": self._fault_of_chains(product, movement)}
        if held_out and not rolled_back(trainer):  # else its validation is of another model
            faults["ladder"] = _fault_of_ladder(trainer, pl_module, held_out.first)
            if trainer.global_step - self._last_step >= LEAST_STEPS:
                faults["reconstruction"] = self._fault_of_reconstructions(trainer, held_out.variance())
        for name, fault in faults.items():
            if fault and name not in self._told:
                problem, _, numbers = fault.partition(": ")
                remedy = _remedy(pl_module, curvature)
                rank_zero_warn(f"{problem} at epoch {trainer.current_epoch}: {numbers}; try {remedy}.")
        self._told = {name for name in self._told | {*faults} if faults.get(name, name in self._told)}

    def _curvature(self, model: LatentEBM, x: Tensor, end: Tensor) -> float:
        """The mean of λ over the first images; NaN if their networks cannot be differentiated twice."""
        x, z = x[: self.count], end[: self.count]
        posterior = PowerPosterior(model.prior, model.likelihood, x, x.new_ones(()))
        try:
            return largest_curvature(posterior, z, model.stream("posterior curvature"), self.products).mean().item()
        except RuntimeError:  # also too little memory: a measurement ends no training
            return math.nan

    def _fault_of_chains(self, product: float, movement: float) -> str | None:
        moved = f"|z_K - z_0|²/(d σ0²) is {movement:.3g} (healthy about 1)"
        if product >= 2 or not movement <= self.largest_movement:  # NaN is not healthy
            times = f"step size times largest curvature of log p(z|x) is {product:.3g} (unstable from 2)"
            return f"Posterior chains diverge: {times}, {moved}"
        return f"Posterior chains hardly move: {moved}" if movement < self.least_movement else None

    def _fault_of_reconstructions(self, trainer: pl.Trainer, variance: float) -> str | None:
        error = trainer.callback_metrics["val/reconstruction_error"].item()
        before, self._last_error, self._last_step = self._last_error, error, trainer.global_step
        if error <= variance or error < 0.9 * before:
            return None
        return (
            f"Reconstructions are worse than the mean image and hardly improve: val/reconstruction_error is "
            f"{error:.3g}, that of the mean image {variance:.3g}"
        )


class _HeldOut:
    """The first batch of a validation, and the sums over all of its images that their variance needs."""

    def __init__(self, first: Tensor) -> None:
        self.first = first
        self.count = 0
        self.sums = first.new_zeros(2, *first.shape[1:])

    def add(self, x: Tensor) -> None:
        self.count += len(x)
        self.sums += torch.stack([x.sum(0), x.square().sum(0)])

    def variance(self) -> float:
        """Mean square per pixel of the difference from the mean image."""
        mean, square = self.sums / self.count
        return (square - mean.square()).mean().item()


def _chains(model: LatentEBM, x: Tensor) -> tuple[Tensor, Tensor]:
    """Starts and ends (B, d) of the chains at t = 1 of images (B, C, H, W), with the same noise every time.

    Outside a visit to them, persistent chains start as those of ``reference`` do.
    """
    z_prior = None
    if model.chain_start == "prior_chain":
        start = z_prior = model.sample_prior(len(x), model.stream("posterior alarm", 1))
    else:  # the first that a chain draws from its stream
        (start,) = model.sample_reference((1, len(x)), model.stream("posterior alarm"))
    (end,) = model.sample_posterior(x, x.new_ones(1), model.stream("posterior alarm"), z_prior=z_prior)
    return start, end


def _fault_of_ladder(trainer: pl.Trainer, model: LatentEBM, x: Tensor) -> str | None:
    left, right = (trainer.callback_metrics[f"val/{side}_sum"].item() for side in ("left", "right"))
    if not left > right:
        return None
    with trainer.precision_plugin.forward_context():  # only now: a healthy run needs no ladder of its own
        ladder = model.ladder(x, model.evidence_schedule, model.stream("posterior alarm", 2))
    lower, upper = evidence.bracket(*ladder)
    excess = lower - upper
    if not excess.mean() > 3 * excess.std() / math.sqrt(len(x)):
        return None
    return (
        f"Posterior chains miss the power posteriors: val/left_sum {left:.3g} is above val/right_sum {right:.3g}, "
        "though the expected log-likelihood never falls with t"
    )


def _remedy(model: LatentEBM, curvature: float) -> str:
    """A step of 1/λ at most, so that K of them diffuse no further than π0 is wide; more steps if it is near that."""
    kernel, variance = model.posterior_sampler, model.reference.sigma**2
    stable = 1 / curvature if 0 < curvature < math.inf else variance
    step_size = min(stable, variance / (2 * kernel.num_steps))
    if step_size / 2 < kernel.current_step_size() < 2 * step_size:
        return f"--model.posterior_sampler.num_steps {2 * kernel.num_steps}"
    return f"--model.posterior_sampler.step_size {step_size:.2g}"
