"""Bidirectional Monte Carlo: the log-evidence of simulated images from below and from above."""

from typing import NamedTuple

import torch

from thermoebm.densities import PowerPosterior
from thermoebm.evidence import Weighed, anneal, weigh
from thermoebm.modules import LatentEBM
from thermoebm.modules.annealed import Evidence, paired, plan
from thermoebm.modules.starts import Stream
from thermoebm.runtime.progress import bar


class Bounds(NamedTuple):
    """Both bounds on log p(x) of images that the model itself has made, for one N.

    Args:
        steps: N.
        lower: From chains towards the posterior.
        upper: From chains that start at the latent each image was made from, an exact draw of its posterior.
    """

    steps: int
    lower: Weighed
    upper: Weighed

    @property
    def gap(self) -> tuple[float, float]:
        """Mean of upper - lower in nats, which bounds the mean error of either, and its standard error."""
        return paired(self.upper.value, self.lower.value)


def bounds(
    model: LatentEBM, count: int, evidence: Evidence, stream: Stream, title: str = "both bounds"
) -> list[Bounds]:
    """Bidirectional Monte Carlo on ``count`` simulated images, for each N that was tried on the real ones.

    Source: Grosse, Ghahramani & Adams (2015), arXiv 1511.02543. The upper bound takes the latents of the images for
    exact draws of p_α; they are as good as :class:`Starts` are.
    """
    rng = stream("simulated")
    assert evidence.starts is not None  # a latent EBM's
    chains, found = evidence.settings.chains, []
    z = (starts := evidence.starts).draw((count,), rng)
    with torch.no_grad():
        x = model.generator(z)
        x = x + model.likelihood.sigma * torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
    path = PowerPosterior(model.prior, model.likelihood, x, torch.zeros(()))
    steps = [trial.steps for trial in evidence.trials]
    with bar(2 * sum(steps), title, "step") as progress:
        for n in steps:
            points, kernel = plan(evidence.pilot, n)
            both = []
            for backwards in (False, True):
                noise = stream("simulated", n, int(backwards))
                start = z.expand(chains, *z.shape) if backwards else starts.draw((chains, count), noise)
                ends = anneal(
                    path, points, kernel, start.contiguous(), noise,
                    backwards=backwards, runner=model.chains.call, progress=progress.update,
                )  # fmt: skip
                both.append(weigh(ends.log_weights, inverse=backwards))
            found.append(Bounds(n, *both))
    return found
