"""Which steps are compiled, how many of them as one function, and which become CUDA graphs."""

import pytest
import torch

from thermoebm.runtime import cost


class Noise:
    """Stands for the noise of chains on a device that may not be there."""

    def __init__(self, steps, device="cpu"):
        self.steps, self.device = steps, torch.device(device)

    def __len__(self):
        return self.steps


@pytest.mark.parametrize(("steps", "block"), [(20, 5), (60, 5), (12, 4), (7, 1), (3, 3), (1, 1)])
def test_steps_are_compiled_in_equal_blocks_where_calls_are_the_cost(small_model, steps, block):
    chains, noise = small_model(compile="on").chains, Noise(steps)
    chains.training_batch = 6
    assert chains._compiled(100, 6, noise) == (block, False)
    assert chains._compiled(100, 5, noise) == (None, False)  # another shape would be compiled anew
    assert chains._compiled(cost.SMALL_BATCH_FLOPS, 6, noise) == (1, False)
    assert chains._compiled(cost.SMALL_BATCH_FLOPS, 6, Noise(steps, "cuda")) == (block, False)


def test_steps_are_compiled_on_a_cpu_up_to_a_size_and_where_there_is_a_compiler(small_model, monkeypatch):
    sizes = (cost.SMALL_BATCH_FLOPS - 1, cost.SMALL_BATCH_FLOPS)
    blocks = {}
    for compile in ("auto", "on", "graph", "off"):
        for has_compiler in (True, False):
            monkeypatch.setattr(cost, "has_compiler", lambda has=has_compiler: has)
            chains = small_model(compile=compile).chains
            chains.training_batch = 6
            found = [chains._compiled(flops, 6, Noise(20)) for flops in sizes]
            assert not any(graph for _, graph in found)
            blocks[compile, has_compiler] = [block for block, _ in found]
    asked, never = [5, 1], [None, None]
    assert blocks == {
        ("auto", True): [5, None],
        ("auto", False): never,
        **{(compile, has): asked for compile in ("on", "graph") for has in (True, False)},
        **{("off", has): never for has in (True, False)},
    }


def test_steps_are_graphs_on_cuda_where_launching_is_the_cost(small_model):
    """In larger blocks: sixty steps are three launches. All temperatures of a chunk count."""
    limit, noise = cost.GRAPH_FLOPS, Noise(60, "cuda")
    sizes = ((100, 1), (limit - 1, 1), (limit, 1), (limit // 5, 5))
    with_graphs, without = (20, True), (5, False)
    for compile, expected in {
        "auto": [with_graphs, with_graphs, without, without],
        "graph": [with_graphs] * 4,
        "on": [without] * 4,
        "off": [(None, False)] * 4,
    }.items():
        chains = small_model(compile=compile).chains
        chains.training_batch = 6
        assert [chains._compiled(flops, 6, noise, chunk) for flops, chunk in sizes] == expected
