"""The way from where annealed chains start exactly, or nearly so, to the posterior; by kind of model."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoebm.densities import PowerPosterior, Tempered
from thermoebm.evidence import Runner, directly
from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.modules.starts import Starts, Stream, draw_starts
from thermoebm.modules.vae import VAE
from thermoebm.runtime.progress import Bar


class Route(NamedTuple):
    """How the evidence of a model is annealed.

    Args:
        path: The path of densities for images (B, C, H, W); its temperature is replaced.
        draw: Starts (R, B, d) for R chains of each image.
        runner: How blocks of transitions are run.
        starts: The draws of the tilted prior that chains start on; None: starts are exact.
    """

    path: Callable[[Tensor], Tempered]
    draw: Callable[[Tensor, int, torch.Generator], Tensor]
    runner: Runner
    starts: Starts | None


@singledispatch
def route_of(model: Any, particles: int, steps: int, stream: Stream, progress: Bar) -> Route:
    """The route of a model.

    Args:
        model: The model.
        particles, steps: Of the draws of a tilted prior: :func:`thermoebm.modules.starts.draw_starts`.
        stream: Streams of the noise.
        progress: Is told :func:`thermoebm.modules.starts.work_of_starts` steps where there is a tilted prior.

    Raises:
        ValueError: If there is none for this kind.
    """
    raise ValueError(f"The evidence of a {type(model).__name__} cannot be annealed: its posterior is not known.")


@route_of.register
def _(model: LatentEBM, particles: int, steps: int, stream: Stream, progress: Bar) -> Route:
    """From p_α, at draws that are as good as their weights say."""
    starts = draw_starts(model, particles, steps, stream, progress)

    def path(x: Tensor) -> Tempered:
        return PowerPosterior(model.prior, model.likelihood, x, torch.zeros(()))

    def draw(x: Tensor, chains: int, rng: torch.Generator) -> Tensor:
        return starts.draw((chains, len(x)), rng)

    return Route(path, draw, model.chains.call, starts)


@route_of.register
def _(model: VAE, particles: int, steps: int, stream: Stream, progress: Bar) -> Route:
    """From q_φ, which is sampled exactly: the estimates are lower bounds in expectation."""

    def draw(x: Tensor, chains: int, rng: torch.Generator) -> Tensor:
        shape = (chains, len(x), model.generator.latent_dim)
        return model.path(x).inferred.sample(torch.randn(shape, generator=rng, device=rng.device).to(x))

    return Route(model.path, draw, directly, None)
