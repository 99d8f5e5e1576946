"""The importance-weighted bound of a model with an encoder (Burda et al. 2016, arXiv 1509.00519)."""

import torch
from torch import Tensor

from thermoebm.evidence import Weighed, weigh
from thermoebm.modules.vae import VAE

# Latents side by side: memory grows with the images that they make.
_LATENTS = 1_000


@torch.no_grad()
def importance_bound(model: VAE, x: Tensor, draws: int, rng: torch.Generator) -> Weighed:
    """log 1/K Σ_k p_θ(x|z_k) p(z_k) / q_φ(z_k|x), z_k ~ q_φ(z|x), for images (B, C, H, W), in nats.

    Its expectation is at most log p_θ(x), and rises with the number K of draws (equation 8 there; K = 1 is the evidence
    bound that a VAE learns by).

    Args:
        model: Generator and encoder.
        x: Images.
        draws: K, at least 2.
        rng: Stream of the noise.
    """
    path = model.path(x)
    parts = []
    for count in torch.arange(draws).split(max(1, _LATENTS // len(x))):
        noise = torch.randn(len(count), *path.inferred.mean.shape, generator=rng, device=rng.device).to(x)
        parts.append(path.tempered(path.inferred.sample(noise)))
    return weigh(torch.cat(parts))
