"""Recorded chains are the chains that would have been run, whatever has changed since they were recorded.

A tape takes the place of CUDA graphs. tests/test_gpu.py has the same on a device.
"""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from tests.samplers.recordings import T, agree, ends, images, unrecorded, with_tape
from thermoebm.gradients import draw_gradient
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.schedules import PowerLaw


def test_the_first_call_runs_the_second_is_recorded_the_others_are_replayed(small_model, recording):
    """Start, noise, images and temperatures are arguments, and weights are read where they lie."""
    model, found, expected = with_tape(small_model()), [], []
    for seed in range(4):
        t = T * (seed + 1) / 4
        found += ends(model, seed, t=t)
        expected += unrecorded(model, seed=seed, t=t)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.1)
    agree(found, expected)
    assert (model.chains.recorder.calls, model.chains.recorder.replays) == (8, 4)


def loaded(model):
    model.load_state_dict({name: 1.3 * value for name, value in model.state_dict().items()})


def moved(model):
    for p in model.parameters():
        p.data = 1.3 * p.data


def replaced(model):
    layer = model.generator.layers[2]
    layer.weight = nn.Parameter(1.3 * layer.weight.detach())


def another_step_size(model):
    model.posterior_sampler.step_size *= 2


def another_likelihood_sigma(model):
    model.likelihood.sigma *= 1.5


def another_prior_sigma(model):
    model.reference.sigma *= 1.5


def another_layer(model):
    model.generator.layers[1] = nn.LeakyReLU(0.9)


def another_mode(model):
    model.generator.layers[0].register_forward_hook(lambda layer, inputs, h: h if layer.training else h.relu())
    model.eval()


CHANGES = (loaded, moved, replaced, another_layer, another_likelihood_sigma, another_prior_sigma, another_step_size)


@pytest.mark.parametrize("change", [*CHANGES, another_mode])
def test_a_recording_never_goes_stale(small_model, recording, change):
    model = with_tape(small_model())
    before = [ends(model) for _ in range(3)][-1]
    assert model.chains.recorder.replays == 2
    change(model)
    expected = unrecorded(model)
    assert not all(torch.equal(a, b) for a, b in zip(before, expected, strict=True))
    for _ in range(3):
        agree(ends(model), expected)


def test_another_batch_and_another_precision_are_other_recordings(small_model, recording):
    model = with_tape(small_model())
    for _ in range(2):
        for count in (6, 4):
            for autocast in (False, True):
                for _ in range(3):
                    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                        agree(ends(model, count=count), unrecorded(model, count=count))
    # Six of prior and posterior in two sizes; the prior's chain knows no autocast.
    assert len(model.chains.recorder._recordings) == 6
    assert model.chains.recorder.replays == 48 - 2 * 6


@pytest.mark.parametrize(
    ("place", "name"), [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
)
def test_settings_of_torch_that_choose_kernels_are_in_the_key(small_model, recording, place, name):
    model = with_tape(small_model())
    before = getattr(place, name)
    ends(model)
    try:
        setattr(place, name, not before)
        ends(model)
        assert len(model.chains.recorder._recordings) == 4
    finally:
        setattr(place, name, before)
    torch.use_deterministic_algorithms(True)
    try:
        ends(model)
        assert len(model.chains.recorder._recordings) == 6
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_whole_objective_is_the_same_recorded_or_not(small_model, recording):
    """Gradients of five draws under autocast, to the bit; the generator has a layer whose bias autocast would keep."""
    generator = ConvGenerator(8, (1, 16, 16), 2)
    objective = ThermodynamicIntegration("contrastive", PowerLaw(3, 2.0))
    draws = {}
    for compile in ("graph", "off"):
        model = with_tape(small_model(objective=objective, generator=copy.deepcopy(generator)))
        model.chains.compile, draws[compile] = compile, []
        for step in range(5):
            context = partial(torch.autocast, "cpu", torch.bfloat16)
            draws[compile] += draw_gradient(model.loss, model, images(6, 16), model.stream("step", step), context)
            with torch.no_grad():
                for p in model.parameters():
                    p.sub_(0.1 * p)
        assert (model.chains.recorder.replays > 0) == (compile == "graph")
    agree(draws["graph"], draws["off"])


def test_a_recording_made_in_inference_mode_is_replayed_outside_it(small_model, recording):
    model = with_tape(small_model())
    with torch.inference_mode():
        for _ in range(2):
            ends(model)
    agree(ends(model), unrecorded(model))
    expected = unrecorded(model, seed=1)
    with torch.inference_mode():
        agree(ends(model, 1), expected)
    assert model.chains.recorder.replays == 4
