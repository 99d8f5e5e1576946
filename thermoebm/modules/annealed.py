"""The log-evidence of images by annealed importance sampling, as accurate as asked for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoebm.evidence import Weighed, anneal, weigh
from thermoebm.ladders import equal_length
from thermoebm.modules.image_model import ImageModel
from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.modules.routes import Route, route_of
from thermoebm.modules.starts import FIRST_STEP, Starts, Stream, work_of_starts
from thermoebm.runtime.cost import suitable_threads
from thermoebm.runtime.progress import Bar, bar
from thermoebm.samplers import MALA, Pilot, run_pilot
from thermoebm.schedules import power_law

#: The levels of images in [-1, 1] are 1/127.5 apart.
LEVELS_PER_UNIT = 127.5
#: Images side by side, each with its chains. The results for a given seed depend on it.
BATCH = 100
# Temperatures of a pilot. From p = 5 on, the first rung of sharp likelihoods is near enough to the prior.
_PILOT = power_law(40, 5.0)


@dataclass(frozen=True)
class Annealing:
    """How the evidence is measured.

    Args:
        chains: R, independent chains for each image.
        steps: Number N of temperatures above 0 that is tried first.
        max_steps: N is doubled until the estimate stays within the tolerance, but not beyond this.
        tolerance: Change in nats per image at which the last doubling counts as none: |difference| + 2 standard errors.
        prior_steps: Temperatures from π0 to p_α, on which the starts of all chains are drawn.
        particles: Number of those starts that are drawn at once, and resampled by their weights.

    Raises:
        ValueError: If there are fewer than 4 chains, no steps, or no tolerance.
    """

    chains: int = 4
    steps: int = 125
    max_steps: int = 1000
    tolerance: float = 0.25
    prior_steps: int = 500
    particles: int = 2000

    def __post_init__(self) -> None:
        if self.chains < 4:
            raise ValueError(f"Annealing: chains is {self.chains}; take at least 4, whose spread tells the error.")
        if not 1 <= self.steps <= self.max_steps:
            raise ValueError(
                f"Annealing: steps is {self.steps} and max_steps {self.max_steps}; the first must be at least 1 and "
                "the second no smaller."
            )
        if not 0 < self.tolerance < math.inf or self.prior_steps < 1 or self.particles < 2:
            raise ValueError(
                f"Annealing: tolerance is {self.tolerance}, prior_steps {self.prior_steps} and particles "
                f"{self.particles}; they must be positive and finite, and particles at least 2."
            )

    def trials(self) -> list[int]:
        """The numbers of steps N that are tried, in turn."""
        count = int(math.log2(self.max_steps / self.steps)) + 1
        return [self.steps * 2**i for i in range(count)]


class Trial(NamedTuple):
    """One number of steps N: the estimates of each image (B,), and how the chains fared.

    Args:
        steps: N.
        images: log p(x) of each image, with its error, spread and effective size.
        acceptance: Mean acceptance, over all temperatures.
        not_finite: Proposals rejected for not being finite.
    """

    steps: int
    images: Weighed
    acceptance: float
    not_finite: int


class Evidence(NamedTuple):
    """The evidence of images, by trials whose number of steps doubles; the last one counts."""

    starts: Starts | None  # draws of a tilted prior; None: starts are exact
    pilot: Pilot
    trials: list[Trial]
    settings: Annealing

    @property
    def images(self) -> Weighed:
        return self.trials[-1].images

    def change(self, i: int = -1) -> tuple[float, float]:
        """Mean change of trial i against the one before, and its standard error, paired by image; NaN of the first."""
        if len(self.trials) < 2:
            return math.nan, math.nan
        return paired(self.trials[i].images.value, self.trials[i - 1].images.value)

    @property
    def reached(self) -> bool:
        """Whether the last doubling changed the estimate by no more than the tolerance."""
        change, error = self.change()
        return abs(change) + 2 * error <= self.settings.tolerance

    @property
    def doubtful(self) -> float:
        """Share of the images with an effective size below R/2, or log weights that spread by more than 1."""
        images = self.images
        return ((images.effective_size < self.settings.chains / 2) | (images.spread > 1)).double().mean().item()


def dequantised(levels: Tensor, device: torch.device, stream: Stream) -> Iterator[Tensor]:
    """Batches (B, C, H, W) in [-1, 1] of eight-bit images (N, C, H, W), each level spread evenly over its width."""
    for i, batch in enumerate(levels.split(BATCH)):
        at = batch.to(device).float()
        noise = torch.rand(at.shape, generator=stream("dequantisation", i), device=device)
        yield (at + noise - 0.5) / LEVELS_PER_UNIT - 1


def paired(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean of a - b over the same images (B,), and its standard error."""
    difference = a.double() - b.double()
    return difference.mean().item(), (difference.std() / math.sqrt(len(difference))).item()


def annealed_evidence(
    model: ImageModel, images: Tensor, settings: Annealing, stream: Stream, title: str = "evidence"
) -> Evidence:
    """log p_θ(x) of images (B, C, H, W) by annealed importance sampling, N doubled until the estimate stays.

    A pilot on the first images finds step sizes by temperature and temperatures at equal thermodynamic length; both
    are then frozen. In expectation each estimate is at most the truth, but for the error of a latent EBM's starts:
    exact draws of p_α exist for few energies. A model with an encoder starts at exact draws of q_φ.

    Raises:
        ValueError: If the networks' values are not finite, or the model has no latents.
    """
    trials = settings.trials()
    batches = images.split(BATCH)
    first = work_of_starts(settings.prior_steps) if isinstance(model, LatentEBM) else 0
    work = len(_PILOT) + first + len(batches) * sum(trials)
    with bar(work, title, "step") as progress, suitable_threads(BATCH * model.image_flops(), images.device):
        route = route_of(model, settings.particles, settings.prior_steps, stream, progress)
        found = _pilot(route, batches[0], settings, stream, progress)
        evidence = Evidence(route.starts, found, [], settings)
        for steps in trials:
            evidence.trials.append(_trial(route, batches, evidence, steps, stream, progress))
            if evidence.reached:
                break
    return evidence


def _pilot(route: Route, x: Tensor, settings: Annealing, stream: Stream, progress: Bar) -> Pilot:
    z, path = route.draw(x, settings.chains, stream("annealed pilot starts")), route.path(x)
    if not path.tempered(z).isfinite().all():
        raise ValueError("Annealing: log p(x|z) where chains start is not finite; check the generator's weights.")
    return run_pilot(path, _PILOT, MALA(FIRST_STEP, 1), z, stream("annealed pilot"), progress=progress.update)


def _trial(
    route: Route, batches: tuple[Tensor, ...], evidence: Evidence, steps: int, stream: Stream, progress: Bar
) -> Trial:
    points, kernel = plan(evidence.pilot, steps)
    weights, accepted, failed = [], [], 0
    for i, x in enumerate(batches):
        rng = stream("annealed", steps, i)
        z, path = route.draw(x, evidence.settings.chains, rng), route.path(x)
        ends = anneal(path, points, kernel, z, rng, runner=route.runner, progress=progress.update)
        weights.append(weigh(ends.log_weights))
        accepted.append(ends.acceptance.cpu())
        failed += ends.not_finite
    images = Weighed(*(torch.cat([getattr(part, name).cpu() for part in weights]) for name in Weighed._fields))
    return Trial(steps, images, torch.stack(accepted).mean().item(), failed)


def plan(pilot: Pilot, steps: int) -> tuple[Tensor, MALA]:
    """Temperatures at equal thermodynamic length, and the kernel with the step sizes that the pilot found."""
    expected = pilot.expected.flatten(1).double().mean(1).cpu()
    return equal_length(pilot.sizes.temperatures.double().cpu(), expected, steps), MALA(FIRST_STEP, 1).tuned(
        pilot.sizes
    )


def mean_and_error(images: Weighed) -> tuple[float, float]:
    """The mean over images, and its Monte Carlo error."""
    return images.value.mean().item(), images.standard_error.square().sum().sqrt().item() / len(images.value)


def summary(evidence: Evidence) -> dict[str, Any]:
    """What tables show, by name: nats per image, errors, and how far the chains can be trusted."""
    images, last, starts = evidence.images, evidence.trials[-1], evidence.starts
    (mean, error), (change, change_error) = mean_and_error(images), evidence.change()
    return {
        "evidence": mean,
        "evidence_mc_se": error,
        "evidence_se": (images.value.std() / math.sqrt(len(images.value))).item(),
        "evidence_method": f"annealed importance sampling, MALA, {last.steps} steps, {evidence.settings.chains} chains",
        "evidence_steps": last.steps,
        "evidence_change": change,
        "evidence_change_se": change_error,
        "evidence_spread": images.spread.quantile(0.5).item(),
        "evidence_effective_size": images.effective_size.quantile(0.5).item(),
        "evidence_doubtful": evidence.doubtful,
        "evidence_acceptance": last.acceptance,
        "evidence_not_finite": last.not_finite,
    } | (
        {}
        if starts is None
        else {
            "evidence_starts_effective_size": starts.effective_size,
            "log_z": starts.log_z,
            "log_z_mc_se": starts.log_z_error,
        }
    )


def remarks(evidence: Evidence) -> list[str]:
    """Sentences on what a reader of the number must know."""
    settings, last, starts = evidence.settings, evidence.trials[-1], evidence.starts
    told = []
    if not evidence.reached:
        change, error = evidence.change()
        doubled = len(evidence.trials) > 1
        said = f"the last doubling changed it by {change:.2f} ± {error:.2f}" if doubled else "no doubling was allowed"
        told.append(
            f"The evidence is not within {settings.tolerance:g} nats after {last.steps} steps ({said}): the truth is "
            "probably higher; allow more steps."
        )
    if evidence.doubtful > 0.1:
        told.append(
            f"{evidence.doubtful:.0%} of the images have an effective size below {settings.chains / 2:g} of "
            f"{settings.chains} chains or log weights that spread by more than 1, which biases their evidence "
            "downwards; allow more steps or chains."
        )
    if starts is not None and starts.effective_size < 0.1 * settings.particles:
        told.append(
            f"The {settings.particles} draws of the prior had an effective size of {starts.effective_size:.0f}; allow "
            "more prior steps."
        )
    if last.not_finite:
        told.append(f"{last.not_finite} proposals of the annealed chains were not finite, and were rejected.")
    return told
