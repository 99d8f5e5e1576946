"""Processes that share a batch average their gradients: the mean is the gradient of the whole batch."""

import multiprocessing

import pytest
import torch
from torch import distributed

from thermoebm.objectives import GaussianKL, MaximumLikelihood, ThermodynamicIntegration
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


KL_TERMS = {
    "pathwise": ThermodynamicIntegration("pathwise", PowerLaw(3, 2), eta=1.0),
    "pathwise, sum": ThermodynamicIntegration("pathwise", PowerLaw(3, 2), eta=0.4, kl=GaussianKL(combination="sum")),
    "report's code": ThermodynamicIntegration("pathwise", PowerLaw(3, 2), eta=1.0, kl=GaussianKL(softmax=True)),
    **{name: ThermodynamicIntegration(name, PowerLaw(3, 2), eta=1.0) for name in ("endpoints", "contrastive")},
}


def with_kl_terms(small_model, name):
    model = small_model(objective=KL_TERMS[name]).double()
    model.shares_step = True
    images = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return model, images


def one_of_three(rank, small_model, draws, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    found = {}
    for name in KL_TERMS:
        model, images = with_kl_terms(small_model, name)
        found[name] = gradient(model, images, draws[name], slice(2 * rank, 2 * rank + 2))
    torch.save(found, f"{folder}/{rank}")
    distributed.destroy_process_group()


def test_kl_terms_are_those_of_all_processes(small_model, tmp_path):
    """Gaussians are fitted to the samples of all three processes, and the mean gradient is that of the whole batch.

    Fits to each process's own share, of two images in eight dimensions, would differ, as the last lines assert.
    """
    draws: dict[str, list[torch.Tensor]] = {name: [] for name in KL_TERMS}
    whole = {name: gradient(*with_kl_terms(small_model, name), draws[name]) for name in KL_TERMS}
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=one_of_three, args=(rank, small_model, draws, tmp_path)) for rank in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0, 0]
    parts = [torch.load(tmp_path / str(rank), weights_only=True) for rank in range(3)]
    for name, (loss, own) in whole.items():
        assert torch.stack([part[name][0] for part in parts]).mean().item() == pytest.approx(loss.item(), rel=1e-12)
        for tensor, *shares in zip(own, *(part[name][1] for part in parts), strict=True):
            bound = 1e-12 * max(t.abs().max().item() for t in own)
            torch.testing.assert_close(torch.stack(shares).mean(0), tensor, rtol=1e-12, atol=bound)
    model, images = with_kl_terms(small_model, "pathwise, sum")
    alone = [gradient(model, images, draws["pathwise, sum"], slice(first, first + 2)) for first in range(0, BATCH, 2)]
    differences = [
        (torch.stack(shares).mean(0) - tensor).abs().max() / tensor.abs().max()
        for tensor, *shares in zip(whole["pathwise, sum"][1], *(grads for _, grads in alone), strict=True)
    ]
    assert max(differences) > 0.1
