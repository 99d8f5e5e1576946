"""Processes that share a batch average their gradients: the mean is the gradient of the whole batch."""

import pytest
import torch

from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import MALA, ULA
from thermoebm.schedules import PowerLaw

BATCH = 6
OBJECTIVES = {
    "maximum likelihood": MaximumLikelihood(),
    "energy penalty": MaximumLikelihood(energy_penalty=0.3),
    **{name: ThermodynamicIntegration(name, PowerLaw(3, 2)) for name in ("endpoints", "contrastive", "detached")},
    "pathwise": ThermodynamicIntegration("pathwise", PowerLaw(3, 2)),
}


def gradient(model, images, draws, share=slice(None)):
    """Of the loss on a share of the images, with that share of the noise of the whole batch; it notes what it draws."""
    drawn = iter(list(draws))

    def normal(shape, rng):
        known = next(drawn, None)
        if known is None:
            draws.append(known := torch.randn(shape, generator=rng, dtype=torch.float64))
        return known[..., share, :]  # images are the axis before the latent dimension

    model._normal = normal
    model.zero_grad()
    loss = model.loss(images[share], torch.Generator().manual_seed(3))
    loss.backward()
    return loss.detach(), [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.weights()]


@pytest.mark.parametrize("start", ["reference", "prior_chain"])
@pytest.mark.parametrize(
    ("name", "kernel"), [(n, k) for n in OBJECTIVES for k in (ULA, MALA) if k is ULA or n != "pathwise"]
)
def test_the_mean_over_processes_is_the_gradient_of_the_whole_batch(small_model, name, start, kernel):
    """To round-off in double precision, for three processes of two images each."""
    samplers = {"prior_sampler": kernel(0.1, 3), "posterior_sampler": kernel(0.01, 2)}
    model = small_model(objective=OBJECTIVES[name], chain_start=start, **samplers).double()
    images = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    draws: list[torch.Tensor] = []
    loss, whole = gradient(model, images, draws)
    parts = [gradient(model, images, draws, slice(first, first + 2)) for first in range(0, BATCH, 2)]
    assert torch.stack([part for part, _ in parts]).mean().item() == pytest.approx(loss.item(), rel=1e-12)
    for own, *shares in zip(whole, *(grads for _, grads in parts), strict=True):
        torch.testing.assert_close(torch.stack(shares).mean(0), own, rtol=1e-12, atol=1e-12 * own.abs().max().item())
    assert any(own.abs().max() > 1e-3 for own in whole)
