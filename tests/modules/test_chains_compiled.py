"""Which steps are compiled, how many of them as one function, and which chains are recorded."""

import pytest
import torch

from thermoebm.runtime import cost

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Noise:
    """Stands for the noise of chains on a device that may not be there."""

    def __init__(self, steps, device=CPU):
        self.steps, self.device = steps, device

    def __len__(self):
        return self.steps


@pytest.mark.parametrize(("steps", "block"), [(20, 2), (60, 3), (12, 3), (7, 1), (3, 3), (1, 1)])
def test_steps_are_compiled_in_equal_blocks_where_calls_are_the_cost(small_model, steps, block):
    chains, noise = small_model(compile="on").chains, Noise(steps)
    chains.training_batch = 6
    assert chains._block(100, 6, noise) == block
    assert chains._block(100, 5, noise) is None  # another shape would be compiled anew
    assert chains._block(cost.SMALL_BATCH_FLOPS, 6, noise) == 1
    assert chains._block(100, 6, Noise(steps, CUDA)) == 1


def test_what_is_compiled_by_device_and_size_and_where_there_is_a_compiler(small_model, monkeypatch):
    sizes = (cost.SMALL_BATCH_FLOPS - 1, cost.SMALL_BATCH_FLOPS)
    blocks = {}
    for compile in ("auto", "on", "graph", "off"):
        for has_compiler in (True, False):
            monkeypatch.setattr(cost, "has_compiler", lambda kind, has=has_compiler: has)
            chains = small_model(compile=compile).chains
            chains.training_batch = 6
            for device in (CPU, CUDA):
                found = [chains._block(flops, 6, Noise(20, device)) for flops in sizes]
                blocks[compile, has_compiler, device] = found
    never = [None, None]
    assert blocks == {
        ("auto", True, CPU): [2, None],
        ("auto", True, CUDA): [1, 1],
        **{("auto", False, device): never for device in (CPU, CUDA)},
        **{(compile, has, CPU): [2, 1] for compile in ("on", "graph") for has in (True, False)},
        **{(compile, has, CUDA): [1, 1] for compile in ("on", "graph") for has in (True, False)},
        **{("off", has, device): never for has in (True, False) for device in (CPU, CUDA)},
    }


@pytest.mark.filterwarnings("ignore:compile is graph")
def test_chains_are_recorded_on_cuda_unless_it_was_declined(small_model):
    recorded = {
        (compile, device.type)
        for compile in ("auto", "on", "graph", "off")
        for device in (CPU, CUDA)
        if small_model(compile=compile).chains._records(device)
    }
    assert recorded == {("auto", "cuda"), ("graph", "cuda")}


def test_graphs_asked_for_on_a_cpu_are_declined_once(small_model):
    model = small_model(compile="graph")
    with pytest.warns(UserWarning, match="compile is graph, and a CPU has no graphs") as told:
        model.sample_prior(2, model.stream("test"))
    assert len(told) == 1
    model.sample_prior(2, model.stream("test"))  # a warning would be an error here
