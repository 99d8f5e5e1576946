"""What is not recorded, what recordings cost in memory, and what happens where one cannot be made."""

import copy
import pickle
import weakref

import pytest
import torch

from tests.samplers.recordings import agree, ends, unrecorded, with_tape
from tests.samplers.test_recorded import loaded
from tests.tape import tape
from thermoebm.runtime.cost import Flops
from thermoebm.samplers import recorded


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
        made.append(weakref.ref(output.z))
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
