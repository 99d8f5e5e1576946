"""The number of CPU threads and the numbers that come out."""

import pytest
import torch

from thermoebm.networks import ConvGenerator, EnergyMLP
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.schedules import PowerLaw


@pytest.mark.parametrize("estimator", ["endpoints", "contrastive", "pathwise"])
def test_threads_change_a_gradient_by_rounding_only(small_model, estimator):
    """Of networks and batches that are large enough for torch to share them out."""
    networks = {"energy": EnergyMLP(16, hidden_dim=128), "generator": ConvGenerator(16, (3, 32, 32), features=8)}
    model = small_model(objective=ThermodynamicIntegration(estimator, PowerLaw(2)), **networks)
    images = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    gradients = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model.zero_grad()
        model.loss(images, torch.Generator().manual_seed(1)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.weights()]))
    one, two = gradients
    assert one.norm() > 0
    assert (one - two).norm() <= 1e-5 * one.norm()
