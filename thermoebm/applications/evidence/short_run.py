"""The log-evidence as training logs it: the trapezium over short chains, on images whose levels are dequantised."""

import math

import torch
from torch import Tensor

from thermoebm import evidence
from thermoebm.modules import LatentEBM
from thermoebm.modules.annealed import LEVELS_PER_UNIT


@torch.no_grad()
def sums(model: LatentEBM, x: Tensor, rng: torch.Generator) -> Tensor:
    """Trapezium, left and right Riemann sum (3, B) of log p(x), in nats, over the model's evidence schedule."""
    t, ell = model.ladder(x, model.evidence_schedule, rng)
    t, ell = t.double(), ell.double()
    return torch.stack([evidence.trapezium(t, ell), *evidence.bracket(t, ell)]).cpu()


def bits_per_dimension(log_density: float, dimensions: int) -> float:
    """-log2 p/D + log2 127.5 for the log-density, in nats, of an image of D dimensions dequantised in [-1, 1].

    With the true log p it bounds the cost of the eight-bit images from above (Theis et al. 2016).
    """
    return -log_density / (dimensions * math.log(2)) + math.log2(LEVELS_PER_UNIT)


def chains(model: LatentEBM) -> str:
    """Describes the chains behind the short-run evidence, and whether its sums bracket log p (theory.md, section 4)."""
    kernel, schedule = model.posterior_sampler, model.evidence_schedule
    name = type(kernel).__name__
    kind = "short uncorrected chains, so the sums need not enclose log p" if name == "ULA" else "short chains"
    return (
        f"{len(schedule.temperatures())} temperatures ({schedule.describe()}), {kernel.num_steps} {name} steps of "
        f"{kernel.current_step_size():.3g}: {kind}"
    )
