"""The number of CPU threads and the numbers that come out."""

import pytest
import torch

from thermoebm.modules.annealed import Annealing, annealed_evidence
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


def test_annealing_of_a_small_model_takes_one_thread_and_gives_the_others_back(small_model):
    """On cores that others use two threads took ten times as long for 20 digits."""
    torch.set_num_threads(2)
    model, seen = small_model(), set()
    model.generator.register_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
    few = Annealing(4, 2, 2, prior_steps=2, particles=8)
    annealed_evidence(model, torch.zeros(3, *model.image_shape), few, model.stream)
    assert seen == {1}
    assert torch.get_num_threads() == 2
