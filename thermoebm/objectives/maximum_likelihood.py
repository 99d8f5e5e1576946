"""Maximum likelihood by short-run Langevin sampling of prior and posterior (Pang et al. 2020; report, section 2)."""

import math

import torch
from torch import Tensor

from thermoebm.objectives.base import Model, Objective, Output


def contrast(
    model: Model, z_posterior: Tensor, z_prior: Tensor, penalty: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """E_{p_1}[f_α] - E_{p_α}[f_α] at fixed samples; its gradient is the report's equation 7.

    With a penalty λ, λ (E_{p_1}[f_α²] + E_{p_α}[f_α²]) is subtracted (Du & Mordatch 2019, arXiv 1903.08689): energies
    are then bounded by about 1/(4 λ), and the gradient is no longer that of the likelihood.

    Args:
        model: The model, whose prior contains f_α.
        z_posterior: Samples of the posterior (B, d).
        z_prior: Samples of the tilted prior (B, d).
        penalty: λ, in 1/nats.

    Returns:
        The contrast, a scalar in nats, and the two means of f_α as diagnostics.
    """
    f_posterior, f_prior = model.prior.tilt(z_posterior), model.prior.tilt(z_prior)
    positive, negative = f_posterior.mean(), f_prior.mean()
    difference = positive - negative
    if penalty:
        difference = difference - penalty * (f_posterior.square().mean() + f_prior.square().mean())
    return difference, {"energy_posterior": positive.detach(), "energy_prior": negative.detach()}


def check_penalty(owner: str, penalty: float) -> None:
    """Raises a ValueError if a penalty on energies cannot be one."""
    if not 0 <= penalty < math.inf:
        raise ValueError(f"{owner}: energy_penalty is {penalty}; it must be finite and not negative.")


class MaximumLikelihood(Objective):
    """Maximum likelihood, the report's vanilla model.

    The samples carry no gradient, and the backward pass yields the negative of

        ∇_β: E_{p_1}[∇_β log p_β(x|z)]               (report, equation 8)
        ∇_α: E_{p_1}[∇_α f_α] - E_{p_α}[∇_α f_α]     (report, equation 7)

    For exact samples this is the exact gradient of -log p_θ(x). The value of the loss is a surrogate; an estimate of
    -log p_θ(x) needs a ladder, which validation runs for every objective alike.

    Args:
        energy_penalty: λ of a penalty λ (E_{p_1}[f_α²] + E_{p_α}[f_α²]) on energies; 0: none. See :func:`contrast`.

    Raises:
        ValueError: If the penalty is negative or not finite.
    """

    energy_penalty: float = 0.0  # also of a subclass with an __init__ of its own

    def __init__(self, energy_penalty: float = 0.0) -> None:
        check_penalty("MaximumLikelihood", energy_penalty)
        self.energy_penalty = energy_penalty

    def __call__(self, model: Model, x: Tensor, rng: torch.Generator, *, step: int | None = 0) -> Output:
        z_prior = model.sample_prior(len(x), rng)
        (z_posterior,) = model.sample_posterior(x, x.new_ones(1), rng, z_prior=z_prior)
        log_likelihood, gain = (ell.mean() for ell in model.likelihood.for_loss(x, z_posterior))
        difference, energies = contrast(model, z_posterior, z_prior, self.energy_penalty)
        return Output(
            loss=-gain - difference,
            diagnostics={"log_likelihood": log_likelihood.detach(), **energies},
            ladder={},
        )
