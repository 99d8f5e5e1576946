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
