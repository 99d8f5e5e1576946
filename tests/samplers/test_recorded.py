"""Recorded chains are the chains that would have been run, whatever has changed since they were recorded.

A tape takes the place of CUDA graphs. tests/test_gpu.py has the same on a device.
"""

import copy
import pickle
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from tests.tape import tape
from thermoebm.gradients import draw_gradient
from thermoebm.modules.chains import Chains
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.runtime.cost import Flops
from thermoebm.samplers import Recorder, recorded
from thermoebm.schedules import PowerLaw

T = torch.tensor([0.1, 1.0])


def images(count=6, size=8):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def recording(monkeypatch):
    """Chains are recorded on the CPU too."""
    monkeypatch.setattr(Chains, "_records", lambda chains, device: chains.compile == "graph")


def with_tape(model, capture=tape):
    """Its chains are recorded; steps are not compiled without a batch of training."""
    model.chains.compile, model.chains.recorder = "graph", Recorder(capture)
    return model


def ends(model, seed=0, count=6, t=T):
    """Ends of a prior chain and of chains at two temperatures."""
    prior = model.sample_prior(count, model.stream("prior", seed))
    return prior, model.sample_posterior(images(count), t, model.stream("posterior", seed))


def unrecorded(model, **arguments):
    plain = copy.deepcopy(model)
    plain.chains.compile = "off"
    return ends(plain, **arguments)


def agree(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


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
    with torch.inference_mode():
        agree(ends(model, 1), unrecorded(model, seed=1))
    assert model.chains.recorder.replays == 4


def test_operations_are_counted_though_chains_are_recorded(small_model, recording):
    model = with_tape(small_model())
    counts = []
    for _ in range(4):
        replays = model.chains.recorder.replays
        with Flops() as flops:
            ends(model)
        counts.append(flops.total)
        assert model.chains.recorder.replays == replays
        ends(model)
    assert replays > 0
    assert len(set(counts)) == 1
    assert counts[0] > 0


def test_differentiable_chains_are_not_recorded(small_model, recording):
    model = with_tape(small_model())
    for _ in range(3):
        assert model.sample_prior(6, model.stream("prior"), differentiable=True).requires_grad
    assert model.chains.recorder.calls == 0


def test_objects_of_any_kind_are_in_the_key(small_model, recording):
    """A kernel that keeps a list, a dictionary and a tensor, each of which then changes."""
    model, z = with_tape(small_model()), torch.zeros(3)
    kernel = model.posterior_sampler
    kernel.sizes, kernel.named, kernel.tensor = [0.1, 0.2], {"a": [1]}, torch.ones(3)

    def calls():
        replays = model.chains.recorder.replays
        for _ in range(3):
            model.chains.recorder(lambda z: z + kernel.sizes[0] + kernel.named["a"][0] + kernel.tensor, (z,), (kernel,))
        return model.chains.recorder.replays - replays

    assert calls() == 1
    kernel.sizes[0] = 0.3
    assert calls() == 1
    kernel.named["a"][0] = 2
    assert calls() == 1
    kernel.tensor = torch.ones(3)
    assert calls() == 1
    kernel.tensor.mul_(2)  # in place: read where it lies
    assert calls() == 3


def test_recordings_end_with_the_training(small_model, recording):
    """Once the model has left its device they would hold memory for nothing."""
    model = with_tape(small_model())
    for _ in range(2):
        ends(model)
    assert model.chains.recorder._recordings
    model.teardown("fit")
    assert not model.chains.recorder._recordings


def test_copies_begin_without_recordings(small_model, recording):
    model = with_tape(small_model())
    for _ in range(2):
        ends(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not other.chains.recorder._recordings
        loaded(other)
        agree([*ends(other), *ends(other)], [*unrecorded(other)] * 2)
    agree(ends(model), unrecorded(model))
    assert model.chains.recorder.replays == 2


def test_a_bounded_number_of_recordings_is_kept_and_the_others_are_freed(small_model, recording, monkeypatch):
    monkeypatch.setattr(recorded, "MOST", 4)
    model, made = small_model(), []

    def watched(work, device):
        output, replay = tape(work, device)
        made.append(weakref.ref(output))
        return output, replay

    with_tape(model, watched)
    for count in (2, 3, 4):
        for _ in range(3):
            ends(model, count=count)
    alive = [reference() is not None for reference in made]
    assert alive == [False, False, True, True, True, True]


class Short:
    """Stands for a device without memory for more than so many captures."""

    def __init__(self, most, error):
        self.most, self.error, self.asked = most, error, 0

    def __call__(self, work, device):
        self.asked += 1
        if self.asked > self.most:
            raise self.error
        return tape(work, device)


def test_a_chain_too_large_to_record_runs_unrecorded_and_is_told_once(small_model, recording):
    model = with_tape(small_model(), Short(1, torch.OutOfMemoryError("out of memory")))
    ends(model)
    with pytest.warns(UserWarning, match=r"could not be recorded \(out of memory\): this chain runs unrecorded"):
        ends(model)  # the posterior's
    for seed in range(3):
        agree(ends(model, seed), unrecorded(model, seed=seed))  # a warning would be an error here
    assert model.chains.recorder.capture.asked == 2
    assert model.chains.recorder.replays == 3  # the prior's


def test_where_nothing_can_be_recorded_chains_run_and_it_is_told_once(small_model, recording):
    model = with_tape(small_model(), Short(0, RuntimeError("CUDA graphs need another driver\nat length")))
    ends(model)
    with pytest.warns(UserWarning, match="another driver.: chains run unrecorded") as told:
        ends(model)
    assert len(told) == 1
    for _ in range(2):
        agree(ends(model), unrecorded(model))
    assert model.chains.recorder.capture.asked == 1


def test_a_chain_that_needs_memory_gets_that_of_the_recordings(small_model, recording):
    model = with_tape(small_model())
    for _ in range(2):
        ends(model)
    tight, run = [True], model.chains._run

    def chain(*arguments):
        if tight and model.chains.recorder._recordings:
            raise torch.OutOfMemoryError("out of memory")
        return arguments[0] + 1

    z = torch.zeros(3)
    assert torch.equal(run(chain, (z,), ("other",), False), z + 1)
    with pytest.raises(torch.OutOfMemoryError):
        model.chains.recorder(lambda z: chain(z) if not tight else _out(), (z,), ("another",))


def _out():
    raise torch.OutOfMemoryError("out of memory")


def test_values_that_are_not_finite_go_through_a_recording(small_model, recording):
    """So that the alarm sees them, whichever way a chain is run."""
    model = with_tape(small_model())
    for _ in range(3):
        with torch.no_grad():
            model.energy.layers[0].weight.fill_(float("nan"))
        assert all(end.isnan().all() for end in ends(model))
    assert model.chains.recorder.replays == 2
