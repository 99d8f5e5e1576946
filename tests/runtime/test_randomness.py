"""Streams of random numbers: repeatable, and independent of one another."""

import itertools

import pytest
import torch

from thermoebm.runtime.randomness import stream


def normal(*key: object, count: int = 100_000) -> torch.Tensor:
    seed, name, *counters = key
    return torch.randn(count, generator=stream("cpu", seed, name, *counters), dtype=torch.float64)


def test_a_stream_repeats_whatever_was_drawn_in_between():
    """A function of its key, not a state."""
    first = normal(0, "training", 0, 5)
    torch.randn(10)
    normal(0, "training", 0, 6)
    assert torch.equal(normal(0, "training", 0, 5), first)


def test_a_stream_leaves_torchs_own_generator_alone():
    torch.manual_seed(1234)
    expected = torch.randn(3)
    torch.manual_seed(1234)
    normal(0, "training")
    assert torch.equal(torch.randn(3), expected)


KEYS = [
    (0, "training", 0, 0),
    (0, "training", 0, 1),
    (0, "training", 1, 0),
    (0, "training"),
    (0, "training", 0),
    (0, "val", 0, 0),
    (1, "training", 0, 0),
    (2**32, "training", 0, 0),
    (0, "training", 2**32, 0),
    (0, "training", 0, 10**9),
]


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(KEYS, 2)))
def test_streams_of_different_keys_are_uncorrelated(a, b):
    """Also of trailing zeros and of seeds that agree modulo 2³²."""
    # The correlation of 1e5 independent pairs has standard error 1/sqrt(1e5) = 0.0032.
    assert abs(torch.corrcoef(torch.stack([normal(*a), normal(*b)]))[0, 1]) < 4 * 1e5**-0.5


def test_streams_of_consecutive_steps_do_not_overlap():
    """The first draws of 20,000 steps are distinct and standard normal.

    A CPU generator takes 32 bits of its seed: of n streams n²/2³³ pairs coincide, 0.05 here; 3 with probability 2e-5.
    """
    first = torch.cat([normal(0, "training", 0, step, count=1) for step in range(20_000)])
    assert len(first.unique()) > 20_000 - 3
    # Standard errors 1/sqrt(2e4) = 0.0071 of the mean and of the lag-1 correlation, sqrt(2/2e4) = 0.01 of the variance.
    assert abs(first.mean()) < 4 * 0.0071
    assert abs(first.var() - 1) < 4 * 0.01
    assert abs((first[1:] * first[:-1]).mean()) < 4 * 0.0071


def test_a_shifted_stream_is_uncorrelated_with_the_next():
    """Neither does one step's noise continue the other's, as with seed + step."""
    a, b = normal(0, "training", 0), normal(0, "training", 1)
    for shift in (1, 2, 4):
        # standard error 1/sqrt(1e5) = 0.0032
        assert abs((a[shift:] * b[:-shift]).mean()) < 4 * 0.0032
