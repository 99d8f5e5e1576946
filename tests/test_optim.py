"""Adam and its decay, against the report's tables 3 and 4 and against torch."""

import copy
import math

import pytest
import torch
from torch import nn

from thermoebm.optim import DecayedAdam, build, clip


def test_decay_is_that_of_the_report_in_closed_form():
    """γ_n = max(0.975^max(n-1, 0), ½): begin epoch 1, the floor half of the initial rate."""
    adam = DecayedAdam(learning_rate=1e-4, final_learning_rate=5e-5)
    for n, factor in {0: 1, 1: 1, 2: 0.975, 3: 0.950625, 11: 0.975**10}.items():
        assert math.isclose(adam.factor(n), factor, rel_tol=1e-12)


def test_floor_is_reached_where_the_closed_form_says():
    """0.975^n ≤ ½ from n = ⌈ln 2 / -ln 0.975⌉ = 28 on, one epoch later for the beginning at 1; and it stays there."""
    adam = DecayedAdam(learning_rate=2e-5, final_learning_rate=1e-5)
    reached = 1 + math.ceil(math.log(2) / -math.log(0.975))
    assert reached == 29
    assert adam.factor(reached - 1) > 0.5
    assert [adam.factor(reached + n) for n in (0, 1, 1000)] == [0.5, 0.5, 0.5]


def test_scheduler_decays_each_group_by_its_own_settings():
    """Rates of both groups after n scheduler steps are initial rate times factor(n)."""
    settings = (DecayedAdam(1e-4, 5e-5), DecayedAdam(1e-3, 9e-4, decay_rate=0.9, decay_begin=3))
    optimizer, scheduler = build(zip((nn.Linear(2, 2), nn.Linear(2, 2)), settings, strict=True))
    for n in range(8):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([s.learning_rate * s.factor(n) for s in settings], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_decay_in_equal_parts_of_an_epoch_is_as_much_an_epoch():
    """After 160 steps of 160 an epoch the rate is that of one epoch; between epochs it falls geometrically."""
    adam = DecayedAdam(1e-4, 5e-5, decay_rate=0.975, decay_begin=1)
    optimizer, scheduler = build([(nn.Linear(2, 2), adam)], decays_per_epoch=160)
    rates = []
    for _ in range(481):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), scheduler.step()
    assert rates[:161] == [1e-4] * 161
    assert [rates[320], rates[480]] == pytest.approx([1e-4 * 0.975, 1e-4 * 0.975**2], rel=1e-12)
    assert rates[161] / rates[160] == pytest.approx(0.975 ** (1 / 160), rel=1e-12)


def test_one_optimiser_with_two_groups_equals_two_optimisers():
    """Same parameters, bit by bit, as two Adams with their own rates, betas and exponential decays."""
    torch.manual_seed(0)
    networks = [nn.Linear(3, 4), nn.Linear(4, 1)]
    twins = [nn.Linear(3, 4), nn.Linear(4, 1)]
    for network, twin in zip(networks, twins, strict=True):
        twin.load_state_dict(network.state_dict())
    settings = [
        DecayedAdam(1e-2, 1e-4, betas=(0.5, 0.999), decay_rate=0.9, decay_begin=0),
        DecayedAdam(1e-1, 1e-3, betas=(0.8, 0.99), decay_rate=0.7, decay_begin=0),
    ]
    optimizer, scheduler = build(zip(networks, settings, strict=True))
    separate = [
        torch.optim.Adam(n.parameters(), lr=s.learning_rate, betas=s.betas)
        for n, s in zip(twins, settings, strict=True)
    ]
    x = torch.randn(5, 3)
    for step in range(6):
        for pair in (networks, twins):
            pair[0].zero_grad(), pair[1].zero_grad()
            pair[1](pair[0](x).tanh()).square().mean().backward()
        optimizer.step(), scheduler.step()
        for adam, s in zip(separate, settings, strict=True):
            adam.step()
            adam.param_groups[0]["lr"] = s.learning_rate * s.decay_rate ** (step + 1)
    for network, twin in zip(networks, twins, strict=True):
        torch.testing.assert_close(network.state_dict(), twin.state_dict(), rtol=1e-6, atol=0)


def test_a_loaded_state_goes_on_with_lower_rates_and_other_betas():
    """As NotFiniteAlarm advises: Adam's moments and the decays so far are the state's, rates and betas its own."""
    network, x = nn.Linear(3, 4), torch.randn(5, 3)
    built = [
        build([(network, DecayedAdam(rate, rate / 100, betas, 0.9, 1))])
        for rate, betas in ((1e-2, (0.5, 0.999)), (1e-3, (0.8, 0.99)))
    ]
    (old, decay), (new, goes_on) = built
    for _ in range(4):
        network(x).square().mean().backward()
        old.step(), decay.step()
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    goes_on.load_state_dict(decay.state_dict())
    (group,) = new.param_groups
    assert group["betas"] == (0.8, 0.99)
    for decays in (4, 5):  # at once, and after the next decay
        assert goes_on.get_last_lr() == [group["lr"]]
        assert group["lr"] == pytest.approx(1e-3 * 0.9 ** (decays - 1), rel=1e-12)
        new.step(), goes_on.step()
    assert torch.equal(new.state[network.weight]["step"], torch.tensor(6.0))


def test_weights_decay_apart_from_the_gradient():
    """Without a gradient θ_n = θ_0 Π(1 - η_i w), whatever Adam's moments; with one, torch's AdamW bit by bit."""
    torch.manual_seed(0)
    network, twin = nn.Linear(3, 4).double(), nn.Linear(3, 4).double()
    twin.load_state_dict(network.state_dict())
    settings = DecayedAdam(1e-2, 1e-4, (0.5, 0.999), 0.9, 0, weight_decay=0.3)
    start, (optimizer, scheduler), shrunk = network.weight.detach().clone(), build([(network, settings)]), 1.0
    for n in range(5):
        network.weight.grad, network.bias.grad = torch.zeros(4, 3).double(), torch.zeros(4).double()
        optimizer.step(), scheduler.step()
        shrunk *= 1 - 1e-2 * 0.9**n * 0.3
    torch.testing.assert_close(network.weight.detach(), shrunk * start, rtol=1e-14, atol=0)
    network.load_state_dict(twin.state_dict())
    optimizer, _ = build([(network, settings)])
    other, x = torch.optim.AdamW(twin.parameters(), 1e-2, (0.5, 0.999), weight_decay=0.3), torch.randn(5, 3).double()
    for _ in range(5):
        for net, adam in ((network, optimizer), (twin, other)):
            adam.zero_grad()
            net(x).tanh().square().mean().backward()
            adam.step()
    assert torch.equal(network.weight, twin.weight)


def test_a_loaded_state_takes_the_weight_decay_of_its_settings():
    network = nn.Linear(3, 4)
    (old, _), (new, _) = (build([(network, DecayedAdam(weight_decay=w))]) for w in (0.0, 0.7))
    state = old.state_dict()
    for group in state["param_groups"]:
        del group["decoupled_weight_decay"]  # of a checkpoint from before there was any
    new.load_state_dict(state)
    assert new.param_groups[0]["weight_decay"] == 0.7
    assert new.param_groups[0]["decoupled_weight_decay"]


def test_each_networks_gradient_is_clipped_at_its_own_norm():
    """To the norm and in the same direction where it is longer; as it is where it is shorter or none is set."""
    torch.manual_seed(0)
    networks = [nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(3, 4)]
    for network in networks:
        network.weight.grad, network.bias.grad = torch.randn(4, 3), torch.randn(4)
    before = [torch.cat([p.grad.flatten() for p in n.parameters()]) for n in networks]
    clip(zip(networks, (DecayedAdam(clip_norm=0.1), DecayedAdam(clip_norm=100.0), DecayedAdam()), strict=True))
    after = [torch.cat([p.grad.flatten() for p in n.parameters()]) for n in networks]
    torch.testing.assert_close(after[0], 0.1 * before[0] / before[0].norm(), rtol=1e-4, atol=0)
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


@pytest.mark.parametrize("fields", [{"weight_decay": v} for v in (-1.0, math.inf, math.nan)] + [{"clip_norm": 0.0}])
def test_decays_and_norms_that_cannot_work_are_refused(fields):
    with pytest.raises(ValueError, match=r"DecayedAdam: weight_decay .* clip_norm"):
        DecayedAdam(**fields)


def test_a_network_slowed_down_keeps_its_schedule():
    """Its rate is a third of the schedule's from then on, now and after later decays; a resumed training has it too."""
    networks = [nn.Linear(2, 2), nn.Linear(2, 2)]
    pairs = [(network, DecayedAdam(1e-2, 1e-4, decay_rate=0.9, decay_begin=0)) for network in networks]
    (optimizer, decay), (resumed, goes_on) = build(pairs), build(pairs)
    for n, factor in enumerate((1, 1 / 3, 1 / 3)):
        if n == 1:
            decay.slow_down(networks[0], 1 / 3)
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        goes_on.load_state_dict(decay.state_dict())
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-2 * 0.9**n * factor, 1e-2 * 0.9**n], rel=1e-12)
        assert rates == decay.get_last_lr() == [group["lr"] for group in resumed.param_groups] == goes_on.get_last_lr()
        optimizer.step(), decay.step()


@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
@pytest.mark.parametrize("field", ["learning_rate", "final_learning_rate", "decay_rate", "decay_begin", "betas"])
def test_rates_that_cannot_work_are_refused(field, value):
    with pytest.raises(ValueError, match=f"DecayedAdam: .*{value}"):
        DecayedAdam(**{field: (0.5, value) if field == "betas" else value})


def test_a_state_from_a_gpu_goes_on_unfused_on_a_cpu():
    """Adam's state says how it was stepped; here the device does. tests/test_gpu.py has the other direction."""
    torch.manual_seed(0)
    network, twin = nn.Linear(3, 4), nn.Linear(3, 4)
    twin.load_state_dict(network.state_dict())
    fused = torch.optim.Adam(network.parameters(), lr=1e-2, betas=(0.5, 0.999), fused=True)
    optimizer, _ = build([(twin, DecayedAdam(1e-2, 1e-3))])

    def step(network, optimizer):
        optimizer.zero_grad()
        network(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()

    step(network, fused)
    twin.load_state_dict(network.state_dict())
    optimizer.load_state_dict(copy.deepcopy(fused.state_dict()))
    assert [group["fused"] for group in optimizer.param_groups] == [None]
    step(network, fused), step(twin, optimizer)
    torch.testing.assert_close(twin.state_dict(), network.state_dict())


def test_betas_are_the_reports_and_reach_adam():
    """With β1 the first moment is (1 - β1) g and then β1 (1 - β1) g + (1 - β1) g for a constant gradient g."""
    assert DecayedAdam().betas == (0.5, 0.999)
    weight = nn.Linear(1, 1, bias=False)
    optimizer, _ = build([(weight, DecayedAdam(1e-3, 0, betas=(0.25, 0.9)))])
    for _ in range(2):
        weight.weight.grad = torch.tensor([[2.0]])
        optimizer.step()
    state = optimizer.state[weight.weight]
    assert state["exp_avg"].item() == pytest.approx(2 * (1 - 0.25**2))
    assert state["exp_avg_sq"].item() == pytest.approx(4 * (1 - 0.9**2))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": 0, "final_learning_rate": 0}, "learning_rate 0 "),
        ({"learning_rate": -1e-4}, "learning_rate -0.0001"),
        ({"learning_rate": 1e-5, "final_learning_rate": 1e-4}, "at least final_learning_rate 0.0001"),
        ({"final_learning_rate": -1e-5}, "must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"decay_rate": 0.0}, "decay_rate 0.0 must lie in"),
        ({"decay_rate": 1.1}, "decay_rate 1.1 must lie in"),
        ({"decay_begin": -1}, "decay_begin -1"),
        ({"betas": (0.5, 1.5)}, "betas"),
    ],
)
def test_bad_values_are_told_in_a_sentence(values, said):
    with pytest.raises(ValueError, match=said):
        DecayedAdam(**values)
