"""Thermodynamic integration over power posteriors (report, section 3)."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from thermoebm import evidence
from thermoebm.objectives.base import Model, Objective, Output
from thermoebm.objectives.gaussian_kl import GaussianKL
from thermoebm.objectives.maximum_likelihood import check_penalty, contrast
from thermoebm.schedules import Adaptive, PowerLaw, Schedule

Estimator = Literal["endpoints", "detached", "contrastive", "pathwise"]


class ThermodynamicIntegration(Objective):
    """log p_θ(x) = ∫ E_t[log p_β(x|z)] dt by the trapezium rule, with a choice of gradient estimator.

    One chain is run for each image and temperature t_i. The prior sampler draws the samples at t = 0, which serve as
    the first rung of the ladder and as negative samples. With E_i = E_{t_i}[log p_β(x|z)] and Δ_i = t_i - t_{i-1},

        nll = -( Σ_i Δ_i (E_{i-1} + E_i)/2 + η ½ Σ_i [KL(p_{i-1}‖p_i) - KL(p_i‖p_{i-1})] )     (report, 15, 19, 22)

    and the backward pass yields the negative of the following, where ``Σ`` is the trapezium sum over temperatures:

    | estimator   | ∇_β                 | ∇_α                 | against the exact gradient     |
    |-------------|---------------------|---------------------|--------------------------------|
    | endpoints   | E_1[∇_β log p_β]    | E_1[∇f] - E_0[∇f]   | exact: equations 7 and 8       |
    | contrastive | Σ E_t[∇_β log p_β]  | E_1[∇f] - E_0[∇f]   | ∇_β biased to the mean image   |
    | detached    | Σ E_t[∇_β log p_β]  | 0                   | the energy never learns        |
    | pathwise    | through all chains  | through all chains  | gradient of the K-step sampler |

    ``endpoints`` is based on the fact that the integral of the exact gradient telescopes to the two ends of the ladder.
    The report describes ``pathwise``; its published runs computed ``detached``.

    Args:
        estimator: The gradient estimator.
        schedule: The temperatures. Those of :class:`thermoebm.schedules.Adaptive` follow the model as it is trained.
        eta: Weight η of the KL terms. They affect the gradient of ``pathwise`` only; with the other estimators they
            change logged values only, as :meth:`notes` says.
        kl: How the KL terms are computed.
        evidence_every: Interval n in steps at which ``endpoints`` samples the inner rungs, which its gradient does not
            need.
        energy_penalty: As of :class:`thermoebm.objectives.MaximumLikelihood`; of ``endpoints`` and ``contrastive``.

    Raises:
        ValueError: If the estimator is unknown, η is negative or infinite, ``evidence_every`` is below 1, or the
            penalty cannot be one or changes no gradient.
    """

    def __init__(
        self,
        estimator: Estimator = "endpoints",
        schedule: Schedule = PowerLaw(),  # noqa: B008  (frozen)
        eta: float = 0.0,
        kl: GaussianKL = GaussianKL(),  # noqa: B008  (frozen)
        evidence_every: int = 1,
        energy_penalty: float = 0.0,
    ) -> None:
        if estimator not in get_args(Estimator):
            raise ValueError(
                f"ThermodynamicIntegration: estimator is '{estimator}'; choose one of {', '.join(get_args(Estimator))}."
            )
        if not (0 <= eta < math.inf and 1 <= evidence_every < math.inf):
            raise ValueError(
                f"ThermodynamicIntegration: eta is {eta} and evidence_every {evidence_every}; "
                "eta must be finite and not negative, and evidence_every at least 1."
            )
        self.estimator = estimator
        self.schedule = schedule
        self.eta = eta
        self.kl = kl
        check_penalty("ThermodynamicIntegration", energy_penalty)
        if energy_penalty and estimator in ("detached", "pathwise"):
            raise ValueError(
                f"ThermodynamicIntegration: energy_penalty is {energy_penalty}, and {estimator} has no contrast of "
                "energies that it could change; take endpoints or contrastive, or leave it out."
            )
        self.evidence_every = evidence_every
        self.energy_penalty = energy_penalty

    def state(self) -> nn.Module | None:
        return self.schedule if isinstance(self.schedule, nn.Module) else None

    def after_step(self, output: Output) -> None:
        if isinstance(self.schedule, Adaptive) and output.expected is not None:
            self.schedule.update(output.expected)

    def whole_ladder(self, step: int | None) -> bool:
        return self.estimator != "endpoints" or (step is not None and step % self.evidence_every == 0)

    def differentiates_chains(self) -> bool:
        return self.estimator == "pathwise"

    def without_gradient(self) -> tuple[str, ...]:
        return ("energy",) if self.estimator == "detached" else ()

    def notes(self) -> list[str]:
        notes = super().notes()
        if (
            self.eta > 0 and self.estimator != "pathwise"
        ):  # samples carry no gradient: equation 22's terms are constants
            notes.append(f"eta = {self.eta:g} changes the logged nll and no gradient")
        return notes

    def check(self, batch_size: int, latent_dim: int) -> None:
        if self.eta > 0:
            self.kl.check(batch_size, latent_dim)

    def __call__(self, model: Model, x: Tensor, rng: torch.Generator, *, step: int | None = 0) -> Output:
        temperatures = self.schedule.temperatures().to(x, non_blocking=True)  # without waiting for the device
        pathwise = self.estimator == "pathwise"
        whole_ladder = self.whole_ladder(step)

        z_prior = model.sample_prior(len(x), rng, differentiable=pathwise)
        above = temperatures[1:] if whole_ladder else temperatures[-1:]
        z_above = model.sample_posterior(x, above, rng, z_prior=z_prior, differentiable=pathwise)
        z = torch.cat([z_prior.unsqueeze(0), z_above])

        difference, diagnostics = contrast(model, z[-1], z_prior, self.energy_penalty)
        if self.estimator in ("detached", "pathwise"):
            difference = 0 * difference  # keeps all parameters in the graph, as DDP needs

        if self.estimator == "endpoints":
            top, gain = (ell.mean() for ell in model.likelihood.for_loss(x, z[-1]))
            with torch.no_grad():
                lower = model.likelihood.log_prob(x, z[:-1]).mean(-1) if whole_ladder else top.new_empty(0)
            expected = torch.cat([lower, top.detach().unsqueeze(0)])
        else:
            expected, in_loss = (ell.mean(-1) for ell in model.likelihood.for_loss(x, z))
            top, gain = expected[-1], evidence.trapezium(temperatures, in_loss)
        diagnostics["log_likelihood"] = top.detach()
        if not whole_ladder:
            return Output(loss=-gain - difference, diagnostics=diagnostics, ladder={})

        correction = (self.eta * self.kl(model.pooled(z))).to(top) if self.eta > 0 else top.new_zeros(())
        if self.estimator != "endpoints":
            gain = gain + correction
        expected = expected.detach()
        log_evidence = evidence.trapezium(temperatures, expected) + correction.detach()
        left, right = evidence.bracket(temperatures, expected)
        ladder = {"nll": -log_evidence, "left_sum": left, "right_sum": right}
        return Output(loss=-gain - difference, diagnostics=diagnostics, ladder=ladder, expected=expected)
