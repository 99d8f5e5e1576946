"""Adam's step where a gradient is not finite."""

import math

import pytest
import torch
from torch import nn

from thermoebm.optim import GuardedAdam


@pytest.mark.parametrize("fused", [None, True])  # True: as on CUDA, where the device decides
@pytest.mark.parametrize("bad", [math.nan, math.inf, -2e19])  # the last one's square is infinite in single precision
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(fused, bad):
    """In either group; and then it goes on as Adam does that never had this gradient."""
    guarded, plain = nn.Linear(1, 1), nn.Linear(1, 1)
    plain.load_state_dict(guarded.state_dict())

    def adam(kind: type, net: nn.Linear) -> torch.optim.Adam:
        groups = [{"params": [parameter], "weight_decay": 0.1} for parameter in (net.weight, net.bias)]
        return kind(groups, lr=0.1, fused=fused, decoupled_weight_decay=True)

    pairs = [(guarded, adam(GuardedAdam, guarded)), (plain, adam(torch.optim.Adam, plain))]
    for weight, bias in ((1.0, 2.0), (bad, 1.0), (1.0, bad), (3.0, -1.0)):
        for net, optimizer in pairs:
            net.weight.grad, net.bias.grad = torch.full((1, 1), weight), torch.full((1,), bias)
            if bad not in (weight, bias) or net is guarded:
                optimizer.step()
    assert pairs[0][1].norms.tolist() == [3.0, 1.0]
    for own, others in zip(guarded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own, others)
        states = (optimizer.state[p] for (_, optimizer), p in zip(pairs, (own, others), strict=True))
        assert len({str(state) for state in states}) == 1


def test_a_gradient_scaler_decides_for_itself():
    """It unscales within the fused step; a scaled gradient that is not finite is its own everyday business."""
    net = nn.Linear(1, 1, bias=False)
    optimizer, before = GuardedAdam(net.parameters(), fused=True), net.weight.item()
    for found, norm in ((1.0, None), (0.0, None)):
        net.weight.grad = torch.full((1, 1), 8.0)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(found)
        optimizer.step()
        assert optimizer.norms is norm
        assert (net.weight.item() == before) == bool(found)
    assert optimizer.state[net.weight]["exp_avg"].item() == pytest.approx(0.1 * 2)
