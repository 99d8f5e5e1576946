"""The curvature of a log-density, which limits the step size of Langevin dynamics."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from thermoebm.densities import Density, without_autocast


def largest_curvature(density: Density, z: Tensor, rng: torch.Generator, products: int) -> Tensor:
    """Largest eigenvalue (...) of -∇² log q at each z (..., d), by the power method, in the precision of z.

    After n products it is the Rayleigh quotient of a vector whose share of the other eigenvectors has fallen as
    |λ_2/λ_1|^n. Where the eigenvalue of largest magnitude is negative, it is that one.
    """
    with without_autocast(z), torch.enable_grad():
        z = z.detach().requires_grad_()
        score = density.score(z)
        vector = normalize(torch.randn(z.shape, generator=rng, dtype=z.dtype, device=z.device), dim=-1)
        for _ in range(products):
            (image,) = torch.autograd.grad(score, z, -vector, retain_graph=True)
            quotient = (vector * image).sum(-1)
            vector = normalize(image, dim=-1)
    return quotient


def secant_curvature(density: Density, z: Tensor, width: float, rng: torch.Generator, products: int) -> Tensor:
    """Largest mean curvature (...) of -log q on segments of length 2 w about each z (..., d).

    The power method of :func:`largest_curvature`, with the secant (s(z - w v) - s(z + w v))/(2 w) of the score s in
    place of its derivative along v. For a quadratic log-density both agree. A piecewise linear network has no second
    derivative, and all of its curvature in kinks, which only secants see; a Langevin step of size s moves by about
    sqrt(2 s) in each direction, and meets those within that width. It is a lower bound: a kink that no iteration's
    segment crosses is not seen.
    """
    with without_autocast(z), torch.no_grad():
        vector = normalize(torch.randn(z.shape, generator=rng, dtype=z.dtype, device=z.device), dim=-1)
        for _ in range(products):
            image = (density.score(z - width * vector) - density.score(z + width * vector)) / (2 * width)
            quotient = (vector * image).sum(-1)
            vector = normalize(image, dim=-1)
    return quotient
