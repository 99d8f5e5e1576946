"""The model of a step's time: operations counted by hand, and the sum that they are turned into."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from thermoebm.runtime.step_time import Operation, Rates, Trace, all_reduce, measured

RATES = Rates(matrix=1e9, convolution=5e8, bandwidth=1e8, launch=1e-6, transposition=2e7)


def traced(compute):
    with Trace() as trace:
        compute()
    return trace.operations


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operations_and_bytes_are_those_counted_by_hand(device):
    """A product 6x5x7, a rectifier and a transposed convolution in float32; views move nothing."""
    a, b = torch.ones(6, 5, device=device), torch.ones(5, 7, device=device)
    x, w = torch.ones(2, 3, 4, 4, device=device), torch.ones(3, 8, 4, 4, device=device)
    assert traced(lambda: (a @ b).t().reshape(42)[:40].relu()) == [
        Operation(2 * 6 * 5 * 7, 4 * (30 + 35 + 42)),
        Operation(0, 4 * (42 + 42), reorders=True),  # a copy: the transposed product is not contiguous
        Operation(0, 4 * (40 + 40)),
    ]
    convolution = Operation(2 * 2 * 16 * 3 * 8 * 16, 4 * (96 + 3 * 8 * 16 + 2 * 8 * 64), convolves=True)
    assert traced(lambda: functional.conv_transpose2d(x, w, None, 2, 1)) == [convolution]


def test_what_changes_the_order_of_numbers_is_told_from_what_keeps_it():
    """A dimension of one is no order; a sum reads in the order it finds."""
    x, y = torch.ones(2, 12, 4, 4, device="meta"), torch.ones(1, 2, 12, 4, 4, device="meta")
    last = x.contiguous(memory_format=torch.channels_last)
    for reorders in (lambda: x.to(memory_format=torch.channels_last), lambda: functional.pixel_shuffle(x, 2)):
        assert [operation.reorders for operation in traced(reorders)] == [True]
    for keeps in (x.relu, last.relu, lambda: x + y, lambda: x.sum(1), lambda: x * x[:, :, :1]):
        assert [operation.reorders for operation in traced(keeps)] == [False]


def test_outputs_that_are_remembered_are_those_of_the_same_call():
    """The first call of each kind computes a shape, later ones look it up; nothing is confused with anything else."""
    x, y = torch.ones(3, 4, device="meta"), torch.ones(4, 3, device="meta").t()
    calls = [
        lambda: x.sum(0),
        lambda: x.sum(1),
        lambda: x.sum(1, keepdim=True),
        lambda: x.sum(1, dtype=torch.float64),
        lambda: x.clone(),
        lambda: y.clone(),
        lambda: y.double(),
        lambda: x.relu_(),
    ]
    known = [(out.shape, out.stride(), out.dtype) for out in (call() for call in calls)]
    with Trace():
        for call in (*calls, *reversed(calls)):
            out = call()
            assert (out.shape, out.stride(), out.dtype) == known[calls.index(call)]
        for _ in range(2):  # what is made of no tensor has values
            assert torch.linspace(0, 1, 3).tolist() == [0, 0.5, 1]


def test_the_backward_pass_is_traced_too():
    layer = nn.Linear(5, 7)
    x = torch.ones(6, 5, requires_grad=True)
    operations = traced(lambda: torch.autograd.grad(layer(x).sum(), [x, layer.weight]))
    assert sum(operation.flops for operation in operations) == 3 * 2 * 6 * 5 * 7


def test_seconds_are_arithmetic_memory_and_launches():
    product, convolution = Operation(2e6, 1e4), Operation(2e6, 1e4, convolves=True)
    small, large = Operation(0, 1e3), Operation(0, 4e4)
    list_ = [small, product, small, large, small, convolution, large]
    arithmetic = 2e6 / 1e9 + 2e6 / 5e8
    assert RATES.seconds(list_, fused=False) == pytest.approx(arithmetic + (2e4 + 3e3 + 8e4) / 1e8 + 7e-6)
    # Fused: before, between and after the two, one operation each, of the largest one's bytes.
    assert RATES.seconds(list_, fused=True) == pytest.approx(arithmetic + (2e4 + 1e3 + 4e4 + 4e4) / 1e8 + 5e-6)
    assert RATES.seconds(list_, fused=True, half=True) == pytest.approx(arithmetic + 0.505e-3 + 5e-6)
    turned = [Operation(0, 1e4, reorders=True), Operation(0, 4e4)]
    assert RATES.seconds(turned, fused=False) == pytest.approx(1e4 / 2e7 + 4e4 / 1e8 + 2e-6)
    assert RATES.seconds(turned, fused=True) == pytest.approx(1e4 / 2e7 + 1e-6)


def test_an_all_reduce_sends_almost_everything_twice():
    """Around a ring of n, each device sends 2 (n - 1)/n of the bytes; one alone sends none."""
    assert [all_reduce(1e9, n, 1e11) for n in (1, 2, 8)] == pytest.approx([0, 1e-2, 1.75e-2])


def test_measured_rates_are_finite_and_in_order():
    """Convolutions and products are of one order: the libraries behind them differ by the width of their vectors, which
    made convolutions 2.1 times as fast on one machine. An operation takes microseconds, not milliseconds.
    """
    rates = measured(torch.device("cpu"))
    assert rates.matrix / 10 < rates.convolution < 10 * rates.matrix
    assert 0 < rates.transposition < rates.bandwidth
    assert 1e8 < rates.bandwidth < 1e12
    assert 1e-7 < rates.launch < 1e-3
